//! What is told: a line a test, a table at the end, or JSON for machines.

use auk_vm::Outcome;
use serde::Serialize;

use crate::run::Finished;

/// What a line begins with that a test prints to be shown even if it passes.
const MEASURED: &str = "measured: ";

/// Everything that has been found out.
pub(crate) struct Report {
    json: bool,
    tests: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    kernel: &'static str,
    release: String,
    mode: &'static str,
    boot: &'static str,
    test: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    output: String,
    seconds: f32,
}

/// Which boot a test ran in.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kernel: &'static str,
    pub(crate) release: &'a str,
    pub(crate) mode: &'static str,
    pub(crate) boot: &'static str,
}

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Report {
    /// With `json` nothing is printed before the end.
    pub(crate) const fn new(json: bool) -> Self {
        Self {
            json,
            tests: Vec::new(),
        }
    }

    /// Takes note of a test, and tells it.
    pub(crate) fn add(&mut self, place: Place<'_>, finished: Finished) {
        let (outcome, why) = match finished.outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Failed(why) => ("failed", why),
            Outcome::Skipped(why) => ("skipped", why),
        };
        let entry = Entry {
            kernel: place.kernel,
            release: place.release.to_owned(),
            mode: place.mode,
            boot: place.boot,
            test: finished.test,
            outcome,
            why,
            output: finished.output,
            seconds: finished.took.as_secs_f32(),
        };
        if !self.json {
            entry.print();
        }
        self.tests.push(entry);
    }

    /// Whether everything that ran has passed.
    pub(crate) fn is_good(&self) -> bool {
        !self.tests.is_empty() && self.tests.iter().all(|entry| entry.outcome != "failed")
    }

    /// Tells the sum of it.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&self.tests)?);
            return Ok(());
        }
        let mut counts = Vec::<(_, Count)>::new();
        for entry in &self.tests {
            let row = (entry.kernel, &entry.release, entry.boot, entry.mode);
            // The tests of a boot come one after the other.
            if counts.last().is_none_or(|(last, _)| *last != row) {
                counts.push((row, Count::default()));
            }
            let Some((_, count)) = counts.last_mut() else {
                continue;
            };
            match entry.outcome {
                "passed" => count.passed += 1,
                "failed" => count.failed += 1,
                _ => count.skipped += 1,
            }
        }
        println!();
        println!(
            "{:<8} {:<26} {:<16} {:<6} {:>7} {:>7} {:>8}",
            "KERNEL", "RELEASE", "BOOT", "MODE", "PASSED", "FAILED", "SKIPPED"
        );
        for ((kernel, release, boot, mode), count) in &counts {
            let Count {
                passed,
                failed,
                skipped,
            } = count;
            println!(
                "{kernel:<8} {release:<26} {boot:<16} {mode:<6} {passed:>7} {failed:>7} {skipped:>8}"
            );
        }
        let total = |what| {
            let those = self.tests.iter().filter(|entry| entry.outcome == what);
            those.count()
        };
        println!(
            "\n{} passed, {} failed, {} SKIPPED",
            total("passed"),
            total("failed"),
            total("skipped")
        );
        Ok(())
    }
}

impl Entry {
    fn print(&self) {
        let word = match self.outcome {
            "passed" => "ok",
            "failed" => "FAIL",
            _ => "SKIP",
        };
        println!(
            "{word:<5} {:<7} {:<6} {:<12} {:<62} {:>6.1} s",
            self.kernel, self.mode, self.boot, self.test, self.seconds
        );
        for line in self
            .output
            .lines()
            .filter(|line| line.starts_with(MEASURED))
        {
            println!("      {line}");
        }
        if self.outcome == "failed" {
            for line in self.output.lines() {
                println!("      | {line}");
            }
        }
        for line in self.why.lines() {
            println!("      {line}");
        }
    }
}
