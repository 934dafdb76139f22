//! Patterns of kernel lines: what stands there as it is, and holes with a form.
//!
//! The kernel prints these lines with a format string, so a pattern is that string with its conversions named. It is
//! matched from the start of the line, once from left to right, without going back: a line costs at most its length for
//! each pattern, whatever is in it. A regex engine would add its compiled programs to the agent's memory for the same.

use crate::probe::discover::is_bdf;

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(&'static str),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A number in decimal.
    Number,
    /// How many things the line is about, in decimal.
    Count,
    /// A word: anything without a space.
    Word,
    /// Anything up to the text that follows in the pattern.
    Any,
    /// As [`Any`](Self::Any): the process, processor or memory module that the line is about.
    Subject,
    /// A PCI address, with or without its domain: the function that the line is about.
    Function,
    /// A PCI address that it is not about.
    Port,
    /// A network interface by its name.
    Interface,
}

/// What was found in the holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found<'a> {
    /// The function, as the line writes it.
    pub function: Option<&'a str>,
    /// The interface.
    pub interface: Option<&'a str>,
    /// The process, processor or memory module.
    pub subject: Option<&'a str>,
    /// How many.
    pub count: Option<u64>,
}

/// Matches a pattern against the start of a line.
#[must_use]
pub fn matches<'a>(pattern: &[Piece], line: &'a str) -> Option<Found<'a>> {
    let mut rest = line;
    let mut found = Found::default();
    let mut pieces = pattern.iter();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Text(text) => rest = rest.strip_prefix(text)?,
            Piece::OneOf(texts) => {
                rest = texts.iter().find_map(|text| rest.strip_prefix(text))?;
            }
            Piece::Number => take(&mut rest, |c| c.is_ascii_digit()).map(drop)?,
            Piece::Count => {
                found.count = Some(take(&mut rest, |c| c.is_ascii_digit())?.parse().ok()?);
            }
            Piece::Word => take(&mut rest, |c| c != ' ').map(drop)?,
            Piece::Function => found.function = Some(address(&mut rest)?),
            Piece::Port => address(&mut rest).map(drop)?,
            Piece::Interface => {
                let is_of_name = |c: char| !matches!(c, ' ' | ':' | '/' | '(' | ')');
                found.interface = Some(take(&mut rest, is_of_name)?);
            }
            Piece::Any | Piece::Subject => {
                let skipped = match pieces.next() {
                    Some(Piece::Text(text)) => {
                        let at = rest.find(text)?;
                        let skipped = rest.get(..at)?;
                        rest = rest.get(at + text.len()..)?;
                        skipped
                    }
                    // Whatever else follows, it has no place of its own.
                    _ => std::mem::take(&mut rest),
                };
                if *piece == Piece::Subject {
                    found.subject = Some(skipped);
                }
            }
        }
    }
    Some(found)
}

/// Takes what is of a form off the start; `None` when that is nothing.
fn take<'a>(rest: &mut &'a str, is_of_it: impl Fn(char) -> bool) -> Option<&'a str> {
    let end = rest.find(|c| !is_of_it(c)).unwrap_or(rest.len());
    let (taken, left) = rest.split_at(end);
    *rest = left;
    (!taken.is_empty()).then_some(taken)
}

/// Takes a PCI address off the start.
fn address<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let is_of_it = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
    let end = rest.find(|c| !is_of_it(c)).unwrap_or(rest.len());
    // In `0000:01:00.0: text` the last colon is the line's.
    let address = rest.get(..end)?.trim_end_matches([':', '.']);
    *rest = rest.get(address.len()..)?;
    is_bdf(&in_first_segment(address)).then_some(address)
}

/// Whether an address names its segment, which sysfs calls the domain. VT-d and older AMD-Vi leave it out, on hosts with
/// several segments as well.
pub(super) fn has_segment(address: &str) -> bool {
    address.matches(':').count() > 1
}

/// An address in full; one without a segment in the first.
pub(super) fn in_first_segment(address: &str) -> String {
    match has_segment(address) {
        true => address.to_owned(),
        false => format!("0000:{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Piece::{Any, Count, Function, Interface, Number, OneOf, Port, Subject, Text, Word};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn holes_give_what_the_line_is_about() {
        let pattern = [
            Word,
            Text(" "),
            Port,
            Text(": AER: "),
            Any,
            Text(" received from "),
            Function,
        ];
        let line =
            "pcieport 0000:00:1c.0: AER: Correctable error message received from 0000:73:00.1";
        let found = matches(&pattern, line).unwrap();
        assert_eq!(found.function, Some("0000:73:00.1"));

        let pattern = [Text("NETDEV WATCHDOG: "), Interface, Text(" ("), Word];
        let found = matches(
            &pattern,
            "NETDEV WATCHDOG: eth0 (asix): transmit queue 0 timed out",
        );
        assert_eq!(found.unwrap().interface, Some("eth0"));

        let pattern = [
            Text("INFO: task "),
            Subject,
            Text(" blocked for more than "),
            Number,
        ];
        let found = matches(
            &pattern,
            "INFO: task kworker/u8:1:42 blocked for more than 122 seconds.",
        );
        assert_eq!(found.unwrap().subject, Some("kworker/u8:1:42"));

        let pattern = [Text("EDAC MC"), Number, Text(": "), Count, Text(" CE ")];
        assert_eq!(
            matches(&pattern, "EDAC MC0: 12 CE memory").unwrap().count,
            Some(12)
        );
    }

    #[test]
    fn an_address_may_lack_its_domain_and_nothing_else() {
        let pattern = [Text("["), Function, Text("]")];
        let function = |line: &'static str| matches(&pattern, line)?.function;
        assert_eq!(function("[01:00.0]"), Some("01:00.0"));
        assert_eq!(function("[10000:e1:00.0]"), Some("10000:e1:00.0"));
        for line in [
            "[01:00]",
            "[01:00.8]",
            "[:::]",
            "[01:00.0",
            "[]",
            "[0x01:0x00.0]",
        ] {
            assert_eq!(function(line), None, "{line}");
        }
        assert_eq!(in_first_segment("01:00.0"), "0000:01:00.0");
        assert_eq!(in_first_segment("0001:06:00.0"), "0001:06:00.0");
    }

    #[test]
    fn one_of_several_texts_matches_and_no_other() {
        let pattern = [OneOf(&["Uncorrectable", "Uncorrected"]), Text(" (Fatal)")];
        assert!(matches(&pattern, "Uncorrected (Fatal) error").is_some());
        assert!(matches(&pattern, "Corrected (Fatal) error").is_none());
    }

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let piece = prop_oneof![
            Just(Text(": ")),
            Just(OneOf(&["a", "b"])),
            Just(Number),
            Just(Count),
            Just(Word),
            Just(Any),
            Just(Subject),
            Just(Function),
            Just(Port),
            Just(Interface),
        ];
        prop::collection::vec(piece, 0..6)
    }

    proptest! {
        #[test]
        fn any_pattern_takes_any_line(pattern in pieces(), line in "\\PC{0,60}") {
            let _ = matches(&pattern, &line);
        }
    }
}
