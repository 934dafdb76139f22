//! The kernel's AER counters: `aer_dev_correctable`, `aer_dev_nonfatal`, `aer_dev_fatal`.

use super::directory::Directory;
use super::{ProbeError, text};
use crate::facts::Aer;

/// Reads the totals; `None` when the kernel keeps none for this function (no AER capability, or
/// the firmware owns it).
///
/// # Errors
/// When only some of the files are there or one does not hold its total.
pub fn read(function: &Directory) -> Result<Option<Aer>, ProbeError> {
    let Some(correctable) =
        text::optional(total(function, "aer_dev_correctable", "TOTAL_ERR_COR"))?
    else {
        return Ok(None);
    };
    Ok(Some(Aer {
        correctable,
        nonfatal: total(function, "aer_dev_nonfatal", "TOTAL_ERR_NONFATAL")?,
        fatal: total(function, "aer_dev_fatal", "TOTAL_ERR_FATAL")?,
    }))
}

fn total(function: &Directory, file: &str, line: &str) -> Result<u64, ProbeError> {
    let contents = function.text(file)?;
    parse_total(&contents, line)
        .ok_or_else(|| function.malformed(file, &contents, "a line TOTAL_ERR_* and its count"))
}

/// The count on the line that begins with `name`.
#[must_use]
pub fn parse_total(contents: &str, name: &str) -> Option<u64> {
    contents.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok()).flatten()
    })
}
