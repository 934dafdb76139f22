//! What lines of the kernel are of interest, and what each means: a table, and no code.
//!
//! A rule's texts are those of the kernel's sources, from 5.14 on; each has lines that were printed by kernels in the
//! field, and one that must not be taken for it. A rule never judges: what follows is for the checks of its topic.

mod host;
mod iommu;
mod nic;
mod pcie;
mod reset;

use serde::{Deserialize, Serialize};

use super::pattern::{Found, Piece, matches};

/// What a line is about, which is a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// PCIe errors, by AER or by the firmware.
    PcieErrors,
    /// Memory accesses of a function that its IOMMU refused.
    IommuFaults,
    /// Functions that did not come back from a reset or from sleep.
    ResetFailures,
    /// What a function's driver complains of.
    DriverErrors,
    /// Links, slots and names: what other sources count, and of which a line tells early.
    Links,
    /// Errors of processors and memory.
    MachineChecks,
    /// Tasks and processors that make no progress.
    Stalls,
    /// Lack of memory.
    OutOfMemory,
}

/// How much a line weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It is kept and told, and bears on nothing.
    Note,
    /// Many of it in a time are too many.
    Counted,
    /// One is trouble.
    Serious,
    /// After one it must not be given work.
    Fatal,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Which check judges it.
    pub topic: Topic,
    /// How much it weighs.
    pub weight: Weight,
    /// Whether such lines that are printed at boot may be of the time before it, and weigh less.
    pub left_over: bool,
    /// How such lines begin.
    pub patterns: &'static [&'static [Piece]],
    /// The severity that the firmware's report must have begun with, for lines in such a report.
    pub report: Option<&'static str>,
    /// What it says of whom, in a sentence.
    pub why: &'static str,
    /// The file of the kernel's sources that prints it.
    pub printed_by: &'static str,
    /// Lines that kernels printed, and whom they blame.
    pub examples: &'static [(&'static str, Blamed)],
    /// A line that looks like it.
    pub counter_example: &'static str,
}

/// What a rule is like where it has no more to say.
const PLAIN: Rule = Rule {
    name: "",
    topic: Topic::DriverErrors,
    weight: Weight::Note,
    left_over: false,
    patterns: &[],
    report: None,
    why: "",
    printed_by: "",
    examples: &[],
    counter_example: "",
};

/// Whom an example blames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blamed {
    /// The function at this address.
    Function(&'static str),
    /// The interface of this name.
    Interface(&'static str),
    /// The host.
    Host,
}

/// Every rule. Of several that match the first is meant.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    let of_functions = [pcie::RULES, iommu::RULES, reset::RULES, nic::RULES];
    of_functions.into_iter().flatten().chain(host::RULES)
}

/// The rule of a name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.name == name)
}

/// The rule that a line is of, in a report of the firmware of this severity, and what it is about.
#[must_use]
pub fn find<'a>(line: &'a str, report: Option<&str>) -> Option<(&'static Rule, Found<'a>)> {
    all().find_map(|rule| {
        if rule.report.is_some() && rule.report != report {
            return None;
        }
        let found = rule
            .patterns
            .iter()
            .find_map(|pattern| matches(pattern, line));
        Some((rule, found?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel_log::pattern::in_first_segment;

    fn blamed(found: &Found<'_>) -> (Option<String>, Option<String>) {
        (
            found.function.map(in_first_segment),
            found.interface.map(str::to_owned),
        )
    }

    #[test]
    fn each_rule_takes_its_examples_and_blames_whom_they_are_about() {
        for rule in all() {
            assert!(!rule.examples.is_empty(), "{}", rule.name);
            for (line, whom) in rule.examples {
                let (taken, found) =
                    find(line, rule.report).unwrap_or_else(|| panic!("{}: {line}", rule.name));
                assert_eq!(taken.name, rule.name, "{line}");
                let expected = match whom {
                    Blamed::Function(bdf) => (Some((*bdf).to_owned()), None),
                    Blamed::Interface(name) => (None, Some((*name).to_owned())),
                    Blamed::Host => (None, None),
                };
                assert_eq!(blamed(&found), expected, "{line}");
            }
        }
    }

    #[test]
    fn no_rule_takes_what_looks_like_it() {
        for rule in all() {
            let taken = find(rule.counter_example, rule.report);
            let taken = taken.map(|(rule, _)| rule.name);
            assert_ne!(taken, Some(rule.name), "{}", rule.counter_example);
        }
    }

    #[test]
    fn each_pattern_of_a_rule_has_an_example() {
        for rule in all() {
            for pattern in rule.patterns {
                let mut examples = rule.examples.iter();
                let shown = examples.any(|(line, _)| matches(pattern, line).is_some());
                assert!(shown, "{}: no example of {pattern:?}", rule.name);
            }
        }
    }

    #[test]
    fn names_are_of_one_rule_each() {
        let mut names: Vec<_> = all().map(|rule| rule.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_line_in_a_report_of_the_firmware_is_as_bad_as_the_report() {
        let line = "{2}[Hardware Error]:   device_id: 0000:80:02.0";
        let name = |report| find(line, report).map(|(rule, _)| rule.name);
        assert_eq!(name(Some("fatal")), Some("firmware_pcie_fatal"));
        assert_eq!(name(Some("corrected")), Some("firmware_pcie_corrected"));
        assert_eq!(name(None), None);
    }
}
