//! Opening a device and closing it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use auk_asic::State;
use auk_asic::bar0::{self, Control};
use auk_asic::config::{header, pcie};
use auk_asic::ident::{self, Model, VENDOR};
use auk_asic::vitals::DVSEC_ID;

use super::admin::Admin;
use super::capabilities::Capabilities;
use super::inner::{self, Inner, Parts};
use super::lease::Lease;
use super::remains::Remains;
use super::{Device, OpenOptions, ResetKind};
use crate::bus::remote::Remote;
use crate::bus::vfio::Vfio;
use crate::bus::{Function, FunctionConfig, Region};
use crate::deadline::Deadline;
use crate::dma::DmaSpace;
use crate::error::Error;
use crate::pci::{Bdf, ConfigSpace, Host, PciFunction};
use crate::report::Reports;

impl Device {
    /// Opens the chip at `bdf` of `host`: takes its lease, resets it, and brings it up to where its admin queue serves. If
    /// a simulator listens for the chip it is opened there, else through the kernel's VFIO.
    ///
    /// # Errors
    /// [`Error::Pci`] when there is no such function, [`Error::Bus`] when it cannot be opened,
    /// [`Error::Busy`] when somebody has it, [`Error::NotAnA1`], [`Error::Faulted`] unless
    /// [`OpenOptions::restart_faulted`], [`Error::TimedOut`], and what the bus says.
    pub fn open(host: &Host, bdf: Bdf, options: &OpenOptions) -> Result<Self, Error> {
        let deadline = options.deadline();
        Self::find(host, bdf, options, deadline)?.started(options, deadline)
    }

    /// Opens the chip at `bdf` of `host` however it is: one that does not come up, stopped on a fault or hung, is opened all the same, and
    /// what is wrong with it is told beside. Its registers, telemetry and vital signs can be read then, a [`report`](Device::report)
    /// can be made, and [`Device::recover`] may bring it back; all else says [`Error::Resetting`] until then.
    ///
    /// # Errors
    /// As [`Device::open`], where nothing answers at all.
    pub fn open_as_found(
        host: &Host,
        bdf: Bdf,
        options: &OpenOptions,
    ) -> Result<(Self, Option<Error>), Error> {
        let deadline = options.deadline();
        let device = Self::find(host, bdf, options, deadline)?;
        let wrong = device.inner.start(options, deadline).err();
        if wrong.is_some() {
            device.inner.give_up_admin();
        }
        Ok((device, wrong))
    }

    fn find(
        host: &Host,
        bdf: Bdf,
        options: &OpenOptions,
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let listed = host.function(bdf)?;
        let lease = Lease::acquire(host, bdf)?;
        let name: Arc<str> = bdf.to_string().into();
        let socket = host.simulator_socket(bdf);
        let space = options.space.clone().unwrap_or_default();
        let function: Result<Arc<dyn Function>, _> = if socket.exists() {
            Remote::connect(&name, &socket, deadline).map(|remote| Arc::new(remote) as _)
        } else {
            Vfio::open(host, bdf, options.access, &space).map(|vfio| Arc::new(vfio) as _)
        };
        let function = function.map_err(|source| inner::bus_error(&name, "opening", source))?;
        bring_in(function, space, Some(listed), Some(lease), options)
    }

    fn started(self, options: &OpenOptions, deadline: Deadline) -> Result<Self, Error> {
        self.inner.start(options, deadline)?;
        Ok(self)
    }

    /// Opens the chip behind a connected vfio-user socket: a simulator in this process, or one that was handed over.
    ///
    /// # Errors
    /// As [`Device::open`], without those of discovery and lease.
    pub fn from_socket(
        name: &str,
        socket: impl Into<OwnedFd>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let deadline = options.deadline();
        let remote = Remote::from_socket(name, socket.into(), deadline)
            .map_err(|source| inner::bus_error(&name.into(), "connecting", source))?;
        bring_in(
            Arc::new(remote),
            options.space.clone().unwrap_or_default(),
            None,
            None,
            options,
        )?
        .started(options, deadline)
    }

    /// Opens the chip behind a function of any bus, which has reset it.
    ///
    /// # Errors
    /// As [`Device::open`], without those of discovery and lease.
    pub fn from_function(
        function: Arc<dyn Function>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        bring_in(
            function,
            options.space.clone().unwrap_or_default(),
            None,
            None,
            options,
        )?
        .started(options, options.deadline())
    }
}

