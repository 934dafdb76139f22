//! The commands of a queue: which run, which have ended, what they keep alive.
//!
//! On the way of a command there are [`Commands::begin`] and [`Commands::end_and_collect`]; both touch one [`Slot`], and what
//! the command keeps alive. A command whose outcome is not taken at once is in the list of [`Uncollected`] besides.

use auk_asic::Status;
use auk_asic::completion::Tail;

use super::Entry;

/// A command: a number that no other command has, of this queue or of any of the next [`SERIALS`] ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// The slot of the command in its queue, which has as many as it is deep.
    #[must_use]
    pub const fn slot(self, depth: usize) -> usize {
        slot_of(self.0, depth)
    }
}

/// Where the queue's serial number is in a token. Below it a queue counts its commands, which at 30 million a second
/// takes more than a hundred days to overflow; then the token is still one that no command in flight has.
const SERIAL_SHIFT: u32 = 48;
/// Different serial numbers.
pub const SERIALS: u32 = 1 << (u64::BITS - SERIAL_SHIFT);

/// What a command keeps alive, in a place that one command after the other uses.
pub trait Keep: Default {
    /// Lets go of it.
    fn release(&mut self);

    /// Whether it keeps nothing.
    fn is_nothing(&self) -> bool;
}

impl<T> Keep for Option<T> {
    #[inline]
    fn release(&mut self) {
        *self = None;
    }

    fn is_nothing(&self) -> bool {
        self.is_none()
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The chip said how.
    Completed {
        /// What it said.
        status: Status,
        /// The result.
        result: u64,
    },
    /// The chip said something that the programming model does not have: this status code.
    Unknown(u16),
    /// The queue ended first.
    Lost,
}

impl Ended {
    /// What a completion says.
    #[must_use]
    pub fn by(completion: Entry) -> Self {
        match completion.tail.status() {
            Ok(status) => Self::Completed {
                status,
                result: completion.result,
            },
            Err(_) => Self::Unknown(completion.tail.status_code()),
        }
    }
}

/// There is no room for another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{in_flight} commands in flight, {uncollected} not collected")]
pub struct Full {
    /// Commands that run.
    pub in_flight: u32,
    /// Commands that ended, and whose outcome nobody has asked for.
    pub uncollected: u32,
}

/// The places of a queue's commands, as many as it is deep. `H` is what a command keeps alive.
///
/// All memory is allocated at the start; nothing here allocates later.
#[derive(Debug)]
pub struct Commands<H> {
    slots: Box<[Slot<H>]>,
    /// The first of the slots without a command; each names the next.
    free: u16,
    in_flight: u32,
    uncollected: Uncollected,
    /// Completions that named no command in flight.
    unmatched: u64,
    /// What lost commands keep alive may still be written by the chip, so that their slots are not used again.
    lost_are_kept: bool,
}

/// Where the identifier begins in the tail of a completion.
const COMMAND_ID_SHIFT: u32 = Tail::new().with_command_id(1).into_bits().trailing_zeros();

/// Stands for no slot.
const NONE: u16 = u16::MAX;
/// Stands for no command identifier, which has 16 bits.
const NOTHING: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<H> {
    /// Of the command that is here, or was last: the slot in the lower bits, above it a count.
    token: u64,
    /// The identifier that the completion of the command in flight will carry; [`NOTHING`] when none is in flight.
    awaits: u32,
    /// Which one it is.
    index: u16,
    /// The next free one.
    next: u16,
    holds: H,
}

/// The commands that ended and whose outcome nobody has taken, in the order in which they ended.
#[derive(Debug)]
struct Uncollected {
    /// By slot.
    places: Box<[Place]>,
    oldest: u16,
    newest: u16,
    count: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    outcome: Option<Ended>,
    older: u16,
    newer: u16,
}

impl<H: Keep> Commands<H> {
    /// Room for `1 << depth_log2` commands; the programming model allows 12. The serial number tells this queue's tokens
    /// from another's.
    #[must_use]
    pub fn new(depth_log2: u8, serial: u16) -> Self {
        let depth = 1u16 << depth_log2.min(auk_asic::bar0::MAX_DEPTH_LOG2);
        let slot = |index| Slot {
            token: u64::from(serial) << SERIAL_SHIFT | u64::from(index),
            awaits: NOTHING,
            index,
            next: if index + 1 < depth { index + 1 } else { NONE },
            holds: H::default(),
        };
        Self {
            slots: (0..depth).map(slot).collect(),
            free: 0,
            in_flight: 0,
            uncollected: Uncollected::new(depth),
            unmatched: 0,
            lost_are_kept: false,
        }
    }

