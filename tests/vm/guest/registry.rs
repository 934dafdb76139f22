//! The list of tests.

use auk_vm::{Mode, TestInfo};

use crate::guest::Guest;
use crate::tests;

/// What a test is: it returns when what its name claims was seen to hold.
pub(crate) type Function = fn(&Guest) -> anyhow::Result<()>;

/// A test of a group.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    name: &'static str,
    function: Function,
    only: Option<Mode>,
    seconds: u64,
}

/// Generous: software emulation on a busy machine is slow, and a test that hangs is the only one to wait so long.
const SECONDS: u64 = 60;

/// A test for both modes.
pub(crate) const fn test(name: &'static str, function: Function) -> Test {
    Test {
        name,
        function,
        only: None,
        seconds: SECONDS,
    }
}

impl Test {
    /// A test that is about one mode.
    pub(crate) const fn only(self, mode: Mode) -> Self {
        Self {
            only: Some(mode),
            ..self
        }
    }

    /// A test that needs longer than others.
    #[allow(dead_code, reason = "for tests to come")]
    pub(crate) const fn within(self, seconds: u64) -> Self {
        Self { seconds, ..self }
    }
}

/// All tests, in the order in which they are to run.
pub(crate) fn all() -> impl Iterator<Item = TestInfo> {
    named().map(|(name, test)| TestInfo {
        name,
        only: test.only,
        seconds: test.seconds,
    })
}

/// The test of this name.
pub(crate) fn find(wanted: &str) -> Option<Function> {
    named()
        .find(|(name, _)| name == wanted)
        .map(|(_, test)| test.function)
}

fn named() -> impl Iterator<Item = (String, &'static Test)> {
    tests::GROUPS.iter().flat_map(|(group, tests)| {
        tests
            .iter()
            .map(move |test| (format!("{group}::{}", test.name), test))
    })
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn every_test_has_a_name_of_its_own() {
        let mut names: Vec<_> = all().map(|test| test.name).collect();
        names.sort();
        let found = names.len();
        names.dedup();
        assert_eq!(names.len(), found);
    }
}
