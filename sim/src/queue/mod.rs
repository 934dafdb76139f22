//! A queue: its rings, its doorbell page, and what it is working on.

mod faults;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use auk_asic::admin::Coalescing;
use auk_asic::bar0::doorbell_page;
use auk_asic::completion::Tail;
use auk_asic::doorbell::{CQ_ARM, SQ_TAIL};
use auk_asic::submission::Submission;
use auk_asic::{PAGE, Status};
use auk_vfio_user::memory::SharedMemory;

use crate::arming::{Arming, Verdict};
use crate::fault::Spell;
use crate::io::{Flip, Job, plain_nop};
use crate::ring::{CompletionRing, ParkWord, SubmissionRing};
use faults::Held;

/// Entries between the one that is fetched and the one that is asked for from memory meanwhile.
const AHEAD: u32 = 4;

/// Completions that are posted together at most: two cache lines of them.
const GROUP: usize = 8;

/// Why a queue stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Its doorbell is further ahead than the ring has entries.
    DoorbellBeyondRing {
        /// SQ_TAIL.
        tail: u32,
    },
    /// A ring is no longer mapped.
    RingNotMapped,
}

/// What makes a queue.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) number: u16,
    pub(crate) tag: u16,
    /// The vector it interrupts through, if it does.
    pub(crate) vector: Option<u16>,
    pub(crate) depth_log2: u8,
    pub(crate) context: u32,
    pub(crate) coalescing: Coalescing,
}

/// A command that takes longer than a look.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) command_id: u16,
    pub(crate) opcode: u8,
    pub(crate) job: Job,
    /// What a fault does to its result when it has ended well.
    pub(crate) flip: Option<Flip>,
}

/// A queue. It takes its entries in order and works on one at a time.
#[derive(Debug)]
pub(crate) struct Queue {
    shape: Shape,
    depth: u32,
    doorbells: Arc<SharedMemory>,
    doorbell: u64,
    submissions: SubmissionRing,
    completions: CompletionRing,
    park: Option<ParkWord>,
    /// SQ_TAIL as last seen.
    tail: u32,
    /// Entries taken from the ring.
    fetched: u32,
    /// Commands that have ended.
    completed: u32,
    /// Completions posted: as many, unless faults drop some or post them twice.
    posted: u32,
    /// Completions that are to be posted next, in this order, but for their phase.
    stage: [(Tail, u64); GROUP],
    /// How many there are.
    staged: usize,
    /// Entries taken from the ring and not begun.
    backlog: VecDeque<Submission>,
    pub(crate) current: Option<Current>,
    arming: Arming,
    stopped: Option<Stopped>,
    /// A value of the doorbell that is not seen.
    unseen: Option<u32>,
    /// Faults wait for doorbells.
    is_wary: bool,
    /// It stands still.
    stuck: Spell,
    held: Vec<Held>,
}

impl Queue {
    /// A queue at its beginning; its doorbell page is zeroed.
    pub(crate) fn new(
        shape: Shape,
        doorbells: &Arc<SharedMemory>,
        submissions: SubmissionRing,
        completions: CompletionRing,
        park: Option<ParkWord>,
    ) -> Self {
        let doorbell = doorbell_page(shape.number);
        // The page is in the mapping for every queue number that the capabilities allow.
        let zeroed = doorbells.write(doorbell, &[0; PAGE]).is_ok();
        debug_assert!(zeroed, "queue {} has no doorbell page", shape.number);
        Self {
            depth: 1 << shape.depth_log2,
            doorbells: Arc::clone(doorbells),
            doorbell,
            submissions,
            completions,
            park,
            tail: 0,
            fetched: 0,
            completed: 0,
            posted: 0,
            stage: [(Tail::new(), 0); GROUP],
            staged: 0,
            backlog: VecDeque::new(),
            current: None,
            arming: Arming::new(shape.coalescing),
            stopped: None,
            unseen: None,
            is_wary: false,
            stuck: Spell::Over,
            held: Vec::new(),
            shape,
        }
    }