    /// Room for none.
    #[must_use]
    pub fn none() -> Self {
        Self {
            slots: Box::default(),
            free: NONE,
            in_flight: 0,
            uncollected: Uncollected::new(0),
            unmatched: 0,
            lost_are_kept: false,
        }
    }

    /// Commands that there is room for.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.slots.len()
    }

    /// Commands that run.
    #[must_use]
    #[inline]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Commands that have ended, and whose outcome nobody has collected.
    #[must_use]
    #[inline]
    pub const fn uncollected(&self) -> u32 {
        self.uncollected.count
    }

    /// Completions that named no command in flight.
    #[must_use]
    pub const fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// A slot for a command. `prepare` gets the identifier to submit it under, puts into its hands what it keeps alive, and
    /// submits it; if it fails there is no command.
    ///
    /// # Errors
    /// Those of `prepare`, and what `full` makes of [`Full`].
    #[inline]
    pub fn begin<E>(
        &mut self,
        prepare: impl FnOnce(u16, &mut H) -> Result<(), E>,
        full: impl FnOnce(Full) -> E,
    ) -> Result<Token, E> {
        let depth = self.slots.len() as u64;
        let Some(slot) = self.slots.get_mut(usize::from(self.free)) else {
            return Err(full(Full {
                in_flight: self.in_flight,
                uncollected: self.uncollected.count,
            }));
        };
        let token = slot.token.wrapping_add(depth);
        let id = token as u16;
        if let Err(error) = prepare(id, &mut slot.holds) {
            slot.holds.release();
            return Err(error);
        }
        slot.token = token;
        slot.awaits = u32::from(id);
        self.free = slot.next;
        self.in_flight += 1;
        Ok(Token(token))
    }

    /// Ends the command that a completion names, lets go what it kept alive, and leaves its outcome to be collected.
    /// `None` when no such command is in flight: the chip made it up, or says it twice.
    #[inline]
    pub fn end(&mut self, completion: Entry) -> Option<Token> {
        let slot = stop(&mut self.slots, completion);
        let Some(slot) = slot else {
            self.unmatched += 1;
            return None;
        };
        self.in_flight -= 1;
        let (token, index) = (Token(slot.token), slot.index);
        self.uncollected.push(index, Ended::by(completion));
        Some(token)
    }

    /// As [`end`](Self::end), for a caller who takes the outcome, which the completion has, at once.
    #[inline]
    pub fn end_and_collect(&mut self, completion: Entry) -> Option<Token> {
        let slot = stop(&mut self.slots, completion);
        let Some(slot) = slot else {
            self.unmatched += 1;
            return None;
        };
        self.in_flight -= 1;
        slot.next = self.free;
        self.free = slot.index;
        Some(Token(slot.token))
    }

    /// Ends every command in flight as [`Ended::Lost`]. What they kept alive stays alive as long as `self`, or until
    /// [`let_go_of_lost`](Self::let_go_of_lost): nobody has said that the chip is done with it.
    pub fn lose_all(&mut self) {
        self.lost_are_kept = true;
        for (index, slot) in (0..).zip(&mut self.slots) {
            if slot.awaits != NOTHING {
                slot.awaits = NOTHING;
                self.in_flight -= 1;
                self.uncollected.push(index, Ended::Lost);
            }
        }
    }

    /// What commands keep alive, and nothing of the rest.
    #[must_use]
    pub fn into_kept(self) -> Vec<H> {
        let kept = self.slots.into_iter().map(|slot| slot.holds);
        kept.filter(|holds| !holds.is_nothing()).collect()
    }

    /// Lets go of what lost commands kept alive, when the chip is proven to write none of it any more; their slots are used again
    /// once their outcomes are collected. Nothing may be in flight.
    pub fn let_go_of_lost(&mut self) {
        debug_assert_eq!(self.in_flight, 0, "what runs is not lost");
        self.lost_are_kept = false;
        self.free = NONE;
        let places = self.uncollected.places.iter();
        for (slot, place) in self.slots.iter_mut().zip(places).rev() {
            slot.holds.release();
            if place.outcome.is_none() {
                slot.next = self.free;
                self.free = slot.index;
            }
        }
    }

