//! What follows of what the kernel says: severities, hysteresis, and what is over when.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use auk_health::Settings;
use auk_health::facts::{Heard, Holder, Kind};
use auk_health::kernel_log::rules;
use auk_health::verdict::{Action, Admit, HealthState};
use support::Bench;

/// Sequence numbers only grow.
static NEXT: AtomicU64 = AtomicU64::new(1000);

/// What a rule's own example makes, so long ago.
fn heard(rule: &str, count: u64, age: Duration) -> Heard {
    let rule = rules::named(rule).unwrap();
    Heard {
        rule: rule.name.to_owned(),
        count,
        age,
        sequence: NEXT.fetch_add(1, Ordering::Relaxed),
        text: rule.examples[0].0.to_owned(),
    }
}

/// A look at which the kernel says this, and then one at which it says nothing.
fn say(bench: &mut Bench, lines: Vec<Heard>) {
    bench.facts.kernel_log = Some(Ok(lines));
    bench.look();
    bench.facts.kernel_log = Some(Ok(Vec::new()));
}

fn now(bench: &mut Bench, rule: &str, count: u64) {
    say(bench, vec![heard(rule, count, Duration::ZERO)]);
}

fn bench(kind: Kind) -> Bench {
    let mut bench = Bench::new(kind, Settings::default());
    say(&mut bench, Vec::new());
    // Nobody has it for long enough that no job can be to blame.
    bench.looks(15);
    bench
}

fn job() -> Holder {
    Holder {
        pid: 4242,
        comm: "train".to_owned(),
        since: 1_700_000_000,
        cgroup: None,
    }
}

fn state(bench: &Bench, check: &str) -> HealthState {
    bench.verdict(check).state
}

#[test]
fn a_few_faults_are_an_accident_ten_are_degraded_and_a_storm_is_unhealthy_until_it_is_over() {
    let mut bench = bench(Kind::Accelerator);
    now(&mut bench, "iommu_fault", 9);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Healthy);
    now(&mut bench, "iommu_fault", 1);
    let verdict = bench.verdict("iommu_faults");
    assert_eq!(
        (verdict.state, verdict.action),
        (HealthState::Degraded, Action::Watch)
    );
    assert!(
        verdict.evidence[0].source.contains("/dev/kmsg, record 1"),
        "{verdict:#?}"
    );
    now(&mut bench, "iommu_fault", 400);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Unhealthy);
    bench.minutes(9);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Unhealthy);
    bench.minutes(2);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Healthy);
}

#[test]
fn faults_while_a_job_has_the_chip_may_be_the_jobs_and_never_condemn_it() {
    let mut bench = bench(Kind::Accelerator);
    bench.facts.holder = Some(job());
    for _ in 0..1200 {
        now(&mut bench, "iommu_fault", 2);
    }
    let verdict = bench.verdict("iommu_faults");
    assert_eq!(
        (verdict.state, verdict.action),
        (HealthState::Degraded, Action::Watch)
    );
    assert!(
        verdict.reason.contains("process 4242 (train) has it"),
        "{verdict:#?}"
    );
    // What it had under way when it died.
    bench.facts.holder = None;
    now(&mut bench, "iommu_fault", 2000);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Degraded);
    bench.minutes(11);
    assert_eq!(bench.state(), HealthState::Healthy);
    // With nobody on it, it does so by itself.
    now(&mut bench, "iommu_fault", 300);
    let verdict = bench.verdict("iommu_faults");
    assert_eq!(verdict.state, HealthState::Unhealthy);
    assert!(verdict.reason.contains("with no job on it"), "{verdict:#?}");
    // A job that comes then does not hide it, and one that makes faults of its own does not prolong it.
    bench.facts.holder = Some(job());
    now(&mut bench, "iommu_fault", 50);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Unhealthy);
    for _ in 0..660 {
        now(&mut bench, "iommu_fault", 1);
    }
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Degraded);
}

#[test]
fn faults_of_a_time_when_no_agent_looked_may_be_those_of_a_job_that_is_gone() {
    let mut bench = bench(Kind::Accelerator);
    bench.restart(Duration::from_secs(300), true);
    say(
        &mut bench,
        vec![heard("iommu_fault", 5000, Duration::from_secs(120))],
    );
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Degraded);
    bench.looks(15);
    now(&mut bench, "iommu_fault", 299);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Degraded);
    now(&mut bench, "iommu_fault", 1);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Unhealthy);
}

#[test]
fn a_line_that_is_read_again_after_a_kill_weighs_once() {
    let mut bench = bench(Kind::Accelerator);
    let line = heard("iommu_fault", 9, Duration::ZERO);
    say(&mut bench, vec![line.clone()]);
    bench.restart(Duration::from_secs(5), true);
    say(&mut bench, vec![line]);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Healthy);
    now(&mut bench, "iommu_fault", 1);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Degraded);
}

