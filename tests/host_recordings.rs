//! The tree of a simulated host against recordings of real kernels (`tests/vm/recordings/`): each file that ours has
//! is there too, of the same kind, with the same mode, and its text has the same form.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host_support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use auk_vm::recording::{Entry, parse};
use host_support::{names, scratch, shape, small_host};

const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm/recordings");

/// The recordings of this name, by kernel line.
fn recordings(name: &str) -> BTreeMap<String, BTreeMap<String, Entry>> {
    let lines = names(Path::new(RECORDINGS));
    let read = |line: String| {
        let path = Path::new(RECORDINGS)
            .join(&line)
            .join(format!("{name}.tsv"));
        let text = fs::read_to_string(&path).unwrap();
        (line, parse(&text).unwrap())
    };
    lines.into_iter().map(read).collect()
}

/// Paths below a directory, without what is in `except`.
fn paths(top: &Path, below: &str, except: &str, found: &mut Vec<String>) {
    for name in names(&top.join(below)) {
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if path == except {
            continue;
        }
        let is_directory = fs::symlink_metadata(top.join(&path)).unwrap().is_dir();
        found.push(path.clone());
        if is_directory {
            paths(top, &path, except, found);
        }
    }
}

/// In what a file of ours differs from a recorded one; `None` when it has its form.
fn difference(path: &Path, name: &str, recorded: &Entry) -> Option<String> {
    let found = fs::symlink_metadata(path).unwrap();
    let mode = format!("{:o}", found.permissions().mode() & 0o7777);
    let kind = if found.is_symlink() {
        "link"
    } else if found.is_dir() {
        "dir"
    } else {
        "file"
    };
    if (kind, &mode) != (recorded.kind.as_str(), &recorded.mode) {
        let Entry {
            mode: theirs,
            kind: other,
            ..
        } = recorded;
        return Some(format!("{kind} {mode}, the kernel has {other} {theirs}"));
    }
    if kind == "link" {
        let target = fs::read_link(path).unwrap();
        let real = recorded.text().unwrap();
        let parent = Path::new(&real).parent();
        return (target.parent() != parent)
            .then(|| format!("leads to {}, the kernel's to {real}", target.display()));
    }
    if name == "config" {
        let (size, real) = (found.len().to_string(), &recorded.size);
        return (size != *real).then(|| format!("{size} bytes, the kernel's {real}"));
    }
    // What cannot be read, or holds nothing now, has no form.
    let real = recorded.text().filter(|text| !text.is_empty())?;
    let text = fs::read_to_string(path).unwrap();
    let differs = shape(name, &text) != shape(name, &real)
        || name.starts_with("aer_dev_") && first_words(&text) != first_words(&real);
    differs.then(|| format!("{text:?}, the kernel has {real:?}"))
}

fn first_words(text: &str) -> Vec<&str> {
    let first = |line| str::split_whitespace(line).next();
    text.lines().filter_map(first).collect()
}

/// Holds a directory of ours against the recordings of a name.
fn hold(ours: &Path, except: &str, name: &str) {
    let recordings = recordings(name);
    let mut found = Vec::new();
    paths(ours, "", except, &mut found);
    assert!(!found.is_empty());
    let mut wrong = Vec::new();
    for path in found {
        let file = path.rsplit('/').next().unwrap();
        let mut differences = Vec::new();
        for (line, recording) in &recordings {
            let difference = match recording.get(&path) {
                None => Some("not there".to_owned()),
                Some(recorded) => difference(&ours.join(&path), file, recorded),
            };
            differences.extend(difference.map(|difference| format!("{line}: {difference}")));
        }
        // A kernel that has it in this form is enough: attributes come and go.
        if differences.len() == recordings.len() {
            wrong.push(format!("{path}\n    {}", differences.join("\n    ")));
        }
    }
    assert!(
        wrong.is_empty(),
        "as no kernel has it:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_chip_looks_as_one_that_a_kernel_has_given_to_vfio_pci() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 0);
    let chip = root.path().join("sys/bus/pci/devices/0000:01:00.0");
    hold(&chip, "", "chip-vfio");
}

#[test]
fn a_port_looks_as_a_kernels() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 0);
    let port = root.path().join("sys/bus/pci/devices/0000:00:01.0");
    hold(&port, "0000:01:00.0", "root-port");
}

#[test]
fn a_nic_and_its_interface_look_as_a_kernels() {
    let root = scratch();
    let _host = small_host(root.path(), 0, 1);
    let nic = root.path().join("sys/bus/pci/devices/0000:41:00.0");
    hold(&nic, "infiniband", "nic");
    // Of the kernels that were recorded each had the RDMA device that software makes.
    hold(&nic.join("infiniband/mlx5_0"), "", "rdma");
}

#[test]
fn the_driver_vfio_pci_looks_as_a_kernels() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 0);
    let driver = root.path().join("sys/bus/pci/drivers/vfio-pci");
    hold(&driver, "0000:01:00.0", "vfio-pci");
}
