//! What the demo shows while it runs: a line a step, and a progress bar on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{self, Screen};

/// The demo's voice. It says nothing where the summary is for a machine.
pub(super) struct Show {
    quiet: bool,
    bar: ProgressBar,
}

impl Show {
    /// A voice, with a bar of `images` steps when stderr is a terminal.
    pub(super) fn new(quiet: bool, images: usize) -> Self {
        let bar = if quiet || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(images as u64)
        };
        // The template is ours and has no way to fail; without it the bar looks as the library has it.
        if let Ok(style) = ProgressStyle::with_template("  images {wide_bar} {pos}/{len}") {
            bar.set_style(style);
        }
        Self { quiet, bar }
    }

    /// Who does what.
    pub(super) fn say(&self, who: &str, what: &str) -> anyhow::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let text = Screen::stdout().beside(&format!("{who:<6}"), what);
        self.bar.suspend(|| output::print(&text))
    }

    /// So many images are done.
    pub(super) fn advance(&self, images: usize) {
        self.bar.set_position(images as u64);
    }

    /// The job has ended.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A time in the unit that suits it.
pub(super) fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
