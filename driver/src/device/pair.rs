//! A submission and a completion ring in DMA memory, with their doorbell.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use auk_asic::PAGE;
use auk_asic::doorbell::Arm;
use auk_asic::submission::{Operand, Submission};

use crate::dma::{DmaBuffer, DmaError, DmaSpace, Words};
use crate::mmio::Doorbell;
use crate::ring::{
    Commands, CompletionRing, Ended, Full, Keep, Pending, SharedWords, SubmissionRing, Token,
    arm_and_look, publish,
};

/// The two rings of one queue, what runs in them, and where they are. `H` is what a command keeps alive.
#[derive(Debug)]
pub(crate) struct QueuePair<H> {
    shared: Shared,
    submission_words: Words,
    completion_words: Words,
    submissions: SubmissionRing,
    completions: CompletionRing,
    commands: Commands<H>,
    memory: DmaBuffer,
    layout: Layout,
    parking: bool,
    /// The tail that the doorbell has.
    rung: u32,
    /// The chip sleeps and no KICK has reached it yet.
    kick_owed: bool,
    arm_sequence: u16,
}

/// Word offsets in the memory: the submission ring at 0, then the completion ring, then the park word, each in pages of
/// its own.
#[derive(Clone, Copy, Debug)]
struct Layout {
    completions: usize,
    park: usize,
    end: usize,
}

impl Layout {
    fn new(depth_log2: u8) -> Self {
        let words = |bytes: usize| bytes.next_multiple_of(PAGE) / size_of::<u64>();
        let completions = words(SubmissionRing::bytes(depth_log2));
        let park = completions + words(CompletionRing::bytes(depth_log2));
        Self {
            completions,
            park,
            end: park + words(size_of::<u64>()),
        }
    }
}

#[derive(Debug)]
struct Shared {
    doorbell: Doorbell,
    park: Words,
}

impl SharedWords for Shared {
    #[inline]
    fn store_tail(&self, tail: u32) {
        self.doorbell.ring(tail);
    }

    #[inline]
    fn store_arm(&self, arm: Arm) {
        self.doorbell.arm(arm);
    }

    #[inline]
    fn load_park(&self) -> u32 {
        // The park word is the low half of a word that nothing else uses.
        self.park
            .first()
            .map_or(0, |park| park.load(Ordering::Relaxed) as u32)
    }

    #[inline]
    fn full_fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// The place of the next submission.
pub(crate) struct NextSubmission<'a> {
    ring: &'a mut SubmissionRing,
    memory: &'a [AtomicU64],
    id: u16,
}

impl NextSubmission<'_> {
    /// Writes a command there.
    #[inline]
    pub(crate) fn write(self, entry: &Submission) {
        self.ring.write(self.memory, &entry.with_id(self.id));
    }
}

impl<H: Keep> QueuePair<H> {
    /// Completions of no command that one look passes over.
    const MOST_STRAYS: u32 = 64;

    /// Rings of `1 << depth_log2` entries in zero memory of `space`.
    pub(crate) fn new(
        space: &DmaSpace,
        doorbell: Doorbell,
        queue: u16,
        tag: u16,
        depth_log2: u8,
        parking: bool,
    ) -> Result<Self, DmaError> {
        let layout = Layout::new(depth_log2);
        let memory = space.alloc(layout.end * size_of::<u64>())?;
        Ok(Self {
            shared: Shared {
                doorbell,
                park: memory.part(layout.park..layout.end),
            },
            submission_words: memory.part(0..layout.completions),
            completion_words: memory.part(layout.completions..layout.park),
            memory,
            submissions: SubmissionRing::new(depth_log2),
            completions: CompletionRing::new(depth_log2, queue, tag),
            commands: Commands::new(depth_log2),
            layout,
            parking,
            rung: 0,
            kick_owed: false,
            arm_sequence: 0,
        })
    }

    /// The tag of this life's completions.
    pub(crate) const fn tag(&self) -> u16 {
        self.completions.tag()
    }

    /// Where the chip finds the submission ring.
    pub(crate) fn submissions_at(&self) -> Operand {
        self.at(0)
    }

