//! What an I/O queue must do whatever lies in its completion ring: a second, plain reading of the programming model, and a
//! chip that writes anything there. Property tests and the fuzz target `completions` are both this.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use auk_asic::completion::Tail;
use auk_asic::{PAGE, Status, bar0};
use auk_driver::{
    Command, Completion, Device, DeviceMemory, DmaSpace, Error, IoQueue, QueueOptions, Ticket,
    WaitMode,
};

use super::{HostileChip, Manners};

/// What happens next.
#[derive(Clone, Debug)]
pub enum Step {
    /// The driver submits commands, each with a buffer of its own that nobody else holds.
    Submit { count: u8, kind: u8 },
    /// The chip posts a completion that is right, or wrong in some of its fields.
    Post(Claim),
    /// The chip writes a word of the completion ring.
    Poke { word: u8, value: u64 },
    /// The driver takes one outcome.
    Poll,
    /// The driver waits for a command, which may have ended long ago, without patience.
    Wait { which: u8, asleep: bool },
    /// The driver takes all outcomes there are.
    Drain,
    /// The driver aborts a command, which the chip says it did; `posts`: and posts a completion for it.
    Abort { which: u8, posts: bool },
    /// The driver resets the queue.
    Reset,
}

/// What a completion claims.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Places after the next one.
    pub ahead: u8,
    pub phase: bool,
    pub tag: Option<u16>,
    pub queue: Option<u16>,
    pub id: Id,
    pub status: u16,
    pub result: u64,
}

/// Which command a completion names.
#[derive(Clone, Copy, Debug)]
pub enum Id {
    /// One of those that were submitted, whether or not it has ended.
    Known(u8),
    Any(u16),
}

/// How it all ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// The queue is dropped, and the chip deletes it.
    Drop,
    /// The queue is dropped, and the chip deletes it only by a reset.
    DropSilently,
    /// The chip is reset under the queue.
    Reset,
}

/// What a test or the fuzzer makes of its bytes.
#[derive(Clone, Debug)]
pub struct Script {
    pub depth_log2: u8,
    pub end: End,
    pub steps: Vec<Step>,
}

impl Script {
    pub fn decode(bytes: &[u8]) -> Self {
        let mut bytes = Bytes(bytes);
        let depth_log2 = bytes.byte() % 5 + 1;
        let end = match bytes.byte() % 3 {
            0 => End::Drop,
            1 => End::DropSilently,
            _ => End::Reset,
        };
        let mut steps = Vec::new();
        while !bytes.0.is_empty() {
            steps.push(Step::decode(&mut bytes));
        }
        Self {
            depth_log2,
            end,
            steps,
        }
    }
}

/// Bytes of which there are always more: zeroes.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let count = N.min(self.0.len());
        let (first, rest) = self.0.split_at(count);
        taken[..count].copy_from_slice(first);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

impl Step {
    fn decode(bytes: &mut Bytes<'_>) -> Self {
        match bytes.byte() % 16 {
            0..=3 => Self::Submit {
                count: bytes.byte() % 4 + 1,
                kind: bytes.byte(),
            },
            4..=8 => Self::Post(Claim::decode(bytes)),
            9 => Self::Poke {
                word: bytes.byte(),
                value: bytes.word(),
            },
            10 => Self::Poll,
            11 => Self::Wait {
                which: bytes.byte(),
                asleep: bytes.byte() % 2 == 1,
            },
            12 => Self::Abort {
                which: bytes.byte(),
                posts: bytes.byte() % 2 == 1,
            },
            13 => Self::Reset,
            _ => Self::Drain,
        }
    }
}

impl Claim {
    /// Mostly right: what is wrong in all its fields gets no further than the first check.
    fn decode(bytes: &mut Bytes<'_>) -> Self {
        let wrong = bytes.byte();
        Self {
            ahead: if wrong & 0x81 == 0x81 {
                bytes.byte() % 4
            } else {
                0
            },
            phase: wrong & 0x42 != 0x42,
            tag: (wrong & 0x44 == 0x44).then(|| bytes.half()),
            queue: (wrong & 0x48 == 0x48).then(|| bytes.half()),
            id: if wrong & 0x90 == 0x90 {
                Id::Any(bytes.half())
            } else {
                Id::Known(bytes.byte())
            },
            status: if wrong & 0x20 == 0x20 {
                bytes.half() & 0x7FFF
            } else {
                0
            },
            result: bytes.word(),
        }
    }
}

