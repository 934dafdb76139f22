//! The guest's file system, as the kernel unpacks it: a cpio archive of the "newc" kind
//! (`Documentation/driver-api/early-userspace/buffer-format.rst` of the Linux kernel).

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive under construction.
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    entries: u32,
}

impl Initramfs {
    /// An archive with the places that the guest mounts on, and a console.
    pub(crate) fn new() -> Self {
        let mut archive = Self {
            bytes: Vec::new(),
            directories: BTreeSet::new(),
            entries: 0,
        };
        for directory in ["dev", "proc", "sys", "run", "tmp"] {
            archive.directory(directory);
        }
        // What process 1 writes before it has mounted /dev. Its number is 5:1, Documentation/admin-guide/devices.txt.
        archive.entry("dev/console", CHARACTER_DEVICE, &[], (5, 1));
        archive
    }

    /// Adds a file, and the directories that lead to it. All files may be executed.
    pub(crate) fn file(&mut self, path: &str, contents: &[u8]) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entry(path, PROGRAM, contents, (0, 0));
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn directory(&mut self, path: &str) {
        if self.directories.contains(path) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entry(path, DIRECTORY, &[], (0, 0));
        self.directories.insert(path.to_owned());
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8], device: (u32, u32)) {
        self.entries += 1;
        let fields = [
            self.entries,
            mode,
            0, // owner
            0, // group
            1, // links
            0, // time
            contents.len() as u32,
            0, // where it was
            0,
            device.0,
            device.1,
            path.len() as u32 + 1,
            0, // no checksum
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them_and_only_once() {
        let mut archive = Initramfs::new();
        archive.file("a/b/one", b"1");
        archive.file("a/b/two", b"22");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| text.find(&format!("{name}\0")).unwrap();
        assert!(at("a") < at("a/b") && at("a/b") < at("a/b/one"));
        assert_eq!(text.matches("a/b\0").count(), 1);
        assert_eq!(bytes.len() % 4, 0);
    }
}
