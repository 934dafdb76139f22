//! What sysfs says about one function, in text files.
//!
//! The files are those of `Documentation/ABI/testing/sysfs-bus-pci` and `sysfs-bus-pci-devices-aer_stats`
//! of the Linux kernel.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Bdf, ConfigError, PciError, SysfsConfig};

/// Most bytes that are read of a text file; sysfs attributes are a page at most.
const MOST_TEXT: u64 = 4096;

/// One PCI function of a host.
#[derive(Clone, Debug)]
pub struct PciFunction {
    bdf: Bdf,
    path: PathBuf,
}

/// The link's speed and width, now and at best. Kept as the kernel writes them where they are texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Such as `32.0 GT/s PCIe`, or `Unknown`.
    pub current_speed: String,
    /// Lanes in use; 0 when the link is down.
    pub current_width: u8,
    /// Best speed of the function and what is above it.
    pub max_speed: String,
    /// Most lanes.
    pub max_width: u8,
}

impl Link {
    /// Whether the link runs slower or narrower than it could; `None` when the kernel does not know a speed.
    #[must_use]
    pub fn is_degraded(&self) -> Option<bool> {
        let known = |speed: &str| !speed.is_empty() && !speed.starts_with("Unknown");
        if !known(&self.current_speed) || !known(&self.max_speed) || self.max_width == 0 {
            return None;
        }
        Some(self.current_speed != self.max_speed || self.current_width < self.max_width)
    }
}

/// Totals of the kernel's AER counters since the function was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AerCounters {
    /// Correctable errors.
    pub correctable: u64,
    /// Uncorrectable errors that were not fatal.
    pub nonfatal: u64,
    /// Uncorrectable errors that were fatal.
    pub fatal: u64,
}

impl PciFunction {
    pub(super) fn new(bdf: Bdf, path: PathBuf) -> Self {
        Self { bdf, path }
    }

    /// Its address.
    #[must_use]
    pub const fn bdf(&self) -> Bdf {
        self.bdf
    }

    /// Its directory in sysfs.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Vendor ID.
    ///
    /// # Errors
    /// [`PciError`] when the file cannot be read or holds no number.
    pub fn vendor(&self) -> Result<u16, PciError> {
        self.number("vendor")
    }

    /// Device ID.
    ///
    /// # Errors
    /// As [`Self::vendor`].
    pub fn device(&self) -> Result<u16, PciError> {
        self.number("device")
    }

    /// Class code: base class, subclass, interface, in 24 bits.
    ///
    /// # Errors
    /// As [`Self::vendor`].
    pub fn class(&self) -> Result<u32, PciError> {
        self.number("class")
    }

    /// Revision ID.
    ///
    /// # Errors
    /// As [`Self::vendor`].
    pub fn revision(&self) -> Result<u8, PciError> {
        self.number("revision")
    }

    /// The NUMA node it is attached to; `None` when the firmware did not say (the kernel writes -1).
    ///
    /// # Errors
    /// As [`Self::vendor`].
    pub fn numa_node(&self) -> Result<Option<u32>, PciError> {
        let text = self.text("numa_node")?;
        if text == "-1" {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| self.content("numa_node", &text, "a node number or -1"))
    }

    /// Name of the driver that is bound; `None` when there is none.
    ///
    /// # Errors
    /// [`PciError::File`] when the link cannot be read.
    pub fn driver(&self) -> Result<Option<String>, PciError> {
        self.link_name("driver")
    }

    /// Number of the IOMMU group; `None` when the host has no IOMMU, or it is off.
    ///
    /// # Errors
    /// [`PciError::File`], or [`PciError::Content`] when the link does not end in a number.
    pub fn iommu_group(&self) -> Result<Option<u32>, PciError> {
        let Some(name) = self.link_name("iommu_group")? else {
            return Ok(None);
        };
        name.parse()
            .map(Some)
            .map_err(|_| self.content("iommu_group", &name, "a link to a numbered group"))
    }

    /// The power state, such as `D0` or `D3hot`.
    ///
    /// # Errors
    /// [`PciError::File`] when it cannot be read.
    pub fn power_state(&self) -> Result<String, PciError> {
        self.text("power_state")
    }

    /// Speed and width of the link.
    ///
    /// # Errors
    /// [`PciError`] when a file cannot be read; functions without PCI Express have none.
    pub fn link(&self) -> Result<Link, PciError> {
        Ok(Link {
            current_speed: self.text("current_link_speed")?,
            current_width: self.number("current_link_width")?,
            max_speed: self.text("max_link_speed")?,
            max_width: self.number("max_link_width")?,
        })
    }

    /// The kernel's error counters; `None` when it does not count for this function (no AER capability, or the
    /// firmware owns AER).
    ///
    /// # Errors
    /// [`PciError`] when a file is there and cannot be read, or holds no total.
    pub fn aer(&self) -> Result<Option<AerCounters>, PciError> {
        if !self.path.join("aer_dev_correctable").exists() {
            return Ok(None);
        }
        Ok(Some(AerCounters {
            correctable: self.total("aer_dev_correctable", "TOTAL_ERR_COR")?,
            nonfatal: self.total("aer_dev_nonfatal", "TOTAL_ERR_NONFATAL")?,
            fatal: self.total("aer_dev_fatal", "TOTAL_ERR_FATAL")?,
        }))
    }

