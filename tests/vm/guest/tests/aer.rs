//! PCI Express errors that QEMU's monitor and the kernel's `aer_inject` make.

use std::fs;

use anyhow::{Context, Result, ensure};
use auk_vm::Request;

use crate::guest::Guest;
use crate::pci;
use crate::registry::{Test, test};

/// QEMU's virtio random number generator, `docs/specs/pci-ids.rst` of QEMU.
const RNG: pci::Kind = (0x1af4, 0x1044);

/// Receiver error, a bit of the correctable error status; PCI Express Base Specification 6.0, section 7.8.4.5.
pub(super) const RECEIVER_ERROR: u32 = 1 << 0;
/// Completion timeout, a bit of the uncorrectable error status, section 7.8.4.2; not fatal by default, section 7.8.4.4.
pub(super) const COMPLETION_TIMEOUT: u32 = 1 << 14;
/// Data link protocol error, of the same register; fatal by default.
pub(super) const DATA_LINK_PROTOCOL_ERROR: u32 = 1 << 4;

pub(crate) const TESTS: &[Test] = &[
    test(
        "an_error_from_qemu_is_counted",
        an_error_from_qemu_is_counted,
    ),
    test(
        "a_correctable_error_of_a_chip_is_counted",
        a_correctable_error_of_a_chip_is_counted,
    ),
    test(
        "a_nonfatal_error_of_a_chip_is_counted",
        a_nonfatal_error_of_a_chip_is_counted,
    ),
];

fn an_error_from_qemu_is_counted(guest: &Guest) -> Result<()> {
    let device = pci::only(RNG)?;
    guest.ask(Request::Monitor(
        "pcie_aer_inject_error rng RCVR".to_owned(),
    ))?;
    guest.wait_for("one receiver error", || {
        Ok(total(&device, "correctable")? == 1)
    })
}

fn a_correctable_error_of_a_chip_is_counted(guest: &Guest) -> Result<()> {
    let chip = &guest.chips()?[0];
    inject(chip, 0, RECEIVER_ERROR)?;
    guest.wait_for("one correctable error", || {
        Ok(total(chip, "correctable")? == 1)
    })
}

fn a_nonfatal_error_of_a_chip_is_counted(guest: &Guest) -> Result<()> {
    let chip = &guest.chips()?[0];
    inject(chip, COMPLETION_TIMEOUT, 0)?;
    guest.wait_for("one nonfatal error", || Ok(total(chip, "nonfatal")? == 1))?;
    ensure!(total(chip, "fatal")? == 0);
    Ok(())
}

/// The last line of `aer_dev_*`, such as `TOTAL_ERR_COR 1`.
fn total(address: &str, severity: &str) -> Result<u64> {
    let text = pci::attribute(address, &format!("aer_dev_{severity}"))?;
    let last = text.lines().next_back().unwrap_or_default();
    let number = last.split_whitespace().next_back().unwrap_or_default();
    number
        .parse()
        .with_context(|| format!("aer_dev_{severity} ends with {last:?}"))
}

/// Has the kernel believe that a function reported errors: `struct aer_error_inj` of `drivers/pci/pcie/aer_inject.c`.
pub(super) fn inject(address: &str, uncorrectable: u32, correctable: u32) -> Result<()> {
    let field = |from: usize, to: usize| {
        let text = address.get(from..to).unwrap_or_default();
        u8::from_str_radix(text, 16).with_context(|| format!("{address:?} is no address"))
    };
    let mut error = vec![field(5, 7)?, field(8, 10)?, field(11, 12)?, 0];
    // Status words, four words of the header log, and the domain.
    for word in [uncorrectable, correctable, 0, 0, 0, 0, 0] {
        error.extend_from_slice(&word.to_le_bytes());
    }
    fs::write("/dev/aer_inject", error).context("writing to /dev/aer_inject")
}
