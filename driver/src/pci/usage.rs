//! Who uses a function, as far as the host shows it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Host, PciFunction};

/// `IFF_UP` of `<linux/if.h>`: the interface is set up, whether or not it has a carrier.
const UP: u32 = 1;

/// A use of a function that taking it away would break.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Use {
    /// A process has it, or its group, open through VFIO.
    Open(VfioHolder),
    /// A network interface of it is up.
    Interface(String),
    /// A file system on it is mounted.
    Mounted {
        /// The block device.
        device: String,
        /// Where.
        at: String,
    },
    /// It is swapped to.
    Swap(String),
    /// A block device of it carries another, as device mapper and md make them.
    Carries {
        /// The block device.
        device: String,
        /// What is on it.
        upper: String,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(holder) => write!(f, "{holder} has {} open", holder.node.display()),
            Self::Interface(name) => write!(f, "its network interface {name} is up"),
            Self::Mounted { device, at } => write!(f, "its {device} is mounted at {at}"),
            Self::Swap(device) => write!(f, "its {device} is swapped to"),
            Self::Carries { device, upper } => write!(f, "its {device} carries {upper}"),
        }
    }
}

/// A process with a VFIO node open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfioHolder {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// What it has open: `/dev/vfio/GROUP` or `/dev/vfio/devices/vfioN`.
    pub node: PathBuf,
}

impl fmt::Display for VfioHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A process chooses its name; it must not control a terminal.
        let comm: String = self
            .comm
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        write!(f, "process {} ({comm})", self.pid)
    }
}

/// The processes of a host that have VFIO nodes open, as one look at `/proc` showed them.
///
/// Without privilege the kernel shows only this user's processes, and never those of a PID namespace above: an empty
/// answer is no proof.
#[derive(Clone, Debug, Default)]
pub struct VfioHolders(Vec<VfioHolder>);

impl VfioHolders {
    /// Looks through all processes that may be looked into.
    #[must_use]
    pub fn look(host: &Host) -> Self {
        let proc = host.root().join("proc");
        let mut found: Vec<VfioHolder> = Vec::new();
        for (name, process) in listing(&proc) {
            let Ok(pid) = name.parse() else { continue };
            for (_, descriptor) in listing(&process.join("fd")) {
                let Ok(node) = fs::read_link(descriptor) else {
                    continue;
                };
                let seen = found.iter().any(|h| h.pid == pid && h.node == node);
                if !node.starts_with("/dev/vfio") || seen {
                    continue;
                }
                let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
                found.push(VfioHolder {
                    pid,
                    comm: comm.trim().to_owned(),
                    node,
                });
            }
        }
        found.sort_by_key(|holder| holder.pid);
        Self(found)
    }

    /// Those who have a function, or its group, open.
    pub fn of(&self, function: &PciFunction) -> impl Iterator<Item = &VfioHolder> {
        let mut nodes = Vec::new();
        if let Ok(Some(group)) = function.iommu_group() {
            nodes.push(PathBuf::from(format!("/dev/vfio/{group}")));
            nodes.push(PathBuf::from(format!("/dev/vfio/noiommu-{group}")));
        }
        if let Ok(Some(device)) = function.vfio_device() {
            nodes.push(PathBuf::from(format!("/dev/vfio/devices/{device}")));
        }
        self.0
            .iter()
            .filter(move |holder| nodes.contains(&holder.node))
    }
}

