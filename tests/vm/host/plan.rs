//! Which boots and tests of the matrix are to run.

use anyhow::{Result, bail, ensure};
use auk_vm::{Mode, TestInfo};
use clap::Args;

use crate::boots::{BOOTS, Boot};
use crate::kernel::{LINES, Line};
use crate::report::Place;

/// The line of the short form: the newest long-term kernel.
const SHORT_LINE: &str = "6.12";

/// What is left of the matrix.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// The short form: boots that say so, on the newest long-term kernel
    #[arg(long)]
    short: bool,

    /// Only this kernel line
    #[arg(long, value_parser = LINES.map(|line| line.name))]
    kernel: Option<String>,

    /// Only this VFIO interface
    #[arg(long, value_parser = ["group", "cdev"])]
    mode: Option<String>,

    /// Only this boot
    #[arg(long, value_parser = BOOTS.iter().map(|boot| boot.name).collect::<Vec<_>>())]
    boot: Option<String>,

    /// Only tests with this in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// A boot of the matrix.
pub(crate) struct Planned<'a> {
    pub(crate) line: Line,
    pub(crate) mode: Mode,
    pub(crate) boot: &'static Boot,
    /// In the order in which they are to run.
    pub(crate) tests: Vec<&'a TestInfo>,
}

impl Planned<'_> {
    /// As its logs are called.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}-{}", self.line.name, self.mode.name(), self.boot.name)
    }

    /// Where its tests are in the report.
    pub(crate) fn place<'b>(&self, release: &'b str) -> Place<'b> {
        Place {
            kernel: self.line.name,
            release,
            mode: self.mode.name(),
            boot: self.boot.name,
        }
    }
}

/// The boots that are chosen, with those of their tests that are; in the order of kernels, then of [`BOOTS`].
pub(crate) fn plan<'a>(choice: &Choice, tests: &'a [TestInfo]) -> Result<Vec<Planned<'a>>> {
    let mut planned = Vec::new();
    for line in LINES {
        for boot in BOOTS {
            for &mode in boot.modes {
                let is_meant = (boot.lines.is_empty() || boot.lines.contains(&line.name))
                    && (mode == Mode::Group || line.has_cdev)
                    && (!choice.short || boot.short && line.name == SHORT_LINE)
                    && choice.kernel.as_ref().is_none_or(|name| name == line.name)
                    && choice.mode.as_ref().is_none_or(|name| name == mode.name())
                    && choice.boot.as_ref().is_none_or(|name| name == boot.name);
                let tests = tests_of(boot, mode, tests, choice.filter.as_deref())?;
                if is_meant && !tests.is_empty() {
                    planned.push(Planned {
                        line,
                        mode,
                        boot,
                        tests,
                    });
                }
            }
        }
    }
    ensure!(!planned.is_empty(), "there is no such test");
    Ok(planned)
}

fn tests_of<'a>(
    boot: &Boot,
    mode: Mode,
    all: &'a [TestInfo],
    filter: Option<&str>,
) -> Result<Vec<&'a TestInfo>> {
    let mut chosen = Vec::new();
    for group in boot.groups {
        let prefix = format!("{group}::");
        let before = chosen.len();
        chosen.extend(all.iter().filter(|test| test.name.starts_with(&prefix)));
        if chosen.len() == before {
            bail!(
                "the boot {} runs the group {group}, which has no tests",
                boot.name
            );
        }
    }
    chosen.retain(|test| {
        test.only.is_none_or(|only| only == mode)
            && filter.is_none_or(|text| test.name.contains(text))
    });
    Ok(chosen)
}
