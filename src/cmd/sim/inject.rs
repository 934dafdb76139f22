//! `auk sim inject`: a fault, at once or when something happens.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use auk_sim::inject::{
    self, Entry, Form, Injection, Occasion, Opcode, Parameter, SendError, Target, Trigger, Verb,
};
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, Subcommand, value_parser};
use serde_json::{Map, Value};

use crate::failure;
use crate::output;

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk sim inject ecc-ce 0000:01:00.0 --count 200 --root /tmp/host
  auk sim inject completion-drop 0000:01:00.0 --queue 1 --opcode copy --skip 100 --root /tmp/host
  auk sim inject result-flip 0000:01:00.0 --one-in 1000000 --times 0 --seed 7 --root /tmp/host
  auk sim inject firmware-hang 0000:02:00.0 --after-ms 5000 --root /tmp/host
  auk sim inject carrier-flap eth0 --count 3 --down-ms 200 --root /tmp/host
  auk sim inject heal 0000:01:00.0 --root /tmp/host

`auk sim faults` says what each looks like from outside.";

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

/// A fault of the catalogue, with its parameters.
#[derive(Debug)]
struct Fault(Injection);

impl Subcommand for Fault {
    fn augment_subcommands(command: Command) -> Command {
        let command = command
            .subcommand_required(true)
            .arg_required_else_help(true);
        Verb::CATALOGUE.iter().fold(command, |command, entry| {
            command.subcommand(described(entry))
        })
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        Verb::CATALOGUE.iter().any(|entry| entry.name == name)
    }
}

impl FromArgMatches for Fault {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let chosen = matches.subcommand().and_then(|(name, given)| {
            let entry = Verb::CATALOGUE.iter().find(|entry| entry.name == name)?;
            Some((entry, given))
        });
        let Some((entry, given)) = chosen else {
            return Err(clap::Error::new(ErrorKind::MissingSubcommand));
        };
        Injection::from_object(object(entry, given))
            .map(Self)
            .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The subcommand of a fault.
fn described(entry: &'static Entry) -> Command {
    let (value, help) = match entry.target {
        Target::Chip => ("BDF", "Address of the chip"),
        Target::Nic => ("BDF|INTERFACE", "Address or interface of the NIC"),
        Target::Device => (
            "BDF|INTERFACE",
            "Address of the chip, or address or interface of the NIC",
        ),
    };
    let target = Arg::new("target")
        .value_name(value)
        .help(help)
        .required(true);
    let parameters = entry.parameters.iter().map(parameter);
    let waits = match entry.occasion {
        Occasion::Now => String::new(),
        occasion => format!(" Waits for the next {}.", occasion.next()),
    };
    Command::new(entry.name)
        .about(sentence(entry.what))
        .long_about(format!(
            "{}{waits}\n\nLooks like: {}",
            entry.what.trim(),
            entry.looks
        ))
        .arg(target)
        .args(parameters)
        .args(Trigger::KEYS.iter().map(|(key, what)| when(key, what)))
}

/// The first sentence, without its full stop.
fn sentence(text: &str) -> &str {
    let text = text.trim();
    let end = text.find(". ").unwrap_or(text.len());
    text[..end].trim_end_matches('.')
}

fn flag(name: &str) -> String {
    name.replace('_', "-")
}

fn parameter(parameter: &'static Parameter) -> Arg {
    let arg = Arg::new(parameter.name)
        .long(flag(parameter.name))
        .help(sentence(parameter.what));
    match parameter.form {
        Form::Switch => return arg.action(ArgAction::SetTrue),
        Form::Number => arg
            .value_name("N")
            .value_parser(value_parser!(i64))
            .allow_negative_numbers(true),
        Form::Text => arg.value_name("TEXT"),
    }
    .required(parameter.default.is_none())
    .default_value(parameter.default)
}

fn when(key: &'static str, what: &'static str) -> Arg {
    let arg = Arg::new(key)
        .long(flag(key))
        .help(what)
        .help_heading("When (once, at once or at the next occasion, if nothing is said)");
    match key {
        "opcode" => arg
            .value_name("NAME")
            .value_parser(PossibleValuesParser::new(Opcode::NAMES)),
        "register" => arg.value_name("OFFSET").value_parser(offset),
        _ => arg
            .value_name("N")
            .value_parser(value_parser!(i64).range(0..)),
    }
}

/// An offset in hex, or with the prefix 0x.
fn offset(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    i64::from_str_radix(digits, 16).map_err(|error| format!("expected an offset in hex: {error}"))
}

/// What was given, as a request has it.
fn object(entry: &Entry, given: &ArgMatches) -> Map<String, Value> {
    let mut object = Map::new();
    let names = entry.parameters.iter().map(|parameter| parameter.name);
    for name in names
        .chain(Trigger::KEYS.iter().map(|(key, _)| *key))
        .chain(["target"])
    {
        let value = match given.try_get_one::<i64>(name) {
            Ok(number) => number.map(|number| Value::from(*number)),
            Err(_) => match given.try_get_one::<bool>(name) {
                Ok(switch) => switch.map(|switch| Value::from(*switch)),
                Err(_) => given
                    .get_one::<String>(name)
                    .map(|text| Value::from(text.as_str())),
            },
        };
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    }
    object.insert("verb".to_owned(), entry.name.into());
    object
}

/// Asks the simulated host below `root` for the fault.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let Fault(injection) = &args.fault;
    inject::send(root, injection, DEADLINE).map_err(|error| match error {
        SendError::NoHost { .. } => failure::with_hint(
            error,
            "give the root of a simulated host that runs with --root DIR",
        ),
        error => error.into(),
    })?;
    if args.json {
        output::print_json_line(injection)?;
    } else {
        output::print(&format!(
            "{}: {}\n",
            injection.target,
            injection.verb.name()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
