//! A chip in this process whose admin queue works, and whose I/O queues do whatever a test says. It sees the driver's memory
//! as a chip does, by what is mapped for it, and may write there whenever it likes.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test program uses its part, and a fake that panics fails its test"
)]

pub mod memory;
pub mod model;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use auk_asic::admin::{AdminCommand, AdminOpcode, Identify};
use auk_asic::bar0::{self, AdminQueue, CapDma, CapLimits, CapQueues, Control};
use auk_asic::completion::{Completion, Tail};
use auk_asic::ident::{MODEL_VERSION, Model, ident_register};
use auk_asic::register::Register;
use auk_asic::submission::{Space, Submission};
use auk_asic::{State as ChipState, Status, doorbell};
use auk_driver::bus::{
    BusError, DmaTarget, Function, Interrupt, IrqInfo, Region, RegionInfo, RegionMmap,
};
use auk_driver::{Deadline, Device, DmaSpace, OpenOptions};
use memory::{Memory, Place};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub type Words = HashMap<u64, u32>;

/// The registers of a chip whose identity and capabilities are right.
pub fn plausible() -> Words {
    let queues = CapQueues::new()
        .with_io_queues(2)
        .with_max_depth_log2(8)
        .with_submission_log2(6)
        .with_completion_log2(4)
        .with_doorbell_stride_log2(12);
    let dma = CapDma::new().with_address_bits(40);
    let limits = CapLimits::new().with_max_transfer_log2(21);
    Words::from([
        (bar0::IDENT.offset, ident_register(Model::Silicon)),
        (bar0::VERSION.offset, MODEL_VERSION),
        (bar0::CAP_QUEUES.offset, queues.into_bits()),
        (bar0::CAP_DMA.offset, dma.into_bits()),
        (bar0::CAP_LIMITS.offset, limits.into_bits()),
        (bar0::CAP_MEMORY_LO.offset, 1 << 30),
        (bar0::CAP_MEMORY_HI.offset, 0),
    ])
}

/// Memory for a BAR whose pages a driver maps.
pub fn bar(bytes: u64) -> File {
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
    let file = File::from(memfd_create("bar", flags).unwrap());
    file.set_len(bytes).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    file
}

/// BAR 0 as the bus describes it.
pub fn bar_info(memory: &Arc<OwnedFd>, bytes: u64) -> RegionInfo {
    RegionInfo {
        size: bytes,
        readable: true,
        writable: true,
        mmap: Some(RegionMmap {
            fd: Arc::clone(memory),
            offset: 0,
            areas: Vec::new(),
        }),
    }
}

/// How the chip behaves towards who wants to stop it.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Ends admin commands.
    pub answers: bool,
    /// Ends its DMA when the admin queue is disabled.
    pub quiets: bool,
    /// Can be reset.
    pub resets: bool,
    /// Status code and result of every admin command, where they are not the right ones.
    pub ends: Option<(u16, u64)>,
}

/// Where the rings of a queue are, and how far the chip is with them.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    pub queue: u16,
    pub tag: u16,
    pub depth_log2: u8,
    submissions: u64,
    completions: u64,
    fetched: u32,
    posted: u32,
}

impl Ring {
    /// Entries.
    pub fn depth(&self) -> u32 {
        1 << self.depth_log2
    }

    /// What a completion of this queue says that is the next to be posted.
    pub fn tail(&self, command_id: u16) -> Tail {
        Tail::new()
            .with_phase(self.posted >> self.depth_log2 & 1 == 0)
            .with_tag(self.tag)
            .with_queue(self.queue)
            .with_command_id(command_id)
    }

    /// IOVA of the `index`th completion since the queue was made.
    pub fn completion_at(&self, index: u32) -> u64 {
        let place = index & (self.depth() - 1);
        self.completions + u64::from(place) * Completion::SIZE as u64
    }
}