/// A command as the model sees it.
struct Submitted {
    ticket: Ticket,
    id: u16,
    /// How it ended, by the model's reading of the ring; only while that is exact.
    ended: Option<(u16, u64)>,
    /// The queue was reset when it had not ended, as far as the model can say.
    lost: bool,
    /// The driver has told its outcome.
    told: bool,
}

/// A run of a [`Script`].
pub struct Model {
    chip: Arc<HostileChip>,
    space: DmaSpace,
    device: Device,
    local: DeviceMemory,
    queue: IoQueue,
    number: u16,
    commands: Vec<Submitted>,
    /// Bytes in use before the first command.
    idle: u64,
    /// Completions that the model has taken off the ring.
    head: u32,
    unmatched: u64,
    /// What the driver looked at before the chip wrote more is the driver's affair: as soon as that matters, the model can
    /// only say what must hold in any case.
    exact: bool,
    partly_read: bool,
    /// Identifier and status of every completion of this life that ever lay in the ring.
    claimed: HashSet<(u16, u16)>,
}

/// Runs a script. Panics when the queue does otherwise than it must.
pub fn run(script: &Script) {
    let chip = HostileChip::new();
    // It answers at once or never.
    chip.advertises(bar0::TIMEOUT_QUEUE, 1);
    let space = DmaSpace::new();
    let device = chip.open(&space);
    let before = space.usage().used;
    let local = device.alloc(PAGE as u64).unwrap();
    let options = QueueOptions::default().depth(1 << script.depth_log2);
    let queue = device.create_queue(&options).unwrap();
    let mut model = Model {
        number: queue.number(),
        idle: space.usage().used,
        chip,
        space,
        device,
        local,
        queue,
        commands: Vec::new(),
        head: 0,
        unmatched: 0,
        exact: true,
        partly_read: false,
        claimed: HashSet::new(),
    };
    for step in &script.steps {
        model.step(step);
        model.check();
    }
    model.end(script.end, before);
}

