//! The sysfs directory of one PCI function.
//!
//! Names and formats are those of `drivers/pci/pci-sysfs.c` and `Documentation/ABI/testing/sysfs-bus-pci`.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use auk_asic::config::{self, header};

use super::aer::Severity;
use super::bdf::Bdf;
use super::config_image::Bar;
use super::config_view::{ConfigView, LinkState};
use super::error::HostError;
use super::files::{Files, READ_ONLY, READ_WRITE};
use super::vital_window::VitalWindow;

/// Lines of `resource` for a function and for a bridge: standard BARs, ROM, IOV, and the bridge's windows.
const RESOURCES: usize = 13;
const BRIDGE_RESOURCES: usize = 17;
/// Flags of a 64-bit memory resource: `IORESOURCE_MEM | IORESOURCE_SIZEALIGN | IORESOURCE_MEM_64` and the BAR's type bits.
const MEMORY_64: u64 = 0x14_0204;
/// The same, prefetchable: `IORESOURCE_PREFETCH` and the BAR's bit 3.
const PREFETCHABLE: u64 = 0x2008;

/// Where a function is in the tree, and what the kernel has made of it.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) bdf: Bdf,
    /// Directory below the root, without a slash at either end.
    pub(crate) directory: String,
    pub(crate) driver: &'static str,
    pub(crate) iommu_group: u32,
    pub(crate) irq: u32,
    pub(crate) is_bridge: bool,
}

/// A function whose directory exists.
pub(crate) struct Function {
    files: Files,
    placement: Placement,
    bars: Vec<Bar>,
    config: File,
    shown: Box<[u8; config::SIZE]>,
    link: Option<LinkState>,
    power_state: u16,
}

impl Function {
    /// Makes the directory and everything in it.
    pub(crate) fn create(
        files: &Files,
        placement: Placement,
        image: &[u8; config::SIZE],
        bars: Vec<Bar>,
    ) -> Result<Self, HostError> {
        let mut image = Box::new(*image);
        place_bars(&mut image, &bars);
        let directory = placement.directory.as_str();
        files.directory(directory)?;
        let view = ConfigView(&image);
        let vendor = view.u16(header::VENDOR);
        let device = view.u16(header::DEVICE);
        let subsystem = (
            view.u16(header::SUBSYSTEM_VENDOR),
            view.u16(header::SUBSYSTEM),
        );
        let class = view.class();
        let link = view.link();
        let width = |link: Option<LinkState>| link.map_or(0, |link| link.width);
        let speed = |link: Option<LinkState>| link.map_or("Unknown", LinkState::speed_text);
        let most = link.map(|link| link.most);
        let now = link.map(|link| link.now);
        let modalias = format!(
            "pci:v{vendor:08X}d{device:08X}sv{:08X}sd{:08X}bc{:02X}sc{:02X}i{:02X}",
            subsystem.0,
            subsystem.1,
            class >> 16,
            class >> 8 & 0xFF,
            class & 0xFF
        );
        let uevent = format!(
            "DRIVER={}\nPCI_CLASS={class:X}\nPCI_ID={vendor:04X}:{device:04X}\nPCI_SUBSYS_ID={:04X}:{:04X}\n\
             PCI_SLOT_NAME={}\nMODALIAS={modalias}\n",
            placement.driver, subsystem.0, subsystem.1, placement.bdf
        );
        let attributes = [
            ("vendor", format!("{vendor:#06x}\n")),
            ("device", format!("{device:#06x}\n")),
            ("subsystem_vendor", format!("{:#06x}\n", subsystem.0)),
            ("subsystem_device", format!("{:#06x}\n", subsystem.1)),
            ("class", format!("{class:#08x}\n")),
            ("revision", format!("{:#04x}\n", view.u8(header::REVISION))),
            ("modalias", format!("{modalias}\n")),
            ("uevent", uevent),
            ("irq", format!("{}\n", placement.irq)),
            ("numa_node", "0\n".to_owned()),
            ("local_cpulist", local_cpus()),
            ("resource", resources(&bars, placement.is_bridge)),
            ("max_link_speed", format!("{}\n", speed(most))),
            ("max_link_width", format!("{}\n", width(most))),
            ("current_link_speed", format!("{}\n", speed(now))),
            ("current_link_width", format!("{}\n", width(now))),
            ("power_state", power_state(view.power_state())),
            (Severity::Correctable.file(), Severity::Correctable.text()),
            (Severity::NonFatal.file(), Severity::NonFatal.text()),
            (Severity::Fatal.file(), Severity::Fatal.text()),
        ];
        for (name, contents) in attributes {
            files.create(
                &format!("{directory}/{name}"),
                READ_ONLY,
                contents.as_bytes(),
            )?;
        }
        files.create(&format!("{directory}/enable"), READ_WRITE, b"1\n")?;
        if placement.is_bridge {
            for (name, register) in [
                ("secondary_bus_number", 0x19),
                ("subordinate_bus_number", 0x1A),
            ] {
                let contents = format!("{}\n", view.u8(register));
                files.create(
                    &format!("{directory}/{name}"),
                    READ_ONLY,
                    contents.as_bytes(),
                )?;
            }
        }
        files.create(&format!("{directory}/config"), READ_WRITE, image.as_slice())?;
        let path = files.path(&format!("{directory}/config"));
        let config = File::options()
            .write(true)
            .open(&path)
            .map_err(HostError::io("open", &path))?;
        link_up(files, &placement)?;
        Ok(Self {
            files: files.clone(),
            power_state: view.power_state(),
            link: now,
            placement,
            bars,
            config,
            shown: image,
        })
    }

