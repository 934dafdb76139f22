//! Firmware state: the chip runs, or is on its way to.

use std::time::Duration;

use auk_asic::{Fault, State};
use serde::{Deserialize, Serialize};

use super::over_time::Held;
use super::{Check, Finding, View};
use crate::config::{self, Keys, Section};
use crate::facts::FactKind;
use crate::verdict::Action;

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    starting: Duration,
    loader: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            starting: Duration::from_secs(65),
            loader: Duration::from_secs(300),
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
        let why = "the kernel waits up to 60 s for a function that resets, and boots are shorter";
        keys.within("starting_for", &mut self.starting, bounds.clone(), why);
        let why =
            "a loader waits for an image without any fault; by then nobody seems to bring one";
        keys.within("in_loader_for", &mut self.loader, bounds, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct FirmwareState {
    starting: Held,
    loading: Held,
}

impl Check for FirmwareState {
    fn name(&self) -> &'static str {
        "firmware_state"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let now = view.now.uptime;
        let limits = &view.settings.limits.firmware_state;
        let state = vitals.state;
        let starting = matches!(state, State::Rom | State::Booting | State::Resetting);
        let starting = self.starting.update(now, starting);
        let loading = self.loading.update(now, state == State::Loader);

        if let Some(fault) = vitals.fault {
            let evidence = view.evidence("fault", fault, "none", source);
            let reason = format!("the chip stopped: {fault}, firmware state {state}");
            return Ok(Finding::unhealthy(reason, remedy(fault)).with(evidence));
        }
        if state == State::Faulted {
            let evidence = view.evidence("state", state, State::Running, source);
            let reason = "the chip stopped and names no fault";
            return Ok(Finding::unhealthy(reason, Action::Reset).with(evidence));
        }
        let overdue = |held: Duration, most: Duration| {
            let found = format!("{state} for {} s", held.as_secs());
            view.evidence(
                "state",
                found,
                format!("at most {}", config::duration(most)),
                source,
            )
        };
        if let Some(held) = starting.filter(|held| *held >= limits.starting) {
            let reason = format!("the firmware does not come up: {state}");
            return Ok(
                Finding::unhealthy(reason, Action::Reset).with(overdue(held, limits.starting))
            );
        }
        if let Some(held) = loading.filter(|held| *held >= limits.loader) {
            let reason = "the loader waits for a firmware image and none comes";
            let finding =
                Finding::degraded(reason, Action::Reset).with(overdue(held, limits.loader));
            return Ok(Finding {
                hold: true,
                ..finding
            });
        }
        if state == State::Running {
            return Ok(Finding::healthy(format!(
                "running, generation {}",
                vitals.generation
            )));
        }
        Ok(Finding::pending(format!(
            "the firmware is not up yet: {state}"
        )))
    }
}

fn remedy(fault: Fault) -> Action {
    match fault {
        Fault::OverTemperature => Action::Drain,
        Fault::EccUncorrectable
        | Fault::FirmwareHang
        | Fault::FirmwareCrash
        | Fault::DmaFault
        | Fault::ImageRejected => Action::Reset,
    }
}
