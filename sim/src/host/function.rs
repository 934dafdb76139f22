//! The sysfs directory of one PCI function, and how it follows a configuration space.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use auk_asic::config::{self, header};

use super::aer::{Errors, Severity};
use super::attributes::{self, Attribute};
use super::bdf::Bdf;
use super::config_image::Bar;
use super::config_view::ConfigView;
use super::error::HostError;
use super::files::{Files, READ_ONLY, READ_WRITE};
use super::kernel_log::KernelLog;
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

/// A function that is in the tree, or was.
pub(crate) struct Function {
    files: Files,
    placement: Placement,
    bars: Vec<Bar>,
    /// `None` while it is not there.
    shown: Option<Shown>,
}

/// What the files hold.
struct Shown {
    config: File,
    image: Box<[u8; config::SIZE]>,
    /// The texts that follow config space.
    live: Vec<Attribute>,
    /// Errors of each severity, in the order of [`Severity::ALL`].
    errors: [u64; 3],
}

impl Function {
    /// Makes the directory and everything in it.
    pub(crate) fn create(
        files: &Files,
        placement: Placement,
        image: &[u8; config::SIZE],
        bars: Vec<Bar>,
    ) -> Result<Self, HostError> {
        let mut function = Self {
            files: files.clone(),
            placement,
            bars,
            shown: None,
        };
        function.appear(image)?;
        Ok(function)
    }

    /// Where it is, or was.
    pub(crate) const fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Whether it is in the tree.
    pub(crate) const fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// The kernel finds it, as if for the first time: nothing was counted yet.
    pub(crate) fn appear(&mut self, image: &[u8; config::SIZE]) -> Result<(), HostError> {
        let mut image = Box::new(*image);
        self.place_bars(&mut image);
        let (files, directory) = (&self.files, self.placement.directory.as_str());
        files.directory(directory)?;
        files.directory(&format!("{directory}/power"))?;
        let view = ConfigView(&image);
        let fixed = attributes::fixed(view, &self.placement, &self.bars);
        let live = attributes::live(view);
        let aer = Severity::ALL.map(|severity| (severity.file(), READ_ONLY, severity.text(0)));
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
        link_up(files, &self.placement)?;
        self.shown = Some(Shown {
            config,
            image,
            live,
            errors: [0; 3],
        });
        Ok(())
    }

    /// The function is gone: who holds its config file reads ones, and nothing leads to it any more.
    pub(crate) fn vanish(&mut self) -> Result<(), HostError> {
        self.refresh(&[0xFF; config::SIZE])?;
        self.shown = None;
        let Placement {
            bdf,
            directory,
            driver,
            iommu_group,
            ..
        } = &self.placement;
        for path in [
            &format!("sys/bus/pci/devices/{bdf}"),
            &format!("sys/bus/pci/drivers/{driver}/{bdf}"),
            &format!("sys/kernel/iommu_groups/{iommu_group}"),
            directory,
        ] {
            self.files.remove(path)?;
        }
        Ok(())
    }

    /// Brings the files up to what config space says now. Only what has changed is written.
    pub(crate) fn refresh(&mut self, image: &[u8; config::SIZE]) -> Result<(), HostError> {
        let mut image = *image;
        self.place_bars(&mut image);
        let Some(shown) = &mut self.shown else {
            return Ok(());
        };
        let (files, directory) = (&self.files, &self.placement.directory);
        shown.refresh_config(files, directory, &image)?;
        for now in attributes::live(ConfigView(&image)) {
            let (name, mode, text) = &now;
            let old = shown.live.iter_mut().find(|old| old.0 == *name);
            if let Some(old) = old
                && *old != now
            {
                let path = format!("{directory}/{name}");
                files.replace(&path, *mode, text.as_bytes())?;
                *old = now;
            }
        }
        Ok(())
    }

    /// PCIe errors of it were told to the port above, and the kernel counts and reports them.
    pub(crate) fn err(
        &mut self,
        errors: Errors,
        port: Bdf,
        log: &mut KernelLog,
    ) -> Result<(), HostError> {
        let Some(shown) = &mut self.shown else {
            return Ok(());
        };
        for (severity, count) in Severity::ALL.into_iter().zip(&mut shown.errors) {
            if severity == errors.severity {
                *count += u64::from(errors.count);
                let path = format!("{}/{}", self.placement.directory, severity.file());
                let text = severity.text(*count);
                self.files.replace(&path, READ_ONLY, text.as_bytes())?;
            }
        }
        errors.report(log, port, &self.placement, ConfigView(&shown.image))
    }

    /// Where the host's firmware has put the BARs, unless nothing answers.
    fn place_bars(&self, image: &mut [u8; config::SIZE]) {
        if ConfigView(image).is_gone() {
            return;
        }
        for bar in &self.bars {
            let at = usize::from(header::BAR0 + 4 * bar.index);
            let kind = 0x4 | u64::from(bar.prefetchable) << 3;
            image[at..at + 8].copy_from_slice(&(bar.start | kind).to_le_bytes());
        }
    }
}

impl Shown {
    /// Writes the dwords that differ in place, so that who holds the file open sees them, as on real sysfs. The vital
    /// signs change under their own sequence counter.
    fn refresh_config(
        &mut self,
        files: &Files,
        directory: &str,
        image: &[u8; config::SIZE],
    ) -> Result<(), HostError> {
        if image == self.image.as_ref() {
            return Ok(());
        }
        let path = files.path(&format!("{directory}/config"));
        let window = VitalWindow::find(image);
        let write = |at: usize, value: &[u8]| {
            self.config
                .write_all_at(value, at as u64)
                .map_err(HostError::io("write", &path))
        };
        let changed = |at: usize| image[at..at + 4] != self.image[at..at + 4];
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
        self.image.copy_from_slice(image);
        Ok(())
    }
}

/// The links by which a function is found: by its driver, by its IOMMU group, and last on its bus, for who finds it there
/// looks at the rest next.
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
    )?;
    files.link(
        &format!("sys/bus/pci/devices/{bdf}"),
        &format!("../../../{below_sys}"),
    )
}