#[test]
fn lines_of_long_ago_and_of_the_boot_weigh_nothing() {
    let mut bench = bench(Kind::Accelerator);
    say(
        &mut bench,
        vec![heard("iommu_fault", 5000, Duration::from_secs(900))],
    );
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Healthy);
    let mut bench = Bench::just_booted(Kind::Accelerator);
    say(&mut bench, vec![heard("iommu_fault", 5000, Duration::ZERO)]);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Healthy);
}

#[test]
fn a_reset_that_failed_stands_until_a_new_life_proves_itself_whatever_its_age() {
    let mut bench = bench(Kind::Accelerator);
    say(
        &mut bench,
        vec![heard("reset_failed", 1, Duration::from_secs(86_400))],
    );
    let verdict = bench.verdict("reset_failures");
    assert_eq!(
        (verdict.state, verdict.action),
        (HealthState::Unhealthy, Action::Reboot)
    );
    bench.minutes(600);
    assert_eq!(state(&bench, "reset_failures"), HealthState::Unhealthy);
    bench.vitals().generation = 2;
    bench.vitals().self_test_generation = 2;
    bench.look();
    assert_eq!(state(&bench, "reset_failures"), HealthState::Unhealthy);
    bench.vitals().self_test = auk_asic::SelfTest::Passed;
    bench.look();
    assert_eq!(state(&bench, "reset_failures"), HealthState::Healthy);
}

#[test]
fn a_reset_that_failed_is_over_with_a_boot_and_by_a_persons_word_alone_for_a_nic() {
    let mut bench = bench(Kind::Nic);
    now(&mut bench, "reset_failed", 1);
    bench.minutes(600);
    assert_eq!(state(&bench, "reset_failures"), HealthState::Unhealthy);
    bench.clear(Some("reset_failures")).unwrap();
    bench.look();
    assert_eq!(state(&bench, "reset_failures"), HealthState::Healthy);
    now(&mut bench, "reset_failed", 1);
    bench.restart(Duration::from_secs(60), true);
    bench.look();
    assert_eq!(state(&bench, "reset_failures"), HealthState::Unhealthy);
    bench.restart(Duration::from_secs(60), false);
    bench.look();
    assert_eq!(state(&bench, "reset_failures"), HealthState::Healthy);
}

#[test]
fn what_did_not_come_back_from_sleep_is_degraded_and_given_no_job() {
    let mut bench = bench(Kind::Accelerator);
    now(&mut bench, "resume_failed", 1);
    assert_eq!(state(&bench, "reset_failures"), HealthState::Degraded);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.minutes(11);
    assert_eq!(bench.status().admission.answer, Admit::Yes);
}

#[test]
fn what_the_kernel_counts_is_judged_by_its_counters_alone() {
    let mut bench = bench(Kind::Accelerator);
    now(&mut bench, "aer_fatal", 1);
    let verdict = bench.verdict("logged_pcie_errors");
    assert!(
        !verdict.counts && verdict.reason.contains("aer_uncorrectable"),
        "{verdict:#?}"
    );
    assert_eq!(bench.state(), HealthState::Healthy);
    // The firmware owns them: the log is all that there is.
    bench.facts.aer = Some(Ok(None));
    now(&mut bench, "firmware_pcie_fatal", 1);
    assert_eq!(state(&bench, "logged_pcie_errors"), HealthState::Unhealthy);
}

#[test]
fn corrected_errors_of_the_firmware_count_by_their_rate() {
    let mut bench = bench(Kind::Nic);
    bench.facts.aer = Some(Ok(None));
    now(&mut bench, "firmware_pcie_corrected", 49);
    assert_eq!(state(&bench, "logged_pcie_errors"), HealthState::Healthy);
    now(&mut bench, "firmware_pcie_corrected", 1);
    assert_eq!(state(&bench, "logged_pcie_errors"), HealthState::Degraded);
}

#[test]
fn a_driver_that_resets_its_nic_again_and_again_is_degraded_and_one_that_hangs_at_once() {
    let mut bench = bench(Kind::Nic);
    now(&mut bench, "transmit_timeout", 2);
    now(&mut bench, "link_down", 50);
    assert_eq!(state(&bench, "driver_errors"), HealthState::Healthy);
    now(&mut bench, "nic_hang", 1);
    assert_eq!(state(&bench, "driver_errors"), HealthState::Degraded);
    bench.minutes(11);
    assert_eq!(state(&bench, "driver_errors"), HealthState::Healthy);
    now(&mut bench, "mlx5_health", 1);
    let verdict = bench.verdict("driver_errors");
    assert_eq!(
        (verdict.state, verdict.action),
        (HealthState::Degraded, Action::Reset)
    );
}

#[test]
fn a_log_that_cannot_be_read_any_more_is_told_of_the_host_alone() {
    let error = auk_health::probe::ProbeError::Denied {
        path: "/dev/kmsg".to_owned(),
    };
    let mut bench = bench(Kind::Nic);
    bench.facts.kernel_log = Some(Err(error));
    bench.look();
    let verdict = bench.verdict("iommu_faults");
    assert!(!verdict.counts, "{verdict:#?}");
    assert_eq!(bench.state(), HealthState::Healthy);
}

