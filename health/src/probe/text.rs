//! Small text files, as sysfs has them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;

use super::ProbeError;

/// sysfs gives at most a page; anything longer is not sysfs.
const LIMIT: u64 = 4096;

/// The contents of a file, without the white space around them.
///
/// # Errors
/// When it cannot be read, is longer than a page or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<String, ProbeError> {
    let mut bytes = Vec::new();
    open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|error| ProbeError::io(path, &error))?;
    if bytes.len() as u64 > LIMIT {
        return Err(ProbeError::malformed(
            path,
            "more than a page",
            "at most a page of text",
        ));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => Err(ProbeError::malformed(
            path,
            &String::from_utf8_lossy(&bytes),
            "text in UTF-8",
        )),
    }
}

/// Opens without waiting, should the file be a pipe that nobody writes to.
fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// A number in a file.
///
/// # Errors
/// As [`read`], and when the contents are not `expected`.
pub(crate) fn number<T: FromStr>(path: &Path, expected: &'static str) -> Result<T, ProbeError> {
    let text = read(path)?;
    text.parse()
        .map_err(|_| ProbeError::malformed(path, &text, expected))
}

/// A number in hexadecimal with `0x` before it, as PCI IDs are.
///
/// # Errors
/// As [`number`].
pub(crate) fn hexadecimal(path: &Path) -> Result<u32, ProbeError> {
    let text = read(path)?;
    text.strip_prefix("0x")
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| {
            ProbeError::malformed(path, &text, "0x and at most eight hexadecimal digits")
        })
}

/// `None` for a file that is not there.
///
/// # Errors
/// Every other error of `reading`.
pub(crate) fn optional<T>(reading: Result<T, ProbeError>) -> Result<Option<T>, ProbeError> {
    match reading {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
