//! The sysfs directory of one PCI function, and how it follows a configuration space.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use auk_asic::config::{self, header};

use super::aer::Severity;
use super::attributes::{self, Attribute};
use super::bdf::Bdf;
use super::config_image::Bar;
use super::config_view::ConfigView;
use super::error::HostError;
use super::files::{Files, READ_ONLY, READ_WRITE};
use super::vital_window::VitalWindow;

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
    /// The texts that follow config space, as the files hold them.
    live: Vec<Attribute>,
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
        files.directory(&format!("{directory}/power"))?;
        let view = ConfigView(&image);
        let fixed = attributes::fixed(view, &placement, &bars);
        let live = attributes::live(view);
        let aer = Severity::ALL.map(|severity| (severity.file(), READ_ONLY, severity.text()));
        for (name, mode, text) in fixed.iter().chain(&live).chain(&aer) {
            files.create(&format!("{directory}/{name}"), *mode, text.as_bytes())?;
        }
        files.create(&format!("{directory}/power/control"), READ_WRITE, b"on\n")?;
        files.create(&format!("{directory}/config"), READ_WRITE, image.as_slice())?;
        let path = files.path(&format!("{directory}/config"));
        let config = File::options()
            .write(true)
            .open(&path)
            .map_err(HostError::io("open", &path))?;
        link_up(files, &placement)?;
        Ok(Self {
            files: files.clone(),
            live,
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
        let live = attributes::live(ConfigView(&image));
        for (shown, now) in self.live.iter_mut().zip(live) {
            if *shown != now {
                let (name, mode, text) = &now;
                let path = format!("{}/{name}", self.placement.directory);
                self.files.replace(&path, *mode, text.as_bytes())?;
                *shown = now;
            }
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
        if let Some(window) = &window
            && changed(window.start())
        {
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
    files.create(&format!("{group}/type"), READ_WRITE, b"DMA-FQ\n")?;
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