/// Everything that the host shows to use a function. What cannot be read shows nothing.
pub(super) fn uses(host: &Host, function: &PciFunction) -> Vec<Use> {
    let holders = VfioHolders::look(host);
    let mut found: Vec<Use> = holders.of(function).cloned().map(Use::Open).collect();
    // Below the function's own directory are all devices that its driver made, at whatever depth.
    let Ok(directory) = fs::canonicalize(function.path()) else {
        return found;
    };
    let of_it = |class: &str| {
        listing(&host.root().join(class))
            .into_iter()
            .filter(|(_, link)| fs::canonicalize(link).is_ok_and(|at| at.starts_with(&directory)))
    };
    found.extend(
        of_it("sys/class/net")
            .filter(|(_, link)| is_up(link))
            .map(|(name, _)| Use::Interface(name)),
    );
    let mut blocks: Vec<(String, PathBuf)> = of_it("sys/class/block").collect();
    for name in blocks
        .iter()
        .filter_map(|(name, _)| nvme_head(name))
        .collect::<Vec<_>>()
    {
        blocks.extend(
            listing(&host.root().join("sys/class/block"))
                .into_iter()
                .filter(|(other, _)| *other == name || other.starts_with(&format!("{name}p"))),
        );
    }
    found.extend(block_uses(host, &blocks));
    found
}

fn is_up(interface: &Path) -> bool {
    fs::read_to_string(interface.join("flags"))
        .ok()
        .and_then(|flags| u32::from_str_radix(flags.trim().strip_prefix("0x")?, 16).ok())
        .is_some_and(|flags| flags & UP != 0)
}

/// The multipath head `nvme0n1` of a path `nvme0c1n1`: it is mounted in the path's stead, and is below no PCI function.
fn nvme_head(name: &str) -> Option<String> {
    let rest = name.strip_prefix("nvme")?;
    let (subsystem, rest) = rest.split_once('c')?;
    let (_, namespace) = rest.split_once('n')?;
    Some(format!("nvme{subsystem}n{namespace}"))
}

fn block_uses(host: &Host, blocks: &[(String, PathBuf)]) -> Vec<Use> {
    if blocks.is_empty() {
        return Vec::new();
    }
    let read = |path: &str| fs::read_to_string(host.root().join(path)).unwrap_or_default();
    let (mounts, swaps) = (read("proc/self/mountinfo"), read("proc/swaps"));
    let mut found = Vec::new();
    for (name, path) in blocks {
        let number = fs::read_to_string(path.join("dev")).unwrap_or_default();
        let node = format!("/dev/{name}");
        // By number, and by name: btrfs and others mount under a number of their own.
        let mounted = mounts
            .lines()
            .filter_map(mount)
            .find(|(major_minor, _, source)| *major_minor == number.trim() || *source == node);
        if let Some((_, at, _)) = mounted {
            let (device, at) = (name.clone(), at.to_owned());
            found.push(Use::Mounted { device, at });
        }
        if swaps
            .lines()
            .any(|line| line.split_whitespace().next() == Some(&node))
        {
            found.push(Use::Swap(name.clone()));
        }
        for (upper, _) in listing(&path.join("holders")) {
            let device = name.clone();
            found.push(Use::Carries { device, upper });
        }
    }
    found
}

/// Device number, mount point and source of a line of proc_pid_mountinfo(5).
fn mount(line: &str) -> Option<(&str, &str, &str)> {
    let mut fields = line.split(' ').skip(2);
    let (number, _, at) = (fields.next()?, fields.next()?, fields.next()?);
    // Optional fields end at the dash; the type of the file system is before the source.
    let source = fields.skip_while(|field| *field != "-").nth(2)?;
    Some((number, at, source))
}

