//! Config space: a walk finds every capability, and writes change what may be changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use auk_asic::config::{capability, dvsec, extended, header, msix as msix_cap, pcie};
use auk_asic::{ident, msix, vitals};
use auk_sim::ChipProfile;
use auk_vfio_user::pci::CONFIG_REGION;
use common::{Rig, small};
use proptest::prelude::*;

fn word(config: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([config[at], config[at + 1]])
}

fn dword(config: &[u8], at: usize) -> u32 {
    u32::from(word(config, at)) | u32::from(word(config, at + 2)) << 16
}

/// Capability IDs with their offsets, as a reader walks them.
fn capabilities(config: &[u8]) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    let mut at = usize::from(config[usize::from(header::CAPABILITIES)]);
    while at != 0 {
        assert!(at >= 0x40 && at % 4 == 0 && found.len() < 48);
        found.push((config[at], at));
        at = usize::from(config[at + 1]);
    }
    found
}

fn extended_capabilities(config: &[u8]) -> Vec<(u16, usize)> {
    let mut found = Vec::new();
    let mut at = 0x100;
    while at != 0 {
        assert!(at >= 0x100 && at % 4 == 0 && found.len() < 960);
        found.push((word(config, at), at));
        at = usize::from(word(config, at + 2) >> 4);
    }
    found
}

#[test]
fn a_walk_finds_every_capability() {
    let rig = Rig::powered(small());
    let config = rig.chip.config();
    let ids: Vec<_> = capabilities(&config).iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [capability::PM, capability::MSIX, capability::PCIE]);
    let ids: Vec<_> = extended_capabilities(&config)
        .iter()
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(ids, [extended::AER, extended::DSN, extended::DVSEC]);
}

#[test]
fn the_header_and_the_capabilities_say_what_the_chip_is() {
    for profile in [small(), ChipProfile::fpga(9)] {
        let rig = Rig::powered(profile.clone());
        let config = rig.chip.config();
        assert_eq!(word(&config, 0), ident::VENDOR);
        assert_eq!(word(&config, 2), profile.model.code());
        assert_eq!(dword(&config, 8) >> 8, ident::CLASS);
        let at = usize::from(msix_cap::OFFSET + msix_cap::CONTROL);
        assert_eq!(
            word(&config, at) & msix_cap::CONTROL_SIZE,
            msix::VECTORS - 1
        );
        let at = usize::from(pcie::OFFSET);
        assert_ne!(dword(&config, at + 4) & pcie::DEVCAP_FLR, 0);
        let link = u32::from(profile.link.speed) | u32::from(profile.link.width) << 4;
        assert_eq!(dword(&config, at + usize::from(pcie::LNKCAP)) & 0x3FF, link);
        assert_eq!(word(&config, at + usize::from(pcie::LNKSTA)), link as u16);
        let dsn = usize::from(auk_asic::config::dsn::OFFSET);
        let serial = u64::from(dword(&config, dsn + 8)) << 32 | u64::from(dword(&config, dsn + 4));
        assert_eq!(serial, profile.serial);
        let at = usize::from(dvsec::OFFSET);
        let vendor_and_length = dword(&config, at + usize::from(dvsec::HEADER1));
        assert_eq!(vendor_and_length as u16, ident::VENDOR);
        assert_eq!(vendor_and_length >> 20, u32::from(vitals::DVSEC_SIZE));
        assert_eq!(
            word(&config, at + usize::from(dvsec::HEADER2)),
            vitals::DVSEC_ID
        );
    }
}

#[test]
fn a_bar_tells_its_size_to_who_writes_ones() {
    let mut rig = Rig::powered(small());
    for (bar, size) in rig.chip.bar_sizes().into_iter().enumerate().step_by(2) {
        let offset = header::BAR0 + bar as u16 * 4;
        rig.config_write(offset, &[0xFF; 4]);
        rig.config_write(offset + 4, &[0xFF; 4]);
        let config = rig.chip.config();
        let at = usize::from(offset);
        let value = u64::from(dword(&config, at + 4)) << 32 | u64::from(dword(&config, at));
        assert_eq!(value & 0b111, 0b100, "a 64-bit memory BAR");
        assert_eq!(!(value & !0xF) + 1, size, "BAR{bar}");
    }
}

#[test]
fn writes_to_read_only_fields_change_nothing() {
    let mut rig = Rig::powered(small());
    let before = rig.chip.config();
    let fixed = [
        header::VENDOR,
        header::REVISION,
        header::SUBSYSTEM,
        header::CAPABILITIES,
        pcie::OFFSET + pcie::LNKCAP,
        pcie::OFFSET + pcie::LNKSTA,
        auk_asic::config::dsn::OFFSET + 4,
        dvsec::OFFSET + dvsec::HEADER1,
    ];
    for offset in fixed {
        rig.config_write(offset, &0xA5A5u16.to_le_bytes());
        let at = usize::from(offset);
        assert_eq!(
            word(&rig.chip.config(), at),
            word(&before, at),
            "{offset:#x}"
        );
    }
}

#[test]
fn a_write_of_three_bytes_or_across_its_alignment_is_a_violation() {
    let mut rig = Rig::powered(small());
    rig.config_write(header::COMMAND, &[0xFF; 3]);
    rig.config_write(header::COMMAND + 1, &[0xFF; 2]);
    assert_eq!(rig.config_read16(header::COMMAND), 0);
    assert_eq!(rig.chip.strict_violations().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn no_write_breaks_the_lists_or_the_identity(
        writes in prop::collection::vec((0u64..1024, any::<u32>()), 0..200)
    ) {
        let rig = Rig::powered(small());
        let before = rig.chip.config();
        for (dword, value) in writes {
            rig.device.write(CONFIG_REGION, dword * 4, &value.to_le_bytes());
        }
        let after = rig.chip.config();
        prop_assert_eq!(capabilities(&before), capabilities(&after));
        prop_assert_eq!(extended_capabilities(&before), extended_capabilities(&after));
        prop_assert_eq!(&before[..4], &after[..4]);
        prop_assert_eq!(after.len(), 4096);
    }
}
