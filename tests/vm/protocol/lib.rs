//! What the two sides of a kernel test say to each other: one line of JSON a message, over the guest's second serial
//! port.
//!
//! The host decides: it names a test, the guest runs it and tells how it went. While a test runs it may ask the host
//! for what a guest cannot do, such as killing the simulator of one of its chips.

pub mod recording;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest line that either side reads, in bytes.
pub const MAX_LINE: usize = 1 << 20;

/// Where the guest finds the port.
pub const PORT: &str = "/dev/ttyS1";

/// Where the guest finds what [`Setup`] says.
pub const SETUP_FILE: &str = "/auk/setup.json";

/// Where the guest finds the modules that [`Setup`] names.
pub const MODULE_DIRECTORY: &str = "/auk/modules";

/// The serial number of QEMU's NVMe controller.
pub const NVME_SERIAL: &str = "AUK-VM-0123456789";

/// The address of QEMU's e1000e.
pub const E1000E_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// Which of the kernel's VFIO interfaces a boot is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Groups and containers, as Debian's stock kernels have them.
    Group,
    /// A device's own character device, and iommufd.
    Cdev,
}

impl Mode {
    /// As it is written on command lines and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Cdev => "cdev",
        }
    }
}

/// What a guest is told at its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// The boot's name.
    pub boot: String,
    /// The interface that its tests are to use.
    pub mode: Mode,
    /// Modules to load, in order: a file of [`MODULE_DIRECTORY`] and its parameters.
    pub modules: Vec<(String, String)>,
    /// How many of our chips are plugged in.
    pub chips: usize,
}

/// What the host says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromHost {
    /// Run a test, for so many seconds at most.
    Run {
        /// Its name.
        test: String,
        /// Its deadline.
        seconds: u64,
    },
    /// The answer to a [`FromGuest::Ask`] of the same number.
    Answer {
        /// Which question.
        number: u32,
        /// What came of it, or why it could not be done.
        result: Result<String, String>,
    },
    /// Switch the machine off.
    PowerOff,
}

/// What the guest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromGuest {
    /// It has booted and waits for tests.
    Ready {
        /// The kernel's release.
        kernel: String,
    },
    /// A test has ended.
    Done {
        /// Its name.
        test: String,
        /// How it went.
        outcome: Outcome,
        /// What it printed.
        output: String,
    },
    /// A test needs something done outside.
    Ask {
        /// Tells the answers apart.
        number: u32,
        /// What.
        request: Request,
    },
}

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// What it claims holds.
    Passed,
    /// It does not, or could not be found out.
    Failed(String),
    /// It cannot run here, and why.
    Skipped(String),
}

/// What the host does for a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// A command of QEMU's monitor, as a person would type it; the answer is what it printed.
    Monitor(String),
    /// A command of QEMU's QMP with its arguments, as JSON; the answer is JSON.
    Qmp {
        /// Such as `device_add`.
        execute: String,
        /// Its arguments, a JSON object.
        arguments: String,
    },
    /// Cut the connection of a chip's simulator, as its death would.
    KillSimulator(usize),
    /// Serve a chip again.
    StartSimulator(usize),
    /// Where the socket of a chip is, for a `device_add`.
    SimulatorSocket(usize),
    /// Do something to a chip.
    Inject {
        /// Which chip.
        chip: usize,
        /// What.
        fault: Fault,
    },
    /// What has been done to a chip that silicon leaves undefined; the answer has a line for each, and they do not count
    /// against the boot any more.
    TakeViolations(usize),
    /// Compare a recording with the one that is kept, or keep it, if the host was told to record.
    Record {
        /// Its name, of letters, digits and `-`.
        name: String,
        /// As [`recording`] has it.
        text: String,
    },
}

/// What a test can have happen to a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// So many correctable memory errors.
    EccCorrectable(u32),
    /// An uncorrectable memory error.
    EccUncorrectable,
    /// The firmware hangs.
    FirmwareHang,
    /// The firmware crashes.
    FirmwareCrash,
    /// The link trains to another speed code and width.
    Link {
        /// As LNKSTA has it.
        speed: u8,
        /// Lanes.
        width: u8,
    },
    /// The die has so many degrees Celsius.
    Temperature(i32),
}

/// A test as the guest program lists it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TestInfo {
    /// Group and test, such as `discovery::sysfs_has_the_chip`.
    pub name: String,
    /// The only mode that it is about; `None` for both.
    pub only: Option<Mode>,
    /// Its deadline.
    pub seconds: u64,
}

/// A message as a line, with its end.
#[must_use]
pub fn to_line<T: Serialize>(message: &T) -> String {
    // The messages are plain data: there is nothing in them that JSON could not hold.
    let mut line = serde_json::to_string(message).unwrap_or_default();
    line.push('\n');
    line
}

/// The message of a line.
///
/// # Errors
/// What is wrong with it.
pub fn from_line<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line.trim())
        .map_err(|error| format!("{error} in the line {:.200?}", line.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_it_holds() {
        let message = FromGuest::Done {
            test: "a::b".to_owned(),
            outcome: Outcome::Failed("two\nlines".to_owned()),
            output: "\u{1b}[1m\r\n\0".to_owned(),
        };
        let line = to_line(&message);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(from_line::<FromGuest>(&line), Ok(message));
    }

    #[test]
    fn what_is_no_message_is_told() {
        let error = from_line::<FromHost>("SeaBIOS\r\n").unwrap_err();
        assert!(error.contains("SeaBIOS"), "{error}");
    }
}
