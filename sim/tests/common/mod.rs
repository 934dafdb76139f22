//! A driver for tests alone: just enough to bring a chip up and to make commands, no recovery.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "shared by several test files, none of which uses all of it"
)]

pub mod faults;
mod shared;
mod wire;

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use auk_asic::admin::{AdminCommand, Coalescing, QueueShape};
use auk_asic::bar0::{self, AdminQueue, Control};
use auk_asic::completion::{Completion, Tail};
use auk_asic::config::{header, pm};
use auk_asic::doorbell::{Arm, CQ_ARM, SQ_TAIL};
use auk_asic::io::IoCommand;
use auk_asic::program::Program;
use auk_asic::register::Register;
use auk_asic::submission::{Operand, Submission};
use auk_asic::vitals::{BODY, VitalSigns, Vitals};
use auk_asic::{State, Status};
use auk_sim::{Chip, ChipProfile};
use auk_vfio_user::model::{DmaMap, DmaMemory, Protection};
use auk_vfio_user::pci::{BAR0_REGION, CONFIG_REGION};
use zerocopy::{FromBytes, IntoBytes};

pub use shared::Shared;
pub use wire::Wire;

/// Nothing in a test takes this long.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Where the host's memory is for the chip.
pub const IOVA: u64 = 0x1_0000_0000;
/// Bytes of it.
pub const HOST_BYTES: u64 = 64 << 20;

/// Waits until `done` says something.
pub fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::yield_now();
    }
}

/// Bytes that repeat late, from a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// A small chip, which boots fast.
pub fn small() -> ChipProfile {
    ChipProfile {
        memory: 64 << 20,
        ..ChipProfile::silicon(0x0123_4567_89AB_CDEF)
    }
}

/// A chip, and a host that holds it.
pub struct Rig {
    pub device: Wire,
    pub chip: Chip,
    pub host: Shared,
    doorbells: Shared,
    admin: Option<Queue>,
    /// The next unused byte of host memory.
    free: u64,
    tag: u16,
}

impl Rig {
    /// A running chip with an admin queue.
    pub fn new(profile: ChipProfile) -> Self {
        let mut rig = Self::powered(profile);
        rig.bring_up();
        rig
    }

    /// A chip that was powered on, and nothing more.
    pub fn powered(profile: ChipProfile) -> Self {
        let chip = Chip::new(profile).unwrap();
        let device = Wire::new(&chip);
        let bar0 = device.region(BAR0_REGION);
        let mmap = bar0.mmap.unwrap();
        let area = mmap.areas[0];
        let doorbells = Shared::of(&mmap.fd, mmap.offset + area.offset, area.size);
        Self {
            chip,
            device,
            host: Shared::new(HOST_BYTES),
            doorbells,
            admin: None,
            free: 0x1000,
            tag: 0x4100,
        }
    }

    /// From power-on, a reset or a restart to an admin queue.
    pub fn bring_up(&mut self) {
        self.connect();
        eventually("a state that serves", || {
            let state = self.status().state().unwrap();
            matches!(state, State::Running | State::Loader).then_some(())
        });
        self.enable();
        eventually("STATUS.ready", || self.status().ready().then_some(()));
    }

    /// The client vanishes, and another one comes.
    pub fn vanish(&mut self) {
        self.device.replace(&self.chip);
    }

    /// Maps host memory, unless it is, and lets the chip decode and master.
    pub fn connect(&mut self) {
        let _ = self.device.map(&self.host_map());
        let command = header::COMMAND_MEMORY | header::COMMAND_MASTER;
        self.config_write(header::COMMAND, &command.to_le_bytes());
    }

    pub fn host_map(&self) -> DmaMap {
        DmaMap {
            iova: IOVA,
            size: HOST_BYTES,
            protection: Protection::READ_WRITE,
            memory: Some(DmaMemory {
                fd: self.host.fd(),
                offset: 0,
            }),
        }
    }

    /// Writes the ADMIN registers and sets CONTROL.enable.
    pub fn enable(&mut self) {
        let queue = self.new_rings(0, 5);
        for (low, high, iova) in [
            (bar0::ADMIN_SQ_LO, bar0::ADMIN_SQ_HI, queue.submissions),
            (bar0::ADMIN_CQ_LO, bar0::ADMIN_CQ_HI, queue.completions),
            (bar0::ADMIN_PARK_LO, bar0::ADMIN_PARK_HI, queue.park),
        ] {
            let iova = IOVA + iova;
            self.write(low, iova as u32);
            self.write(high, (iova >> 32) as u32);
        }
        let shape = AdminQueue::new()
            .with_depth_log2(queue.depth_log2)
            .with_tag(queue.tag);
        self.write(bar0::ADMIN_QUEUE, shape.into_bits());
        self.write(bar0::CONTROL, Control::new().with_enable(true).into_bits());
        self.admin = Some(queue);
    }

    pub fn read(&mut self, register: Register) -> u32 {
        let mut word = [0; 4];
        self.device.read(BAR0_REGION, register.offset, &mut word);
        u32::from_le_bytes(word)
    }

