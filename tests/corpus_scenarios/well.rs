//! What must not end unhealthy, nor be so at any time.

use std::path::Path;
use std::time::Duration;

use auk_health::operator::Order;
use auk_sim::inject::Verb;
use serde_json::{Value, json};

use super::Scenario;
use crate::corpus_support::{CHIP, CHIP_ALONE, NIC, NIC_ALONE, Props, Stage, end};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

pub const ALL: &[Scenario] = &[
    ("not-aer-burst-at-boot", aer_burst_at_boot),
    ("not-one-read-of-all-ones", one_read_of_all_ones),
    ("not-link-retrains-for-two-reads", link_retrains),
    ("not-lone-narrow-sample", lone_narrow_sample),
    ("not-lifetime-ecc-total", lifetime_total),
    ("not-throttled-at-power-cap", power_cap),
    ("not-hot-for-half-a-minute", hot_for_half_a_minute),
    ("not-asleep-without-heartbeat", asleep),
    ("not-agent-restart", agent_restart),
    ("not-wall-clock-set", wall_clock),
    ("not-agent-stood-still", stood_still),
    ("not-reset-of-20-seconds", long_reset),
    ("not-firmware-restarted-by-driver", firmware_restart),
    ("not-pulled-while-held", pulled_while_held),
    ("not-nic-set-down-by-hand", set_down_by_hand),
    ("not-port-never-up", never_up),
    ("not-two-carrier-flaps", two_flaps),
    ("not-aer-owned-by-firmware", aer_of_firmware),
    ("not-config-space-forbidden", config_forbidden),
    ("not-nic-in-another-namespace", other_namespace),
    ("not-nic-back-from-another-namespace", back_from_namespace),
    ("not-nic-driver-reloaded", driver_reloaded),
    ("not-nic-renamed", renamed),
    ("not-nic-errors-of-a-lifetime", nic_lifetime),
    ("not-nic-errors-at-boot", nic_errors_at_boot),
    ("not-nic-a-burst-of-drops", burst_of_drops),
    ("not-nic-slower-than-it-was", slower),
    ("not-nic-wall-clock-set", nic_wall_clock),
    ("not-rdma-port-never-active", rdma_never_active),
    ("not-rdma-port-follows-its-interface", rdma_follows),
    ("not-rdma-port-down-for-a-moment", rdma_moment),
];

fn told(what: &str, bdf: &str, end: Value) -> Value {
    json!({ "what": what, "ever_unhealthy": false, "ends": { bdf: end } })
}

fn well() -> Value {
    end("healthy", "yes", "none", None)
}

fn chip(file: &Path, what: &str) -> Stage {
    Stage::new(file, told(what, CHIP, well()), CHIP_ALONE)
}

fn nic(file: &Path, what: &str) -> Stage {
    Stage::new(file, told(what, NIC, well()), NIC_ALONE)
}

fn aer_burst_at_boot(file: &Path) {
    let what = "500 correctable PCIe errors in the minute in which the link trains, and none after";
    let props = Props {
        booted_ago: Some(40 * SECOND),
        ..CHIP_ALONE
    };
    let mut stage = Stage::new(file, told(what, CHIP, well()), props);
    stage.looks(11);
    for count in [180, 420, 500] {
        let text = format!("RxErr {count}\nTOTAL_ERR_COR {count}");
        stage.write(CHIP, "aer_dev_correctable", &text);
        stage.looks(10);
    }
    stage.minutes(10);
}

fn one_read_of_all_ones(file: &Path) {
    let mut stage = chip(file, "one read of config space is all ones");
    stage.looks(13);
    stage.all_ones(CHIP);
    stage.looks(1);
    stage.heal();
    stage.looks(8);
}

fn link_retrains(file: &Path) {
    let what =
        "the link retrains: two reads of all ones, and a slow look that finds the link unknown";
    let mut stage = chip(file, what);
    stage.looks(19);
    stage.all_ones(CHIP);
    stage.write(CHIP, "current_link_speed", "Unknown");
    stage.write(CHIP, "current_link_width", "0");
    stage.looks(2);
    stage.heal();
    stage.looks(20);
}

fn lone_narrow_sample(file: &Path) {
    let mut stage = chip(file, "one slow look finds the link at x4, all others at x8");
    stage.looks(20);
    stage.inject(CHIP, Verb::LinkWidth { lanes: 4 });
    stage.looks(1);
    stage.inject(CHIP, Verb::LinkWidth { lanes: 8 });
    stage.looks(30);
}

fn lifetime_total(file: &Path) {
    let what = "a chip that counted 40,000 correctable memory errors in its life, and none today";
    let mut stage = chip(file, what);
    stage.inject(CHIP, Verb::EccCe { count: 40_000 });
    stage.looks(12);
    stage.minutes(30);
}

fn power_cap(file: &Path) {
    let mut stage = chip(file, "a busy chip at its power limit says so for minutes");
    stage.looks(11);
    stage.vitals(CHIP, |signs| {
        signs.throttle.set_power_cap(true);
        signs.power = signs.power_limit;
    });
    stage.looks(30);
    stage.minutes(10);
}