/// The host, which has no presence to look at.
fn host() -> Bench {
    let mut bench = Bench::new(Kind::Host, Settings::default());
    say(&mut bench, Vec::new());
    bench
}

#[test]
fn a_job_that_used_too_much_memory_is_told_and_a_host_without_memory_is_degraded() {
    let mut bench = host();
    now(&mut bench, "job_out_of_memory", 500);
    now(&mut bench, "out_of_memory", 2);
    assert_eq!(bench.state(), HealthState::Healthy);
    now(&mut bench, "out_of_memory", 1);
    assert_eq!(state(&bench, "out_of_memory"), HealthState::Degraded);
}

#[test]
fn a_hung_task_is_degraded_for_ten_minutes_and_never_more() {
    let mut bench = host();
    for _ in 0..100 {
        now(&mut bench, "hung_task", 1);
    }
    assert_eq!(state(&bench, "stalls"), HealthState::Degraded);
    bench.minutes(11);
    assert_eq!(state(&bench, "stalls"), HealthState::Healthy);
}

#[test]
fn memory_that_lost_data_is_unhealthy_until_the_next_boot_and_corrected_errors_count() {
    let mut bench = host();
    now(&mut bench, "memory_corrected", 99);
    assert_eq!(bench.state(), HealthState::Healthy);
    now(&mut bench, "memory_corrected", 1);
    assert_eq!(bench.state(), HealthState::Degraded);
    now(&mut bench, "memory_uncorrectable", 1);
    let verdict = bench.verdict("machine_checks");
    assert_eq!(
        (verdict.state, verdict.action),
        (HealthState::Unhealthy, Action::Drain)
    );
    bench.minutes(3000);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.restart(Duration::from_secs(120), false);
    bench.facts.kernel_log = Some(Ok(Vec::new()));
    bench.look();
    assert_eq!(state(&bench, "machine_checks"), HealthState::Healthy);
}

#[test]
fn lines_of_hours_that_are_read_at_once_are_not_the_rate_of_now() {
    let mut bench = bench(Kind::Accelerator);
    let minutes = (0..120).map(|minute| heard("iommu_fault", 40, Duration::from_secs(60 * minute)));
    say(&mut bench, minutes.rev().collect());
    // Of ten minutes there are 400; of those before there are none.
    let verdict = bench.verdict("iommu_faults");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert!(verdict.reason.contains("400 in 10 min"), "{verdict:#?}");
    let few = (0..120).map(|minute| heard("iommu_fault", 4, Duration::from_secs(60 * minute)));
    let mut bench = self::bench(Kind::Accelerator);
    say(&mut bench, few.collect());
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Degraded);
    // Each is of the time at which it was printed, and leaves the window with that.
    let mut bench = self::bench(Kind::Accelerator);
    say(
        &mut bench,
        vec![heard("iommu_fault", 9, Duration::from_secs(540))],
    );
    bench.minutes(2);
    now(&mut bench, "iommu_fault", 1);
    assert_eq!(state(&bench, "iommu_faults"), HealthState::Healthy);
}

#[test]
fn what_the_last_boot_left_over_is_degraded_and_the_same_of_this_boot_is_unhealthy() {
    for rule in ["machine_check_uncorrected", "memory_uncorrectable"] {
        let mut bench = Bench::just_booted(Kind::Host);
        say(&mut bench, Vec::new());
        now(&mut bench, rule, 1);
        let verdict = bench.verdict("machine_checks");
        assert_eq!(
            (verdict.state, verdict.action),
            (HealthState::Degraded, Action::Watch),
            "{rule}"
        );
        assert!(verdict.reason.contains("before the boot"), "{verdict:#?}");
        bench.minutes(11);
        assert_eq!(state(&bench, "machine_checks"), HealthState::Healthy);
        now(&mut bench, rule, 1);
        let verdict = bench.verdict("machine_checks");
        assert_eq!(verdict.state, HealthState::Unhealthy, "{rule}");
        assert!(!verdict.reason.contains("before the boot"), "{verdict:#?}");
    }
}

#[test]
fn a_process_that_runs_into_lost_data_is_of_this_boot_however_young_that_is() {
    let mut bench = Bench::just_booted(Kind::Host);
    say(&mut bench, Vec::new());
    now(&mut bench, "machine_check_in_process", 1);
    assert_eq!(state(&bench, "machine_checks"), HealthState::Unhealthy);
}

#[test]
fn trouble_stands_while_the_log_cannot_be_read() {
    let error = auk_health::probe::ProbeError::Denied {
        path: "/dev/kmsg".to_owned(),
    };
    for (rule, count, before) in [
        ("reset_failed", 1, HealthState::Unhealthy),
        ("resume_failed", 1, HealthState::Degraded),
    ] {
        let mut bench = bench(Kind::Nic);
        now(&mut bench, rule, count);
        for unread in [Some(Err(error.clone())), None] {
            bench.facts.kernel_log = unread;
            bench.minutes(60);
            let verdict = bench.verdict("reset_failures");
            assert_eq!((verdict.state, verdict.counts), (before, true), "{rule}");
        }
    }
}
