//! PCIe errors as the kernel's AER driver has them: counters in sysfs, and a report in the kernel log.
//!
//! Names and formats are those of `drivers/pci/pcie/aer.c` of Linux 6.12 and
//! `Documentation/ABI/testing/sysfs-bus-pci-devices-aer`.

use std::fmt::Write as _;

use auk_asic::config::{aer, extended, header};

use super::bdf::Bdf;
use super::config_view::ConfigView;
use super::error::HostError;
use super::function::Placement;
use super::kernel_log::{KernelLog, Level};
use crate::inject::Verb;

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

/// The one error of each severity that faults make: its name, its bit in the status register, the layer and the agent
/// that the kernel derives from that.
struct Kind {
    name: &'static str,
    bit: u32,
    layer: &'static str,
    agent: &'static str,
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

    /// The file's text, when so many errors of its kind were counted.
    pub(crate) fn text(self, count: u64) -> String {
        let mut text = String::new();
        let counted = self.kind().name;
        for name in self.names() {
            let count = if *name == counted { count } else { 0 };
            let _infallible = writeln!(text, "{name} {count}");
        }
        let _infallible = writeln!(text, "{} {count}", self.total());
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

    /// In a report.
    const fn word(self) -> &'static str {
        match self {
            Self::Correctable => "Correctable",
            Self::NonFatal => "Uncorrectable (Non-Fatal)",
            Self::Fatal => "Uncorrectable (Fatal)",
        }
    }

    const fn level(self) -> Level {
        match self {
            Self::Correctable => Level::Warning,
            Self::NonFatal | Self::Fatal => Level::Error,
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Correctable => Kind {
                name: "BadTLP",
                bit: 6,
                layer: "Data Link Layer",
                agent: "Receiver ID",
            },
            Self::NonFatal => Kind {
                name: "CmpltTO",
                bit: 14,
                layer: "Transaction Layer",
                agent: "Requester ID",
            },
            Self::Fatal => Kind {
                name: "DLP",
                bit: 4,
                layer: "Data Link Layer",
                agent: "Receiver ID",
            },
        }
    }
}

/// Errors that come in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errors {
    pub(crate) severity: Severity,
    pub(crate) count: u32,
}

impl Errors {
    /// The errors that a fault is; `None` of another one.
    pub(crate) const fn of(verb: &Verb) -> Option<Self> {
        let (severity, count) = match *verb {
            Verb::AerCorrectable { count } => (Severity::Correctable, count),
            Verb::AerNonfatal { count } => (Severity::NonFatal, count),
            Verb::AerFatal { count } => (Severity::Fatal, count),
            _ => return None,
        };
        Some(Self { severity, count })
    }

    /// What the kernel says when the root port has told it of them.
    pub(crate) fn report(
        self,
        log: &mut KernelLog,
        port: Bdf,
        placement: &Placement,
        config: ConfigView<'_>,
    ) -> Result<(), HostError> {
        let Self { severity, count } = self;
        let kind = severity.kind();
        let function = placement.bdf.to_string();
        let word = severity.word();
        // The root port has room for the source of one message; of more it knows that there were some.
        let multiple = if count > 1 { "Multiple " } else { "" };
        let text = format!(
            "pcieport {port}: AER: {multiple}{word} error message received from {function}"
        );
        log.say_of(&port.to_string(), Level::Info, &text)?;
        let at = config.extended(extended::AER).unwrap_or(aer::OFFSET);
        let (mask, first) = match severity {
            Severity::Correctable => (config.u32(at + aer::CORRECTABLE_MASK), ""),
            _ => (config.u32(at + aer::UNCORRECTABLE_MASK), " (First)"),
        };
        let (vendor, device) = (config.u16(header::VENDOR), config.u16(header::DEVICE));
        let Kind {
            name,
            bit,
            layer,
            agent,
        } = kind;
        for text in [
            format!("PCIe Bus Error: severity={word}, type={layer}, ({agent})"),
            format!(
                "  device [{vendor:04x}:{device:04x}] error status/mask={:08x}/{mask:08x}",
                1_u32 << bit
            ),
            format!("   [{bit:2}] {name:<22}{first}"),
        ] {
            let text = format!("{} {function}: {text}", placement.driver);
            log.say_of(&function, severity.level(), &text)?;
        }
        Ok(())
    }
}
