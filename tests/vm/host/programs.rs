//! The programs that run in the guests: built from this workspace, with the shared libraries of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use auk_vm::{TestInfo, from_line};

use crate::apt::Apt;
use crate::cache::Cache;
use crate::shell;

/// A file of the guest's: where it is there, and what is in it.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What every guest has, beside modules and its setup.
pub(crate) struct Programs {
    pub(crate) files: Files,
    /// The tests that the guest program has.
    pub(crate) tests: Vec<TestInfo>,
}

impl Programs {
    /// Builds what is not up to date.
    pub(crate) fn build(built_to: &Path, cache: &Cache, apt: &Apt<'_>) -> Result<Self> {
        ensure!(
            shell::has("strip") && shell::has("ldd"),
            "`strip` (binutils) and `ldd` (libc-bin) are needed and at least one is missing"
        );
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--package=auk", "--package=auk-vm"])
            .args(["--bin=auk", "--bin=auk-vm-guest"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        shell::run(&mut build).context("building the guest's programs")?;

        let mut files = Files::new();
        let guest = built_to.join("auk-vm-guest");
        for (program, place) in [(&built_to.join("auk"), "bin/auk"), (&guest, "init")] {
            files.insert(place.to_owned(), stripped(program, cache)?);
            for library in libraries(program)? {
                let place = library.to_string_lossy().trim_start_matches('/').to_owned();
                let bytes =
                    fs::read(&library).with_context(|| format!("reading {}", library.display()))?;
                files.insert(place, bytes);
            }
        }
        let busybox = cache.once("busybox", |to| {
            apt.unpack("trixie", &["busybox-static"], to)
        })?;
        let busybox = busybox.join("usr/bin/busybox");
        let bytes = fs::read(&busybox).with_context(|| format!("reading {}", busybox.display()))?;
        // As every host has one: what may sleep in the kernel, the driver leaves to a process of it.
        files.insert("bin/sh".to_owned(), bytes);
        Ok(Self {
            files,
            tests: list(&guest)?,
        })
    }
}

/// A program without what only debuggers need: the guest holds it in memory.
fn stripped(program: &Path, cache: &Cache) -> Result<Vec<u8>> {
    let scratch = cache.scratch("programs")?.join("stripped");
    shell::run(
        Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(&scratch)
            .arg(program),
    )?;
    fs::read(&scratch).with_context(|| format!("reading {}", scratch.display()))
}

/// The dynamic linker of a program and the libraries that it finds here.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = shell::run(Command::new("ldd").arg(program))?;
    Ok(listed
        .lines()
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)` or `/lib64/ld-linux-x86-64.so.2 (0x...)`
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect())
}

fn list(guest: &Path) -> Result<Vec<TestInfo>> {
    shell::run(Command::new(guest).arg("list"))?
        .lines()
        .map(|line| {
            from_line(line).map_err(|error| anyhow::anyhow!("the list of tests has {error}"))
        })
        .collect()
}
