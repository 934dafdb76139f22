//! Small text files, as sysfs has them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::ProbeError;

/// sysfs gives at most a page; anything longer is not sysfs.
const LIMIT: usize = 4096;

/// The contents of a file, without the white space around them.
///
/// # Errors
/// When it cannot be read, is longer than a page or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<String, ProbeError> {
    let file = File::open(path).map_err(|error| ProbeError::io(path, &error))?;
    read_from(file, || path.to_owned())
}

/// As [`read`], of an open file; the path is asked for when there is an error to tell.
pub(crate) fn read_from(file: File, path: impl Fn() -> PathBuf) -> Result<String, ProbeError> {
    read_at_start(&file, path)
}

/// As [`read_from`], of a file that stays open and may have been read before.
pub(crate) fn read_at_start(file: &File, path: impl Fn() -> PathBuf) -> Result<String, ProbeError> {
    let mut buffer = [0; LIMIT + 1];
    let bytes = fill(file, &mut buffer).map_err(|error| ProbeError::io(&path(), &error))?;
    if bytes.len() > LIMIT {
        let found = "more than a page";
        return Err(ProbeError::malformed(
            &path(),
            found,
            "at most a page of text",
        ));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => {
            let found = String::from_utf8_lossy(bytes);
            Err(ProbeError::malformed(&path(), &found, "text in UTF-8"))
        }
    }
}

/// Reads to the end of the file or of the buffer: on the stack, as a look reads many of these. An attribute of sysfs is
/// made whole at the first read, and comes whole; so does a plain file. To ask for what comes after would be half of all reads.
fn fill<'a>(file: &File, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    loop {
        match file.read_at(buffer, 0) {
            Ok(read) => return Ok(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
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