    /// Where the chip finds the completion ring.
    pub(crate) fn completions_at(&self) -> Operand {
        self.at(self.layout.completions)
    }

    /// Where the chip finds the park word; address 0 without parking.
    pub(crate) fn park_at(&self) -> Operand {
        if self.parking {
            self.at(self.layout.park)
        } else {
            Operand::host(0)
        }
    }

    fn at(&self, word: usize) -> Operand {
        Operand::host(self.memory.iova() + (word * size_of::<u64>()) as u64)
    }

    /// Writes a command, which `prepare` gives to the second of its arguments, and what it keeps alive to the first. The chip
    /// sees it after [`QueuePair::publish`].
    #[inline]
    pub(crate) fn push<E>(
        &mut self,
        prepare: impl FnOnce(&mut H, NextSubmission<'_>) -> Result<(), E>,
        full: impl FnOnce(Full) -> E,
    ) -> Result<Token, E> {
        let (ring, memory) = (&mut self.submissions, &*self.submission_words);
        let prepare = |id, holds: &mut H| prepare(holds, NextSubmission { ring, memory, id });
        self.commands.begin(prepare, full)
    }

    /// Rings the doorbell for what was pushed since the last time. Whether the chip must be woken by KICK; it is so until
    /// [`QueuePair::kicked`] hears that this went well.
    #[inline]
    #[must_use]
    pub(crate) fn publish(&mut self) -> bool {
        let tail = self.submissions.tail();
        if tail != self.rung {
            self.rung = tail;
            self.kick_owed |= publish(&self.shared, tail, self.parking);
        }
        self.kick_owed
    }

    /// A KICK was tried.
    #[cold]
    pub(crate) fn kicked(&mut self, arrived: bool) {
        self.kick_owed = !arrived;
    }

    /// Takes one completion off the ring and ends its command; `None` when there is none. Completions of no command
    /// in flight are counted and passed over.
    #[inline]
    pub(crate) fn reap(&mut self) -> Option<Token> {
        // A hostile chip can write completions of no command as fast as they are passed over.
        for _ in 0..Self::MOST_STRAYS {
            let entry = self.completions.next(&self.completion_words)?;
            let ended = self
                .commands
                .end(entry.command_id, entry.status_code, entry.result);
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    /// The outcome of the command that has ended longest ago, if one has that was not collected.
    #[inline]
    pub(crate) fn poll(&mut self) -> Option<(Token, Ended)> {
        if self.commands.uncollected() > 0 {
            return self.commands.collect_oldest();
        }
        for _ in 0..Self::MOST_STRAYS {
            let entry = self.completions.next(&self.completion_words)?;
            let ended =
                self.commands
                    .end_and_collect(entry.command_id, entry.status_code, entry.result);
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    /// Arms the interrupt; true when a completion is there already, so that there is nothing to sleep for.
    pub(crate) fn arm(&mut self) -> bool {
        self.arm_sequence = self.arm_sequence.wrapping_add(1) & 0x7FFF;
        let arm = Arm::new()
            .with_consumed(self.completions.head() as u16)
            .with_sequence(self.arm_sequence)
            .with_armed(true);
        arm_and_look(&self.shared, arm, || {
            self.completions.has_next(&self.completion_words)
        })
    }

    #[inline]
    pub(crate) fn collect(&mut self, token: Token) -> Result<Ended, Pending> {
        self.commands.collect(token)
    }

    pub(crate) fn command_id(&self, token: Token) -> Option<u16> {
        self.commands.command_id(token)
    }

    #[inline]
    pub(crate) fn in_flight(&self) -> u32 {
        self.commands.in_flight()
    }

    /// Ends all that runs as lost; what it keeps alive stays so until the pair is dropped.
    pub(crate) fn lose_all(&mut self) {
        self.commands.lose_all();
        self.kick_owed = false;
    }

    /// Completions that were of no command in flight, or not of this life of the queue.
    pub(crate) fn strays(&self) -> u64 {
        self.completions.strays() + self.commands.unmatched()
    }
}