fn bring_in(
    function: Arc<dyn Function>,
    space: DmaSpace,
    listed: Option<PciFunction>,
    lease: Option<Lease>,
    options: &OpenOptions,
) -> Result<Device, Error> {
    let name: Arc<str> = function.name().into();
    let bus = |what| {
        let name = Arc::clone(&name);
        move |source| inner::bus_error(&name, what, source)
    };
    let config = FunctionConfig(&*function);
    let wrong = |source| Error::Config {
        device: Arc::clone(&name),
        source,
    };
    let (vendor, id) = config.identity().map_err(wrong)?;
    if vendor != VENDOR || Model::parse(id).is_err() {
        return Err(Error::NotAnA1 {
            device: name,
            vendor,
            id,
        });
    }
    let vitals = config
        .find_dvsec(VENDOR, DVSEC_ID)
        .map_err(wrong)?
        .map(|found| found.offset);
    set_command(
        &*function,
        &name,
        header::COMMAND_MEMORY,
        header::COMMAND_MASTER,
    )?;
    let read = |register| inner::read_register(&*function, &name, register);
    let found = read(bar0::IDENT)?;
    if found == u32::MAX {
        return Err(Error::Gone {
            device: name,
            found,
        });
    }
    let malformed = |source| Error::Malformed {
        device: Arc::clone(&name),
        source,
    };
    if Model::parse(id).map(ident::ident_register) != Ok(found) {
        return Err(malformed(auk_asic::Malformed {
            what: "IDENT",
            found: u64::from(found),
            expected: "vendor and device as in config space",
        }));
    }
    let capabilities = Capabilities::read(read, malformed, options.longest)?;
    let region = function
        .region(Region::Bar0)
        .map_err(bus("looking at BAR 0"))?;
    let needed = bar0::doorbell_page(capabilities.io_queues()) + auk_asic::PAGE as u64;
    if region.size < needed {
        return Err(malformed(auk_asic::Malformed {
            what: "size of BAR 0",
            found: region.size,
            expected: "room for a doorbell page per queue",
        }));
    }
    let last = capabilities.last_address();
    let inner = Arc::new(Inner::new(Parts {
        name,
        function,
        capabilities,
        space,
        vitals,
        listed,
        lease,
        policy: options.recovery,
        reports: Reports::to(options.reports.clone()),
    })?);
    // From here on an error drops `inner`, which stops the chip and detaches it.
    inner.attach(last)?;
    Ok(Device { inner })
}

impl Inner {
    /// From a chip that was reset when it was opened to one that serves.
    fn start(&self, options: &OpenOptions, deadline: Deadline) -> Result<(), Error> {
        let settled = self.settle(deadline)?;
        // The reset at open has ended all DMA of a former life.
        self.end_reset();
        if !settled.faulted() {
            return self.bring_up(deadline);
        }
        if !options.restart_faulted {
            return Err(self.fault_error());
        }
        let _alone = self.alone()?;
        self.reset_alone(ResetKind::FirmwareRestart)
    }

    /// Waits until the firmware has stopped booting: in the loader, running, or stopped on a fault.
    pub(super) fn settle(&self, deadline: Deadline) -> Result<bar0::Status, Error> {
        let status = self.wait_status("the firmware's start", deadline, |status| {
            status.faulted() || matches!(status.state(), Ok(State::Loader | State::Running))
        })?;
        status.state().map_err(|source| self.malformed(source))?;
        Ok(status)
    }

    /// From a chip that was reset to an admin queue that serves and asks for events.
    pub(super) fn bring_up(&self, deadline: Deadline) -> Result<(), Error> {
        self.set_command(header::COMMAND_MEMORY | header::COMMAND_MASTER, 0)?;
        self.enable_interrupts()?;
        let admin = Admin::new(self)?;
        for (register, value) in admin.registers(self) {
            self.write_register(register, value)?;
        }
        let ready = Deadline::after(self.capabilities.timeouts().ready.min(deadline.remaining()));
        if let Err(error) =
            self.write_register(bar0::CONTROL, Control::new().with_enable(true).into_bits())
        {
            // The write may have arrived all the same, and the chip may write the rings.
            self.keep_until_reset(admin.life(), admin.into_remains());
            return Err(error);
        }
        *self.admin() = Some(admin);
        let status = self.wait_status("the admin queue's start", ready, |status| {
            status.ready() || status.faulted()
        })?;
        if status.faulted() {
            return Err(self.fault_error());
        }
        let identity = self.identify(deadline)?;
        self.set_identity(Some(identity));
        if self.state()? == State::Running {
            self.request_events()?;
        }
        Ok(())
    }

