//! The chip as a vfio-user device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use auk_asic::bar0;
use auk_asic::config;
use auk_asic::msix;
use auk_asic::{PAGE, telemetry::Telemetry};
use auk_vfio_user::Errno;
use auk_vfio_user::model::{DeviceInfo, DmaMap, IrqInfo, IrqSet, MmapArea, RegionInfo, RegionMmap};
use auk_vfio_user::pci::{BAR0_REGION, CONFIG_REGION, MSIX_IRQ, NUM_IRQS, NUM_REGIONS};
use auk_vfio_user::server::{ClientMemory, Device};
use zerocopy::IntoBytes;

use crate::chip::Shared;
use crate::fault::Met;
use crate::inject::Occasion;
use crate::machine::Machine;
use crate::registers;
use crate::resources::MSIX;
use crate::strict::Violation;

const BAR2_REGION: u32 = BAR0_REGION + 2;
const BAR4_REGION: u32 = BAR0_REGION + 4;
const PAGE_BYTES: u64 = PAGE as u64;

/// One client's view of the chip, for a vfio-user server.
#[derive(Debug)]
pub struct ChipDevice {
    shared: Arc<Shared>,
    /// Its server is to end: nothing may keep it.
    closing: Arc<AtomicBool>,
}

/// How often a reset that does not end looks whether it may.
const RESET_LOOK: Duration = Duration::from_millis(5);

impl ChipDevice {
    pub(crate) fn new(shared: Arc<Shared>, closing: Arc<AtomicBool>) -> Self {
        Self { shared, closing }
    }

    /// Waits as long as a register takes, outside of the lock: the chip works meanwhile.
    fn wait_for_register(&self) {
        let delay = self.shared.register_delay.get();
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }

    /// Does something to the chip with the passing of time and all doorbells seen first: what a
    /// driver stored before a trapped access has arrived when the access is answered.
    fn access<R>(&self, work: impl FnOnce(&mut Machine, Instant) -> R) -> R {
        self.shared.gate.visit(|machine| {
            let now = Instant::now();
            machine.update(now);
            machine.sweep();
            work(machine, now)
        })
    }
}

impl Device for ChipDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            resettable: true,
            pci: true,
            regions: NUM_REGIONS,
            irqs: NUM_IRQS,
        }
    }

    fn region(&self, index: u32) -> Option<RegionInfo> {
        let region = |size, mmap| RegionInfo {
            size,
            readable: true,
            writable: true,
            mmap,
        };
        let shared = &self.shared;
        if matches!(index, BAR0_REGION | BAR4_REGION) {
            shared
                .gate
                .visit(|machine| machine.accesses.client().bar_mappings += 1);
        }
        match index {
            BAR0_REGION => {
                let pages = u64::from(shared.profile.io_queues) + 1;
                let mmap = RegionMmap {
                    fd: Arc::clone(&shared.doorbells),
                    offset: 0,
                    areas: vec![MmapArea {
                        offset: bar0::DOORBELLS,
                        size: pages * PAGE_BYTES,
                    }],
                };
                Some(region(bar0::SIZE, Some(mmap)))
            }
            BAR2_REGION => Some(region(msix::SIZE, None)),
            BAR4_REGION => {
                let mmap = RegionMmap {
                    fd: Arc::clone(&shared.memory),
                    offset: 0,
                    areas: Vec::new(),
                };
                Some(region(shared.profile.memory, Some(mmap)))
            }
            CONFIG_REGION => Some(region(config::SIZE as u64, None)),
            _ => None,
        }
    }

    fn irq(&self, index: u32) -> Option<IrqInfo> {
        (index == MSIX_IRQ).then_some(MSIX)
    }

    fn region_read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.wait_for_register();
        self.access(|machine, now| match index {
            CONFIG_REGION => {
                machine.accesses.client().config_reads += 1;
                if machine.ailments.off_bus() {
                    data.fill(0xFF);
                } else {
                    machine.config.read(offset, data);
                }
                Ok(())
            }
            BAR0_REGION | BAR2_REGION | BAR4_REGION => {
                machine.accesses.client().bar_reads += 1;
                if answers(machine, index, offset, now) && decodes(machine, index, offset) {
                    read_bar(machine, index, offset, data, now);
                } else {
                    data.fill(0xFF);
                }
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        })
    }

    fn region_write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.wait_for_register();
        self.access(|machine, now| match index {
            CONFIG_REGION => {
                machine.accesses.client().config_writes += 1;
                if !machine.ailments.off_bus() {
                    write_config(machine, offset, data, now);
                }
                Ok(())
            }
            BAR0_REGION | BAR2_REGION | BAR4_REGION => {
                machine.accesses.client().bar_writes += 1;
                if answers(machine, index, offset, now) && decodes(machine, index, offset) {
                    write_bar(machine, index, offset, data, now);
                }
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        })
    }

    fn dma_map(&mut self, map: DmaMap) -> Result<(), Errno> {
        self.access(|machine, _| machine.resources.memory.host.map(&map))
    }

    fn dma_unmap(&mut self, iova: u64, size: u64) -> Result<(), Errno> {
        self.access(|machine, now| {
            let unmapping = machine.resources.memory.host.unmap(iova, size)?;
            machine.unmap(iova, size);
            // The engine waits at the gate, so there is nobody to wait for.
            unmapping.wait(now).map_err(|error| error.errno())
        })
    }

    fn set_irqs(&mut self, request: IrqSet) -> Result<(), Errno> {
        if request.index != MSIX_IRQ {
            return Err(Errno::EINVAL);
        }
        self.access(|machine, _| {
            let interrupts = &machine.resources.interrupts;
            interrupts.set(request)?;
            // Enabled is what VFIO makes the function as long as any vector has an eventfd.
            let enabled = (0..MSIX.count).any(|vector| interrupts.is_enabled(vector));
            machine.config.set_msix_enabled(enabled);
            Ok(())
        })
    }

    fn reset(&mut self) -> Result<(), Errno> {
        let hangs = self.access(|machine, now| {
            // The kernel has ENOTTY for a function that no reset reaches.
            if machine.ailments.off_bus() {
                machine.missed_reset = true;
                return Err(Errno::ENOTTY);
            }
            machine.function_reset(now);
            Ok(machine.ailments.reset.lasts())
        })?;
        if hangs && !self.reset_ends() {
            return Err(Errno::EIO);
        }
        Ok(())
    }

    fn connected(&mut self, _: ClientMemory) {
        self.shared
            .gate
            .visit(|machine| machine.accesses.connected());
    }

    fn disconnected(&mut self) {
        self.shared.gate.visit(Machine::disconnect);
    }
}