pub struct HostileChip {
    pub memory: Arc<Memory>,
    doorbells: Arc<OwnedFd>,
    state: Mutex<State>,
}

struct State {
    manners: Manners,
    registers: Words,
    config: Words,
    enabled: bool,
    /// By number; 0 is the admin queue.
    rings: BTreeMap<u16, Ring>,
    /// The last admin command that was not answered.
    ignored: Option<AdminOpcode>,
    /// What the next object on the chip is called, or where it is.
    next: u64,
    /// The queue that stopped on an error.
    stopped: Option<u16>,
}

impl HostileChip {
    /// A chip that behaves, until it is told otherwise.
    pub fn new() -> Arc<Self> {
        let mut registers = plausible();
        let dma = CapDma::new().with_address_bits(40).with_parking(true);
        registers.insert(bar0::CAP_DMA.offset, dma.into_bits());
        registers.insert(bar0::CAP_OPS.offset, u32::MAX);
        registers.insert(bar0::CAP_KERNELS.offset, u32::MAX);
        for timeout in [
            bar0::TIMEOUT_READY,
            bar0::TIMEOUT_COMMAND,
            bar0::TIMEOUT_ABORT,
            bar0::TIMEOUT_QUEUE,
            bar0::TIMEOUT_RESTART,
            bar0::TIMEOUT_FLR,
        ] {
            registers.insert(timeout.offset, 5);
        }
        Arc::new(Self {
            memory: Arc::default(),
            doorbells: Arc::new(bar(bar0::SIZE).into()),
            state: Mutex::new(State {
                manners: Manners {
                    answers: true,
                    quiets: true,
                    resets: true,
                    ends: None,
                },
                registers,
                config: Words::from([(0, ident_register(Model::Silicon))]),
                enabled: false,
                rings: BTreeMap::new(),
                ignored: None,
                next: 0x1000,
                stopped: None,
            }),
        })
    }

    /// A device on it whose buffers come from `space`.
    pub fn open(self: &Arc<Self>, space: &DmaSpace) -> Device {
        let options = OpenOptions::default()
            .space(space)
            .timeout(Duration::from_secs(30));
        Device::from_function(Arc::clone(self) as Arc<dyn Function>, &options).unwrap()
    }

    /// Changes a register before the chip is opened.
    pub fn advertises(&self, register: Register, value: u32) {
        self.state().registers.insert(register.offset, value);
    }

    /// Whether the last command that it did not answer is of that kind.
    pub fn ignores(&self, opcode: AdminOpcode) -> bool {
        self.state().ignored == Some(opcode)
    }