    /// The outcome of a command, once.
    ///
    /// # Errors
    /// The state otherwise: [`Pending::Running`], or [`Pending::Unknown`] when it was collected before.
    #[inline]
    pub fn collect(&mut self, token: Token) -> Result<Ended, Pending> {
        if !self.contains(token) {
            return Err(Pending::Unknown);
        }
        if self.runs(token) {
            return Err(Pending::Running);
        }
        let index = self.index(token);
        let ended = self.uncollected.take(index).ok_or(Pending::Unknown)?;
        self.free_after(index, ended);
        Ok(ended)
    }

    /// The outcome of the command that ended longest ago and was not collected.
    pub fn collect_oldest(&mut self) -> Option<(Token, Ended)> {
        let index = self.uncollected.oldest;
        let token = Token(self.slots.get(usize::from(index))?.token);
        let ended = self.uncollected.take(index)?;
        self.free_after(index, ended);
        Some((token, ended))
    }

    /// The identifier that a command in flight was submitted under.
    #[must_use]
    pub fn command_id(&self, token: Token) -> Option<u16> {
        self.runs(token).then_some(token.0 as u16)
    }

    /// The commands that run, in no order.
    pub fn running(&self) -> impl Iterator<Item = Token> {
        let running = self.slots.iter().filter(|slot| slot.awaits != NOTHING);
        running.map(|slot| Token(slot.token))
    }

    /// Whether a command is one of these: it runs, or it ended and no other has taken its place.
    #[must_use]
    pub fn contains(&self, token: Token) -> bool {
        let slot = self.slots.get(usize::from(self.index(token)));
        slot.is_some_and(|slot| slot.token == token.0)
    }

    fn runs(&self, token: Token) -> bool {
        let slot = self.slots.get(usize::from(self.index(token)));
        slot.is_some_and(|slot| slot.token == token.0 && slot.awaits != NOTHING)
    }

    /// The slot that a command is in.
    #[inline]
    const fn index(&self, token: Token) -> u16 {
        token.slot(self.slots.len()) as u16
    }

    /// The slot of a lost command is not used, because of what it keeps alive.
    fn free_after(&mut self, index: u16, ended: Ended) {
        if ended != Ended::Lost || !self.lost_are_kept {
            self.vacate(index);
        }
    }

    #[inline]
    fn vacate(&mut self, index: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.next = self.free;
            self.free = index;
        }
    }
}

/// The slot of a command, of as many as a power of two: the lowest bits of its identifier, and of its token.
#[inline]
const fn slot_of(id: u64, depth: usize) -> usize {
    id as usize & depth.wrapping_sub(1)
}

/// Takes the command that a completion names out of flight, and lets go what it kept alive.
#[inline]
fn stop<H: Keep>(slots: &mut [Slot<H>], completion: Entry) -> Option<&mut Slot<H>> {
    // What lies above the identifier does not matter to the slot.
    let id = completion.tail.into_bits() >> COMMAND_ID_SHIFT;
    let slot = slots.get_mut(slot_of(id, slots.len()))?;
    if slot.awaits != u32::from(completion.tail.command_id()) {
        return None;
    }
    slot.awaits = NOTHING;
    slot.holds.release();
    Some(slot)
}

impl Uncollected {
    fn new(depth: u16) -> Self {
        let place = Place {
            outcome: None,
            older: NONE,
            newer: NONE,
        };
        Self {
            places: vec![place; usize::from(depth)].into(),
            oldest: NONE,
            newest: NONE,
            count: 0,
        }
    }

    fn get(&mut self, index: u16) -> Option<&mut Place> {
        self.places.get_mut(usize::from(index))
    }

    fn push(&mut self, index: u16, ended: Ended) {
        let older = self.newest;
        let Some(place) = self.get(index) else {
            return;
        };
        *place = Place {
            outcome: Some(ended),
            older,
            newer: NONE,
        };
        self.link(older, index);
        self.newest = index;
        self.count += 1;
    }

    fn take(&mut self, index: u16) -> Option<Ended> {
        let place = self.get(index)?;
        let ended = place.outcome.take()?;
        let (older, newer) = (place.older, place.newer);
        self.link(older, newer);
        match self.get(newer) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.count -= 1;
        Some(ended)
    }

    /// Has `newer` follow `older`, or be the oldest.
    fn link(&mut self, older: u16, newer: u16) {
        match self.get(older) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }
}

/// Why a command's outcome cannot be collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// It still runs.
    Running,
    /// There is no such command: it was collected before.
    Unknown,
}
