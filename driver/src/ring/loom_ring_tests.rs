//! The rings between a driver and a chip, under the interleavings and orders that the memory model allows: submit, complete,
//! reap, wrap, full, cancel.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p auk-driver --release --lib loom_`

use auk_asic::completion::Tail;
use auk_asic::io::IoCommand;
use auk_asic::submission::Submission;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;

use super::{
    Commands, CompletionPlace, CompletionRing, Entry, Pending, SubmissionPlace, SubmissionRing,
    SubmissionWords, Token, Word,
};

const QUEUE: u16 = 3;
const TAG: u16 = 0xBEEF;
/// Two entries, the least that a ring has.
const DEPTH_LOG2: u8 = 1;
const DEPTH: usize = 1 << DEPTH_LOG2;
const ABORTED: u16 = auk_asic::Status::Aborted.code();

impl Word for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        Self::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        Self::store(self, value, order);
    }
}

/// What driver and chip share.
struct Shared {
    submissions: [SubmissionPlace<AtomicU64>; DEPTH],
    completions: [CompletionPlace<AtomicU64>; DEPTH],
    tail: AtomicU32,
    /// What a command writes: a buffer.
    output: AtomicU64,
    abort: AtomicU32,
    aborted: AtomicU32,
}

fn place<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            submissions: std::array::from_fn(|_| place()),
            completions: std::array::from_fn(|_| place()),
            tail: AtomicU32::new(0),
            output: AtomicU64::new(0),
            abort: AtomicU32::new(0),
            aborted: AtomicU32::new(0),
        })
    }
}

/// The driver's side of a queue.
struct Driver {
    shared: Arc<Shared>,
    submissions: SubmissionRing,
    completions: CompletionRing,
    commands: Commands<Option<()>>,
}

impl Driver {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            submissions: SubmissionRing::default(),
            completions: CompletionRing::new(QUEUE, TAG),
            commands: Commands::new(DEPTH_LOG2, 0),
        }
    }

    /// `None` when the queue is full.
    fn submit(&mut self) -> Option<Token> {
        let (ring, shared) = (&mut self.submissions, &*self.shared);
        let write = |id, _: &mut Option<()>| {
            let entry = SubmissionWords::new(IoCommand::Nop.encode());
            ring.write(&shared.submissions, &entry, id);
            Ok(())
        };
        let token = self.commands.begin(write, |_| ()).ok()?;
        // As `mmio::Doorbell::ring` does.
        fence(Ordering::Release);
        let tail = self.submissions.tail();
        self.shared.tail.store(tail, Ordering::Relaxed);
        Some(token)
    }

    fn reap(&mut self) -> Option<(Token, Entry)> {
        let entry = self.completions.next(&self.shared.completions)?;
        let token = self.commands.end_and_collect(entry);
        Some((token.expect("a command in flight"), entry))
    }

    fn wait(&mut self) -> (Token, Entry) {
        loop {
            if let Some(ended) = self.reap() {
                return ended;
            }
            thread::yield_now();
        }
    }
}

/// The chip's side, as `docs/hardware.md` says: entries in order, the word with the phase last.
struct Chip {
    shared: Arc<Shared>,
    taken: u32,
    posted: u32,
}

impl Chip {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            taken: 0,
            posted: 0,
        }
    }

    /// The identifier of the next entry, once the doorbell tells of it.
    fn take(&mut self) -> u16 {
        while self.shared.tail.load(Ordering::Acquire) == self.taken {
            thread::yield_now();
        }
        let [first, ..] = &self.shared.submissions[self.taken as usize % DEPTH];
        let id = (first.load(Ordering::Relaxed) >> Submission::COMMAND_ID_SHIFT) as u16;
        self.taken += 1;
        id
    }

    fn post(&mut self, id: u16, status: u16, result: u64) {
        let [first, last] = &self.shared.completions[self.posted as usize % DEPTH];
        let tail = Tail::new()
            .with_phase(self.posted as usize / DEPTH % 2 == 0)
            .with_tag(TAG)
            .with_queue(QUEUE)
            .with_status_code(status)
            .with_command_id(id);
        first.store(result, Ordering::Relaxed);
        last.store(tail.into_bits(), Ordering::Release);
        self.posted += 1;
    }
}