/// Names and paths in a directory, in order; none of one that cannot be read.
fn listing(directory: &Path) -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, entry.path())
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::tree::Tree;

    const NVME: &str = "0000:02:00.0";

    fn told(tree: &Tree, bdf: &str) -> Vec<String> {
        let uses = uses(&tree.host(), &tree.get(bdf));
        uses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_process_with_the_group_open_is_named() {
        let tree = Tree::new();
        tree.function("0000:01:00.0", "0x120000", Some("vfio-pci"), Some(7));
        tree.function("0000:03:00.0", "0x120000", Some("vfio-pci"), Some(8));
        tree.link("proc/4711/fd/5", "/dev/vfio/7");
        tree.link("proc/4711/fd/6", "/dev/vfio/vfio");
        tree.link("proc/4712/fd/3", "/dev/null");
        tree.write("proc/4711/comm", "trai\u{1b}n\n");
        assert_eq!(
            told(&tree, "0000:01:00.0"),
            ["process 4711 (trai?n) has /dev/vfio/7 open"]
        );
        assert!(told(&tree, "0000:03:00.0").is_empty());
    }

    #[test]
    fn a_process_with_the_character_device_open_is_named() {
        let tree = Tree::new();
        tree.function("0000:01:00.0", "0x120000", Some("vfio-pci"), Some(7));
        let function = tree.get("0000:01:00.0");
        fs::create_dir_all(function.path().join("vfio-dev/vfio2")).unwrap();
        tree.link("proc/9/fd/5", "/dev/vfio/devices/vfio2");
        assert_eq!(told(&tree, "0000:01:00.0").len(), 1);
    }

    #[test]
    fn an_interface_counts_when_it_is_set_up_however_deep_it_is() {
        let tree = Tree::new();
        tree.function("0000:02:00.0", "0x020000", Some("virtio-pci"), None);
        let directory = "sys/devices/pci0000:00/0000:02:00.0/virtio0/net/eth0";
        tree.write(&format!("{directory}/flags"), "0x1002\n");
        tree.link("sys/class/net/eth0", tree.root().join(directory));
        tree.link("sys/class/net/lo", "../../devices/virtual/net/lo");
        assert!(told(&tree, "0000:02:00.0").is_empty());
        tree.write(&format!("{directory}/flags"), "0x1003\n");
        assert_eq!(
            told(&tree, "0000:02:00.0"),
            ["its network interface eth0 is up"]
        );
    }

    fn disk(tree: &Tree, name: &str, number: &str) {
        let directory = format!("sys/devices/pci0000:00/{NVME}/nvme/nvme0/{name}");
        tree.write(&format!("{directory}/dev"), format!("{number}\n"));
        tree.link(
            &format!("sys/class/block/{name}"),
            tree.root().join(directory),
        );
    }

    #[test]
    fn mounts_swap_and_what_a_disk_carries_are_uses() {
        let tree = Tree::new();
        tree.function(NVME, "0x010802", Some("nvme"), None);
        disk(&tree, "nvme0n1", "259:0");
        disk(&tree, "nvme0n1p1", "259:1");
        disk(&tree, "nvme0n1p2", "259:2");
        disk(&tree, "nvme0n1p3", "259:3");
        assert!(told(&tree, NVME).is_empty());
        tree.write(
            "proc/self/mountinfo",
            "22 1 259:1 / /data rw,relatime shared:1 - ext4 /dev/root rw\n\
             23 1 0:44 /sub /fast rw - btrfs /dev/nvme0n1p2 rw\nnonsense\n",
        );
        tree.write(
            "proc/swaps",
            "Filename Type Size\n/dev/nvme0n1p3 partition 8\n",
        );
        tree.write(
            &format!("sys/devices/pci0000:00/{NVME}/nvme/nvme0/nvme0n1/holders/dm-0"),
            "",
        );
        assert_eq!(
            told(&tree, NVME),
            [
                "its nvme0n1 carries dm-0",
                "its nvme0n1p1 is mounted at /data",
                "its nvme0n1p2 is mounted at /fast",
                "its nvme0n1p3 is swapped to",
            ]
        );
    }

    #[test]
    fn the_head_of_a_multipath_namespace_is_a_use_of_its_path() {
        let tree = Tree::new();
        tree.function(NVME, "0x010802", Some("nvme"), None);
        disk(&tree, "nvme0c1n1", "259:0");
        let head = "sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1";
        tree.write(&format!("{head}/dev"), "259:9\n");
        tree.link("sys/class/block/nvme0n1", tree.root().join(head));
        tree.write(
            "proc/self/mountinfo",
            "22 1 259:9 / /data rw - ext4 /dev/x rw\n",
        );
        assert_eq!(told(&tree, NVME), ["its nvme0n1 is mounted at /data"]);
    }
}
