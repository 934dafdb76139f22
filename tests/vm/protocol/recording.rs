//! Recordings of subtrees of a kernel's sysfs: a line a file, its fields between tabs.
//!
//! ```text
//! PATH  MODE  KIND  SIZE  CONTENTS
//! ```
//!
//! The path is below the top of the subtree, the mode octal, the kind `dir`, `file` or `link`. Contents are a JSON string: of a
//! file what it holds, of a link where it leads; `hex` and digits where that is no text; `-` for nothing, and `!` with
//! the number of the error where it cannot be read.

use std::collections::BTreeMap;

/// What is kept of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Permissions, octal.
    pub mode: String,
    /// `dir`, `file` or `link`.
    pub kind: String,
    /// Bytes, as `stat` tells them.
    pub size: String,
    /// As the module's description says.
    pub contents: String,
}

impl Entry {
    /// What it holds or where it leads, if that is text.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        serde_json::from_str(&self.contents).ok()
    }
}

/// The entries of a recording by path.
///
/// # Errors
/// The first line that is none.
pub fn parse(recording: &str) -> Result<BTreeMap<String, Entry>, String> {
    let entry = |line: &str| {
        let fields: Vec<_> = line.split('\t').map(str::to_owned).collect();
        let [path, mode, kind, size, contents] = <[String; 5]>::try_from(fields).ok()?;
        Some((
            path,
            Entry {
                mode,
                kind,
                size,
                contents,
            },
        ))
    };
    recording
        .lines()
        .map(|line| entry(line).ok_or_else(|| format!("{line:?} is no line of a recording")))
        .collect()
}

/// In what two recordings differ beside contents and sizes: a line each, `-` for what only `kept` has and `+` for what only
/// `found` has.
///
/// # Errors
/// As [`parse`].
pub fn differences(kept: &str, found: &str) -> Result<Vec<String>, String> {
    let form = |entry: &Entry| format!("{} {}", entry.mode, entry.kind);
    let (kept, found) = (parse(kept)?, parse(found)?);
    let mut differences = Vec::new();
    for (sign, these, those) in [('-', &kept, &found), ('+', &found, &kept)] {
        for (path, entry) in these {
            if those.get(path).map(form) != Some(form(entry)) {
                differences.push(format!("{sign} {path} {}", form(entry)));
            }
        }
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: &str = "vendor\t444\tfile\t4096\t\"0x1ae5\\n\"\ndriver\t777\tlink\t0\t\"../x\"\n";

    #[test]
    fn a_recording_is_read_back() {
        let entries = parse(KEPT).unwrap();
        assert_eq!(entries["vendor"].text().as_deref(), Some("0x1ae5\n"));
        assert_eq!(entries["driver"].kind, "link");
        assert!(parse("vendor 444").is_err());
    }

    #[test]
    fn other_contents_are_no_difference_and_other_files_are() {
        let other = KEPT.replace("0x1ae5", "0x8086");
        assert_eq!(differences(KEPT, &other), Ok(Vec::new()));
        let other = KEPT.replace("444", "644");
        assert_eq!(
            differences(KEPT, &other),
            Ok(vec![
                "- vendor 444 file".to_owned(),
                "+ vendor 644 file".to_owned()
            ])
        );
    }
}