    /// Sizes of BAR 0 to 5 in bytes, 0 for those that do not exist, from `resource`.
    ///
    /// # Errors
    /// [`PciError`] when the file cannot be read or is of another form.
    pub fn bar_sizes(&self) -> Result<[u64; 6], PciError> {
        let text = self.text("resource")?;
        let mut sizes = [0; 6];
        for (size, line) in sizes.iter_mut().zip(text.lines()) {
            let mut words = line.split_whitespace().map(parse_number);
            *size = match (words.next().flatten(), words.next().flatten()) {
                (Some(0), Some(0)) => 0,
                (Some(start), Some(end)) if end >= start => (end - start).saturating_add(1),
                _ => return Err(self.content("resource", line, "start, end and flags")),
            };
        }
        Ok(sizes)
    }

    /// Opens config space for reading.
    ///
    /// # Errors
    /// [`PciError::File`] when it cannot be opened.
    pub fn config(&self) -> Result<SysfsConfig, PciError> {
        SysfsConfig::open(self.bdf, &self.path.join("config"))
    }

    fn link_name(&self, name: &str) -> Result<Option<String>, PciError> {
        match std::fs::read_link(self.path.join(name)) {
            Ok(target) => Ok(target
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.file(name, source)),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<String, PciError> {
        let mut bytes = Vec::new();
        File::open(self.path.join(name))
            .and_then(|file| file.take(MOST_TEXT).read_to_end(&mut bytes))
            .map_err(|source| self.file(name, source))?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<T, PciError> {
        let text = self.text(name)?;
        parse_number(&text)
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.content(name, &text, "a number that fits"))
    }

    fn total(&self, name: &str, key: &str) -> Result<u64, PciError> {
        let text = self.text(name)?;
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(found, _)| *found == key)
            .and_then(|(_, count)| count.trim().parse().ok())
            .ok_or_else(|| self.content(name, &text, "a line with the total"))
    }

    pub(super) fn file(&self, name: &str, source: io::Error) -> PciError {
        // The kernel answers ENODEV on files of a function that was removed after they were opened.
        if source.raw_os_error() == Some(libc::ENODEV) {
            return PciError::Config {
                bdf: self.bdf,
                source: ConfigError::Gone,
            };
        }
        PciError::File {
            bdf: self.bdf,
            path: self.path.join(name),
            source,
        }
    }

    fn content(&self, name: &str, found: &str, expected: &'static str) -> PciError {
        PciError::Content {
            bdf: self.bdf,
            path: self.path.join(name),
            found: found.chars().take(80).collect(),
            expected,
        }
    }
}

fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(files: &[(&str, &str)]) -> (tempfile::TempDir, PciFunction) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let function = PciFunction::new("01:00.0".parse().unwrap(), dir.path().to_owned());
        (dir, function)
    }

    #[test]
    fn aer_totals_are_read_and_their_absence_is_not_zero() {
        let (_dir, some) = function(&[
            (
                "aer_dev_correctable",
                "RxErr 1\nBadTLP 2\nTOTAL_ERR_COR 3\n",
            ),
            ("aer_dev_nonfatal", "Undefined 0\nTOTAL_ERR_NONFATAL 4\n"),
            ("aer_dev_fatal", "Undefined 0\nTOTAL_ERR_FATAL 5\n"),
        ]);
        let expected = AerCounters {
            correctable: 3,
            nonfatal: 4,
            fatal: 5,
        };
        assert_eq!(some.aer().unwrap(), Some(expected));
        let (_dir, none) = function(&[]);
        assert_eq!(none.aer().unwrap(), None);
    }

    #[test]
    fn an_unknown_numa_node_is_none_and_nonsense_is_an_error() {
        let (_dir, unknown) = function(&[("numa_node", "-1\n")]);
        assert_eq!(unknown.numa_node().unwrap(), None);
        let (_dir, nonsense) = function(&[("numa_node", "left\n")]);
        assert!(matches!(
            nonsense.numa_node(),
            Err(PciError::Content { .. })
        ));
    }

    #[test]
    fn a_link_of_unknown_speed_is_neither_degraded_nor_well() {
        let mut link = Link {
            current_speed: "32.0 GT/s PCIe".into(),
            current_width: 8,
            max_speed: "32.0 GT/s PCIe".into(),
            max_width: 8,
        };
        assert_eq!(link.is_degraded(), Some(false));
        link.current_width = 4;
        assert_eq!(link.is_degraded(), Some(true));
        link.max_speed = "Unknown".into();
        assert_eq!(link.is_degraded(), None);
    }

    #[test]
    fn a_missing_driver_link_is_no_driver() {
        let (dir, function) = function(&[]);
        assert_eq!(function.driver().unwrap(), None);
        std::os::unix::fs::symlink(
            "../../../bus/pci/drivers/vfio-pci",
            dir.path().join("driver"),
        )
        .unwrap();
        assert_eq!(function.driver().unwrap().as_deref(), Some("vfio-pci"));
    }

    #[test]
    fn bar_sizes_come_from_the_resource_lines() {
        let (_dir, function) = function(&[(
            "resource",
            "0x0000000080000000 0x000000008007ffff 0x0000000000140204\n0x0 0x0 0x0\n",
        )]);
        assert_eq!(function.bar_sizes().unwrap(), [0x80000, 0, 0, 0, 0, 0]);
    }
}
