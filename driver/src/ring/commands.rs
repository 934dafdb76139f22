//! The commands of a queue: which run, which have ended, what they keep alive.

use auk_asic::{Malformed, Status};

/// A command of one queue. Good for one command: when its place is used again, the token is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    slot: u16,
    life: u32,
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
    /// The chip said something that the programming model does not have.
    Unknown(Malformed),
    /// The queue ended first.
    Lost,
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
    /// Places without a command.
    free: Vec<u16>,
    slot_bits: u32,
    in_flight: u32,
    /// First and last of the ended commands that nobody has collected, in the order in which they ended.
    oldest: u16,
    newest: u16,
    uncollected: u32,
    /// Completions that named no command in flight.
    unmatched: u64,
}

const NONE: u16 = u16::MAX;

#[derive(Debug)]
struct Slot<H> {
    /// The command identifier's upper part, different each time.
    sequence: u16,
    life: u32,
    state: SlotState,
    holds: Option<H>,
    older: u16,
    newer: u16,
}

#[derive(Clone, Copy, Debug)]
enum SlotState {
    Free,
    InFlight,
    Ended(Ended),
}

impl<H> Commands<H> {
    /// Room for `1 << depth_log2` commands; the programming model allows 12.
    #[must_use]
    pub fn new(depth_log2: u8) -> Self {
        let depth = 1u16 << depth_log2.min(auk_asic::bar0::MAX_DEPTH_LOG2);
        let slot = |_| Slot {
            sequence: 0,
            life: 0,
            state: SlotState::Free,
            holds: None,
            older: NONE,
            newer: NONE,
        };
        Self {
            slots: (0..depth).map(slot).collect(),
            free: (0..depth).rev().collect(),
            slot_bits: depth.trailing_zeros(),
            in_flight: 0,
            oldest: NONE,
            newest: NONE,
            uncollected: 0,
            unmatched: 0,
        }
    }

    /// Commands that run.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Completions that named no command in flight.
    #[must_use]
    pub const fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// A place for a command that keeps `holds` alive, and the identifier to submit it under.
    ///
    /// # Errors
    /// [`Full`].
    #[inline]
    pub fn begin(&mut self, holds: H) -> Result<(Token, u16), Full> {
        let Some(index) = self.free.pop() else {
            return Err(Full {
                in_flight: self.in_flight,
                uncollected: self.uncollected,
            });
        };
        let slot = &mut self.slots[usize::from(index)];
        slot.sequence = slot.sequence.wrapping_add(1);
        slot.life = slot.life.wrapping_add(1);
        slot.state = SlotState::InFlight;
        slot.holds = Some(holds);
        self.in_flight += 1;
        let id = index | slot.sequence.unbounded_shl(self.slot_bits);
        Ok((
            Token {
                slot: index,
                life: slot.life,
            },
            id,
        ))
    }

    /// Ends the command that a completion names, lets go what it kept alive, and leaves its outcome to be collected.
    /// `None` when no such command is in flight: the chip made it up, or says it twice.
    #[inline]
    pub fn end(&mut self, command_id: u16, status_code: u16, result: u64) -> Option<Token> {
        let mask = (self.slots.len() - 1) as u16;
        let index = command_id & mask;
        let slot = &mut self.slots[usize::from(index)];
        let same = slot.sequence.unbounded_shl(self.slot_bits) == command_id & !mask;
        if !same || !matches!(slot.state, SlotState::InFlight) {
            self.unmatched += 1;
            return None;
        }
        let ended = match Status::parse(status_code) {
            Ok(status) => Ended::Completed { status, result },
            Err(malformed) => Ended::Unknown(malformed),
        };
        slot.holds = None;
        Some(self.finish(index, ended))
    }

    /// Ends every command in flight as [`Ended::Lost`]. What they kept alive stays alive as long as `self`: nobody has said
    /// that the chip is done with it.
    pub fn lose_all(&mut self) {
        for index in 0..self.slots.len() {
            if matches!(self.slots[index].state, SlotState::InFlight) {
                self.finish(index as u16, Ended::Lost);
            }
        }
    }

    /// The outcome of a command, once.
    ///
    /// # Errors
    /// The state otherwise: [`Pending::Running`], or [`Pending::Unknown`] when it was collected before.
    #[inline]
    pub fn collect(&mut self, token: Token) -> Result<Ended, Pending> {
        let Some(slot) = self.slots.get(usize::from(token.slot)) else {
            return Err(Pending::Unknown);
        };
        if slot.life != token.life {
            return Err(Pending::Unknown);
        }
        match slot.state {
            SlotState::Free => Err(Pending::Unknown),
            SlotState::InFlight => Err(Pending::Running),
            SlotState::Ended(ended) => {
                self.forget(token.slot);
                Ok(ended)
            }
        }
    }

    /// The outcome of the command that ended longest ago and was not collected.
    #[inline]
    pub fn collect_oldest(&mut self) -> Option<(Token, Ended)> {
        let index = self.oldest;
        let slot = self.slots.get(usize::from(index))?;
        let SlotState::Ended(ended) = slot.state else {
            return None;
        };
        let token = Token {
            slot: index,
            life: slot.life,
        };
        self.forget(index);
        Some((token, ended))
    }

    /// The identifier that a command in flight was submitted under.
    #[must_use]
    pub fn command_id(&self, token: Token) -> Option<u16> {
        let slot = self.slots.get(usize::from(token.slot))?;
        (slot.life == token.life && matches!(slot.state, SlotState::InFlight))
            .then(|| token.slot | slot.sequence.unbounded_shl(self.slot_bits))
    }

    fn finish(&mut self, index: u16, ended: Ended) -> Token {
        self.in_flight -= 1;
        self.uncollected += 1;
        let before = self.newest;
        match self.slots.get_mut(usize::from(before)) {
            Some(older) => older.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
        let slot = &mut self.slots[usize::from(index)];
        slot.state = SlotState::Ended(ended);
        slot.older = before;
        slot.newer = NONE;
        Token {
            slot: index,
            life: slot.life,
        }
    }

    /// Takes an ended command out of the list, and frees its place.
    fn forget(&mut self, index: u16) {
        let slot = &mut self.slots[usize::from(index)];
        slot.state = SlotState::Free;
        let (older, newer) = (slot.older, slot.newer);
        match self.slots.get_mut(usize::from(older)) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(usize::from(newer)) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.uncollected -= 1;
        self.free.push(index);
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
