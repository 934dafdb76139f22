//! Small text files, as sysfs has them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;

use super::ProbeError;

/// sysfs gives at most a page; anything longer is not sysfs.
const LIMIT: usize = 4096;

/// The contents of a file, without the white space around them.
///
/// # Errors
/// When it cannot be read, is longer than a page or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<String, ProbeError> {
    let mut buffer = [0; LIMIT + 1];
    let bytes = fill(path, &mut buffer).map_err(|error| ProbeError::io(path, &error))?;
    if bytes.len() > LIMIT {
        let found = "more than a page";
        return Err(ProbeError::malformed(path, found, "at most a page of text"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => {
            let found = String::from_utf8_lossy(bytes);
            Err(ProbeError::malformed(path, &found, "text in UTF-8"))
        }
    }
}

/// Reads to the end of the file or of the buffer: on the stack, as a look reads hundreds of these.
fn fill<'a>(path: &Path, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut file = open(path)?;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&buffer[..filled])
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