impl Model {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Submit { count, kind } => self.submit(count, kind),
            Step::Post(claim) => self.post(claim),
            Step::Poke { word, value } => self.poke(word, value),
            Step::Poll => self.poll(),
            Step::Wait { which, asleep } => self.wait(which, asleep),
            Step::Drain => self.drain(),
            Step::Abort { which, posts } => self.abort(which, posts),
            Step::Reset => self.reset(),
        }
    }

    fn untold(&self) -> usize {
        self.commands.iter().filter(|one| !one.told).count()
    }

    fn known(&self, which: u8) -> Option<usize> {
        let last = self.commands.len().checked_sub(1)?;
        // The newest are the most interesting.
        Some(last - usize::from(which) % self.commands.len())
    }

    fn submit(&mut self, count: u8, kind: u8) {
        for _ in 0..count {
            let buffer = self.space.alloc(PAGE).unwrap();
            let command = match kind % 4 {
                0 => Command::fill(&buffer, 1, PAGE as u64),
                1 => Command::copy(&buffer, &self.local, PAGE as u64),
                2 => Command::copy(&self.local, &buffer, PAGE as u64),
                _ => Command::signal((&buffer, 8), 1),
            };
            let full = self.untold() == 1 << self.chip.ring(self.number).depth_log2;
            match self.queue.submit(&command) {
                Ok(ticket) => {
                    assert!(!full, "more commands than the queue is deep");
                    let [entry] = self.chip.fetch(self.number)[..] else {
                        panic!("one command is one entry");
                    };
                    self.commands.push(Submitted {
                        ticket,
                        id: entry.command_id,
                        ended: None,
                        lost: false,
                        told: false,
                    });
                }
                Err(Error::QueueFull { .. }) => assert!(full, "there is room"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn post(&mut self, claim: Claim) {
        self.chip_writes();
        let ring = self.chip.ring(self.number);
        let id = match claim.id {
            Id::Any(id) => id,
            Id::Known(which) => match self.known(which) {
                Some(which) => self.commands[which].id,
                None => return,
            },
        };
        let next = ring.tail(id).with_status_code(claim.status);
        let tail = Tail::from_bits(next.into_bits() ^ u64::from(!claim.phase))
            .with_tag(claim.tag.unwrap_or(ring.tag))
            .with_queue(claim.queue.unwrap_or(ring.queue));
        if claim.ahead == 0 && tail == next {
            self.chip.post(self.number, tail, claim.result);
        } else {
            let at = ring.completion_at(ring.posted.wrapping_add(claim.ahead.into()));
            self.chip.memory.store(at, claim.result);
            self.chip.memory.store(at + 8, tail.into_bits());
        }
        self.note(tail);
    }

    fn poke(&mut self, word: u8, value: u64) {
        self.chip_writes();
        let ring = self.chip.ring(self.number);
        let at = ring.completion_at(u32::from(word) / 2) + u64::from(word % 2) * 8;
        self.chip.memory.store(at, value);
        if word % 2 == 1 {
            self.note(Tail::from_bits(value));
        }
    }

    fn chip_writes(&mut self) {
        self.exact &= !self.partly_read;
    }

    fn note(&mut self, tail: Tail) {
        let ring = self.chip.ring(self.number);
        if tail.tag() == ring.tag && tail.queue() == ring.queue {
            self.claimed.insert((tail.command_id(), tail.status_code()));
        }
    }

    /// Takes off the ring what is there, by the model's reading of it.
    fn read_ring(&mut self) {
        let ring = self.chip.ring(self.number);
        loop {
            let at = ring.completion_at(self.head);
            let tail = Tail::from_bits(self.chip.memory.load(at + 8));
            let phase = self.head >> ring.depth_log2 & 1 == 0;
            if tail.phase() != phase || tail.tag() != ring.tag || tail.queue() != ring.queue {
                return;
            }
            self.head += 1;
            let mut running = self.commands.iter_mut().filter(|one| one.ended.is_none());
            match running.find(|one| one.id == tail.command_id() && !one.lost) {
                Some(one) => {
                    one.ended = Some((tail.status_code(), self.chip.memory.load(at)));
                }
                None => self.unmatched += 1,
            }
        }
    }

    fn poll(&mut self) {
        self.partly_read = true;
        if let Some(Completion { ticket, result }) = self.queue.poll() {
            if self.exact {
                self.read_ring();
            }
            self.told(ticket, result.map_err(|error| *error));
        }
    }

    fn drain(&mut self) {
        if self.exact {
            self.read_ring();
        }
        // As often as there are commands, and once more to hear that there are none.
        for _ in 0..=self.untold() {
            let Some(Completion { ticket, result }) = self.queue.poll() else {
                break;
            };
            self.told(ticket, result.map_err(|error| *error));
        }
        assert!(self.queue.poll().is_none(), "more outcomes than commands");
        if self.exact {
            let untold = self
                .commands
                .iter()
                .find(|one| one.ended.is_some() && !one.told);
            assert!(untold.is_none(), "a completion was not seen");
            assert!(self.queue.strays() >= self.unmatched);
        }
        self.partly_read = false;
    }

    fn wait(&mut self, which: u8, asleep: bool) {
        let Some(which) = self.known(which) else {
            return;
        };
        self.partly_read = true;
        let ticket = self.commands[which].ticket;
        self.queue.set_wait_mode(match asleep {
            true => WaitMode::Interrupt,
            false => WaitMode::Polled,
        });
        let result = self.queue.wait(ticket, Duration::ZERO);
        if self.exact {
            self.read_ring();
        }
        let one = &self.commands[which];
        match result {
            Err(Error::UnknownTicket) => assert!(one.told, "its outcome was never told"),
            Err(Error::TimedOut { .. }) => {
                assert!(!one.told, "it had ended");
                assert!(!self.exact || one.ended.is_none(), "it has ended");
            }
            result => self.told(ticket, result),
        }
    }

    fn abort(&mut self, which: u8, posts: bool) {
        let Some(which) = self.known(which) else {
            return;
        };
        if posts {
            self.chip_writes();
            let tail = self.chip.ring(self.number).tail(self.commands[which].id);
            let tail = tail.with_status_code(Status::Aborted.code());
            self.chip.post(self.number, tail, 0);
            self.note(tail);
        }
        self.partly_read = true;
        let one = &self.commands[which];
        match self.queue.abort(one.ticket, Duration::from_secs(10)) {
            Ok(()) => {}
            Err(Error::UnknownTicket) => assert!(one.told, "its outcome was never told"),
            Err(Error::CompletionLost { .. }) => {
                assert!(!one.told, "it had ended");
                if self.exact {
                    self.read_ring();
                }
                let one = &self.commands[which];
                assert!(!self.exact || one.ended.is_none(), "it has ended");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn reset(&mut self) {
        if self.exact {
            self.read_ring();
        }
        self.queue.reset(Duration::from_secs(10)).unwrap();
        assert_eq!(self.queue.in_flight(), 0, "what ran has ended");
        for one in &mut self.commands {
            // What the model has read, the chip may have written over before the driver did.
            one.lost |= !one.told && (one.ended.is_none() || !self.exact);
        }
        self.head = 0;
        self.partly_read = false;
    }

    /// The driver tells how a command ended.
    fn told(&mut self, ticket: Ticket, result: Result<u64, Error>) {
        let exact = self.exact;
        let one = self.commands.iter_mut().find(|one| one.ticket == ticket);
        let one = one.expect("a ticket that was given");
        assert!(!one.told, "it ended twice");
        one.told = true;
        let mut allowed: Vec<u16> = self
            .claimed
            .iter()
            .filter(|(id, _)| *id == one.id)
            .map(|(_, status)| *status)
            .collect();
        if one.lost && matches!(result, Err(Error::QueueReset { .. })) {
            return;
        }
        if exact {
            assert!(!one.lost, "it had not ended when the queue was reset");
            let (status, said) = one.ended.expect("the ring says that it ended");
            allowed = vec![status];
            if let Ok(found) = result {
                assert_eq!(found, said);
            }
        }
        let as_claimed = |status: &u16| match (&result, Status::parse(*status)) {
            (Ok(_), Ok(Status::Success)) => true,
            (Err(Error::Command { status, .. }), Ok(said)) => *status == said,
            (Err(Error::Malformed { .. }), Err(_)) => true,
            _ => false,
        };
        assert!(allowed.iter().any(as_claimed), "{result:?} of {allowed:?}");
    }

    /// What holds after each step.
    fn check(&self) {
        // A command has one buffer, and lets it go when it ends and not before.
        let held = u64::from(self.queue.in_flight()) * PAGE as u64;
        assert_eq!(self.space.usage().used, self.idle + held);
        assert!(self.queue.in_flight() as usize <= self.untold());
        self.chip.memory.assert_no_fault();
    }

    fn end(mut self, end: End, before: u64) {
        let running = self.queue.in_flight();
        match end {
            End::Drop => drop(self.queue),
            End::DropSilently => {
                self.chip
                    .behaves(|manners: &mut Manners| manners.answers = false);
                drop(self.queue);
                let held = u64::from(running) * PAGE as u64;
                assert_eq!(
                    self.space.usage().used,
                    self.idle + held,
                    "kept until a reset"
                );
                self.chip.behaves(|manners| manners.answers = true);
                self.device.restart_firmware().unwrap();
            }
            End::Reset => {
                self.device.restart_firmware().unwrap();
                let mut ends = 0;
                let untold = self.untold();
                while let Some(Completion { ticket, .. }) = self.queue.poll() {
                    let one = self.commands.iter_mut().find(|one| one.ticket == ticket);
                    let one = one.expect("a ticket that was given");
                    assert!(!one.told, "it ended twice");
                    one.told = true;
                    ends += 1;
                }
                assert_eq!(ends, untold, "every command ends");
                drop(self.queue);
            }
        }
        assert_eq!(self.space.usage().used, before, "all is let go");
        drop((self.local, self.device));
        self.chip.memory.assert_no_fault();
    }
}
