//! What the agent itself costs.

use std::path::Path;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};

use crate::probe::text;

/// What the agent itself uses, and the processes that it started.
#[derive(Clone, Copy)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) children_cpu_seconds: f64,
    pub(super) children_resident_bytes: u64,
}

impl Usage {
    /// Asks the kernel, which may take its time: not for under the lock. 0 where it does not say.
    pub(super) fn now(children: &[u32]) -> Self {
        let (own, ended) = (UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN);
        let running = children.iter().map(|child| Running::of(&child.to_string()));
        let running = running.fold(Running::default(), Running::and);
        Self {
            cpu_seconds: cpu_seconds(own),
            resident_bytes: Running::of("self").resident_bytes,
            children_cpu_seconds: cpu_seconds(ended) + running.cpu_seconds,
            children_resident_bytes: running.resident_bytes,
        }
    }
}

fn cpu_seconds(whose: UsageWho) -> f64 {
    let Ok(usage) = getrusage(whose) else {
        return 0.0;
    };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}

/// What a process that runs uses, by `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Default)]
struct Running {
    cpu_seconds: f64,
    resident_bytes: u64,
}

impl Running {
    fn of(process: &str) -> Self {
        let stat = text::read(&Path::new("/proc").join(process).join("stat"));
        stat.ok()
            .and_then(|stat| Self::parse(&stat))
            .unwrap_or_default()
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name may hold anything, also brackets; after it comes the third field.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)?.checked_add(field(15)?)?;
        let unit = |unit| {
            sysconf(unit)
                .ok()?
                .and_then(|value| u64::try_from(value).ok())
        };
        // Both are far below 2^53.
        Some(Self {
            cpu_seconds: ticks as f64 / unit(SysconfVar::CLK_TCK)?.max(1) as f64,
            resident_bytes: field(24)?.saturating_mul(unit(SysconfVar::PAGE_SIZE)?),
        })
    }

    fn and(self, other: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            resident_bytes: self.resident_bytes.saturating_add(other.resident_bytes),
        }
    }
}

/// Takes some text for a process' `stat`, for a fuzz target.
#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str) {
    if let Some(running) = Running::parse(text) {
        assert!(running.cpu_seconds >= 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_holds() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 99 1000 3 0";
        let running = Running::parse(stat).unwrap();
        assert!(
            (running.cpu_seconds - 3.0).abs() < 0.01,
            "100 ticks a second"
        );
        assert!(running.resident_bytes >= 3 * 4096);
        assert!(Running::parse("7 (a").is_none());
    }
}
