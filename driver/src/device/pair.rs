//! A submission and a completion ring in DMA memory, with their doorbell.

use std::ops::Range;
use std::sync::atomic::{Ordering, fence};

use auk_asic::PAGE;
use auk_asic::doorbell::Arm;
use auk_asic::submission::Operand;

use super::remains::{Hold, Remains};
use crate::dma::{DmaBuffer, DmaError, DmaSpace, Words};
use crate::mmio::Doorbell;
use crate::report::RingView;
use crate::ring::{
    Commands, CompletionRing, Ended, Entry, Full, Keep, Pending, SharedWords, SubmissionPlace,
    SubmissionRing, SubmissionWords, Token, arm_and_look, publish,
};

/// The two rings of one queue, what runs in them, and where they are. `H` is what a command keeps alive.
#[derive(Debug)]
pub(crate) struct QueuePair<H> {
    shared: Shared,
    submission_places: Words<8>,
    completion_places: Words<2>,
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
    depth_log2: u8,
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
            depth_log2,
            completions,
            park,
            end: park + words(size_of::<u64>()),
        }
    }

    /// The words of the submission ring, without what is left of its last page.
    fn submissions(&self) -> Range<usize> {
        0..SubmissionRing::bytes(self.depth_log2) / size_of::<u64>()
    }

    /// The words of the completion ring.
    fn completions(&self) -> Range<usize> {
        let words = CompletionRing::bytes(self.depth_log2) / size_of::<u64>();
        self.completions..self.completions + words
    }
}

#[derive(Debug)]
struct Shared {
    doorbell: Doorbell,
    park: Words<1>,
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
            .map_or(0, |[park]| park.load(Ordering::Relaxed) as u32)
    }

    #[inline]
    fn full_fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// The place of the next submission.
pub(crate) struct NextSubmission<'a> {
    ring: &'a mut SubmissionRing,
    memory: &'a [SubmissionPlace],
    id: u16,
}

impl NextSubmission<'_> {
    /// Writes a command there.
    #[inline]
    pub(crate) fn write(self, entry: &SubmissionWords) {
        self.ring.write(self.memory, entry, self.id);
    }
}

impl<H: Keep> QueuePair<H> {
    /// Completions of no command that one look passes over.
    const MOST_STRAYS: u32 = 64;

    /// Rings of `1 << depth_log2` entries in zero memory of `space`, for a queue's number, with the tag of its completions and
    /// the serial number of its tokens.
    pub(crate) fn new(
        space: &DmaSpace,
        doorbell: Doorbell,
        (queue, tag, serial): (u16, u16, u16),
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
            submission_places: memory.part(layout.submissions()),
            completion_places: memory.part(layout.completions()),
            memory,
            submissions: SubmissionRing::default(),
            completions: CompletionRing::new(queue, tag),
            commands: Commands::new(depth_log2, serial),
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
        let (ring, memory) = (&mut self.submissions, &*self.submission_places);
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

    /// Takes one completion off the ring and ends its command, whose outcome is then to be collected; `None` when there is
    /// none. Completions of no command in flight are counted and passed over.
    #[inline]
    pub(crate) fn reap(&mut self) -> Option<Token> {
        self.next(Commands::end).map(|(token, _)| token)
    }

    /// The same, and the outcome, which is collected with it. Only for when no outcome waits to be.
    #[inline]
    pub(crate) fn reap_and_collect(&mut self) -> Option<(Token, Entry)> {
        self.next(Commands::end_and_collect)
    }

    #[inline]
    fn next(
        &mut self,
        end: impl Fn(&mut Commands<H>, Entry) -> Option<Token> + Copy,
    ) -> Option<(Token, Entry)> {
        let entry = self.completions.next(&self.completion_places)?;
        match end(&mut self.commands, entry) {
            Some(token) => Some((token, entry)),
            None => self.next_after_stray(end),
        }
    }

    #[cold]
    #[inline(never)]
    fn next_after_stray(
        &mut self,
        end: impl Fn(&mut Commands<H>, Entry) -> Option<Token>,
    ) -> Option<(Token, Entry)> {
        // A hostile chip can write completions of no command as fast as they are passed over.
        for _ in 1..Self::MOST_STRAYS {
            let entry = self.completions.next(&self.completion_places)?;
            if let Some(token) = end(&mut self.commands, entry) {
                return Some((token, entry));
            }
        }
        None
    }

    /// Commands that have ended, and whose outcome nobody has collected.
    #[inline]
    pub(crate) const fn uncollected(&self) -> u32 {
        self.commands.uncollected()
    }

    /// The outcome of the command that has ended longest ago and was not collected.
    pub(crate) fn collect_oldest(&mut self) -> Option<(Token, Ended)> {
        self.commands.collect_oldest()
    }

    /// Arms the interrupt; true when a completion is there already, so that there is nothing to sleep for.
    pub(crate) fn arm(&mut self) -> bool {
        self.arm_sequence = self.arm_sequence.wrapping_add(1) & 0x7FFF;
        let arm = Arm::new()
            .with_consumed(self.completions.head() as u16)
            .with_sequence(self.arm_sequence)
            .with_armed(true);
        arm_and_look(&self.shared, arm, || {
            self.completions.has_next(&self.completion_places)
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

    /// Begins anew with another tag, in the same memory, which the chip is proven to be done with. All that was in flight must be
    /// lost already; what that kept alive is let go, and its outcomes can still be collected.
    pub(crate) fn renew(&mut self, doorbell: Doorbell, tag: u16) {
        self.memory.zero();
        self.shared.doorbell = doorbell;
        self.submissions = SubmissionRing::default();
        self.completions.renew(tag);
        self.commands.let_go_of_lost();
        self.rung = 0;
        self.kick_owed = false;
        self.arm_sequence = 0;
    }

    /// Commands written and completions consumed since the queue began, modulo 2^32.
    pub(crate) const fn counts(&self) -> (u32, u32) {
        (self.submissions.tail(), self.completions.head())
    }

    /// Whether a completion is there to be reaped.
    pub(crate) fn has_next(&self) -> bool {
        self.completions.has_next(&self.completion_places)
    }

    /// The rings, for reports.
    pub(crate) fn view(&self) -> RingView {
        RingView {
            memory: self.memory.clone(),
            completions: self.layout.completions * size_of::<u64>(),
            depth: 1 << self.layout.depth_log2,
            tag: self.tag(),
        }
    }

    /// Commands that can be in flight, as a power of two.
    pub(crate) const fn depth_log2(&self) -> u8 {
        self.layout.depth_log2
    }

    /// Commands that there is room for.
    #[cfg(feature = "tokio")]
    pub(crate) const fn depth(&self) -> usize {
        self.commands.depth()
    }

    /// The commands in flight.
    pub(crate) fn running(&self) -> impl Iterator<Item = Token> {
        self.commands.running()
    }

    /// Whether a command is of this queue, and no other has taken its place.
    pub(crate) fn contains(&self, token: Token) -> bool {
        self.commands.contains(token)
    }

    /// Takes what the chip may still write out of the pair: its rings, and what commands keep alive. The pair is of no more use.
    pub(crate) fn take_remains(&mut self) -> Remains
    where
        H: IntoIterator<Item: Into<Hold>>,
    {
        let commands = std::mem::replace(&mut self.commands, Commands::none());
        let holds = commands.into_kept().into_iter().flatten();
        Remains::new(self.memory.clone(), holds.map(Into::into).collect())
    }

    /// Completions that were of no command in flight, or not of this life of the queue.
    pub(crate) fn strays(&self) -> u64 {
        self.completions.strays() + self.commands.unmatched()
    }
}
