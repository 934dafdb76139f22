//! `auk hold`, `auk release`, `auk clear` and `auk switch`: what a person has the agent do, on the record.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use auk_health::client;
use auk_health::operator::{Mode, Order};

use super::status::with_advice;
use crate::output;

pub(crate) const HOLD: &str = "\
Examples:
  auk hold 0000:01:00.0 --reason \"reseating the riser\" --for 2h
  auk hold host --reason \"new kernel\"

Held, a component takes no new job and may be pulled without being called unhealthy; all other checks go on. `host`
stands for all. Root and the agent's own user may do this; it is recorded with the user's name.";
pub(crate) const RELEASE: &str = "\
Examples:
  auk release 0000:01:00.0
  auk release host --reason \"kernel is in\"";
pub(crate) const CLEAR: &str = "\
Examples:
  auk clear 0000:01:00.0 --reason \"card replaced\"
  auk clear 0000:01:00.0 --check repeat_offender --reason \"ran a memory test over night\"

Drops what is held against a component. What is still seen comes back at the next look. An uncorrectable memory error
and a fatal PCIe error of a chip are not cleared before its firmware was restarted.";
pub(crate) const SWITCH: &str = "\
Examples:
  auk switch throttle off --reason \"fans of this row are being replaced\"
  auk switch throttle shadow --reason \"limits under discussion\"
  auk switch throttle default --reason \"fans are new\"

Off, a check judges nothing, on any component. In shadow it judges and is shown, and bears on neither state nor
admission. It stays so over restarts, until somebody switches it again; `default` is what the configuration says.";

/// Longest wait for the agent.
const DEADLINE: Duration = Duration::from_secs(5);

/// Arguments of `auk hold`.
#[derive(Debug, clap::Args)]
pub(crate) struct HoldArgs {
    /// Address, serial number, slot or interface of the component; `host` for all
    component: String,

    /// Why, for whoever reads it at night
    #[arg(long)]
    reason: String,

    /// When it ends by itself, such as 90s, 30m, 2h or 1d; without this when it is released
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    lasts: Option<u64>,

    /// Print the record as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `auk release`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReleaseArgs {
    /// As it was held
    component: String,

    /// Why
    #[arg(long)]
    reason: Option<String>,

    /// Print the record as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `auk clear`.
#[derive(Debug, clap::Args)]
pub(crate) struct ClearArgs {
    /// Address, serial number, slot or interface of the component
    component: String,

    /// What one check holds against it, and not what all do
    #[arg(long)]
    check: Option<String>,

    /// Why, for whoever reads it at night
    #[arg(long)]
    reason: String,

    /// Print the record as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `auk switch`.
#[derive(Debug, clap::Args)]
pub(crate) struct SwitchArgs {
    /// Name of the check, as `auk status --all` has it
    check: String,

    /// What it shall do
    mode: Wanted,

    /// Why, for whoever reads it at night
    #[arg(long)]
    reason: String,

    /// Print the record as JSON
    #[arg(long)]
    json: bool,
}

/// A mode as it is asked for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Wanted {
    /// Judge
    On,
    /// Judge and be shown, without effect
    Shadow,
    /// Judge nothing
    Off,
    /// What the configuration says
    Default,
}

/// Holds a component of the host below `root`.
pub(crate) fn hold(root: &Path, args: &HoldArgs) -> anyhow::Result<ExitCode> {
    let order = Order::Hold {
        component: args.component.clone(),
        reason: args.reason.clone(),
        seconds: args.lasts,
    };
    have_done(root, &order, args.json)
}

/// Releases it.
pub(crate) fn release(root: &Path, args: &ReleaseArgs) -> anyhow::Result<ExitCode> {
    let order = Order::Release {
        component: args.component.clone(),
        reason: args.reason.clone(),
    };
    have_done(root, &order, args.json)
}

/// Drops what is held against it.
pub(crate) fn clear(root: &Path, args: &ClearArgs) -> anyhow::Result<ExitCode> {
    let order = Order::Clear {
        component: args.component.clone(),
        check: args.check.clone(),
        reason: args.reason.clone(),
    };
    have_done(root, &order, args.json)
}

/// Gives a check another mode.
pub(crate) fn switch(root: &Path, args: &SwitchArgs) -> anyhow::Result<ExitCode> {
    let mode = match args.mode {
        Wanted::On => Some(Mode::On),
        Wanted::Shadow => Some(Mode::Shadow),
        Wanted::Off => Some(Mode::Off),
        Wanted::Default => None,
    };
    let order = Order::Switch {
        check: args.check.clone(),
        mode,
        reason: args.reason.clone(),
    };
    have_done(root, &order, args.json)
}

fn have_done(root: &Path, order: &Order, json: bool) -> anyhow::Result<ExitCode> {
    let done = client::order(root, order, DEADLINE).map_err(|error| with_advice(root, error))?;
    if json {
        output::print_json(&done)?;
    } else {
        output::print(&format!("{}\n", output::harmless(&done.outcome)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds of a time such as `2h`.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time such as 90s, 30m, 2h or 1d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number = text.get(..text.len() - 1).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(each).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_a_unit() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("2h"), Ok(7200));
        for wrong in [
            "",
            "h",
            "2",
            "-1h",
            "2 h",
            "1.5h",
            "99999999999999999d",
            "1\u{e4}",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
