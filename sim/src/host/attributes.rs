//! The text attributes of a PCI function, made from its configuration space as the kernel makes them
//! (`drivers/pci/pci-sysfs.c`, `Documentation/ABI/testing/sysfs-bus-pci`).

use std::fmt::Write as _;

use auk_asic::config::header;

use super::config_image::Bar;
use super::config_view::{ConfigView, Link, LinkState};
use super::files::{READ_ONLY, READ_WRITE, WRITE_ONLY, WRITE_ONLY_GROUP};
use super::function::Placement;

/// `IORESOURCE_MEM | IORESOURCE_SIZEALIGN | IORESOURCE_MEM_64` and the BAR's own type bits
/// (`include/linux/ioport.h`): what the kernel shows of a 64-bit memory BAR.
const MEMORY_64: u64 = 0x0014_0204;
/// `IORESOURCE_PREFETCH` and the BAR's own prefetchable bit.
const PREFETCH: u64 = 0x2008;
/// Lines of `resource`: six BARs, the ROM, six of SR-IOV; a bridge has its four windows too.
const ENDPOINT_RESOURCES: usize = 13;
const BRIDGE_RESOURCES: usize = 17;

/// An attribute: its name, its mode, its text.
pub(crate) type Attribute = (&'static str, u32, String);

/// The attributes that never change.
pub(crate) fn fixed(config: ConfigView<'_>, placement: &Placement, bars: &[Bar]) -> Vec<Attribute> {
    let id = |at| format!("{:#06x}\n", config.u16(at));
    let modalias = modalias(config);
    let mut list = vec![
        ("vendor", READ_ONLY, id(header::VENDOR)),
        ("device", READ_ONLY, id(header::DEVICE)),
        ("subsystem_vendor", READ_ONLY, id(header::SUBSYSTEM_VENDOR)),
        ("subsystem_device", READ_ONLY, id(header::SUBSYSTEM)),
        ("class", READ_ONLY, format!("{:#08x}\n", config.class())),
        (
            "revision",
            READ_ONLY,
            format!("{:#04x}\n", config.u8(header::REVISION)),
        ),
        ("resource", READ_ONLY, resource(placement, bars)),
        ("modalias", READ_ONLY, format!("{modalias}\n")),
        ("uevent", READ_WRITE, uevent(config, placement, &modalias)),
        ("irq", READ_ONLY, format!("{}\n", placement.irq)),
        ("numa_node", READ_WRITE, "0\n".into()),
        ("local_cpulist", READ_ONLY, local_cpus()),
        ("ari_enabled", READ_ONLY, "0\n".into()),
        ("broken_parity_status", READ_WRITE, "0\n".into()),
        ("consistent_dma_mask_bits", READ_ONLY, "64\n".into()),
        ("dma_mask_bits", READ_ONLY, "64\n".into()),
        ("d3cold_allowed", READ_WRITE, "1\n".into()),
        ("msi_bus", READ_WRITE, "1\n".into()),
        (
            "driver_override",
            READ_WRITE,
            match placement.driver {
                // How the host's profile binds chips; other drivers find their devices by ID.
                "vfio-pci" => "vfio-pci\n".into(),
                _ => "(null)\n".into(),
            },
        ),
        ("remove", WRITE_ONLY_GROUP, String::new()),
        ("rescan", WRITE_ONLY, String::new()),
    ];
    if let Some(link) = config.link() {
        let most = link.most;
        list.push((
            "max_link_speed",
            READ_ONLY,
            format!("{}\n", most.speed_text()),
        ));
        list.push(("max_link_width", READ_ONLY, format!("{}\n", most.width)));
    }
    if placement.is_bridge {
        // Type 1 header, PCI Express Base Specification 6.0, section 7.5.1.3.
        for (name, at) in [
            ("secondary_bus_number", 0x19),
            ("subordinate_bus_number", 0x1A),
        ] {
            list.push((name, READ_ONLY, format!("{}\n", config.u8(at))));
        }
    } else {
        list.push(("reset", WRITE_ONLY, String::new()));
        list.push(("reset_method", READ_WRITE, "flr bus\n".into()));
    }
    list
}

/// The attributes that follow the configuration space. Of a function that does not answer the kernel remembers the rest,
/// and reads its link.
pub(crate) fn live(config: ConfigView<'_>) -> Vec<Attribute> {
    if config.is_gone() {
        return link(LinkState::ONES).into();
    }
    let (power, runtime) = match config.power_state() {
        0 => ("D0", "active"),
        1 => ("D1", "suspended"),
        2 => ("D2", "suspended"),
        _ => ("D3hot", "suspended"),
    };
    let mut list = vec![
        ("power_state", READ_ONLY, format!("{power}\n")),
        ("power/runtime_status", READ_ONLY, format!("{runtime}\n")),
        (
            "enable",
            READ_WRITE,
            format!("{}\n", u8::from(config.memory_enabled())),
        ),
    ];
    if let Some(Link { now, .. }) = config.link() {
        list.extend(link(now));
    }
    list
}

fn link(now: LinkState) -> [Attribute; 2] {
    [
        (
            "current_link_speed",
            READ_ONLY,
            format!("{}\n", now.speed_text()),
        ),
        ("current_link_width", READ_ONLY, format!("{}\n", now.width)),
    ]
}

fn modalias(config: ConfigView<'_>) -> String {
    let class = config.class();
    format!(
        "pci:v{:08X}d{:08X}sv{:08X}sd{:08X}bc{:02X}sc{:02X}i{:02X}",
        config.u16(header::VENDOR),
        config.u16(header::DEVICE),
        config.u16(header::SUBSYSTEM_VENDOR),
        config.u16(header::SUBSYSTEM),
        class >> 16,
        class >> 8 & 0xFF,
        class & 0xFF,
    )
}

fn uevent(config: ConfigView<'_>, placement: &Placement, modalias: &str) -> String {
    format!(
        "DRIVER={}\nPCI_CLASS={:04X}\nPCI_ID={:04X}:{:04X}\nPCI_SUBSYS_ID={:04X}:{:04X}\n\
         PCI_SLOT_NAME={}\nMODALIAS={modalias}\n",
        placement.driver,
        config.class(),
        config.u16(header::VENDOR),
        config.u16(header::DEVICE),
        config.u16(header::SUBSYSTEM_VENDOR),
        config.u16(header::SUBSYSTEM),
        placement.bdf,
    )
}

fn resource(placement: &Placement, bars: &[Bar]) -> String {
    let lines = if placement.is_bridge {
        BRIDGE_RESOURCES
    } else {
        ENDPOINT_RESOURCES
    };
    let mut text = String::new();
    for line in 0..lines {
        let bar = bars.iter().find(|bar| usize::from(bar.index) == line);
        let (start, end, flags) = bar.map_or((0, 0, 0), |bar| {
            let prefetch = if bar.prefetchable { PREFETCH } else { 0 };
            (bar.start, bar.start + bar.size - 1, MEMORY_64 | prefetch)
        });
        let _infallible = writeln!(text, "{start:#018x} {end:#018x} {flags:#018x}");
    }
    text
}

/// All processors of this machine: the simulated host has one NUMA node.
fn local_cpus() -> String {
    match std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
        1 => "0\n".to_owned(),
        count => format!("0-{}\n", count - 1),
    }
}