    pub fn write(&mut self, register: Register, value: u32) {
        self.device
            .write(BAR0_REGION, register.offset, &value.to_le_bytes());
    }

    pub fn status(&mut self) -> bar0::Status {
        bar0::Status::from_bits(self.read(bar0::STATUS))
    }

    pub fn config_write(&mut self, offset: u16, bytes: &[u8]) {
        self.device.write(CONFIG_REGION, u64::from(offset), bytes);
    }

    pub fn config_read16(&mut self, offset: u16) -> u16 {
        let mut word = [0; 2];
        self.device
            .read(CONFIG_REGION, u64::from(offset), &mut word);
        u16::from_le_bytes(word)
    }

    pub fn set_power(&mut self, state: u16) {
        self.config_write(pm::OFFSET + pm::PMCSR, &state.to_le_bytes());
    }

    pub fn vitals(&self) -> Vitals {
        Vitals::parse(&self.chip.vital_signs()).unwrap()
    }

    /// `bytes` of host memory, zeroed and page-aligned: the offset in it.
    pub fn host_memory(&mut self, bytes: u64) -> u64 {
        let at = self.free;
        self.free += bytes.next_multiple_of(4096);
        assert!(self.free <= HOST_BYTES, "the test host is out of memory");
        self.host.write(at, &vec![0; bytes as usize]);
        at
    }

    /// Host memory with this content, as an operand.
    pub fn host_data(&mut self, data: &[u8]) -> Operand {
        let at = self.host_memory(data.len() as u64);
        self.host.write(at, data);
        Operand::host(IOVA + at)
    }

    /// What is at an operand in host memory.
    pub fn host_bytes(&self, operand: Operand, length: usize) -> Vec<u8> {
        self.host.read(operand.address - IOVA, length)
    }

    fn new_rings(&mut self, number: u16, depth_log2: u8) -> Queue {
        self.tag += 1;
        let depth = 1u64 << depth_log2;
        Queue {
            number,
            tag: self.tag,
            depth_log2,
            submissions: self.host_memory(depth * Submission::SIZE as u64),
            completions: self.host_memory(depth * Completion::SIZE as u64),
            park: self.host_memory(4096),
            submitted: 0,
            consumed: 0,
            armings: 0,
        }
    }

    /// Submits an admin command; its completion comes later.
    pub fn submit_admin(&mut self, command: AdminCommand) -> u16 {
        let mut queue = self.admin.take().unwrap();
        let id = queue.submit(self, command.encode());
        self.admin = Some(queue);
        id
    }

    /// Submits an ASYNC_EVENT, and sees to it that it is outstanding.
    pub fn await_event(&mut self) -> u16 {
        let id = self.submit_admin(AdminCommand::AsyncEvent);
        // Admin commands are taken in order, so once this one has failed the other is outstanding.
        let probe = self.admin(AdminCommand::DeleteQueue { queue: u16::MAX });
        assert_eq!(probe, Err(Status::InvalidQueue));
        id
    }

    /// The next admin completion.
    pub fn wait_admin(&mut self) -> Done {
        let mut queue = self.admin.take().unwrap();
        let done = queue.wait(self);
        self.admin = Some(queue);
        done
    }

    /// Does an admin command.
    pub fn admin(&mut self, command: AdminCommand) -> Result<u64, Status> {
        let id = self.submit_admin(command);
        let done = self.wait_admin();
        assert_eq!(done.id, id);
        done.outcome
    }

    pub fn create_queue_for(&mut self, queue: &Queue, context: u32) -> AdminCommand {
        AdminCommand::CreateQueue {
            submissions: Operand::host(IOVA + queue.submissions),
            completions: Operand::host(IOVA + queue.completions),
            park: Operand::host(IOVA + queue.park),
            shape: QueueShape::new()
                .with_queue(queue.number)
                .with_tag(queue.tag)
                .with_vector(queue.number)
                .with_depth_log2(queue.depth_log2)
                .with_interrupts(true),
            context,
            coalescing: Coalescing::new(),
        }
    }

    /// An I/O queue of a context.
    pub fn queue_in(&mut self, number: u16, depth_log2: u8, context: u32) -> Queue {
        let queue = self.new_rings(number, depth_log2);
        let command = self.create_queue_for(&queue, context);
        assert_eq!(self.admin(command), Ok(0));
        queue
    }

    /// An I/O queue of the owner.
    pub fn queue(&mut self, number: u16) -> Queue {
        self.queue_in(number, 6, 0)
    }

    pub fn allocate(&mut self, length: u64, context: u32) -> Result<u64, Status> {
        self.admin(AdminCommand::AllocMemory {
            length,
            align: 4096,
            context,
        })
    }

    pub fn load(&mut self, program: Program, context: u32) -> Result<u32, Status> {
        let bytes = program.image();
        let image = self.host_data(bytes.as_bytes());
        let handle = self.admin(AdminCommand::LoadProgram {
            image,
            length: bytes.as_bytes().len() as u32,
            context,
        });
        handle.map(|handle| handle as u32)
    }

