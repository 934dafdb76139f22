//! Which futures wait for which commands.

use std::task::Waker;

use crate::deadline::Deadline;
use crate::error::Error;
use crate::queue::Ticket;

/// The futures of one queue, by the slots of their commands, which are theirs until the outcome is collected. All memory is
/// allocated at the start.
#[derive(Debug)]
pub(super) struct Waiters {
    slots: Box<[Slot]>,
    /// To be called when the queue is no longer borrowed; also those that are of no more use, because to drop one may do
    /// anything as well.
    to_wake: Vec<Waker>,
    /// Slots whose futures have waited; some wait no more.
    waited: Vec<usize>,
    first_deadline: Option<Deadline>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The command that a future waits for; `None` also when that future was dropped.
    ticket: Option<Ticket>,
    deadline: Option<Deadline>,
    waker: Option<Waker>,
    /// The deadline is over.
    late: Option<Error>,
    /// It is in `waited`.
    has_waited: bool,
}

impl Waiters {
    pub(super) fn new(depth: usize) -> Self {
        Self {
            slots: std::iter::repeat_with(Slot::default).take(depth).collect(),
            to_wake: Vec::with_capacity(depth),
            waited: Vec::with_capacity(depth),
            first_deadline: None,
        }
    }

    /// A command was submitted.
    pub(super) fn begin(&mut self, ticket: Ticket, deadline: Deadline) {
        let first = self.first_deadline;
        self.first_deadline = Some(first.map_or(deadline, |first| first.sooner(deadline)));
        if let Some(slot) = self.slots.get_mut(ticket.0.slot(self.slots.len())) {
            slot.ticket = Some(ticket);
            slot.deadline = Some(deadline);
            slot.late = None;
        }
    }

    /// A command has ended. False when its future was dropped, and nobody will collect the outcome.
    pub(super) fn end(&mut self, ticket: Ticket) -> bool {
        let Some(slot) = self.of(ticket) else {
            return false;
        };
        let waker = slot.waker.take();
        self.to_wake.extend(waker);
        true
    }

    /// All commands have ended.
    pub(super) fn end_all(&mut self) {
        let wakers = self.slots.iter_mut().filter_map(|slot| slot.waker.take());
        self.to_wake.extend(wakers);
    }

    /// The error of a future whose deadline is over.
    pub(super) fn late(&mut self, ticket: Ticket) -> Option<Error> {
        self.of(ticket)?.late.take()
    }

    /// A future is to be woken when its command has ended.
    pub(super) fn wait(&mut self, ticket: Ticket, waker: &Waker) {
        let index = ticket.0.slot(self.slots.len());
        let Some(slot) = self.of(ticket) else {
            return;
        };
        let mut former = None;
        if !slot
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            former = slot.waker.replace(waker.clone());
        }
        if !std::mem::replace(&mut slot.has_waited, true) {
            self.waited.push(index);
        }
        self.to_wake.extend(former);
    }

    /// A future waits no more.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        if let Some(slot) = self.of(ticket) {
            slot.ticket = None;
            let waker = slot.waker.take();
            self.to_wake.extend(waker);
        }
    }

    /// Has some future that waits woken, so that it looks after the queue for the others.
    pub(super) fn wake_any(&mut self) {
        while let Some(slot) = self.waited.pop().and_then(|at| self.slots.get_mut(at)) {
            slot.has_waited = false;
            if let Some(waker) = slot.waker.take() {
                self.to_wake.push(waker);
                return;
            }
        }
    }

    pub(super) fn next_to_wake(&mut self) -> Option<Waker> {
        self.to_wake.pop()
    }

    /// No wait's deadline is over before this one.
    pub(super) const fn first_deadline(&self) -> Option<Deadline> {
        self.first_deadline
    }

    /// Ends every wait whose deadline is over. Their commands run on.
    pub(super) fn expire(&mut self, error: impl Fn(Deadline) -> Error) {
        let mut first: Option<Deadline> = None;
        for slot in self.slots.iter_mut().filter(|slot| slot.ticket.is_some()) {
            let Some(deadline) = slot.deadline else {
                continue;
            };
            if deadline.is_over() {
                slot.late = Some(error(deadline));
                let waker = slot.waker.take();
                self.to_wake.extend(waker);
            } else {
                first = Some(first.map_or(deadline, |first| first.sooner(deadline)));
            }
        }
        self.first_deadline = first;
    }

    fn of(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(ticket.0.slot(self.slots.len()))?;
        (slot.ticket == Some(ticket)).then_some(slot)
    }
}
