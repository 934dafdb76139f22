//! A host tree built by hand, independent of the simulator.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test file uses its part, and a failing helper is a failing test"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use auk_asic::config::{SIZE, capability, extended, header, pcie};
use auk_asic::ident::{Model, VENDOR};
use auk_asic::vitals::{BODY, DVSEC_ID, DVSEC_REVISION, DVSEC_SIZE, VitalSigns};
use auk_asic::{SelfTest, State};
use tempfile::TempDir;
use zerocopy::IntoBytes;

pub const CHIP: &str = "0000:01:00.0";
pub const NIC: &str = "0000:41:00.0";
/// Not where the A1 has it, so that nobody may rely on that.
const DSN_AT: u16 = 0x100;
const OTHER_DVSEC_AT: u16 = 0x140;
pub const VITALS_AT: u16 = 0x200;
const PM_AT: u16 = 0x48;
const PCIE_AT: u16 = 0x90;

/// A host with one chip and one NIC.
pub struct Tree {
    directory: TempDir,
}

impl Tree {
    pub fn new() -> Self {
        let tree = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        tree.chip(0o644);
        fs::create_dir_all(tree.root().join("sys/class/net")).unwrap();
        tree.nic(NIC, "0000:00:10.0", "eth0");
        let lo = tree.root().join("sys/class/net/lo");
        symlink("../../devices/virtual/net/lo", lo).unwrap();
        tree
    }

    /// Adds the chip, with the mode of its config space.
    pub fn chip(&self, mode: u32) {
        let model = Model::Silicon.code();
        self.function(CHIP, "0000:00:01.0", VENDOR, model, (&chip_config(), mode));
    }

    /// Adds a NIC with its interface.
    pub fn nic(&self, bdf: &str, port: &str, name: &str) {
        self.function(bdf, port, 0x15B3, 0x1021, (&nic_config(), 0o644));
        let interface = self.device(bdf).join("net").join(name);
        fs::create_dir_all(interface.join("statistics")).unwrap();
        for (name, contents) in [
            ("operstate", "up"),
            ("ifindex", "2"),
            ("flags", "0x1003"),
            ("carrier", "1"),
            ("carrier_up_count", "1"),
            ("carrier_down_count", "0"),
            ("speed", "400000"),
            ("duplex", "full"),
            ("address", "02:a1:00:00:00:00"),
            ("statistics/rx_errors", "0"),
            ("statistics/tx_errors", "0"),
            ("statistics/rx_crc_errors", "0"),
        ] {
            fs::write(interface.join(name), format!("{contents}\n")).unwrap();
        }
        let target = format!("../../devices/pci0000:00/{port}/{bdf}/net/{name}");
        symlink(target, self.root().join("sys/class/net").join(name)).unwrap();
    }

    /// Adds a function with a device of InfiniBand and no interface; the directory of its port.
    pub fn infiniband(&self, bdf: &str, port: &str, name: &str) -> PathBuf {
        self.function(bdf, port, 0x15B3, 0x1021, (&nic_config(), 0o644));
        let port = self.rdma(bdf, name);
        fs::write(port.join("link_layer"), "InfiniBand\n").unwrap();
        port
    }