    /// Changes how it behaves from now on.
    pub fn behaves(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.state().manners);
    }

    /// Stops a queue on an error, until it is deleted.
    pub fn stops(&self, queue: u16) {
        self.state().stopped = Some(queue);
    }

    /// The rings of a queue that was made.
    pub fn ring(&self, queue: u16) -> Ring {
        self.state().rings[&queue]
    }

    /// What was submitted to an I/O queue since the last time.
    pub fn fetch(&self, queue: u16) -> Vec<Submission> {
        let mut state = self.state();
        let tail = self.tail(queue);
        let ring = state.rings.get_mut(&queue).unwrap();
        assert!(tail.wrapping_sub(ring.fetched) <= ring.depth());
        let mut entries = Vec::new();
        while ring.fetched != tail {
            let place = ring.fetched & (ring.depth() - 1);
            let mut bytes = [0; Submission::SIZE];
            let at = ring.submissions + u64::from(place) * Submission::SIZE as u64;
            self.memory.read(at, &mut bytes);
            entries.push(Submission::read_from_bytes(&bytes).unwrap());
            ring.fetched = ring.fetched.wrapping_add(1);
        }
        entries
    }

    /// The same, and begins to write wherever the commands are to.
    pub fn begin(&self, queue: u16) -> Vec<Submission> {
        let entries = self.fetch(queue);
        for entry in &entries {
            if entry.dst_space == Space::Host.code() && entry.dst != 0 {
                self.memory.begin(Place {
                    queue,
                    iova: entry.dst,
                    same: false,
                });
            }
        }
        entries
    }

    /// Ends a command as the programming model says: its DMA has ended, then its completion is posted.
    pub fn complete(&self, queue: u16, entry: &Submission, status: Status, result: u64) {
        self.end(queue, entry, status.code(), result);
    }

    fn end(&self, queue: u16, entry: &Submission, status: u16, result: u64) {
        self.memory.end(|place| place.iova == entry.dst);
        let tail = self.ring(queue).tail(entry.command_id);
        self.post(queue, tail.with_status_code(status), result);
    }

    /// Posts whatever `tail` says in the next place.
    pub fn post(&self, queue: u16, tail: Tail, result: u64) {
        let mut state = self.state();
        let ring = state.rings.get_mut(&queue).unwrap();
        let at = ring.completion_at(ring.posted);
        ring.posted = ring.posted.wrapping_add(1);
        self.memory.store(at, result);
        self.memory.store(at + 8, tail.into_bits());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What the doorbell of a queue was last rung with.
    fn tail(&self, queue: u16) -> u32 {
        let mut word = [0; 4];
        let at = bar0::doorbell_page(queue) + doorbell::SQ_TAIL.offset;
        let doorbells = File::from(self.doorbells.try_clone().unwrap());
        doorbells.read_exact_at(&mut word, at).unwrap();
        u32::from_le_bytes(word)
    }

    /// Ends all DMA and forgets all queues.
    fn stop(&self, state: &mut State) {
        self.memory.end(|_| true);
        state.rings.clear();
        state.enabled = false;
    }

    fn enable(&self, state: &mut State) {
        let word = |register: Register| u64::from(state.registers[&register.offset]);
        let wide = |low, high| word(high) << 32 | word(low);
        let shape = AdminQueue::from_bits(word(bar0::ADMIN_QUEUE) as u32);
        let ring = Ring {
            queue: 0,
            tag: shape.tag(),
            depth_log2: shape.depth_log2(),
            submissions: wide(bar0::ADMIN_SQ_LO, bar0::ADMIN_SQ_HI),
            completions: wide(bar0::ADMIN_CQ_LO, bar0::ADMIN_CQ_HI),
            fetched: 0,
            posted: 0,
        };
        let park = wide(bar0::ADMIN_PARK_LO, bar0::ADMIN_PARK_HI);
        self.sleep_at(park);
        state.rings.insert(0, ring);
        state.enabled = true;
    }

    /// Says for good that the chip sleeps: every doorbell is followed by a call, and no thread has to look for it.
    fn sleep_at(&self, park: u64) {
        self.memory.store(park, 1);
    }

    fn serve_admin(&self) {
        for entry in self.begin(0) {
            let command = AdminCommand::decode(&entry).unwrap();
            if command == AdminCommand::AsyncEvent {
                continue;
            }
            if !self.state().manners.answers {
                self.state().ignored = Some(command.opcode());
                continue;
            }
            let result = self.execute(command);
            let ends = self.state().manners.ends;
            let (status, result) = ends.unwrap_or((Status::Success.code(), result));
            self.end(0, &entry, status, result);
        }
    }

    fn execute(&self, command: AdminCommand) -> u64 {
        match command {
            AdminCommand::Identify { dst } => {
                let mut identify = Identify::new_zeroed();
                identify.version = Identify::VERSION;
                identify.length = Identify::SIZE as u16;
                self.memory.end(|place| place.iova == dst.address);
                self.memory.write(dst.address, identify.as_bytes());
                0
            }
            AdminCommand::CreateQueue {
                submissions,
                completions,
                park,
                shape,
                ..
            } => {
                let ring = Ring {
                    queue: shape.queue(),
                    tag: shape.tag(),
                    depth_log2: shape.depth_log2(),
                    submissions: submissions.address,
                    completions: completions.address,
                    fetched: 0,
                    posted: 0,
                };
                self.memory.end(|place| place.iova == completions.address);
                self.memory.begin(Place {
                    queue: ring.queue,
                    iova: completions.address,
                    same: true,
                });
                self.sleep_at(park.address);
                self.state().rings.insert(ring.queue, ring);
                0
            }
            AdminCommand::DeleteQueue { queue } => {
                self.memory.end(|place| place.queue == queue);
                let mut state = self.state();
                state.rings.remove(&queue);
                state.stopped = state.stopped.filter(|stopped| *stopped != queue);
                0
            }
            AdminCommand::AllocMemory { length, .. } => {
                let mut state = self.state();
                let address = state.next;
                state.next += length.next_multiple_of(auk_asic::PAGE as u64);
                address
            }
            _ => 1,
        }
    }
}

