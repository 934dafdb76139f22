//! A small file that is read in each look, and therefore kept open: to open it anew costs more than to read it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use super::directory::Directory;
use super::{ProbeError, text};

/// A file of a function's directory. An attribute of sysfs is made anew by each read from its start, and a read of it
/// fails with ENODEV when its device has left; a plain file tells by its links that another is in its place.
#[derive(Debug, Default)]
pub(super) struct Kept {
    file: Option<File>,
}

impl Kept {
    /// The text of the file, without the white space around it; `plain` says that it is none of sysfs.
    ///
    /// # Errors
    /// As [`Directory::text`].
    pub(super) fn text(
        &mut self,
        directory: &Directory,
        name: &str,
        plain: bool,
    ) -> Result<String, ProbeError> {
        if plain && self.file.as_ref().is_some_and(is_unlinked) {
            self.file = None;
        }
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(directory.file(name)?),
        };
        let read = text::read_at_start(file, || directory.path().join(name));
        if read.is_err() {
            self.file = None;
        }
        read
    }
}

fn is_unlinked(file: &File) -> bool {
    file.metadata().is_ok_and(|file| file.nlink() == 0)
}
