//! `[judgement]` and `[check.NAME]`: by what is judged.

use std::time::Duration;

use super::keys::{Keys, Section};
use crate::check::Settings;
use crate::operator::Mode;

/// What every rule has besides its limits.
struct Switches {
    enabled: bool,
    shadow: bool,
}

impl Section for Switches {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        keys.set(
            "enabled",
            &mut self.enabled,
            "false: it does not judge at all",
        );
        let why = "true: it judges and is shown, and bears on nothing";
        keys.set("shadow", &mut self.shadow, why);
    }
}

impl Switches {
    const fn mode(&self) -> Mode {
        match (self.enabled, self.shadow) {
            (false, _) => Mode::Off,
            (true, true) => Mode::Shadow,
            (true, false) => Mode::On,
        }
    }
}

impl Section for Settings {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        keys.table("judgement", |keys| self.judgement(keys));
        keys.table("check", |keys| {
            for check in crate::rules() {
                keys.table(check, |keys| self.check(keys, check));
            }
        });
    }
}

impl Settings {
    fn judgement(&mut self, keys: &mut Keys<'_>) {
        let hour = Duration::from_secs(3600);
        let why = "so long nothing bad may be seen before a degraded check is healthy again; \
                   outlasts the pauses in a bad cable's errors";
        let bounds = Duration::from_secs(1)..=24 * hour;
        keys.within("clear_after", &mut self.clear_after, bounds, why);
        let why = "so long after the host's boot presence, carrier and link are held against nobody: links train late";
        keys.within(
            "boot_grace",
            &mut self.boot_grace,
            Duration::ZERO..=hour,
            why,
        );
        let why = "a check that is not seen for so long asks to be watched; outlasts one reset";
        let bounds = Duration::from_secs(1)..=24 * hour;
        keys.within("unseen_alert", &mut self.unseen_alert, bounds.clone(), why);
        let why = "no new job where a check is not seen for so long";
        keys.within("unseen_hold", &mut self.unseen_hold, bounds, why);
        let names = ["unseen_hold", "unseen_alert"];
        keys.require(self.unseen_alert <= self.unseen_hold, &names, || {
            let alert = super::duration(self.unseen_alert);
            format!("at least unseen_alert, which is {alert}")
        });
    }

    fn check(&mut self, keys: &mut Keys<'_>, check: &str) {
        let mode = self.modes.get(check).copied().unwrap_or_default();
        let mut switches = Switches {
            enabled: mode != Mode::Off,
            shadow: mode == Mode::Shadow,
        };
        switches.keys(keys);
        match switches.mode() {
            Mode::On => self.modes.remove(check),
            mode => self.modes.insert(check.to_owned(), mode),
        };
        match (check, self.limits.of(check)) {
            (_, Some(limits)) => limits.keys(keys),
            ("flapping", None) => self.flapping(keys),
            ("repeat_offender", None) => self.repeat_offender(keys),
            _ => {}
        }
    }

    fn flapping(&mut self, keys: &mut Keys<'_>) {
        let spans = Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);
        let (degraded, unhealthy) = (&mut self.flaps_degraded, &mut self.flaps_unhealthy);
        let why = "a state that comes and goes is worse than its mean";
        keys.within("degraded_count", &mut degraded.0, 1..=64, why);
        let why = "the time in which degraded_count is too many";
        keys.within("degraded_window", &mut degraded.1, spans.clone(), why);
        let why = "a component like this fails every job that comes to it";
        keys.within("unhealthy_count", &mut unhealthy.0, 1..=64, why);
        let why = "the time in which unhealthy_count is too many";
        keys.within("unhealthy_window", &mut unhealthy.1, spans, why);
        let names = ["unhealthy_count", "degraded_count"];
        keys.require(degraded.0 < unhealthy.0, &names, || {
            format!("more than degraded_count, which is {}", degraded.0)
        });
        let why = "after an order changes of state are of its author's making";
        let bounds = Duration::ZERO..=Duration::from_secs(600);
        keys.within("pardon_after_order", &mut self.flaps_pardon, bounds, why);
    }

    fn repeat_offender(&mut self, keys: &mut Keys<'_>) {
        let why =
            "a published fleet cut failures of large jobs from 14 % to 4 % by taking such out";
        keys.within("unhealthy_count", &mut self.repeat.0, 1..=64, why);
        let why = "so often in this time, and only a person's word clears it";
        let bounds = Duration::from_secs(3600)..=Duration::from_secs(90 * 86_400);
        keys.within("window", &mut self.repeat.1, bounds, why);
    }
}