/// Schedules with so many switches where nothing makes one necessary; most bugs need two.
fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

#[test]
fn loom_what_a_completion_tells_of_was_written_before_it_is_seen() {
    model(|| {
        let shared = Shared::new();
        let mut driver = Driver::new(&shared);
        let mut chip = Chip::new(&shared);
        let served = thread::spawn(move || {
            let id = chip.take();
            chip.shared.output.store(7, Ordering::Relaxed);
            chip.post(id, 0, 5);
        });
        let submitted = driver.submit().expect("room");
        let (token, entry) = driver.wait();
        assert_eq!((token, entry.result), (submitted, 5));
        assert_eq!(shared.output.load(Ordering::Relaxed), 7);
        served.join().unwrap();
    });
}

#[test]
fn loom_a_ring_that_is_full_and_wraps_loses_and_doubles_nothing() {
    model(|| {
        let shared = Shared::new();
        let mut driver = Driver::new(&shared);
        let mut chip = Chip::new(&shared);
        let first = driver.submit().expect("room");
        let second = driver.submit().expect("room");
        assert_eq!(driver.submit(), None, "as many as it is deep");
        let served = thread::spawn(move || {
            for result in 0..3 {
                let id = chip.take();
                chip.post(id, 0, result);
            }
        });
        // The place of the first entry is written again while the chip may be at the second.
        assert_eq!(driver.wait().0, first);
        let third = driver.submit().expect("room");
        let ended = [driver.wait(), driver.wait()];
        assert_eq!(ended.map(|(token, _)| token), [second, third]);
        assert_eq!(ended.map(|(_, entry)| entry.result), [1, 2]);
        assert_eq!(driver.reap(), None);
        assert_eq!(driver.commands.in_flight(), 0);
        served.join().unwrap();
    });
}

#[test]
fn loom_completions_out_of_order_end_each_its_own_command() {
    model(|| {
        let shared = Shared::new();
        let mut driver = Driver::new(&shared);
        let mut chip = Chip::new(&shared);
        let served = thread::spawn(move || {
            let ids = [chip.take(), chip.take()];
            for (id, result) in ids.into_iter().zip([1, 2]).rev() {
                chip.post(id, 0, result);
            }
        });
        let submitted = [driver.submit(), driver.submit()].map(|token| token.expect("room"));
        let ended = [driver.wait(), driver.wait()];
        assert_eq!(ended.map(|(token, _)| token), [submitted[1], submitted[0]]);
        assert_eq!(ended.map(|(_, entry)| entry.result), [2, 1]);
        served.join().unwrap();
    });
}

#[test]
fn loom_after_an_abort_the_outcome_is_there_once_whoever_was_faster() {
    model(|| {
        let shared = Shared::new();
        let mut driver = Driver::new(&shared);
        let mut chip = Chip::new(&shared);
        let served = thread::spawn(move || {
            let id = chip.take();
            // The command has ended by the time that ABORT completes, in one way or the other.
            let asked = chip.shared.abort.load(Ordering::Acquire) != 0;
            chip.post(id, if asked { ABORTED } else { 0 }, 0);
            chip.shared.aborted.store(1, Ordering::Release);
        });
        let token = driver.submit().expect("room");
        shared.abort.store(1, Ordering::Release);
        while shared.aborted.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        let (ended, entry) = driver.reap().expect("posted before the abort completed");
        assert_eq!(ended, token);
        assert!([0, ABORTED].contains(&entry.tail.status_code()));
        assert_eq!(driver.commands.collect(token), Err(Pending::Unknown));
        assert_eq!(driver.reap(), None);
        served.join().unwrap();
    });
}