    /// Adds an RDMA device of a function, with one active port.
    pub fn rdma(&self, bdf: &str, name: &str) -> PathBuf {
        let port = self
            .device(bdf)
            .join("infiniband")
            .join(name)
            .join("ports/1");
        for directory in ["gids", "counters", "hw_counters"] {
            fs::create_dir_all(port.join(directory)).unwrap();
        }
        for (name, contents) in [
            ("state", "4: ACTIVE"),
            ("phys_state", "5: LinkUp"),
            ("rate", "400 Gb/sec (4X NDR)"),
            ("link_layer", "Ethernet"),
            ("gids/0", "fe80:0000:0000:0000:00a1:00ff:fe00:0000"),
            ("gids/1", "0000:0000:0000:0000:0000:0000:0000:0000"),
            ("counters/symbol_error", "3"),
            ("counters/port_rcv_errors", "N/A (no PMA)"),
            ("hw_counters/out_of_sequence", "12"),
        ] {
            fs::write(port.join(name), format!("{contents}\n")).unwrap();
        }
        port
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of a function, by its link.
    pub fn device(&self, bdf: &str) -> PathBuf {
        self.root().join("sys/bus/pci/devices").join(bdf)
    }

    pub fn interface(&self) -> PathBuf {
        self.root().join("sys/class/net/eth0")
    }

    fn function(&self, bdf: &str, port: &str, vendor: u16, device: u16, config: (&[u8], u32)) {
        let path = self
            .root()
            .join(format!("sys/devices/pci0000:00/{port}/{bdf}"));
        fs::create_dir_all(&path).unwrap();
        for (name, contents) in [
            ("vendor", format!("{vendor:#06x}")),
            ("class", class(vendor).to_owned()),
            ("device", format!("{device:#06x}")),
            ("power_state", "D0".to_owned()),
            ("numa_node", "0".to_owned()),
            ("current_link_speed", "32.0 GT/s PCIe".to_owned()),
            ("current_link_width", "8".to_owned()),
            ("max_link_speed", "32.0 GT/s PCIe".to_owned()),
            ("max_link_width", "8".to_owned()),
            ("aer_dev_correctable", "RxErr 1\nTOTAL_ERR_COR 1".to_owned()),
            ("aer_dev_nonfatal", "TOTAL_ERR_NONFATAL 0".to_owned()),
            ("aer_dev_fatal", "TOTAL_ERR_FATAL 0".to_owned()),
        ] {
            fs::write(path.join(name), format!("{contents}\n")).unwrap();
        }
        let (config, mode) = config;
        fs::write(path.join("config"), config).unwrap();
        fs::set_permissions(path.join("config"), Permissions::from_mode(mode)).unwrap();
        let links = self.root().join("sys/bus/pci/devices");
        fs::create_dir_all(&links).unwrap();
        let target = format!("../../../devices/pci0000:00/{port}/{bdf}");
        symlink(target, links.join(bdf)).unwrap();
    }

    /// Writes into a function's config space.
    pub fn poke(&self, bdf: &str, offset: u16, bytes: &[u8]) {
        let config = fs::File::options()
            .write(true)
            .open(self.device(bdf).join("config"));
        config
            .unwrap()
            .write_all_at(bytes, u64::from(offset))
            .unwrap();
    }

    /// Replaces the chip's vital signs.
    pub fn set_vitals(&self, signs: &VitalSigns) {
        self.poke(CHIP, VITALS_AT + BODY, signs.as_bytes());
    }

    /// Has the chip's link train to so many lanes at 32 GT/s, by what both ends say.
    pub fn train(&self, lanes: u8) {
        let status = u16::from(lanes) << pcie::LINK_WIDTH_SHIFT | 5;
        self.poke(CHIP, PCIE_AT + pcie::LNKSTA, &status.to_le_bytes());
        let chip = fs::canonicalize(self.device(CHIP)).unwrap();
        for end in [chip.parent().unwrap(), &chip] {
            let width = end.join("current_link_width");
            if width.exists() {
                fs::write(width, format!("{lanes}\n")).unwrap();
            }
        }
    }

    /// Takes a function off the bus, as the kernel does on removal.
    pub fn remove(&self, bdf: &str) {
        let real = fs::canonicalize(self.device(bdf)).unwrap();
        fs::remove_file(self.device(bdf)).unwrap();
        fs::remove_dir_all(real).unwrap();
    }
}

pub fn signs() -> VitalSigns {
    VitalSigns {
        sequence: 4,
        state: State::Running.code(),
        self_test: SelfTest::NotRun.code(),
        generation: 1,
        die_temperature: 512,
        memory_temperature: 450,
        power: 61_500,
        ecc_ce: 3,
        heartbeat: 77,
        throttle_point: 950,
        shutdown_point: 1050,
        power_limit: 90_000,
        ..VitalSigns::default()
    }
}

fn class(vendor: u16) -> &'static str {
    match vendor {
        VENDOR => "0x120000",
        _ => "0x020000",
    }
}

fn put(config: &mut [u8], offset: u16, word: u32) {
    let at = usize::from(offset);
    config[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

fn chip_config() -> Vec<u8> {
    let mut config = vec![0; SIZE];
    let device = u32::from(Model::Silicon.code());
    put(&mut config, 0, u32::from(VENDOR) | device << 16);
    put(
        &mut config,
        header::COMMAND,
        u32::from(header::STATUS_CAPABILITIES) << 16,
    );
    put(&mut config, header::CAPABILITIES, u32::from(PM_AT));
    let first = u32::from(capability::PM) | u32::from(PCIE_AT) << 8;
    put(&mut config, PM_AT, first);
    put(&mut config, PCIE_AT, u32::from(capability::PCIE));
    let link = 8 << pcie::LINK_WIDTH_SHIFT | 5;
    put(&mut config, PCIE_AT + pcie::LNKCTL, link << 16);
    let header = |id: u16, next: u16| u32::from(id) | 1 << 16 | u32::from(next) << 20;
    put(&mut config, DSN_AT, header(extended::DSN, OTHER_DVSEC_AT));
    put(&mut config, DSN_AT + 4, 0x0000_0001);
    put(&mut config, DSN_AT + 8, 0xA100_0000);
    // Somebody else's DVSEC, and one of another revision, come before the vital signs.
    put(
        &mut config,
        OTHER_DVSEC_AT,
        header(extended::DVSEC, OTHER_DVSEC_AT + 0x20),
    );
    put(&mut config, OTHER_DVSEC_AT + 4, 0x8086 | 0x100 << 20);
    put(&mut config, OTHER_DVSEC_AT + 8, u32::from(DVSEC_ID));
    let older = OTHER_DVSEC_AT + 0x20;
    put(&mut config, older, header(extended::DVSEC, VITALS_AT));
    put(&mut config, older + 4, u32::from(VENDOR) | 0x100 << 20);
    put(&mut config, older + 8, u32::from(DVSEC_ID));
    put(&mut config, VITALS_AT, header(extended::DVSEC, 0));
    let length = u32::from(DVSEC_SIZE) << 20 | u32::from(DVSEC_REVISION) << 16;
    put(&mut config, VITALS_AT + 4, u32::from(VENDOR) | length);
    put(&mut config, VITALS_AT + 8, u32::from(DVSEC_ID));
    let body = usize::from(VITALS_AT + BODY);
    config[body..body + VitalSigns::SIZE].copy_from_slice(signs().as_bytes());
    config
}

fn nic_config() -> Vec<u8> {
    // What the kernel shows to an opener without privilege.
    let mut config = vec![0; 64];
    put(&mut config, 0, 0x15B3 | 0x1021 << 16);
    config
}