fn hot_for_half_a_minute(file: &Path) {
    let mut stage = chip(file, "the die is at its throttle point for half a minute");
    stage.looks(11);
    stage.vitals(CHIP, |signs| {
        signs.die_temperature = signs.throttle_point + 5;
    });
    stage.looks(30);
    stage.heal();
    stage.looks(20);
}

fn asleep(file: &Path) {
    let mut stage = chip(
        file,
        "a chip that nobody uses is in D3hot, where its heart does not beat",
    );
    stage.looks(11);
    stage.write(CHIP, "power_state", "D3hot");
    stage.vitals(CHIP, |signs| signs.heartbeat = 4711);
    stage.looks(20);
}

fn agent_restart(file: &Path) {
    let what = "the agent is restarted, and the next goes on with what it knew";
    let mut stage = chip(file, what);
    stage.inject(CHIP, Verb::EccCe { count: 90 });
    stage.looks(21);
    stage.restart(20 * SECOND);
    stage.looks(21);
}

fn wall_clock(file: &Path) {
    let what = "the wall clock is set forward by a day, then back by two";
    let mut stage = chip(file, what);
    stage.looks(11);
    stage.set_wall_clock(86_400_000);
    stage.looks(10);
    stage.set_wall_clock(-2 * 86_400_000);
    stage.looks(10);
}

fn stood_still(file: &Path) {
    let what = "the agent was not run for an hour, in which as much was counted as in any other";
    let mut stage = chip(file, what);
    stage.looks(11);
    stage.inject(CHIP, Verb::EccCe { count: 60 });
    stage.write(CHIP, "aer_dev_correctable", "RxErr 300\nTOTAL_ERR_COR 300");
    stage.pass(HOUR);
    stage.looks(21);
}

fn long_reset(file: &Path) {
    let what = "a function level reset holds every read for 20 s; then the firmware boots";
    let mut stage = chip(file, what);
    stage.looks(11);
    stage.late(CHIP, 20);
    stage.vitals(CHIP, |signs| {
        signs.state = auk_asic::State::Booting.code();
        signs.heartbeat = 0;
    });
    stage.looks(2);
    stage.heal();
    stage.looks(19);
}

fn firmware_restart(file: &Path) {
    let mut stage = chip(
        file,
        "a driver opens the chip and restarts a firmware that is well",
    );
    let device = stage.open(CHIP);
    stage.looks(11);
    device.restart_firmware().unwrap();
    stage.looks(20);
    drop(device);
}

fn pulled_while_held(file: &Path) {
    let ends = end("unobservable", "hold", "none", Some("presence"));
    let what = "a card is held by a person and pulled";
    let mut stage = Stage::new(file, told(what, CHIP, ends), CHIP_ALONE);
    stage.looks(11);
    stage.order(Order::Hold {
        component: CHIP.to_owned(),
        reason: "reseating the riser".to_owned(),
        seconds: None,
    });
    stage.looks(2);
    stage.unplug(CHIP);
    stage.looks(40);
}

fn set_down_by_hand(file: &Path) {
    let mut stage = nic(
        file,
        "a person sets the interface down and, half a minute later, up",
    );
    stage.looks(11);
    let files = |stage: &mut Stage, values: [&str; 5]| {
        let names = [
            "flags",
            "carrier",
            "operstate",
            "speed",
            "carrier_down_count",
        ];
        for (name, value) in names.iter().zip(values) {
            stage.write(NIC, &format!("net/eth0/{name}"), value);
        }
    };
    files(&mut stage, ["0x1002", "0", "down", "-1", "1"]);
    stage.looks(30);
    files(&mut stage, ["0x1003", "1", "up", "400000", "1"]);
    stage.looks(30);
}

fn never_up(file: &Path) {
    let mut stage = nic(file, "a port without a cable was never up");
    for (name, value) in [
        ("carrier", "0"),
        ("carrier_up_count", "0"),
        ("operstate", "down"),
        ("speed", "-1"),
    ] {
        stage.write(NIC, &format!("net/eth0/{name}"), value);
    }
    stage.looks(31);
    stage.minutes(5);
}

fn two_flaps(file: &Path) {
    let mut stage = nic(
        file,
        "somebody is at the cable: the carrier goes twice in ten minutes",
    );
    stage.looks(11);
    for _ in 0..2 {
        stage.inject(
            NIC,
            Verb::CarrierFlap {
                count: 1,
                down_ms: 1,
            },
        );
        stage.minutes(3);
    }
    stage.looks(11);
}

fn aer_of_firmware(file: &Path) {
    let mut stage = chip(
        file,
        "the host's firmware keeps AER to itself: the kernel counts nothing",
    );
    for kind in ["correctable", "nonfatal", "fatal"] {
        stage.remove(CHIP, &format!("aer_dev_{kind}"));
    }
    stage.looks(21);
}