    /// Brings the files up to what config space says now. Only what has changed is written.
    pub(crate) fn refresh(&mut self, image: &[u8; config::SIZE]) -> Result<(), HostError> {
        let mut image = *image;
        place_bars(&mut image, &self.bars);
        self.refresh_config(&image)?;
        let view = ConfigView(&image);
        let directory = self.placement.directory.as_str();
        let now = view.link().map(|link| link.now);
        if now != self.link
            && let Some(link) = now
        {
            for (name, contents) in [
                ("current_link_speed", link.speed_text().to_owned()),
                ("current_link_width", link.width.to_string()),
            ] {
                let path = format!("{directory}/{name}");
                self.files
                    .replace(&path, READ_ONLY, format!("{contents}\n").as_bytes())?;
            }
            self.link = now;
        }
        if view.power_state() != self.power_state {
            self.power_state = view.power_state();
            let contents = power_state(self.power_state);
            self.files.replace(
                &format!("{directory}/power_state"),
                READ_ONLY,
                contents.as_bytes(),
            )?;
        }
        Ok(())
    }

    /// Writes the dwords that differ in place, so that who holds the file open sees them, as on real sysfs. The vital
    /// signs change under their own sequence counter.
    fn refresh_config(&mut self, image: &[u8; config::SIZE]) -> Result<(), HostError> {
        if image == self.shown.as_ref() {
            return Ok(());
        }
        let path = self
            .files
            .path(&format!("{}/config", self.placement.directory));
        let window = VitalWindow::find(image);
        let write = |at: usize, value: &[u8]| {
            self.config
                .write_all_at(value, at as u64)
                .map_err(HostError::io("write", &path))
        };
        let changed = |at: usize| image[at..at + 4] != self.shown[at..at + 4];
        let dwords = || (0..config::SIZE).step_by(4);
        if let Some(window) = &window
            && dwords().any(|at| window.guards(at) && changed(at))
        {
            let odd = window.sequence(image) | 1;
            write(window.start(), &odd.to_le_bytes())?;
        }
        for at in dwords().filter(|&at| changed(at)) {
            if window.as_ref().is_none_or(|window| at != window.start()) {
                write(at, &image[at..at + 4])?;
            }
        }
        if let Some(window) = &window {
            write(window.start(), &window.sequence(image).to_le_bytes())?;
        }
        self.shown.copy_from_slice(image);
        Ok(())
    }
}

/// The links by which a function is found: on its bus, by its driver, by its IOMMU group.
fn link_up(files: &Files, placement: &Placement) -> Result<(), HostError> {
    let Placement {
        bdf,
        directory,
        driver,
        iommu_group,
        ..
    } = placement;
    // From `sys/bus/pci/devices/X`, and from the function's own directory up to `sys`.
    let below_sys = directory.strip_prefix("sys/").unwrap_or(directory);
    let up = "../".repeat(below_sys.split('/').count());
    files.link(
        &format!("sys/bus/pci/devices/{bdf}"),
        &format!("../../../{below_sys}"),
    )?;
    files.link(&format!("{directory}/subsystem"), &format!("{up}bus/pci"))?;
    let driver_directory = format!("sys/bus/pci/drivers/{driver}");
    files.directory(&driver_directory)?;
    files.link(
        &format!("{driver_directory}/{bdf}"),
        &format!("../../../../{below_sys}"),
    )?;
    files.link(
        &format!("{directory}/driver"),
        &format!("{up}bus/pci/drivers/{driver}"),
    )?;
    let group = format!("sys/kernel/iommu_groups/{iommu_group}");
    files.directory(&format!("{group}/devices"))?;
    files.link(
        &format!("{group}/devices/{bdf}"),
        &format!("../../../../{below_sys}"),
    )?;
    files.link(
        &format!("{directory}/iommu_group"),
        &format!("{up}kernel/iommu_groups/{iommu_group}"),
    )
}

/// Where the host's firmware has put the BARs.
fn place_bars(image: &mut [u8; config::SIZE], bars: &[Bar]) {
    for bar in bars {
        let at = usize::from(header::BAR0 + 4 * bar.index);
        let kind = 0x4 | u64::from(bar.prefetchable) << 3;
        image[at..at + 8].copy_from_slice(&(bar.start | kind).to_le_bytes());
    }
}

fn resources(bars: &[Bar], is_bridge: bool) -> String {
    let mut text = String::new();
    for index in 0..if is_bridge {
        BRIDGE_RESOURCES
    } else {
        RESOURCES
    } {
        let (start, end, flags) = match bars.iter().find(|bar| usize::from(bar.index) == index) {
            Some(bar) => (
                bar.start,
                bar.start + (bar.size - 1),
                MEMORY_64 | if bar.prefetchable { PREFETCHABLE } else { 0 },
            ),
            None => (0, 0, 0),
        };
        let _infallible = writeln!(text, "{start:#018x} {end:#018x} {flags:#018x}");
    }
    text
}

fn power_state(state: u16) -> String {
    match state {
        0 => "D0\n",
        1 => "D1\n",
        2 => "D2\n",
        _ => "D3hot\n",
    }
    .to_owned()
}

/// All processors of this machine: the simulated host has one node.
fn local_cpus() -> String {
    match std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
        1 => "0\n".to_owned(),
        count => format!("0-{}\n", count - 1),
    }
}