impl ChipDevice {
    /// Waits for a reset that does not end. False when it did not before nobody is served any more.
    fn reset_ends(&self) -> bool {
        let lasts = || {
            let now = Instant::now();
            self.shared.gate.visit(|machine| {
                machine.update(now);
                machine.ailments.reset.lasts()
            })
        };
        while lasts() {
            if self.closing.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(RESET_LOOK);
        }
        true
    }
}

/// Whether an access to a BAR arrives, when faults have had their say.
fn answers(machine: &mut Machine, bar: u32, offset: u64, now: Instant) -> bool {
    if bar == BAR0_REGION && offset < bar0::TELEMETRY {
        let met = Met::of(Occasion::Register).at_register(offset);
        for verb in machine.meet(met, now) {
            machine.happen(&verb, now);
        }
    }
    !machine.ailments.off_bus() && !machine.ailments.bars.lasts()
}

/// Whether the BARs answer.
fn decodes(machine: &mut Machine, bar: u32, offset: u64) -> bool {
    let decodes = machine.config.memory_enabled() && !machine.config.in_d3hot();
    if !decodes {
        let violation = Violation::BarDisabled { bar, offset };
        machine.resources.strict.record(violation);
    }
    decodes
}

fn read_bar(machine: &mut Machine, bar: u32, offset: u64, data: &mut [u8], now: Instant) {
    data.fill(0);
    match bar {
        BAR0_REGION if offset < bar0::TELEMETRY => registers::read(machine, offset, data),
        BAR0_REGION if offset < bar0::TELEMETRY + PAGE_BYTES => {
            let at = (offset - bar0::TELEMETRY) as usize;
            if machine.telemetry.is_due(now) || at == 0 && data.len() >= Telemetry::SIZE {
                machine.refresh_telemetry(now);
            }
            let table = machine.telemetry.table().as_bytes();
            copy_from(table.get(at..).unwrap_or_default(), data);
        }
        BAR2_REGION => machine.read_msix(offset, data),
        BAR4_REGION => {
            let memory = &machine.resources.memory.device.mapping;
            if memory.read(offset, data).is_err() {
                data.fill(0xFF);
            }
        }
        // Doorbells read as 0.
        _ => {}
    }
}

fn write_bar(machine: &mut Machine, bar: u32, offset: u64, data: &[u8], now: Instant) {
    machine.attention = true;
    match bar {
        BAR0_REGION if offset < bar0::TELEMETRY => registers::write(machine, offset, data, now),
        BAR0_REGION if offset >= bar0::DOORBELLS => {
            // A client that does not map the doorbells may write them so.
            if machine.doorbells.mapping.write(offset, data).is_err() {
                no_register(machine, offset);
            }
        }
        BAR0_REGION => no_register(machine, offset),
        BAR2_REGION => machine.write_msix(offset, data),
        _ => {
            let memory = &machine.resources.memory.device.mapping;
            if let Err(error) = memory.write(offset, data) {
                tracing::warn!(%error, "write beyond device memory");
            }
        }
    }
}

fn no_register(machine: &mut Machine, offset: u64) {
    machine.resources.strict.record(Violation::NoRegister {
        offset,
        write: true,
    });
}

fn write_config(machine: &mut Machine, offset: u64, data: &[u8], now: Instant) {
    let length = data.len();
    if !matches!(length, 1 | 2 | 4) || !offset.is_multiple_of(length as u64) {
        let violation = Violation::ConfigAccess { offset, length };
        return machine.resources.strict.record(violation);
    }
    machine.attention = true;
    let effects = machine.config.write(offset, data);
    if effects.reset {
        machine.function_reset(now);
    }
    machine.publish(now);
}

fn copy_from(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