    pub(super) fn identify(&self, deadline: Deadline) -> Result<auk_asic::admin::Identify, Error> {
        use auk_asic::admin::{AdminCommand, Identify};
        use auk_asic::submission::Operand;

        let buffer = self.space.alloc(Identify::SIZE)?;
        let command = AdminCommand::Identify {
            dst: Operand::host(buffer.iova()),
        };
        let life = self.life();
        self.execute_quietly(life, command, Some(buffer.clone()), "IDENTIFY", deadline)?;
        Identify::parse(&buffer.to_vec(0, Identify::SIZE)?).map_err(|source| self.malformed(source))
    }

    pub(super) fn set_command(&self, set: u16, clear: u16) -> Result<(), Error> {
        set_command(&*self.function, &self.name, set, clear)
    }

    /// Stops all DMA of the chip's and waits until it has ended.
    ///
    /// Bus Master first, so that nothing new is started; then the admin queue is disabled, which ends what runs.
    pub(super) fn quiesce(&self) -> Result<(), Error> {
        self.set_command(0, header::COMMAND_MASTER)?;
        self.write_register(bar0::CONTROL, 0)?;
        let ready = Deadline::after(self.capabilities.timeouts().ready);
        self.wait_status("the queues' end", ready, |status| !status.ready())?;
        let config = FunctionConfig(&*self.function);
        let found = config
            .capabilities()
            .map_err(|source| self.config_error(source))?;
        let Some(express) = found
            .iter()
            .find(|found| found.id == auk_asic::config::capability::PCIE)
        else {
            return Ok(());
        };
        loop {
            let status = config
                .read_u16(express.offset + pcie::DEVSTA)
                .map_err(|source| self.config_error(source))?;
            if status & pcie::DEVSTA_PENDING == 0 {
                return Ok(());
            }
            if ready.is_over() {
                return Err(Error::TimedOut {
                    device: Arc::clone(&self.name),
                    what: "the end of pending transactions",
                    waited: ready.elapsed(),
                    heartbeat: crate::error::Heartbeat::Unknown,
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// Sets and clears bits of COMMAND, and reads it back so that the write has arrived.
fn set_command(
    function: &dyn Function,
    name: &Arc<str>,
    set: u16,
    clear: u16,
) -> Result<(), Error> {
    let wrong = |source| Error::Config {
        device: Arc::clone(name),
        source,
    };
    let config = FunctionConfig(function);
    let old = config.read_u16(header::COMMAND).map_err(wrong)?;
    // COMMAND has reserved bits that read 0: PCI Express Base Specification 6.0, section 7.5.1.1.3.
    if old == u16::MAX {
        return Err(Error::Gone {
            device: Arc::clone(name),
            found: u32::MAX,
        });
    }
    let new = (old | set) & !clear;
    function
        .write(
            Region::Config,
            u64::from(header::COMMAND),
            &new.to_le_bytes(),
        )
        .map_err(|source| inner::bus_error(name, "writing COMMAND", source))?;
    let found = config.read_u16(header::COMMAND).map_err(wrong)?;
    if found & (set | clear) != new & (set | clear) {
        return Err(Error::Malformed {
            device: Arc::clone(name),
            source: auk_asic::Malformed {
                what: "COMMAND",
                found: u64::from(found),
                expected: "the bits that were just written",
            },
        });
    }
    Ok(())
}

impl Drop for Inner {
    /// The last handle is gone, and with it every queue. Order: stop DMA, reset if that cannot be proven to have ended, then
    /// unmap. What the next owner must not find is cleared by the reset that the bus makes when the function is closed.
    fn drop(&mut self) {
        if let Err(error) = self.disable_interrupts() {
            tracing::debug!(%error, "closing");
        }
        if let Err(error) = self.notices.disable(&*self.function) {
            tracing::debug!(%error, "closing");
        }
        let quiet = self.quiesce();
        let mut remains = self.take_quarantine();
        let unseen = quiet.is_err() || !remains.is_empty();
        remains.extend(self.admin().take().map(Admin::into_remains));
        if unseen {
            if let Err(error) = &quiet {
                tracing::debug!(%error, "closing");
            }
            if let Err(error) = self.function.reset(self.reset_deadline()) {
                // Nobody can say whether the chip still writes what it was given: nobody gets that before it is unmapped.
                tracing::error!(device = %self.name, %error, "the reset at close failed; memory that the chip may still write is given up");
                remains.iter().for_each(Remains::abandon);
            }
        }
        if let Some(target) = self.attached.get() {
            self.space.detach(target);
        }
    }
}
