//! `auk sim inject`: a fault, at once.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use auk_sim::inject::{self, Injection, SendError, Verb};
use clap::Subcommand;

use crate::failure;
use crate::output;

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk sim inject ecc-ce 0000:01:00.0 --count 200 --root /tmp/host
  auk sim inject ecc-ue 0000:01:00.0 --root /tmp/host
  auk sim inject firmware-hang 0000:02:00.0 --root /tmp/host
  auk sim inject link-width 0000:01:00.0 --lanes 4 --root /tmp/host
  auk sim inject carrier-flap eth0 --count 3 --down-ms 200 --root /tmp/host
  auk sim inject port-errors eth0 --count 500 --root /tmp/host
  auk sim inject rdma-port eth0 --root /tmp/host";

/// Longest wait for the simulated host to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    fault: Fault,

    /// Print what was done as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// The faults.
#[derive(Debug, Subcommand)]
enum Fault {
    /// Correctable memory errors of a chip
    EccCe {
        /// Address of the chip
        #[arg(value_name = "BDF")]
        target: String,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
    },
    /// An uncorrectable memory error of a chip: it stops, and what runs ends in an error
    EccUe {
        /// Address of the chip
        #[arg(value_name = "BDF")]
        target: String,
    },
    /// A chip's firmware hangs: its heartbeat and its queues stop
    FirmwareHang {
        /// Address of the chip
        #[arg(value_name = "BDF")]
        target: String,
    },
    /// The PCIe link of a chip or a NIC trains to another width
    LinkWidth {
        /// Address of the chip, or address or interface of the NIC
        #[arg(value_name = "BDF|INTERFACE")]
        target: String,
        /// How many lanes; as many as the slot has heals it
        #[arg(long, value_name = "N")]
        lanes: u8,
    },
    /// A NIC loses its carrier and gets it back
    CarrierFlap {
        /// Address or interface of the NIC
        #[arg(value_name = "BDF|INTERFACE")]
        target: String,
        /// How often
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// For how many milliseconds each time, and as long between two
        #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
        down_ms: u64,
    },
    /// A NIC's port negotiates another speed
    PortSpeed {
        /// Address or interface of the NIC
        #[arg(value_name = "BDF|INTERFACE")]
        target: String,
        /// Mb/s; 400000 heals it
        #[arg(long, value_name = "MBIT")]
        mbit: u32,
    },
    /// Frames come in damaged at a NIC
    PortErrors {
        /// Address or interface of the NIC
        #[arg(value_name = "BDF|INTERFACE")]
        target: String,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
    },
    /// A NIC drops packets
    PortDrops {
        /// Address or interface of the NIC
        #[arg(value_name = "BDF|INTERFACE")]
        target: String,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
    },
    /// A NIC's RDMA port goes down though the carrier is there
    RdmaPort {
        /// Address or interface of the NIC
        #[arg(value_name = "BDF|INTERFACE")]
        target: String,
        /// It follows the carrier again instead
        #[arg(long)]
        up: bool,
    },
    /// A NIC's driver is loaded anew: what it counted begins at zero
    DriverReload {
        /// Address or interface of the NIC
        #[arg(value_name = "BDF|INTERFACE")]
        target: String,
    },
}

impl Fault {
    fn injection(&self) -> Injection {
        let (target, verb) = match self {
            Self::EccCe { target, count } => (target, Verb::EccCe { count: *count }),
            Self::EccUe { target } => (target, Verb::EccUe),
            Self::FirmwareHang { target } => (target, Verb::FirmwareHang),
            Self::LinkWidth { target, lanes } => (target, Verb::LinkWidth { lanes: *lanes }),
            Self::CarrierFlap {
                target,
                count,
                down_ms,
            } => (
                target,
                Verb::CarrierFlap {
                    count: *count,
                    down_ms: *down_ms,
                },
            ),
            Self::PortSpeed { target, mbit } => (target, Verb::PortSpeed { mbit: *mbit }),
            Self::PortErrors { target, count } => (target, Verb::PortErrors { count: *count }),
            Self::PortDrops { target, count } => (target, Verb::PortDrops { count: *count }),
            Self::RdmaPort { target, up } => (target, Verb::RdmaPort { up: *up }),
            Self::DriverReload { target } => (target, Verb::DriverReload),
        };
        Injection {
            target: target.clone(),
            verb,
        }
    }
}

/// Asks the simulated host below `root` for the fault.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let injection = args.fault.injection();
    inject::send(root, &injection, DEADLINE).map_err(|error| match error {
        SendError::NoHost { .. } => failure::with_hint(
            error,
            "give the root of a simulated host that runs with --root DIR",
        ),
        error => error.into(),
    })?;
    if args.json {
        output::print_json_line(&injection)?;
    } else {
        output::print(&format!(
            "{}: {}\n",
            injection.target,
            injection.verb.name()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
