//! The files that are read of a host: whatever is in them, a look ends in facts or in reasons why there are none.
#![no_main]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::LazyLock;

use auk_asic::State;
use auk_asic::config::extended;
use auk_asic::ident::VENDOR;
use auk_asic::vitals::{BODY, DVSEC_ID, DVSEC_REVISION, DVSEC_SIZE, VitalSigns};
use auk_health::facts::Class;
use auk_health::probe::discover::discover;
use auk_health::probe::target::Target;
use auk_health::{Engine, Settings};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use zerocopy::IntoBytes;

const CHIP: &str = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
const NIC: &str = "sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0";

/// The files, by what is right in them; the first bytes of an input choose one by its place here.
const FILES: &[(&str, &str, &str)] = &[
    (CHIP, "config", ""),
    (CHIP, "vendor", "0x1ae5\n"),
    (CHIP, "device", "0xa100\n"),
    (CHIP, "class", "0x120000\n"),
    (CHIP, "power_state", "D0\n"),
    (CHIP, "numa_node", "0\n"),
    (CHIP, "current_link_speed", "32.0 GT/s PCIe\n"),
    (CHIP, "current_link_width", "8\n"),
    (CHIP, "max_link_speed", "32.0 GT/s PCIe\n"),
    (CHIP, "max_link_width", "8\n"),
    (CHIP, "aer_dev_correctable", "RxErr 0\nTOTAL_ERR_COR 0\n"),
    (CHIP, "aer_dev_nonfatal", "TOTAL_ERR_NONFATAL 0\n"),
    (CHIP, "aer_dev_fatal", "TOTAL_ERR_FATAL 0\n"),
    (NIC, "config", ""),
    (NIC, "vendor", "0x15b3\n"),
    (NIC, "class", "0x020000\n"),
    (NIC, "device", "0x1021\n"),
    (NIC, "net/eth0/operstate", "up\n"),
    (NIC, "net/eth0/flags", "0x1003\n"),
    (NIC, "net/eth0/carrier", "1\n"),
    (NIC, "net/eth0/carrier_up_count", "1\n"),
    (NIC, "net/eth0/carrier_down_count", "0\n"),
    (NIC, "net/eth0/speed", "400000\n"),
    (NIC, "net/eth0/address", "02:a1:00:00:00:00\n"),
    (NIC, "net/eth0/statistics/rx_errors", "0\n"),
    (NIC, "net/eth0/statistics/rx_crc_errors", "0\n"),
    (NIC, "net/eth0/statistics/rx_packets", "0\n"),
    (NIC, "net/eth0/statistics/rx_dropped", "0\n"),
    (NIC, "net/eth0/duplex", "full\n"),
    (NIC, "net/eth0/ifindex", "2\n"),
    (NIC, "infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n"),
    (NIC, "infiniband/mlx5_0/ports/1/phys_state", "5: LinkUp\n"),
    (NIC, "infiniband/mlx5_0/ports/1/rate", "400 Gb/sec (4X NDR)\n"),
    (NIC, "infiniband/mlx5_0/ports/1/link_layer", "Ethernet\n"),
    (NIC, "infiniband/mlx5_0/ports/1/gids/0", "fe80::\n"),
    (NIC, "infiniband/mlx5_0/ports/1/counters/symbol_error", "0\n"),
    (
        "proc",
        "locks",
        "1: POSIX  ADVISORY  WRITE 1 00:01:2 0 EOF\n",
    ),
    ("run/auk/lease", "0000:01:00.0", "{}\n"),
    ("sys/bus/pci/slots/1", "address", "0000:01:00\n"),
    (
        "sys/devices/pci0000:00/0000:00:01.0",
        "aer_dev_fatal",
        "TOTAL_ERR_FATAL 0\n",
    ),
];

static HOST: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let host = match memory.is_dir() {
        true => TempDir::new_in(memory),
        false => TempDir::new(),
    }
    .expect("a directory for a host");
    let root = host.path();
    for (directory, name, _) in FILES {
        let file = root.join(directory).join(name);
        fs::create_dir_all(file.parent().expect("a file's directory")).expect("a directory");
    }
    let links = root.join("sys/bus/pci/devices");
    fs::create_dir_all(&links).expect("the list of devices");
    for function in [CHIP, NIC] {
        let bdf = function.rsplit('/').next().expect("an address");
        let target = format!(
            "../../../{}",
            function.strip_prefix("sys/").expect("a path")
        );
        symlink(target, links.join(bdf)).expect("a link to a function");
    }
    let class = root.join("sys/class/net");
    fs::create_dir_all(&class).expect("the list of interfaces");
    symlink(
        format!(
            "../../{}/net/eth0",
            NIC.strip_prefix("sys/").expect("a path")
        ),
        class.join("eth0"),
    )
    .expect("a link to an interface");
    host
});

/// Config space of a chip that is right: identity, a serial number, the vital signs.
fn config(vendor: u32) -> Vec<u8> {
    let mut config = vec![0; 4096];
    let mut put = |at: usize, word: u32| config[at..at + 4].copy_from_slice(&word.to_le_bytes());
    put(0, vendor);
    put(0x100, u32::from(extended::DSN) | 1 << 16 | 0x200 << 20);
    put(0x200, u32::from(extended::DVSEC) | 1 << 16);
    let length = u32::from(DVSEC_SIZE) << 20 | u32::from(DVSEC_REVISION) << 16;
    put(0x204, u32::from(VENDOR) | length);
    put(0x208, u32::from(DVSEC_ID));
    let signs = VitalSigns {
        sequence: 4,
        state: State::Running.code(),
        generation: 1,
        heartbeat: 77,
        throttle_point: 950,
        shutdown_point: 1050,
        ..VitalSigns::default()
    };
    let body = 0x200 + usize::from(BODY);
    config[body..body + VitalSigns::SIZE].copy_from_slice(signs.as_bytes());
    config
}

fuzz_target!(|bytes: &[u8]| {
    let root = HOST.path();
    let mut contents: Vec<Vec<u8>> = FILES
        .iter()
        .map(|(directory, name, text)| match (*directory, *name) {
            (CHIP, "config") => config(0xA100_1AE5),
            (NIC, "config") => config(0x1021_15B3),
            _ => text.as_bytes().to_vec(),
        })
        .collect();
    // Each change: a file, a place in it in units of four bytes, a length, and what is there.
    let mut rest = bytes;
    while let [file, place, length, after @ ..] = rest {
        let (new, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        let old = &mut contents[usize::from(*file) % FILES.len()];
        if *place == 0xFF {
            *old = new.to_vec();
        } else {
            let at =
                (usize::from(*place) * 4 + if old.len() > 1024 { 0x100 } else { 0 }).min(old.len());
            let end = (at + new.len()).min(old.len());
            old.splice(at..end, new.iter().copied());
        }
    }
    for ((directory, name, _), bytes) in FILES.iter().zip(contents) {
        let path = root.join(directory).join(name);
        if fs::read(&path).ok().as_deref() != Some(&bytes[..]) {
            fs::write(path, bytes).expect("writing a file");
        }
    }
    let Ok(listed) = discover(root) else {
        return;
    };
    let mut engine = Engine::new(Settings::default());
    for found in listed {
        let mut target = Target::new(root, found);
        for class in [Class::Rare, Class::Fast, Class::Slow, Class::Rare] {
            engine.observe(target.look(class));
        }
    }
});
