//! What must end unhealthy.

use std::path::Path;
use std::time::Duration;

use auk_asic::{Fault, SelfTest, State};
use auk_sim::inject::Verb;
use serde_json::{Value, json};

use super::Scenario;
use crate::corpus_support::{CHIP, CHIP_ALONE, NIC, NIC_ALONE, OTHER_CHIP, Props, Stage, end};

const DAY: Duration = Duration::from_secs(86_400);
/// A watchdog that leaves a hung firmware alone for as long as a scenario takes.
const NEVER: Duration = Duration::from_secs(3600);

pub const ALL: &[Scenario] = &[
    ("must-uncorrectable-error", uncorrectable),
    (
        "must-uncorrectable-error-and-restart",
        uncorrectable_and_restart,
    ),
    ("must-fatal-aer", fatal_aer),
    ("must-hung-heartbeat", hung),
    ("must-hang-stopped-by-watchdog", stopped_by_watchdog),
    ("must-firmware-crash", crash),
    ("must-all-ones-for-good", all_ones),
    ("must-card-removed", removed),
    ("must-near-shutdown-temperature", hot),
    ("must-1000-correctable-errors-in-an-hour", many_correctable),
    ("must-10-carrier-flaps-in-an-hour", many_flaps),
    ("must-carrier-gone", carrier_gone),
    ("must-carrier-gone-after-rename", carrier_gone_after_rename),
    ("must-20-carrier-flaps-in-a-minute", flapping),
    ("must-storm-of-damaged-frames", damaged_frames),
    ("must-rdma-port-down", rdma_down),
    ("must-rdma-port-of-infiniband-down", infiniband_down),
    ("must-nic-removed", nic_removed),
    ("must-self-test-failed", self_test),
    ("must-root-port-dead", root_port),
    ("must-repeat-offender", repeat_offender),
    ("must-boot-loop", boot_loop),
    ("must-error-while-the-agent-was-away", while_away),
];

fn told(what: &str, bdf: &str, action: &str, check: &str) -> Value {
    let ends = end("unhealthy", "no", action, Some(check));
    json!({ "what": what, "ever_unhealthy": true, "ends": { bdf: ends } })
}

fn chip(file: &Path, what: &str, action: &str, check: &str) -> Stage {
    let mut stage = Stage::new(file, told(what, CHIP, action, check), CHIP_ALONE);
    stage.looks(11);
    stage
}

fn nic(file: &Path, what: &str, check: &str) -> Stage {
    let mut stage = Stage::new(file, told(what, NIC, "drain", check), NIC_ALONE);
    stage.looks(11);
    stage
}

fn uncorrectable(file: &Path) {
    let what = "an uncorrectable memory error stops the chip";
    let mut stage = chip(file, what, "reset", "firmware_state");
    stage.inject(CHIP, Verb::EccUe);
    stage.looks(10);
}

fn uncorrectable_and_restart(file: &Path) {
    let what = "an uncorrectable memory error; the driver restarts the firmware, and nobody runs its self-test";
    let mut stage = chip(file, what, "reset", "ecc_ue");
    let device = stage.open(CHIP);
    stage.inject(CHIP, Verb::EccUe);
    device.restart_firmware().unwrap();
    stage.looks(20);
    stage.minutes(20);
    drop(device);
}

fn fatal_aer(file: &Path) {
    let what = "the kernel counts a fatal PCIe error";
    let mut stage = chip(file, what, "reset", "aer_uncorrectable");
    stage.write(CHIP, "aer_dev_fatal", "DLP 1\nTOTAL_ERR_FATAL 1");
    stage.looks(20);
}

fn hung(file: &Path) {
    let what =
        "the firmware of a chip in use hangs: its heart stands still, and it still says Running";
    let props = Props {
        watchdog: Some(NEVER),
        ..CHIP_ALONE
    };
    let mut stage = Stage::new(file, told(what, CHIP, "reset", "heartbeat"), props);
    let device = stage.open(CHIP);
    stage.looks(11);
    stage.inject(CHIP, Verb::FirmwareHang);
    stage.looks(10);
    drop(device);
}

