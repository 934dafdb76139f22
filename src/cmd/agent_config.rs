//! `auk agent --check` and `--print-config`: the configuration, without an agent.

use std::path::Path;
use std::process::ExitCode;

use auk_health::Config;
use auk_health::config::Overrides;
use auk_health::proof;

use crate::failure::FOUND_WRONG;
use crate::output;

/// Says what is wrong with the configuration of the host below `root`, a line each.
pub(super) fn check(root: &Path, overrides: &Overrides, strict: bool) -> anyhow::Result<ExitCode> {
    let config = match Config::load(root) {
        Ok(config) => config.overridden(overrides),
        Err(error) => {
            output::print(&format!("{error}\n"))?;
            return Ok(FOUND_WRONG.into());
        }
    };
    for warning in &config.warnings {
        output::note(warning);
    }
    let unproven = match strict {
        true => proof::unproven(&config),
        false => Vec::new(),
    };
    if !unproven.is_empty() {
        let lines: String = unproven.iter().map(|one| format!("{one}\n")).collect();
        output::print(&lines)?;
        return Ok(FOUND_WRONG.into());
    }
    let files = match config.files.len() {
        0 => "no file, all is default".to_owned(),
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    output::print(&format!(
        "configuration {} is good: {files}\n",
        config.hash()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the configuration in force, with the source of each value.
pub(super) fn print(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    match json {
        true => output::print_json(&config.to_json())?,
        false => output::print(&config.to_toml())?,
    }
    Ok(ExitCode::SUCCESS)
}
