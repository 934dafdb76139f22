//! A copy of a host's tree, and changes to it.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a failing helper is a failing test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use auk_asic::config::{dvsec, extended};
use auk_asic::ident::VENDOR;
use auk_asic::vitals::{BODY, DVSEC_ID, VitalSigns};
use zerocopy::FromBytes;

/// What an agent reads, below the root.
const SEEN: [&str; 5] = [
    "sys/devices",
    "sys/bus/pci/devices",
    "sys/bus/pci/slots",
    "sys/class/net",
    "sys/class/infiniband",
];
/// The second chip's port, and the one that it shares with the first.
const PORTS: [&str; 2] = ["0000:00:01.1/0000:02:00.0", "0000:00:01.0/0000:02:00.0"];

/// A change to what a file holds.
pub type Change = Box<dyn Fn(&mut Vec<u8>)>;

/// A change to a file.
pub enum Edit {
    Text(String),
    Bytes(Change),
    Gone,
    /// It has another name in its directory.
    Renamed(&'static str),
}

/// All changes, by path below the root.
pub struct Edits {
    edits: BTreeMap<PathBuf, Edit>,
    one_port: bool,
}

impl Edits {
    /// No changes, but that all chips may be below one port.
    pub fn new(one_port: bool) -> Self {
        Self {
            edits: BTreeMap::new(),
            one_port,
        }
    }

    pub fn set(&mut self, path: PathBuf, edit: Edit) {
        self.edits.insert(path, edit);
    }

    pub fn clear(&mut self) {
        self.edits.clear();
    }

    /// The directory of a function below the root of the copy.
    pub fn function(&self, host: &Path, bdf: &str) -> PathBuf {
        let link = host.join("sys/bus/pci/devices").join(bdf);
        let real = fs::canonicalize(link).unwrap();
        let host = fs::canonicalize(host).unwrap();
        self.moved(real.strip_prefix(host).unwrap())
    }

    /// The counts of all hearts.
    pub fn heartbeats(&self, host: &Path) -> Vec<u32> {
        let devices = fs::read_dir(host.join("sys/bus/pci/devices")).unwrap();
        let mut paths: Vec<_> = devices.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let configs = paths.iter().map(|path| settled(&path.join("config")));
        configs
            .filter(|config| block(config).is_some())
            .map(|mut config| vital_signs(&mut config).heartbeat)
            .collect()
    }

    /// Makes the copy what the host is, but for the changes.
    pub fn copy(&self, host: &Path, copy: &Path) {
        for seen in SEEN {
            self.directory(host, Path::new(seen), copy);
        }
        for (path, edit) in &self.edits {
            let path = copy.join(path);
            match edit {
                Edit::Text(text) => fs::write(path, text).unwrap(),
                Edit::Bytes(change) => {
                    let mut bytes = fs::read(&path).unwrap();
                    change(&mut bytes);
                    fs::write(path, bytes).unwrap();
                }
                Edit::Gone => remove(&path),
                Edit::Renamed(name) => {
                    let renamed = path.with_file_name(name);
                    remove(&renamed);
                    match fs::read_link(&path) {
                        Ok(target) => {
                            fs::remove_file(&path).unwrap();
                            symlink(target.with_file_name(name), renamed).unwrap();
                        }
                        Err(_) => fs::rename(path, renamed).unwrap(),
                    }
                }
            }
        }
    }

    fn directory(&self, host: &Path, path: &Path, copy: &Path) {
        let moved = self.moved(path);
        if matches!(self.edits.get(&moved), Some(Edit::Gone)) {
            return;
        }
        let to = copy.join(&moved);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(host.join(path)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let (below, kind) = (path.join(&name), entry.file_type().unwrap());
            if kind.is_dir() {
                self.directory(host, &below, copy);
            } else if kind.is_symlink() {
                let target = self.moved(&fs::read_link(entry.path()).unwrap());
                let link = to.join(&name);
                if fs::read_link(&link).ok() != Some(target.clone()) {
                    symlink(target, link).unwrap();
                }
            } else if name == "config" {
                fs::write(to.join(&name), settled(&entry.path())).unwrap();
            } else if is_readable(&entry.path()) {
                // The simulator replaces a file whole, so what is read is never half of two.
                fs::write(to.join(&name), fs::read(entry.path()).unwrap()).unwrap();
            }
        }
    }

    fn moved(&self, path: &Path) -> PathBuf {
        match self.one_port {
            true => path.to_string_lossy().replace(PORTS[0], PORTS[1]).into(),
            false => path.to_owned(),
        }
    }
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn is_readable(path: &Path) -> bool {
    let resource = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("resource"));
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    !resource && mode & 0o444 != 0
}

/// Config space while the chip does not change it.
fn settled(path: &Path) -> Vec<u8> {
    loop {
        let mut config = fs::read(path).unwrap();
        if block(&config).is_none() || vital_signs(&mut config).sequence.is_multiple_of(2) {
            return config;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Where the vital signs are.
fn block(config: &[u8]) -> Option<usize> {
    let dword = |at: usize| {
        let bytes = config.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let mut at = 0x100;
    while at != 0 {
        let header = dword(at)?;
        let one = dword(at + usize::from(dvsec::HEADER1))?;
        let two = dword(at + usize::from(dvsec::HEADER1) + 4)?;
        if header & 0xFFFF == u32::from(extended::DVSEC)
            && one & 0xFFFF == u32::from(VENDOR)
            && two & 0xFFFF == u32::from(DVSEC_ID)
        {
            return Some(at + usize::from(BODY));
        }
        at = usize::try_from(header >> 20).ok()?;
    }
    None
}

/// The vital signs in config space.
pub fn vital_signs(config: &mut [u8]) -> &mut VitalSigns {
    let at = block(config).unwrap();
    VitalSigns::mut_from_bytes(&mut config[at..at + VitalSigns::SIZE]).unwrap()
}
