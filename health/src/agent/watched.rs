//! A component as the rounds know it: when it is looked at, and how thoroughly.

use std::sync::Arc;

use tracing::info;

use super::uevent::Notice;
use crate::facts::Class;
use crate::probe::discover::Found;
use crate::probe::target::ConfigAccess;

/// Rounds for which a component is looked at thoroughly after a notice of the kernel: a link trains after its function
/// is back, and one sample says little.
const ATTENTIVE: u64 = 5;

pub(super) struct Watched {
    pub(super) found: Arc<Found>,
    pub(super) bdf: Arc<str>,
    /// Round of the next slow look.
    pub(super) slow: u64,
    /// Round of the next rare look.
    pub(super) rare: u64,
    /// Rare looks that are to be answered one after the other, and the last round in which that is tried.
    first: (u8, u64),
    /// The last round of those in which all looks are slow.
    attentive: u64,
    /// Address of the port above, as far as is known.
    pub(super) above: Option<String>,
    /// What the present round reads of it, until it is done.
    pub(super) asked: Option<Class>,
    pub(super) access: ConfigAccess,
}

impl Watched {
    pub(super) fn new(found: Found, round: u64) -> Self {
        Self {
            bdf: Arc::from(found.bdf.as_str()),
            found: Arc::new(found),
            slow: round,
            rare: round,
            // What is counted is judged by its growth, for which two looks are needed.
            first: (2, round + ATTENTIVE),
            attentive: round + 1,
            above: None,
            asked: None,
            access: ConfigAccess::None,
        }
    }

    /// What a round is to read of it.
    pub(super) fn class(&self, round: u64) -> Class {
        let (wanted, until) = self.first;
        if round >= self.rare || wanted > 0 && round <= until {
            Class::Rare
        } else if round >= self.slow || round <= self.attentive {
            Class::Slow
        } else {
            Class::Fast
        }
    }

    /// A look of a class was answered; the next slow and the next rare one come in these rounds.
    pub(super) fn looked(&mut self, class: Option<Class>, slow: u64, rare: u64) {
        if class >= Some(Class::Slow) {
            self.slow = slow;
        }
        if class >= Some(Class::Rare) {
            self.rare = rare;
            self.first.0 = self.first.0.saturating_sub(1);
        }
    }

    /// Has it looked at thoroughly for some rounds, if a notice is about it, what is below it, or the port above.
    pub(super) fn heed(&mut self, notice: &Notice, round: u64) {
        let concerned = match notice {
            Notice::Overrun => true,
            Notice::Of(functions) => {
                functions.iter().any(|function| **function == *self.bdf)
                    || self.above.is_some() && self.above.as_ref() == functions.last()
            }
        };
        if concerned {
            self.attend(round);
        }
    }

    /// Has it looked at thoroughly for some rounds.
    pub(super) fn attend(&mut self, round: u64) {
        self.attentive = round + ATTENTIVE;
    }

    /// Tells how its config space is read, when that changes.
    pub(super) fn say(&mut self, access: ConfigAccess) {
        if self.access == access {
            return;
        }
        self.access = access;
        let bdf = &*self.bdf;
        match access {
            ConfigAccess::Direct => info!(bdf, "config space is read directly"),
            ConfigAccess::Opener => info!(bdf, "config space is read through the opener"),
            ConfigAccess::None => info!(bdf, "config space is not readable beyond 64 bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Kind;

    fn watched() -> Watched {
        let found = Found {
            bdf: "0000:01:00.0".to_owned(),
            kind: Kind::Accelerator,
            pci_id: "1ae5:a100".to_owned(),
            interface: None,
            asked: Vec::new(),
        };
        let mut watched = Watched::new(found, 1);
        watched.slow = 20;
        watched.rare = 40;
        watched.first = (0, 0);
        watched.above = Some("0000:00:01.0".to_owned());
        watched
    }

    fn heeds(functions: &[&str]) -> bool {
        let mut watched = watched();
        let functions = functions.iter().map(|name| (*name).to_owned());
        watched.heed(&Notice::Of(functions.collect()), 7);
        watched.class(8) == Class::Slow
    }

    #[test]
    fn a_notice_of_it_of_its_port_or_of_what_is_below_has_it_looked_at_thoroughly() {
        assert!(heeds(&["0000:00:01.0", "0000:01:00.0"]));
        assert!(heeds(&["0000:00:01.0"]));
        assert!(heeds(&["0000:00:01.0", "0000:01:00.0", "0000:02:00.0"]));
        assert!(!heeds(&["0000:00:01.0", "0000:03:00.0"]));
        assert!(!heeds(&["0000:00:02.0"]));
    }

    #[test]
    fn after_some_rounds_it_is_looked_at_as_before() {
        let mut watched = watched();
        assert_eq!(watched.class(8), Class::Fast);
        watched.heed(&Notice::Overrun, 8);
        assert_eq!(watched.class(13), Class::Slow);
        assert_eq!(watched.class(14), Class::Fast);
        assert_eq!(watched.class(20), Class::Slow);
        assert_eq!(watched.class(40), Class::Rare);
    }

    #[test]
    fn a_new_one_is_looked_at_in_full_until_two_such_looks_were_answered() {
        let mut watched = watched();
        watched.first = (2, 5);
        assert_eq!(watched.class(1), Class::Rare);
        watched.looked(Some(Class::Rare), 11, 31);
        // The next one is late, and comes again.
        assert_eq!(watched.class(2), Class::Rare);
        assert_eq!(watched.class(3), Class::Rare);
        watched.looked(Some(Class::Rare), 11, 31);
        assert_eq!(watched.class(4), Class::Fast);
    }

    #[test]
    fn an_answer_to_a_rare_look_is_one_to_a_slow_look_too_and_not_the_other_way_round() {
        let mut watched = watched();
        watched.looked(Some(Class::Slow), 30, 70);
        assert_eq!((watched.slow, watched.rare), (30, 40));
        watched.looked(Some(Class::Rare), 50, 70);
        assert_eq!((watched.slow, watched.rare), (50, 70));
        watched.looked(None, 60, 80);
        assert_eq!((watched.slow, watched.rare), (50, 70));
    }
}
