//! The commands of a queue: which run, which have ended, what they keep alive.

use auk_asic::Status;

/// A command of one queue. Good for one command: when its place is used again, the token is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    slot: u16,
    life: u32,
}

/// What a command keeps alive, in a place that one command after the other uses.
pub trait Keep: Default {
    /// Lets go of it.
    fn release(&mut self);
}

impl<T> Keep for Option<T> {
    #[inline]
    fn release(&mut self) {
        *self = None;
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
    #[inline]
    fn by(status_code: u16, result: u64) -> Self {
        if status_code == Status::Success.code() {
            return Self::Completed {
                status: Status::Success,
                result,
            };
        }
        match Status::parse(status_code) {
            Ok(status) => Self::Completed { status, result },
            Err(_) => Self::Unknown(status_code),
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
    /// The first of the places without a command; each names the next.
    free: u16,
    depth: u16,
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
    /// What the command was submitted under: the place in the lower bits, and above it another number each time.
    id: u16,
    /// Another number each time, for the token.
    life: u32,
    state: SlotState,
    older: u16,
    /// Of a free place, the next one.
    newer: u16,
    holds: H,
}

#[derive(Clone, Copy, Debug)]
enum SlotState {
    Free,
    InFlight,
    Ended(Ended),
}

impl<H: Keep> Commands<H> {
    /// Room for `1 << depth_log2` commands; the programming model allows 12.
    #[must_use]
    pub fn new(depth_log2: u8) -> Self {
        let depth = 1u16 << depth_log2.min(auk_asic::bar0::MAX_DEPTH_LOG2);
        let slot = |index| Slot {
            id: index,
            life: 0,
            state: SlotState::Free,
            older: NONE,
            newer: if index + 1 < depth { index + 1 } else { NONE },
            holds: H::default(),
        };
        Self {
            slots: (0..depth).map(slot).collect(),
            free: 0,
            depth,
            in_flight: 0,
            oldest: NONE,
            newest: NONE,
            uncollected: 0,
            unmatched: 0,
        }
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
        self.uncollected
    }

    /// Completions that named no command in flight.
    #[must_use]
    pub const fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// A place for a command. `prepare` gets the identifier to submit it under, puts into its hands what it keeps alive, and
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
        let index = self.free;
        let Some(slot) = self.slots.get_mut(usize::from(index)) else {
            return Err(full(Full {
                in_flight: self.in_flight,
                uncollected: self.uncollected,
            }));
        };
        let id = slot.id.wrapping_add(self.depth);
        if let Err(error) = prepare(id, &mut slot.holds) {
            slot.holds.release();
            return Err(error);
        }
        self.free = slot.newer;
        slot.id = id;
        slot.life = slot.life.wrapping_add(1);
        slot.state = SlotState::InFlight;
        self.in_flight += 1;
        Ok(Token {
            slot: index,
            life: slot.life,
        })
    }

    /// Ends the command that a completion names, lets go what it kept alive, and leaves its outcome to be collected.
    /// `None` when no such command is in flight: the chip made it up, or says it twice.
    #[inline]
    pub fn end(&mut self, command_id: u16, status_code: u16, result: u64) -> Option<Token> {
        let token = self.stop(command_id)?;
        self.leave(token.slot, Ended::by(status_code, result));
        Some(token)
    }

    /// As [`end`](Self::end), and collects the outcome as well.
    #[inline]
    pub fn end_and_collect(
        &mut self,
        command_id: u16,
        status_code: u16,
        result: u64,
    ) -> Option<(Token, Ended)> {
        let token = self.stop(command_id)?;
        self.vacate(token.slot);
        Some((token, Ended::by(status_code, result)))
    }

    /// Takes the command that a completion names out of flight, and lets go what it kept alive.
    #[inline]
    fn stop(&mut self, id: u16) -> Option<Token> {
        let index = id & (self.depth - 1);
        let slot = self.slots.get_mut(usize::from(index))?;
        if slot.id != id || !matches!(slot.state, SlotState::InFlight) {
            self.unmatched += 1;
            return None;
        }
        slot.holds.release();
        self.in_flight -= 1;
        Some(Token {
            slot: index,
            life: slot.life,
        })
    }

    /// Ends every command in flight as [`Ended::Lost`]. What they kept alive stays alive as long as `self`: nobody has said
    /// that the chip is done with it.
    pub fn lose_all(&mut self) {
        for index in 0..self.slots.len() {
            if matches!(self.slots[index].state, SlotState::InFlight) {
                self.in_flight -= 1;
                self.leave(index as u16, Ended::Lost);
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
        (slot.life == token.life && matches!(slot.state, SlotState::InFlight)).then_some(slot.id)
    }

    /// Puts the outcome of a command that has ended at the end of the list.
    fn leave(&mut self, index: u16, ended: Ended) {
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
    }

    /// Takes an ended command out of the list, and frees its place. That of a lost one is used no more, because of what it
    /// keeps alive.
    fn forget(&mut self, index: u16) {
        let slot = &mut self.slots[usize::from(index)];
        let (older, newer) = (slot.older, slot.newer);
        let lost = matches!(slot.state, SlotState::Ended(Ended::Lost));
        slot.state = SlotState::Free;
        match self.slots.get_mut(usize::from(older)) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(usize::from(newer)) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.uncollected -= 1;
        if !lost {
            self.vacate(index);
        }
    }

    #[inline]
    fn vacate(&mut self, index: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.state = SlotState::Free;
            slot.newer = self.free;
            self.free = index;
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