fn stopped_by_watchdog(file: &Path) {
    let what = "the firmware hangs, and the chip's watchdog stops it";
    let props = Props {
        watchdog: Some(Duration::from_millis(200)),
        ..CHIP_ALONE
    };
    let mut stage = Stage::new(file, told(what, CHIP, "reset", "firmware_state"), props);
    stage.looks(11);
    stage.inject(CHIP, Verb::FirmwareHang);
    stage.looks(20);
}

fn crash(file: &Path) {
    let what = "the firmware crashes, and nobody restarts it";
    let mut stage = chip(file, what, "reset", "firmware_state");
    stage.vitals(CHIP, |signs| {
        signs.state = State::Faulted.code();
        signs.fault = Fault::FirmwareCrash.code();
        signs.last_fault = Fault::FirmwareCrash.code();
        signs.last_fault_generation = signs.generation;
        signs.heartbeat = 1000;
    });
    stage.looks(10);
    stage.minutes(20);
}

fn all_ones(file: &Path) {
    let what = "config space reads as all ones and goes on to";
    let mut stage = chip(file, what, "reboot", "presence");
    stage.all_ones(CHIP);
    stage.looks(20);
}

fn removed(file: &Path) {
    let what = "the host lists the card no more";
    let mut stage = chip(file, what, "reboot", "presence");
    stage.unplug(CHIP);
    stage.looks(20);
}

fn hot(file: &Path) {
    let what = "the die is 3 C below the shutdown point";
    let mut stage = chip(file, what, "drain", "temperature");
    stage.vitals(CHIP, |signs| {
        signs.die_temperature = signs.shutdown_point - 30;
    });
    stage.looks(20);
}

fn many_correctable(file: &Path) {
    let what = "1,200 correctable memory errors within three quarters of an hour";
    let mut stage = chip(file, what, "replace", "ecc_ce");
    for _ in 0..8 {
        stage.inject(CHIP, Verb::EccCe { count: 150 });
        stage.minutes(5);
    }
}

fn many_flaps(file: &Path) {
    let what = "the carrier goes for a moment every five minutes";
    let mut stage = nic(file, what, "carrier_flaps");
    for _ in 0..11 {
        stage.inject(
            NIC,
            Verb::CarrierFlap {
                count: 1,
                down_ms: 1,
            },
        );
        stage.minutes(5);
    }
}

fn carrier_gone(file: &Path) {
    let what = "a port that was up loses its carrier for good";
    let mut stage = nic(file, what, "carrier");
    stage.inject(
        NIC,
        Verb::CarrierFlap {
            count: 1,
            down_ms: 600_000,
        },
    );
    stage.looks(31);
}

fn self_test(file: &Path) {
    let what = "a self-test fails; the chip runs on";
    let mut stage = chip(file, what, "replace", "self_test");
    stage.vitals(CHIP, |signs| {
        signs.self_test = SelfTest::Failed.code();
        signs.self_test_generation = signs.generation;
    });
    stage.looks(10);
    stage.minutes(20);
}

fn root_port(file: &Path) {
    let below = || end("unhealthy", "no", "reboot", Some("presence"));
    let scenario = json!({
        "what": "a root port dies and takes two chips with it: one incident, and it is the port's",
        "ever_unhealthy": true,
        "ends": { CHIP: below(), OTHER_CHIP: below() },
        "incidents": { "0000:00:01.0": [CHIP, OTHER_CHIP] },
    });
    let props = Props {
        chips: 2,
        one_port: true,
        ..CHIP_ALONE
    };
    let mut stage = Stage::new(file, scenario, props);
    stage.looks(11);
    for bdf in ["0000:00:01.0", CHIP, OTHER_CHIP] {
        stage.all_ones(bdf);
    }
    stage.looks(20);
}