fn config_forbidden(file: &Path) {
    let what = "the agent may read no more than 64 bytes of config space";
    let ends = end("unobservable", "hold", "watch", Some("firmware_state"));
    let mut stage = Stage::new(file, told(what, CHIP, ends), CHIP_ALONE);
    stage.config(CHIP, |config| config.truncate(64));
    stage.looks(21);
    stage.minutes(10);
}

fn other_namespace(file: &Path) {
    let mut stage = nic(
        file,
        "the interface is moved to a container's network namespace",
    );
    stage.looks(11);
    stage.remove(NIC, "net/eth0");
    stage.looks(30);
}

fn back_from_namespace(file: &Path) {
    let mut stage = nic(
        file,
        "the interface is in a container for a while, where its carrier goes 40 times",
    );
    stage.looks(11);
    stage.remove(NIC, "net/eth0");
    stage.looks(60);
    stage.heal();
    stage.write(NIC, "net/eth0/carrier_down_count", "40");
    stage.write(NIC, "net/eth0/carrier_up_count", "41");
    stage.looks(60);
}

fn driver_reloaded(file: &Path) {
    let mut stage = nic(
        file,
        "a NIC's driver is loaded anew, and counts from zero again",
    );
    stage.inject(NIC, Verb::PortErrors { count: 900_000 });
    stage.inject(NIC, Verb::PortDrops { count: 900_000 });
    stage.looks(31);
    stage.inject(NIC, Verb::DriverReload);
    stage.looks(31);
    stage.minutes(12);
}

fn renamed(file: &Path) {
    let mut stage = nic(file, "an interface gets another name");
    stage.looks(31);
    stage.rename("ens1np0");
    stage.looks(31);
}

fn nic_lifetime(file: &Path) {
    let mut stage = nic(
        file,
        "a NIC has counted millions of errors and flaps before the agent comes",
    );
    stage.inject(NIC, Verb::PortErrors { count: 9_000_000 });
    stage.inject(NIC, Verb::PortDrops { count: 9_000_000 });
    stage.write(NIC, "net/eth0/carrier_down_count", "5000");
    stage.write(
        NIC,
        "infiniband/mlx5_0/ports/1/hw_counters/link_downed",
        "5000",
    );
    stage.looks(31);
    stage.minutes(12);
}

fn nic_errors_at_boot(file: &Path) {
    let what = "flaps and damaged frames in the first minutes of a host, and none after";
    let props = Props {
        booted_ago: Some(20 * SECOND),
        ..NIC_ALONE
    };
    let mut stage = Stage::new(file, told(what, NIC, well()), props);
    stage.looks(5);
    for _ in 0..4 {
        stage.inject(NIC, Verb::PortErrors { count: 5000 });
        let (count, down_ms) = (3, 1);
        stage.inject(NIC, Verb::CarrierFlap { count, down_ms });
        stage.looks(30);
    }
    stage.minutes(15);
}

fn burst_of_drops(file: &Path) {
    let mut stage = nic(file, "a full queue drops half a million packets at once");
    stage.looks(11);
    stage.inject(NIC, Verb::PortDrops { count: 500_000 });
    stage.minutes(12);
}

fn slower(file: &Path) {
    let what = "a port comes back at a quarter of its speed: degraded, and not more";
    let ends = end("degraded", "yes", "watch", Some("port_speed"));
    let mut stage = Stage::new(file, told(what, NIC, ends), NIC_ALONE);
    stage.looks(11);
    stage.inject(NIC, Verb::PortSpeed { mbit: 100_000 });
    stage.minutes(12);
}

fn nic_wall_clock(file: &Path) {
    let mut stage = nic(file, "the wall clock is set by a day, and back");
    stage.looks(31);
    stage.set_wall_clock(86_400_000);
    stage.looks(31);
    stage.set_wall_clock(-2 * 86_400_000);
    stage.looks(31);
}

fn rdma_never_active(file: &Path) {
    let mut stage = nic(file, "an RDMA port was never active");
    stage.inject(NIC, Verb::RdmaPort { up: false });
    stage.looks(61);
    stage.minutes(12);
}

fn rdma_follows(file: &Path) {
    let mut stage = nic(
        file,
        "a person sets the interface down, and its RDMA port goes down with it",
    );
    stage.looks(31);
    for (name, value) in [
        ("flags", "0x1002"),
        ("carrier", "0"),
        ("operstate", "down"),
        ("speed", "-1"),
        ("carrier_down_count", "1"),
    ] {
        stage.write(NIC, &format!("net/eth0/{name}"), value);
    }
    stage.write(NIC, "infiniband/mlx5_0/ports/1/state", "1: DOWN");
    stage.write(NIC, "infiniband/mlx5_0/ports/1/phys_state", "3: Disabled");
    stage.looks(61);
    stage.minutes(5);
}

fn rdma_moment(file: &Path) {
    let mut stage = nic(file, "an RDMA port goes down and is back at the next look");
    stage.looks(31);
    stage.inject(NIC, Verb::RdmaPort { up: false });
    stage.looks(10);
    stage.inject(NIC, Verb::RdmaPort { up: true });
    stage.looks(40);
}
