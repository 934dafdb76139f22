//! `auk doctor` on a real kernel, as it is and with something taken from it.

use std::ffi::CStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use auk_vm::Mode;
use nix::kmod::{DeleteModuleFlags, delete_module};
use serde_json::Value;

use crate::guest::Guest;
use crate::init;
use crate::pci;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test("a_host_as_it_should_be", a_host_as_it_should_be),
    test("a_missing_module_is_named", a_missing_module_is_named),
    test(
        "a_user_without_permission_is_told_the_file",
        a_user_without_permission_is_told_the_file,
    ),
];

/// A user who may open nothing of VFIO's.
const NOBODY: u32 = 65534;

/// What the doctor finds of a check, of the host or of a device.
pub(super) fn finding(guest: &Guest, subject: &str, check: &str) -> Result<Value> {
    examined(&guest.auk_whatever(&["doctor", "--json"])?, subject, check)
}

fn examined(printed: &str, subject: &str, check: &str) -> Result<Value> {
    let document: Value =
        serde_json::from_str(printed).with_context(|| format!("reading {printed}"))?;
    let findings = document["findings"].as_array().cloned().unwrap_or_default();
    findings
        .into_iter()
        .find(|finding| finding["subject"] == subject && finding["check"] == check)
        .with_context(|| format!("no {check} of {subject} in {printed}"))
}

/// As [`finding`], which must be of a level and say something.
pub(super) fn finds(
    guest: &Guest,
    (subject, check): (&str, &str),
    level: &str,
    says: &str,
) -> Result<()> {
    let found = finding(guest, subject, check)?;
    ensure!(found["level"] == level, "{found:#}");
    ensure!(found.to_string().contains(says), "no {says:?} in {found:#}");
    Ok(())
}

fn a_host_as_it_should_be(guest: &Guest) -> Result<()> {
    let chip = &guest.chips()?[0];
    guest.auk(&["bind", chip])?;
    for check in [
        "kernel-version",
        "iommu",
        "iommu-groups",
        "kernel-command-line",
        "vfio-pci",
        "vfio-translation",
    ] {
        let found = finding(guest, "host", check)?;
        ensure!(found["level"] != "fail", "{found:#}");
    }
    let interface = match guest.mode() {
        Mode::Group => "groups",
        Mode::Cdev => "character devices",
    };
    finds(guest, ("host", "vfio-interface"), "ok", interface)?;
    for check in [
        "iommu-group",
        "bars",
        "config-space",
        "permission",
        "power-state",
    ] {
        let found = finding(guest, chip, check)?;
        ensure!(found["level"] == "ok", "{found:#}");
    }
    guest.auk(&["unbind", chip])?;
    Ok(())
}

fn a_missing_module_is_named(guest: &Guest) -> Result<()> {
    const MODULE: &CStr = c"vfio_pci";
    let chip = &guest.chips()?[0];
    delete_module(MODULE, DeleteModuleFlags::O_NONBLOCK).context("unloading vfio_pci")?;
    let said = finds(guest, ("host", "vfio-pci"), "fail", "modprobe vfio-pci")
        .and_then(|()| guest.auk_fails(&["bind", chip]));
    init::load_again("vfio_pci")?;
    let said = said?;
    ensure!(said.contains("modprobe vfio-pci"), "{said}");
    guest.auk(&["bind", chip])?;
    guest.auk(&["unbind", chip])?;
    Ok(())
}

fn a_user_without_permission_is_told_the_file(guest: &Guest) -> Result<()> {
    let chip = &guest.chips()?[0];
    pci::bind_vfio(chip)?;
    let as_user = Command::new("/bin/auk")
        .args(["doctor", "--json"])
        .uid(NOBODY)
        .gid(NOBODY)
        .output()?;
    let printed = String::from_utf8_lossy(&as_user.stdout).into_owned();
    let found = examined(&printed, chip, "permission")?;
    pci::unbind_vfio(chip)?;
    ensure!(found["level"] == "fail", "{found:#}");
    ensure!(found.to_string().contains("dev/vfio"), "{found:#}");
    Ok(())
}