fn repeat_offender(file: &Path) {
    let what = "three failed self-tests in three days, each followed by one that passed";
    let mut stage = chip(file, what, "replace", "repeat_offender");
    for _ in 0..3 {
        stage.vitals(CHIP, |signs| signs.self_test = SelfTest::Failed.code());
        stage.looks(5);
        stage.vitals(CHIP, |signs| signs.self_test = SelfTest::Passed.code());
        stage.minutes(15);
        stage.pass(DAY);
    }
    stage.minutes(20);
}

fn boot_loop(file: &Path) {
    let what = "the firmware boots again and again, and never runs";
    let mut stage = chip(file, what, "reset", "firmware_state");
    for generation in 2..12 {
        stage.vitals(CHIP, move |signs| {
            signs.generation = generation;
            signs.state = match generation % 2 {
                0 => State::Booting.code(),
                _ => State::Rom.code(),
            };
            signs.heartbeat = 0;
        });
        stage.looks(10);
    }
}

fn while_away(file: &Path) {
    let what = "an uncorrectable memory error and a restart of the firmware while no agent ran";
    let mut stage = chip(file, what, "reset", "ecc_ue");
    let device = stage.open(CHIP);
    stage.looks(2);
    stage.inject(CHIP, Verb::EccUe);
    device.restart_firmware().unwrap();
    stage.restart(Duration::from_secs(3600));
    stage.looks(11);
    drop(device);
}

fn carrier_gone_after_rename(file: &Path) {
    let what = "an interface gets another name, and loses its carrier for good";
    let mut stage = nic(file, what, "carrier");
    stage.rename("ens1np0");
    stage.looks(5);
    let (count, down_ms) = (1, 600_000);
    stage.inject(NIC, Verb::CarrierFlap { count, down_ms });
    stage.looks(41);
}

fn flapping(file: &Path) {
    let what = "the carrier goes 20 times in a minute, each time for a moment";
    let mut stage = nic(file, what, "carrier_flaps");
    for _ in 0..20 {
        let (count, down_ms) = (1, 1);
        stage.inject(NIC, Verb::CarrierFlap { count, down_ms });
        stage.looks(3);
    }
    stage.looks(11);
}

fn damaged_frames(file: &Path) {
    let what = "3,000 frames a minute come in damaged";
    let mut stage = nic(file, what, "port_errors");
    for _ in 0..10 {
        stage.inject(NIC, Verb::PortErrors { count: 3000 });
        stage.minutes(1);
    }
}

fn rdma_down(file: &Path) {
    let what = "an RDMA port goes down while its interface has a carrier";
    let mut stage = nic(file, what, "rdma_port");
    stage.inject(NIC, Verb::RdmaPort { up: false });
    stage.minutes(3);
}

fn infiniband_down(file: &Path) {
    let what = "the port of an InfiniBand card loses its link; its interface was never set up";
    let mut stage = Stage::new(file, told(what, NIC, "drain", "rdma_port"), NIC_ALONE);
    stage.write(NIC, "infiniband/mlx5_0/ports/1/link_layer", "InfiniBand");
    for (name, value) in [("flags", "0x1002"), ("carrier", "0"), ("operstate", "down")] {
        stage.write(NIC, &format!("net/eth0/{name}"), value);
    }
    stage.looks(31);
    stage.write(NIC, "infiniband/mlx5_0/ports/1/state", "1: DOWN");
    stage.write(NIC, "infiniband/mlx5_0/ports/1/phys_state", "2: Polling");
    stage.minutes(3);
}

fn nic_removed(file: &Path) {
    let told = told("a NIC is pulled", NIC, "reboot", "presence");
    let mut stage = Stage::new(file, told, NIC_ALONE);
    stage.looks(11);
    stage.unplug(NIC);
    stage.looks(20);
}