    pub(crate) fn number(&self) -> u16 {
        self.shape.number
    }

    pub(crate) fn context(&self) -> u32 {
        self.shape.context
    }

    pub(crate) fn vector(&self) -> Option<u16> {
        self.shape.vector
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    pub(crate) fn completed(&self) -> u32 {
        self.completed
    }

    pub(crate) fn set_coalescing(&mut self, coalescing: Coalescing) {
        self.arming.set_coalescing(coalescing);
    }

    pub(crate) fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// Ends everything the queue does, for good.
    #[cold]
    pub(crate) fn stop(&mut self, why: Stopped) {
        self.stopped = Some(why);
        self.current = None;
        self.backlog.clear();
        self.held.clear();
    }

    /// Whether the chip wakes for this queue by KICK alone.
    pub(crate) fn can_park(&self) -> bool {
        self.park.as_ref().is_some_and(ParkWord::is_mapped)
    }

    /// Says in host memory whether the chip sleeps.
    pub(crate) fn set_parked(&self, parked: bool) {
        if let Some(park) = &self.park {
            park.set(parked);
        }
    }

    /// Looks at the doorbell. True when entries wait.
    #[inline]
    pub(crate) fn sweep(&mut self) -> bool {
        if self.stopped.is_some() || self.stuck.lasts() {
            return false;
        }
        self.look_at_doorbell();
        if self.tail.wrapping_sub(self.completed) > self.depth {
            self.stop(Stopped::DoorbellBeyondRing { tail: self.tail });
            return false;
        }
        self.tail != self.fetched || !self.backlog.is_empty()
    }

    #[inline]
    fn look_at_doorbell(&mut self) {
        if self.is_wary {
            return;
        }
        // An acquire load: the entries that the doorbell announces are visible after it.
        if let Ok(tail) = self.doorbells.load_u32(self.doorbell + SQ_TAIL.offset)
            && self.unseen != Some(tail)
        {
            self.tail = tail;
        }
    }

    /// Takes the next entry to begin. False when there is none. The doorbell was swept.
    #[inline]
    pub(crate) fn next(&mut self, entry: &mut Submission) -> bool {
        if let Some(waiting) = self.backlog.pop_front() {
            *entry = waiting;
            return true;
        }
        self.fetch(entry)
    }

    /// Takes the next entry if it is a [plain NOP](plain_nop): its identifier.
    #[inline]
    pub(crate) fn next_nop(&mut self) -> Option<u16> {
        if !self.backlog.is_empty() {
            return None;
        }
        let command_id = plain_nop(self.look_at_next()?)?;
        self.fetched = self.fetched.wrapping_add(1);
        Some(command_id)
    }

    /// Into a place of the caller's: see [`Queue::look_at_next`].
    fn fetch(&mut self, entry: &mut Submission) -> bool {
        let Some(words) = self.look_at_next() else {
            return false;
        };
        self.fetched = self.fetched.wrapping_add(1);
        *entry = zerocopy::transmute!(words);
        true
    }

    /// The next entry in the ring, which stays there. Always inlined, so that it stays in registers: who stores words one by one and moves
    /// them on by twos waits until both have left the processor's store buffer.
    #[inline(always)]
    fn look_at_next(&mut self) -> Option<[u64; 8]> {
        if self.tail == self.fetched || self.stopped.is_some() {
            return None;
        }
        // The driver wrote it last: its line is on the way while the entries before it are worked on.
        if self.tail.wrapping_sub(self.fetched) > AHEAD {
            let ahead = self.fetched.wrapping_add(AHEAD) & (self.depth - 1);
            self.submissions.prefetch(ahead);
        }
        let words = self.submissions.load(self.fetched & (self.depth - 1));
        if words.is_none() {
            self.stop(Stopped::RingNotMapped);
        }
        words
    }

    /// Posts a completion, after those that are staged.
    #[inline]
    pub(crate) fn complete(&mut self, command_id: u16, outcome: Result<u64, Status>) {
        self.stage(command_id, outcome);
        self.post_staged();
    }

    /// Has a completion posted with the next ones: whoever polls for them has their cache line, and each post takes it away.
    /// [`Queue::post_staged`] must follow before the chip is let go.
    #[inline]
    pub(crate) fn stage(&mut self, command_id: u16, outcome: Result<u64, Status>) {
        if self.staged == GROUP {
            self.post_staged();
        }
        let (result, status) = match outcome {
            Ok(result) => (result, Status::Success),
            Err(status) => (0, status),
        };
        let tail = self.tail_of(command_id, status);
        if let Some(place) = self.stage.get_mut(self.staged) {
            *place = (tail, result);
            self.staged += 1;
        }
    }

    /// Posts what is staged.
    #[inline]
    pub(crate) fn post_staged(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        for index in 0..staged {
            let (tail, result) = self.stage[index];
            self.completed = self.completed.wrapping_add(1);
            self.put(tail, result);
        }
        if staged > 0 && !self.held.is_empty() {
            self.release_reordered();
        }
    }

    /// The last word of a completion, but for its phase.
    #[inline]
    fn tail_of(&self, command_id: u16, status: Status) -> Tail {
        Tail::new()
            .with_status_code(status.code())
            .with_tag(self.shape.tag)
            .with_command_id(command_id)
            .with_queue(self.shape.number)
    }

    /// Puts a completion into the ring.
    #[inline]
    fn put(&mut self, tail: Tail, result: u64) {
        if self.write(tail, result) {
            self.posted = self.posted.wrapping_add(1);
        }
    }

    /// Writes where the next completion belongs. False when that cannot be, and then the queue has stopped.
    #[inline]
    fn write(&mut self, tail: Tail, result: u64) -> bool {
        let slot = self.posted & (self.depth - 1);
        let odd_lap = self.posted >> self.shape.depth_log2 & 1 != 0;
        let tail = tail.with_phase(!odd_lap).into_bits();
        let written = self.completions.store(slot, [result, tail]).is_some();
        if !written {
            self.stop(Stopped::RingNotMapped);
        }
        written
    }

    /// Whether the interrupt is due.
    #[inline]
    pub(crate) fn look_at_arming(&mut self) -> Verdict {
        if self.shape.vector.is_none() || self.stopped.is_some() {
            return Verdict::Quiet;
        }
        let Ok(arm) = self.doorbells.load_u32(self.doorbell + CQ_ARM.offset) else {
            return Verdict::Quiet;
        };
        self.arming.look(arm, self.posted, Instant::now)
    }

    /// Takes one command out of the queue, wherever it is, and completes it as aborted. False when
    /// there is no such command: it has completed already.
    pub(crate) fn abort(&mut self, command_id: u16) -> bool {
        self.look_at_doorbell();
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.command_id == command_id)
        {
            self.current = None;
            self.complete(command_id, Err(Status::Aborted));
            return true;
        }
        let mut entry = Submission::default();
        while self.fetch(&mut entry) {
            self.backlog.push_back(entry);
        }
        let waiting = self
            .backlog
            .iter()
            .position(|entry| entry.command_id == command_id);
        let Some(index) = waiting else {
            return false;
        };
        self.backlog.remove(index);
        self.complete(command_id, Err(Status::Aborted));
        true
    }

    /// Whether its rings can be reached.
    pub(crate) fn has_rings(&self) -> bool {
        self.submissions.is_mapped() && self.completions.is_mapped()
    }

    /// The client takes memory back: lets go of the rings that are in it.
    pub(crate) fn unmap(&mut self, iova: u64, size: u64) {
        self.submissions.unmap(iova, size);
        self.completions.unmap(iova, size);
        if let Some(park) = &mut self.park {
            park.unmap(iova, size);
        }
    }
}