impl Function for HostileChip {
    fn name(&self) -> &str {
        "a hostile chip"
    }

    fn region(&self, _: Region) -> Result<RegionInfo, BusError> {
        Ok(bar_info(&self.doorbells, bar0::SIZE))
    }

    fn read(&self, region: Region, offset: u64, data: &mut [u8]) -> Result<(), BusError> {
        self.memory.write_on();
        let state = self.state();
        let words = match region {
            Region::Config => &state.config,
            _ => &state.registers,
        };
        let mut word = words.get(&offset).copied().unwrap_or(0);
        if region == Region::Bar0 && offset == bar0::STATUS.offset {
            let status = bar0::Status::new().with_state_code(ChipState::Running.code());
            let status = status.with_queue_stopped(state.stopped.is_some());
            word = status.with_ready(state.enabled).into_bits();
        }
        if region == Region::Bar0 && offset == bar0::STOPPED_LO.offset {
            word = state.stopped.map_or(0, |queue| 1 << queue);
        }
        for (to, from) in data.iter_mut().zip(word.to_le_bytes().into_iter().cycle()) {
            *to = from;
        }
        Ok(())
    }

    fn write(&self, region: Region, offset: u64, data: &[u8]) -> Result<(), BusError> {
        self.memory.write_on();
        let word = data
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u32::from(*byte));
        if region == Region::Config {
            self.state().config.insert(offset, word);
            return Ok(());
        }
        if offset == bar0::KICK.offset {
            if word == 0 {
                self.serve_admin();
            }
            return Ok(());
        }
        let mut state = self.state();
        state.registers.insert(offset, word);
        if offset == bar0::CONTROL.offset {
            let control = Control::from_bits(word);
            if control.restart() && state.manners.resets {
                self.stop(&mut state);
                *state.registers.entry(bar0::GENERATION.offset).or_default() += 1;
            } else if control.enable() {
                self.enable(&mut state);
            } else if state.manners.quiets {
                self.stop(&mut state);
            }
        }
        Ok(())
    }

    fn interrupts(&self, _: Interrupt) -> Result<IrqInfo, BusError> {
        Ok(IrqInfo {
            count: 33,
            eventfd: true,
            ..IrqInfo::default()
        })
    }

    fn enable_interrupts(&self, _: Interrupt, _: &[BorrowedFd<'_>]) -> Result<(), BusError> {
        Ok(())
    }

    fn disable_interrupts(&self, _: Interrupt) -> Result<(), BusError> {
        Ok(())
    }

    fn reset(&self, _: Deadline) -> Result<(), BusError> {
        self.memory.write_on();
        let mut state = self.state();
        if state.manners.resets {
            self.stop(&mut state);
            return Ok(());
        }
        Err(BusError::TimedOut {
            what: "resetting".to_owned(),
            milliseconds: 1,
        })
    }

    fn dma(&self) -> Arc<dyn DmaTarget> {
        Arc::clone(&self.memory) as Arc<dyn DmaTarget>
    }
}