    /// A vector's interrupts as an eventfd.
    pub fn eventfd(&mut self, vector: u32) -> OwnedFd {
        let eventfd = nix::sys::eventfd::EventFd::from_flags(
            nix::sys::eventfd::EfdFlags::EFD_NONBLOCK | nix::sys::eventfd::EfdFlags::EFD_CLOEXEC,
        )
        .unwrap();
        let eventfd = OwnedFd::from(eventfd);
        self.device.set_eventfd(vector, &eventfd).unwrap();
        eventfd
    }
}

/// How often an eventfd was signalled since the last call.
pub fn fired(eventfd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match nix::unistd::read(eventfd, &mut count) {
        Ok(8) => u64::from_ne_bytes(count),
        Err(nix::errno::Errno::EAGAIN) => 0,
        other => panic!("eventfd {}: {other:?}", eventfd.as_raw_fd()),
    }
}

/// A completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub id: u16,
    pub outcome: Result<u64, Status>,
}

/// A queue; the offsets are in host memory.
pub struct Queue {
    pub number: u16,
    pub tag: u16,
    pub depth_log2: u8,
    pub submissions: u64,
    pub completions: u64,
    pub park: u64,
    pub submitted: u32,
    pub consumed: u32,
    armings: u16,
}

impl Queue {
    fn doorbell(&self, register: Register) -> u64 {
        u64::from(self.number) * 4096 + register.offset
    }

    /// Writes an entry into the ring, unannounced.
    pub fn push(&mut self, rig: &Rig, entry: Submission) -> u16 {
        let slot = u64::from(self.submitted) % (1 << self.depth_log2);
        let id = self.submitted as u16;
        let at = self.submissions + slot * Submission::SIZE as u64;
        rig.host.write(at, entry.with_id(id).as_bytes());
        self.submitted += 1;
        id
    }

    /// Stores the doorbell, and kicks the chip if it sleeps.
    pub fn ring(&self, rig: &mut Rig) {
        self.ring_at(rig, self.submitted);
    }

    pub fn ring_at(&self, rig: &mut Rig, tail: u32) {
        rig.doorbells.store32(self.doorbell(SQ_TAIL), tail);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if rig.host.load32(self.park) == 1 {
            rig.write(bar0::KICK, u32::from(self.number));
        }
    }

    pub fn submit(&mut self, rig: &mut Rig, entry: Submission) -> u16 {
        let id = self.push(rig, entry);
        self.ring(rig);
        id
    }

    /// The next entry of the ring as it is, if there is one of this lap.
    pub fn raw(&mut self, rig: &Rig) -> Option<Tail> {
        let depth = 1 << self.depth_log2;
        let at = self.completions + u64::from(self.consumed % depth) * Completion::SIZE as u64;
        let tail = Tail::from_bits(rig.host.load64(at + 8));
        let phase = (self.consumed / depth).is_multiple_of(2);
        (tail.phase() == phase && tail.tag() != 0).then(|| {
            self.consumed += 1;
            tail
        })
    }

    /// The next completion, if it is there.
    pub fn poll(&mut self, rig: &Rig) -> Option<Done> {
        let depth = 1 << self.depth_log2;
        let at = self.completions + u64::from(self.consumed % depth) * Completion::SIZE as u64;
        let tail = Tail::from_bits(rig.host.load64(at + 8));
        let phase = (self.consumed / depth).is_multiple_of(2);
        if tail.phase() != phase || tail.tag() != self.tag {
            return None;
        }
        assert_eq!(tail.queue(), self.number);
        self.consumed += 1;
        let result = rig.host.load64(at);
        let outcome = match tail.status().unwrap() {
            Status::Success => Ok(result),
            status => {
                assert_eq!(result, 0, "a result beside {status}");
                Err(status)
            }
        };
        Some(Done {
            id: tail.command_id(),
            outcome,
        })
    }

    pub fn wait(&mut self, rig: &Rig) -> Done {
        eventually("a completion", || self.poll(rig))
    }

    /// Does a command alone.
    pub fn run(&mut self, rig: &mut Rig, command: IoCommand) -> Result<u64, Status> {
        let id = self.submit(rig, command.encode());
        let done = self.wait(rig);
        assert_eq!(done.id, id);
        done.outcome
    }

    /// Arms the interrupt from what was consumed.
    pub fn arm(&mut self, rig: &Rig) {
        self.armings += 1;
        let arm = Arm::new()
            .with_consumed(self.consumed as u16)
            .with_sequence(self.armings)
            .with_armed(true);
        rig.doorbells
            .store32(self.doorbell(CQ_ARM), arm.into_bits());
    }
}

/// The vital signs in a copy of config space.
pub fn vitals_in(config: &[u8]) -> VitalSigns {
    let at = usize::from(auk_asic::config::dvsec::OFFSET + BODY);
    VitalSigns::read_from_prefix(&config[at..]).unwrap().0
}
