//! What goes to stdout: JSON, tables, lists of fields. All of it by [`print`](fn@print), which takes a reader that went away
//! (`auk list | head -1`) for the end and not for an error.

mod date;
mod span;
pub(crate) mod style;
mod table;
mod wrap;

use std::fmt;
use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

pub(crate) use date::{date, day_and_time};
pub(crate) use span::{short_span, span};
pub(crate) use style::Tone;
pub(crate) use table::{Cell, Fields, Grid};

/// Nobody reads stdout any more.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl std::error::Error for ReaderGone {}

/// Whether the error is only that the reader of stdout went away.
pub(crate) fn reader_is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ReaderGone>().is_some()
}

/// Writes the text to stdout at once.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        other => other.context("writing to stdout"),
    }
}

/// Writes a document as JSON to stdout.
pub(crate) fn print_json(document: &impl Serialize) -> anyhow::Result<()> {
    print(&json(document)?)
}

/// A document as JSON.
pub(crate) fn json(document: &impl Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(document).context("making JSON")?;
    text.push('\n');
    Ok(text)
}

/// Writes a document as JSON in one line to stdout, for readers that take line after line.
pub(crate) fn print_json_line(document: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(document).context("making JSON")?;
    text.push('\n');
    print(&text)
}

/// Writes a line to stderr. A stderr that nobody reads is no error.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "{}", harmless(text));
}

/// Writes a line on something that is amiss to stderr.
pub(crate) fn note(text: &str) {
    remark(&format!("note: {text}"));
}

/// How large and colourful stdout is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Lines, of a terminal.
    height: Option<usize>,
    /// Columns; `None` where lines may be of any length.
    width: Option<usize>,
    colored: bool,
}

impl Screen {
    /// A file: as wide as need be, and without colours.
    pub(crate) const fn file() -> Self {
        Self {
            height: None,
            width: None,
            colored: false,
        }
    }

    /// The screen that stdout is. `COLUMNS` says how wide it is to those who know better than the terminal, and where
    /// there is none.
    pub(crate) fn stdout() -> Self {
        let told = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|columns| *columns > 0);
        Self {
            height: terminal_height(),
            width: told.or_else(terminal_width),
            colored: style::stdout_is_colored(),
        }
    }
}

impl Screen {
    /// A text in place of the one before: on a terminal from the top, without what does not fit below; else behind it.
    pub(crate) fn repaint(self, text: &str) -> String {
        let Some(height) = self.height else {
            return format!("{text}\n");
        };
        // Cursor to the top, each line cleared to its end, the rest of the screen cleared: ECMA-48 CUP, EL, ED.
        let mut painted = "\u{1b}[H".to_owned();
        let lines = text.lines().count();
        let fits = height.saturating_sub(1);
        let shown = if lines > fits {
            fits.saturating_sub(1)
        } else {
            lines
        };
        for line in text.lines().take(shown) {
            painted.push_str(&format!("{line}\u{1b}[K\n"));
        }
        if shown < lines {
            painted.push_str(&format!("... {} lines more\u{1b}[K\n", lines - shown));
        }
        painted.push_str("\u{1b}[J");
        painted
    }

    /// A text behind a name, wrapped so that it stays beside it.
    pub(crate) fn beside(self, name: &str, text: &str) -> String {
        let width = self
            .width
            .unwrap_or(usize::MAX)
            .saturating_sub(name.chars().count() + 1);
        let indent = " ".repeat(name.chars().count());
        let mut lines = String::new();
        for (index, line) in wrap::wrap(&harmless(text), width).iter().enumerate() {
            let lead = if index == 0 { name } else { &indent };
            lines.push_str(&format!("{lead} {line}\n"));
        }
        lines
    }
}

/// The columns of the terminal that stdout is; a terminal that says 0 does not know.
fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
    Some(usize::from(width.0)).filter(|columns| *columns > 0)
}

/// The lines of the terminal that stdout is.
fn terminal_height() -> Option<usize> {
    let (_, height) = terminal_size::terminal_size_of(io::stdout())?;
    Some(usize::from(height.0)).filter(|lines| *lines > 1)
}

/// A text of another's, fit for a terminal: it must not move the cursor or change colours.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_others_do_not_reach_the_terminal() {
        assert_eq!(harmless("\u{1b}[2Jmlx5\n"), "?[2Jmlx5?");
    }
}
