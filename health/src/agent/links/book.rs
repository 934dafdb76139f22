//! The interfaces of components: whose one is that the kernel speaks of, and what looks and the kernel said of each.
//!
//! The kernel's counts decide what is new. So a message that was lost is made up for by the next one or by the next look, and
//! one that a look was ahead of says nothing twice.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Heard;
use super::interface::Interface;
use crate::facts::{Port, PortHeard};
use crate::probe::rtnetlink::LinkMessage;
use crate::store::Record;
use crate::time::{Moment, millis};

/// [`Record::kind`] of messages that were lost.
const LOST: &str = "link_messages_lost";

/// That messages were lost is told once in so long.
const LOST_EACH: Duration = Duration::from_secs(60);
/// So long a change by an administrator is remembered: longer than it is pardoned.
const ADMIN: Duration = Duration::from_secs(3600);

/// The component that an interface may belong to, as the last looks saw it.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Owner {
    pub(in crate::agent) bdf: String,
    pub(in crate::agent) interface: Option<String>,
    pub(in crate::agent) port: Option<Port>,
}

/// All interfaces of components, by index.
#[derive(Debug, Default)]
pub(in crate::agent) struct Book {
    interfaces: BTreeMap<u32, Interface>,
    /// Components whose interface left, with its name.
    left: BTreeMap<String, String>,
    lost: Option<Moment>,
    lost_told: Option<Moment>,
}

impl Book {
    /// Takes what was heard; the addresses of the components that it concerns.
    pub(in crate::agent) fn hear(
        &mut self,
        now: Moment,
        heard: Heard,
        owners: &[Owner],
    ) -> Vec<String> {
        let messages = match heard {
            Heard::Links(messages) => messages,
            Heard::Lost => {
                self.lost.get_or_insert(now);
                return Vec::new();
            }
        };
        let mut concerned = Vec::new();
        for message in messages {
            if let Some(bdf) = self.message(now, &message, owners)
                && !concerned.contains(&bdf)
            {
                concerned.push(bdf);
            }
        }
        concerned
    }

    /// Takes a message; the component, when it says something new.
    fn message(&mut self, now: Moment, message: &LinkMessage, owners: &[Owner]) -> Option<String> {
        if !self.interfaces.contains_key(&message.index) {
            let owner = self.owner(message, owners)?;
            let mut interface = Interface::new(now, message, owner);
            interface.gone = self.left.remove(&owner.bdf).is_some();
            self.interfaces.insert(message.index, interface);
        }
        let interface = self.interfaces.get_mut(&message.index)?;
        let news = interface.hear(now, message);
        match interface.gone {
            true => self
                .left
                .insert(interface.bdf.clone(), interface.name.clone()),
            false => self.left.remove(&interface.bdf),
        };
        news.then(|| interface.bdf.clone())
    }

