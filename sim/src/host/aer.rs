//! The kernel's AER counters of a function in sysfs. Nothing here raises an error yet, so that all are 0.
//!
//! Names and format are those of `drivers/pci/pcie/aer.c` and
//! `Documentation/ABI/testing/sysfs-bus-pci-devices-aer`.

use std::fmt::Write as _;

/// Correctable errors by the kernel's names, in the order of the bits of the status register.
const CORRECTABLE: &[&str] = &[
    "RxErr",
    "BadTLP",
    "BadDLLP",
    "Rollover",
    "Timeout",
    "NonFatalErr",
    "CorrIntErr",
    "HeaderOF",
];

/// Uncorrectable errors, fatal or not, likewise.
const UNCORRECTABLE: &[&str] = &[
    "Undefined",
    "DLP",
    "SDES",
    "TLP",
    "FCP",
    "CmpltTO",
    "CmpltAbrt",
    "UnxCmplt",
    "RxOF",
    "MalfTLP",
    "ECRC",
    "UnsupReq",
    "ACSViol",
    "UncorrIntErr",
    "BlockedTLP",
    "AtomicOpBlocked",
    "TLPBlockedErr",
    "PoisonTLPBlocked",
    "DMWrReqBlocked",
    "IDECheck",
    "MisIDETLP",
    "PCRC_CHECK",
    "TLPXlatBlocked",
];

/// Which of the three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// `aer_dev_correctable`.
    Correctable,
    /// `aer_dev_nonfatal`.
    NonFatal,
    /// `aer_dev_fatal`.
    Fatal,
}

impl Severity {
    /// All three.
    pub(crate) const ALL: [Self; 3] = [Self::Correctable, Self::NonFatal, Self::Fatal];

    /// The file's name.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Correctable => "aer_dev_correctable",
            Self::NonFatal => "aer_dev_nonfatal",
            Self::Fatal => "aer_dev_fatal",
        }
    }

    /// The file's text.
    pub(crate) fn text(self) -> String {
        let mut text = String::new();
        for name in self.names() {
            let _infallible = writeln!(text, "{name} 0");
        }
        let _infallible = writeln!(text, "{} 0", self.total());
        text
    }

    /// The name of the file in which a root port counts such messages from below it.
    pub(crate) const fn root_port_file(self) -> &'static str {
        match self {
            Self::Correctable => "aer_rootport_total_err_cor",
            Self::NonFatal => "aer_rootport_total_err_nonfatal",
            Self::Fatal => "aer_rootport_total_err_fatal",
        }
    }

    const fn total(self) -> &'static str {
        match self {
            Self::Correctable => "TOTAL_ERR_COR",
            Self::NonFatal => "TOTAL_ERR_NONFATAL",
            Self::Fatal => "TOTAL_ERR_FATAL",
        }
    }

    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Correctable => CORRECTABLE,
            Self::NonFatal | Self::Fatal => UNCORRECTABLE,
        }
    }
}