    /// Whose an interface is that was not heard of yet: its function's, where it is the one that is watched there and no
    /// representor; where the kernel names no function, that of which it has the name, unless that has another by now.
    fn owner<'a>(&self, message: &LinkMessage, owners: &'a [Owner]) -> Option<&'a Owner> {
        let seen = |owner: &Owner| {
            owner
                .port
                .is_some_and(|port| port.index == Some(message.index))
        };
        owners.iter().find(|owner| {
            let name = owner.interface.as_ref();
            let name = name.or_else(|| self.left.get(&owner.bdf));
            match &message.function {
                Some(function) => {
                    *function == owner.bdf
                        && (seen(owner) || name.is_none() || name == message.name.as_ref())
                }
                None => name.is_some() && name == message.name.as_ref() && !self.has_one(owner),
            }
        })
    }

    fn has_one(&self, owner: &Owner) -> bool {
        let mut known = self.interfaces.values();
        known.any(|known| known.bdf == owner.bdf && !known.gone)
    }

    /// Takes what a look saw of a component's port: what it shows and nobody said is new as well.
    pub(in crate::agent) fn look(&mut self, now: Moment, bdf: &str, port: &Port) {
        let Some(index) = port.index else { return };
        if let Some(interface) = self.interfaces.get_mut(&index)
            && interface.bdf == bdf
        {
            let narrow = |count: Option<u64>| count.and_then(|count| u32::try_from(count).ok());
            interface.count(now, narrow(port.carrier_up), narrow(port.carrier_down));
            // A look that is behind what was said knows nothing of the carrier.
            if narrow(port.carrier_down) == Some(interface.downs) {
                interface.carrier = port.carrier.or(interface.carrier);
            }
        }
    }

    /// What a look at a component is to be told with it.
    pub(in crate::agent) fn heard(&self, now: Moment, bdf: &str) -> Option<PortHeard> {
        let of_it = self.interfaces.values().filter(|known| known.bdf == bdf);
        let changed = of_it.filter_map(|known| known.admin_changed).max()?;
        let ago = now.since(changed);
        (ago < ADMIN).then(|| PortHeard {
            admin_changed_ms_ago: millis(ago),
        })
    }

    /// What is to be told now.
    pub(in crate::agent) fn due(&mut self, now: Moment) -> Vec<Record> {
        let mut records = Vec::new();
        if let Some(since) = self.lost
            && self
                .lost_told
                .is_none_or(|told| now.since(told) >= LOST_EACH)
        {
            let summary =
                "more was said of interfaces than could be heard; they are all looked at anew";
            records.push(Record::of_agent(since.unix_ms, LOST, summary));
            self.lost = None;
            self.lost_told = Some(now);
        }
        for (index, interface) in &mut self.interfaces {
            records.extend(interface.due(now, *index));
        }
        self.interfaces
            .retain(|_, interface| !interface.gone || interface.has_news());
        records
    }

    /// How long until something is to be told.
    pub(in crate::agent) fn next_due(&self, now: Moment) -> Option<Duration> {
        let waits = self.interfaces.values();
        waits.filter_map(|interface| interface.wait(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIC: &str = "0000:41:00.0";

    fn at(ms: u64) -> Moment {
        Moment {
            uptime: Duration::from_millis(1_000_000 + ms),
            unix_ms: 5000 + ms,
        }
    }

    fn port(ups: u64, downs: u64) -> Port {
        Port {
            index: Some(7),
            admin_up: Some(true),
            carrier: Some(true),
            carrier_up: Some(ups),
            carrier_down: Some(downs),
            ..Port::default()
        }
    }

    fn owners() -> Vec<Owner> {
        vec![Owner {
            bdf: NIC.to_owned(),
            interface: Some("eth0".to_owned()),
            port: Some(port(1, 0)),
        }]
    }

    fn said(ups: u32, downs: u32) -> LinkMessage {
        LinkMessage {
            index: 7,
            gone: false,
            name: Some("eth0".to_owned()),
            admin_up: true,
            carrier: Some(ups > downs),
            carrier_up: Some(ups),
            carrier_down: Some(downs),
            function: None,
        }
    }

    fn hear(book: &mut Book, ms: u64, message: LinkMessage) -> Vec<String> {
        book.hear(at(ms), Heard::Links(vec![message]), &owners())
    }

    /// The changes that some records tell, summed.
    fn told(records: &[Record]) -> (u64, u64) {
        let sum = |key: &str| {
            let counts = records
                .iter()
                .filter_map(|record| record.details[key].as_u64());
            counts.sum()
        };
        (sum("ups"), sum("downs"))
    }

    #[test]
    fn a_carrier_that_goes_is_told_soon_with_what_the_kernel_counted() {
        let mut book = Book::default();
        assert_eq!(hear(&mut book, 0, said(1, 1)), [NIC]);
        let records = book.due(at(0));
        assert_eq!(told(&records), (0, 1));
        assert_eq!(records[0].kind, "carrier");
        assert_eq!(records[0].component.as_deref(), Some(NIC));
        assert_eq!(records[0].at_unix_ms, 5000);
        assert_eq!(
            records[0].summary,
            "eth0: the carrier went, and is not there now; it went 1 and came 1 times in all"
        );
        assert_eq!(book.next_due(at(5)), None);
        // What follows at once is told together.
        hear(&mut book, 5, said(2, 1));
        assert!(book.next_due(at(5)).unwrap() < Duration::from_millis(100));
        assert!(book.due(at(10)).is_empty());
        hear(&mut book, 15, said(2, 2));
        assert_eq!(told(&book.due(at(20))), (1, 1));
    }

    #[test]
    fn what_was_not_heard_is_told_after_the_next_look_and_what_was_is_not_told_twice() {
        let mut book = Book::default();
        hear(&mut book, 0, said(1, 1));
        assert_eq!(told(&book.due(at(50))), (0, 1));
        book.hear(at(100), Heard::Lost, &owners());
        let lost = book.due(at(100));
        assert_eq!(lost[0].kind, "link_messages_lost");
        assert_eq!(lost[0].component, None);
        book.look(at(200), NIC, &port(5, 5));
        assert_eq!(told(&book.due(at(250))), (4, 4));
        // One that waited in the socket all the time.
        assert!(hear(&mut book, 300, said(3, 3)).is_empty());
        assert!(book.due(at(400)).is_empty());
        hear(&mut book, 500, said(6, 5));
        assert_eq!(told(&book.due(at(600))), (1, 0));
    }

    #[test]
    fn a_storm_is_counted_whole_and_told_in_few_records() {
        let mut book = Book::default();
        let mut records = Vec::new();
        for count in 1..=10_000 {
            let ms = u64::from(count) * 2;
            hear(&mut book, ms, said(count, count));
            records.extend(book.due(at(ms)));
        }
        records.extend(book.due(at(30_000)));
        assert_eq!(told(&records), (9_999, 10_000));
        assert!(records.len() <= 1010, "{}", records.len());
    }

    #[test]
    fn a_night_of_flaps_is_told_in_a_bounded_number_of_records() {
        let mut book = Book::default();
        let mut records = 0;
        for count in 1..=30_000 {
            let ms = u64::from(count) * 1000;
            hear(&mut book, ms, said(count, count));
            records += book.due(at(ms + 60)).len();
        }
        assert!((5000..6000).contains(&records), "{records}");
    }

    #[test]
    fn who_set_it_down_is_told_and_remembered_for_the_next_look() {
        let mut book = Book::default();
        hear(&mut book, 0, said(1, 0));
        assert_eq!(book.heard(at(0), NIC), None);
        let mut down = said(1, 1);
        down.admin_up = false;
        hear(&mut book, 1000, down);
        hear(&mut book, 1010, said(2, 1));
        let records = book.due(at(1100));
        assert!(
            records[0]
                .summary
                .starts_with("eth0: was set down; was set up; the carrier went"),
            "{}",
            records[0].summary
        );
        let heard = book.heard(at(3010), NIC).unwrap();
        assert_eq!(heard.admin_changed_ms_ago, 2000);
    }

    #[test]
    fn an_interface_that_is_renamed_is_the_same_and_one_that_has_its_former_name_is_another() {
        let mut book = Book::default();
        hear(&mut book, 0, said(1, 0));
        let mut renamed = said(1, 0);
        renamed.name = Some("ens1".to_owned());
        assert_eq!(hear(&mut book, 10, renamed), [NIC]);
        let mut other = said(9, 9);
        other.index = 8;
        assert!(hear(&mut book, 20, other).is_empty());
        let records = book.due(at(100));
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].kind, "interface");
        assert_eq!(records[0].summary, "ens1: is called ens1 now");
    }

    #[test]
    fn one_that_leaves_and_returns_is_told_so_and_its_counts_begin_anew() {
        let mut book = Book::default();
        hear(&mut book, 0, said(1, 0));
        let mut gone = said(1, 0);
        gone.gone = true;
        assert_eq!(hear(&mut book, 10, gone), [NIC]);
        assert!(book.due(at(60))[0].summary.contains("is gone"));
        assert!(book.interfaces.is_empty());
        let mut back = said(40, 41);
        back.index = 12;
        let mut owners = owners();
        owners[0].interface = None;
        let concerned = book.hear(at(5000), Heard::Links(vec![back]), &owners);
        assert_eq!(concerned, [NIC]);
        let records = book.due(at(5060));
        assert_eq!(records[0].summary, "eth0: is here again");
        assert_eq!(told(&records), (0, 0));
    }

    #[test]
    fn a_representor_of_the_same_function_is_not_its_interface() {
        let mut book = Book::default();
        let mut representor = said(9, 9);
        (representor.index, representor.name) = (8, Some("eth0_3".to_owned()));
        representor.function = Some(NIC.to_owned());
        assert!(hear(&mut book, 0, representor).is_empty());
        assert!(book.interfaces.is_empty());
        // The interface itself may have another name by now.
        let mut own = said(1, 1);
        (own.name, own.function) = (Some("ens1".to_owned()), Some(NIC.to_owned()));
        assert_eq!(hear(&mut book, 10, own), [NIC]);
    }

    #[test]
    fn what_is_no_components_is_not_kept() {
        let mut book = Book::default();
        for index in 100..10_000 {
            let mut other = said(1, 1);
            (other.index, other.name) = (index, Some(format!("veth{index}")));
            assert!(hear(&mut book, 0, other).is_empty());
        }
        assert!(book.interfaces.is_empty() && book.due(at(100)).is_empty());
    }
}
