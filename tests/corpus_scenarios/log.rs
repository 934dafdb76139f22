//! What the kernel says, and how the host is set up: what must not end unhealthy, and what must.

use std::path::Path;
use std::time::Duration;

use auk_health::operator::Order;
use serde_json::{Value, json};

use super::Scenario;
use crate::corpus_support::{CHIP, CHIP_ALONE, NIC, NIC_ALONE, Props, Stage, end};

const SECOND: Duration = Duration::from_secs(1);

pub const ALL: &[Scenario] = &[
    ("not-logged-pcie-burst-at-boot", pcie_burst_at_boot),
    ("not-job-out-of-memory", job_out_of_memory),
    ("not-logged-link-down-by-hand", link_down_by_hand),
    ("not-log-heard-again-after-restart", heard_again),
    ("not-log-while-the-clock-is-set", clock_set),
    ("not-faults-of-a-dying-job", dying_job),
    ("not-job-faults-all-the-time", job_faults),
    ("not-memory-error-left-over", memory_error_left_over),
    ("not-log-forged-by-a-process", forged),
    ("not-driver-reloaded", driver_reloaded),
    ("not-slot-emptied-while-held", slot_emptied),
    ("not-hung-task", hung_task),
    ("not-memory-errors-corrected", memory_corrected),
    ("not-profile-differs", profile_differs),
    ("must-iommu-fault-storm", fault_storm),
    ("must-amd-iommu-fault-storm", amd_fault_storm),
    ("must-fatal-pcie-error-of-firmware", firmware_fatal),
    ("must-reset-gave-up", reset_gave_up),
    ("must-nic-reset-gave-up", nic_reset_gave_up),
    ("must-host-memory-lost-data", memory_lost),
    ("must-machine-check-uncorrected", machine_check),
    ("must-required-huge-pages-missing", huge_pages_missing),
];

const FAULT: &str = "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0xdead0000 [fault reason 0x05] PTE Write \
                     access is not set";
const AMD_FAULT: &str = "vfio-pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0019 address=0xdead0000 flags=0x0020]";
const MANIFEST: &str = "[manifest.host]\nhuge_pages_2m = 512\ncpu_governor = \"performance\"\n";
const GOVERNOR: &str = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor";
const PAGES: &str = "sys/kernel/mm/hugepages/hugepages-2048kB";

/// What is to be the end of a component and of the host.
fn told(what: &str, ill: bool, bdf: &str, device: Value, host: Value) -> Value {
    json!({ "what": what, "ever_unhealthy": ill, "ends": { bdf: device, "host": host } })
}

fn well() -> Value {
    end("healthy", "yes", "none", None)
}

fn degraded(check: &str) -> Value {
    end("degraded", "yes", "watch", Some(check))
}

fn unfit(action: &str, check: &str) -> Value {
    end("unhealthy", "no", action, Some(check))
}

/// A component on a host that is unfit is given no work, and is well.
fn barred() -> Value {
    end("healthy", "no", "none", None)
}

fn chip(file: &Path, scenario: Value) -> Stage {
    let mut stage = Stage::new(file, scenario, CHIP_ALONE).with_log();
    stage.looks(11);
    stage
}

fn nic(file: &Path, scenario: Value) -> Stage {
    let mut stage = Stage::new(file, scenario, NIC_ALONE).with_log();
    stage.looks(11);
    stage
}

/// The firmware owns AER: the kernel counts nothing.
fn without_counters(stage: &mut Stage, bdf: &str) {
    for file in ["correctable", "nonfatal", "fatal"] {
        stage.remove(bdf, &format!("aer_dev_{file}"));
    }
}

/// What the firmware reports of a function's link.
fn report(severity: &str, bdf: &str) -> Vec<String> {
    vec![
        "{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 5".to_owned(),
        format!("{{1}}[Hardware Error]: event severity: {severity}"),
        "{1}[Hardware Error]:   section_type: PCIe error".to_owned(),
        format!("{{1}}[Hardware Error]:   device_id: {bdf}"),
        "{1}[Hardware Error]:   vendor_id: 0x1ae5, device_id: 0xa100".to_owned(),
    ]
}

fn says(stage: &mut Stage, lines: &[String]) {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    stage.says(&lines);
}

fn pcie_burst_at_boot(file: &Path) {
    let what =
        "the firmware reports 500 corrected PCIe errors while the links train, and none after";
    let props = Props {
        booted_ago: Some(20 * SECOND),
        ..CHIP_ALONE
    };
    let mut stage = Stage::new(file, told(what, false, CHIP, well(), well()), props).with_log();
    without_counters(&mut stage, CHIP);
    for _ in 0..5 {
        stage.looks(3);
        let lines: Vec<String> = (0..100).flat_map(|_| report("corrected", CHIP)).collect();
        says(&mut stage, &lines);
    }
    stage.looks(10);
    stage.minutes(10);
}

fn job_out_of_memory(file: &Path) {
    let what = "a job is killed over and over for more memory than it was given";
    let mut stage = chip(file, told(what, false, CHIP, well(), well()));
    for _ in 0..20 {
        stage.says(&["Memory cgroup out of memory: Killed process 23793 (train) total-vm:2623712kB, anon-rss:506500kB"]);
        stage.looks(2);
    }
    stage.looks(10);
}

fn link_down_by_hand(file: &Path) {
    let what = "a person sets the interface down and up, which the driver logs";
    let mut stage = nic(file, told(what, false, NIC, well(), well()));
    for (flags, operstate, line) in [
        ("0x1002", "down", "mlx5_core 0000:41:00.0 eth0: Link down"),
        ("0x1003", "up", "mlx5_core 0000:41:00.0 eth0: Link up"),
    ] {
        stage.write(NIC, "net/eth0/flags", flags);
        stage.write(NIC, "net/eth0/operstate", operstate);
        stage.says(&[line]);
        stage.looks(15);
    }
}

fn heard_again(file: &Path) {
    let what =
        "nine IOMMU faults, and an agent that is restarted and reads the log from its start again";
    let mut stage = chip(file, told(what, false, CHIP, well(), well()));
    stage.says(&[FAULT; 9]);
    stage.looks(5);
    for _ in 0..3 {
        stage.restart(5 * SECOND);
        stage.looks(11);
    }
}

fn clock_set(file: &Path) {
    let what = "the wall clock is set back by a day and ahead by two, between a few faults";
    let mut stage = chip(file, told(what, false, CHIP, well(), well()));
    for milliseconds in [-86_400_000, 172_800_000, -86_400_000] {
        stage.says(&[FAULT; 2]);
        stage.looks(3);
        stage.set_wall_clock(milliseconds);
        stage.looks(5);
    }
}

fn dying_job(file: &Path) {
    let what =
        "a job is killed with its transfers under way, and the IOMMU refuses the last of them";
    let mut stage = chip(file, told(what, false, CHIP, well(), well()));
    stage.job_begins();
    stage.looks(3);
    stage.job_ends();
    stage.says(&["DMAR: DRHD: handling fault status reg 2"]);
    stage.says(&[FAULT; 6]);
    stage.looks(30);
}

fn job_faults(file: &Path) {
    let what = "a job sends the chip to memory that it never mapped, for minutes, until it ends";
    let mut stage = chip(file, told(what, false, CHIP, well(), well()));
    stage.job_begins();
    stage.looks(2);
    for _ in 0..40 {
        stage.says(&[FAULT; 10]);
        stage.looks(5);
    }
    stage.job_ends();
    stage.says(&[FAULT; 10]);
    stage.looks(2);
    stage.minutes(11);
}

fn memory_error_left_over(file: &Path) {
    let what = "a host was reset by a memory error, which EDAC finds in the banks and logs as the host boots";
    let props = Props {
        booted_ago: Some(20 * SECOND),
        ..CHIP_ALONE
    };
    let mut stage = Stage::new(file, told(what, false, CHIP, well(), well()), props).with_log();
    stage.looks(3);
    stage.says(&["EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x7740c0)"]);
    stage.looks(5);
    stage.minutes(12);
}

fn forged(file: &Path) {
    let what = "a process writes lines to the kernel log that look like the kernel's";
    let mut stage = chip(file, told(what, false, CHIP, well(), well()));
    stage.process_writes(&[FAULT; 1000]);
    stage.process_writes(&["mce: Uncorrected hardware memory error in user-access at 8a398a400"]);
    stage.looks(15);
}

fn driver_reloaded(file: &Path) {
    let what = "a NIC's driver is loaded anew: its link goes and comes, and its interface gets its name again";
    let mut stage = nic(file, told(what, false, NIC, well(), well()));
    stage.says(&["mlx5_core 0000:41:00.0 eth0: Link down"]);
    stage.write(NIC, "net/eth0/carrier", "0");
    stage.write(NIC, "net/eth0/carrier_down_count", "1");
    stage.looks(4);
    stage.heal();
    stage.says(&[
        "mlx5_core 0000:41:00.0: firmware version: 28.39.1002",
        "mlx5_core 0000:41:00.0 eth0: renamed from eth1",
        "mlx5_core 0000:41:00.0 eth0: Link up",
    ]);
    stage.looks(30);
}

fn slot_emptied(file: &Path) {
    let what = "a person holds a chip, pulls it, and puts it back; the kernel logs both";
    let mut stage = chip(file, told(what, false, CHIP, well(), well()));
    stage.order(Order::Hold {
        component: CHIP.to_owned(),
        reason: "reseated".to_owned(),
        seconds: None,
    });
    stage.says(&[
        "pcieport 0000:00:01.0: pciehp: Slot(1): Link Down",
        "pcieport 0000:00:01.0: pciehp: Slot(1): Card not present",
    ]);
    stage.unplug(CHIP);
    stage.looks(10);
    stage.heal();
    stage.says(&[
        "pcieport 0000:00:01.0: pciehp: Slot(1): Card present",
        "pcieport 0000:00:01.0: pciehp: Slot(1): Link Up",
    ]);
    stage.looks(15);
    stage.order(Order::Release {
        component: CHIP.to_owned(),
        reason: None,
    });
    stage.looks(15);
}

fn hung_task(file: &Path) {
    let what = "a task hangs in the kernel, and the kernel says so every two minutes";
    let mut stage = chip(file, told(what, false, CHIP, well(), degraded("stalls")));
    for seconds in [122, 245, 368] {
        let line = format!("INFO: task dd:4711 blocked for more than {seconds} seconds.");
        stage.says(&[&line]);
        stage.minutes(2);
    }
}

fn memory_corrected(file: &Path) {
    let what = "a memory module corrects an error every few minutes";
    let mut stage = chip(file, told(what, false, CHIP, well(), well()));
    for _ in 0..20 {
        stage.says(&["EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x7740c0)"]);
        stage.minutes(3);
    }
}

fn profile_differs(file: &Path) {
    let what = "the CPUs run by another governor than the manifest wants";
    let scenario = told(what, false, CHIP, well(), degraded("cpu_governor"));
    let mut stage = Stage::new(file, scenario, CHIP_ALONE).with_profile(
        MANIFEST,
        &[
            (GOVERNOR, "performance\n"),
            (&format!("{PAGES}/nr_hugepages"), "512\n"),
            (&format!("{PAGES}/free_hugepages"), "512\n"),
        ],
    );
    stage.looks(11);
    stage.profile_file(GOVERNOR, "powersave\n");
    stage.looks(20);
}

fn fault_storm(file: &Path) {
    let what = "a chip reads and writes memory that it was not given, all the time (VT-d)";
    let mut stage = chip(
        file,
        told(what, true, CHIP, unfit("reset", "iommu_faults"), well()),
    );
    for _ in 0..40 {
        stage.says(&[FAULT; 10]);
        stage.looks(5);
    }
}

fn amd_fault_storm(file: &Path) {
    let what = "the same as AMD's IOMMU tells it";
    let mut stage = chip(
        file,
        told(what, true, CHIP, unfit("reset", "iommu_faults"), well()),
    );
    for _ in 0..40 {
        stage.says(&[AMD_FAULT; 10]);
        stage.looks(5);
    }
}

fn firmware_fatal(file: &Path) {
    let what = "the firmware owns AER and reports a fatal error of a chip's link";
    let mut stage = Stage::new(
        file,
        told(
            what,
            true,
            CHIP,
            unfit("reset", "logged_pcie_errors"),
            well(),
        ),
        CHIP_ALONE,
    )
    .with_log();
    without_counters(&mut stage, CHIP);
    stage.looks(11);
    says(&mut stage, &report("fatal", CHIP));
    stage.looks(5);
    stage.minutes(30);
}

fn reset_gave_up(file: &Path) {
    let what = "the kernel waits a minute for a chip after a reset, and gives up";
    let mut stage = chip(
        file,
        told(what, true, CHIP, unfit("reboot", "reset_failures"), well()),
    );
    stage.says(&["vfio-pci 0000:01:00.0: not ready 1023ms after FLR; waiting"]);
    stage.looks(5);
    stage.says(&["vfio-pci 0000:01:00.0: not ready 65535ms after FLR; giving up"]);
    stage.looks(5);
    stage.minutes(30);
}

fn nic_reset_gave_up(file: &Path) {
    let what = "the kernel gives up waiting for a NIC after a bus reset";
    let mut stage = nic(
        file,
        told(what, true, NIC, unfit("reboot", "reset_failures"), well()),
    );
    stage.says(&["mlx5_core 0000:41:00.0: not ready 65535ms after bus reset; giving up"]);
    stage.looks(5);
}

fn memory_lost(file: &Path) {
    let what = "a memory module of the host loses data: no job may start on the host";
    let mut stage = chip(
        file,
        told(what, true, CHIP, barred(), unfit("drain", "machine_checks")),
    );
    stage.says(&["EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x7740c0)"]);
    stage.looks(5);
    stage.minutes(30);
}

fn machine_check(file: &Path) {
    let what =
        "a processor meets data that could not be corrected; the agent is restarted meanwhile";
    let mut stage = chip(
        file,
        told(what, true, CHIP, barred(), unfit("drain", "machine_checks")),
    );
    stage.says(&[
        "mce: [Hardware Error]: Machine check events logged",
        "[Hardware Error]: Uncorrected, software restartable error.",
    ]);
    stage.looks(5);
    stage.restart(20 * SECOND);
    stage.looks(11);
}

fn huge_pages_missing(file: &Path) {
    let what = "the host booted without the huge pages that the manifest requires";
    let scenario = told(what, true, CHIP, barred(), unfit("drain", "huge_pages"));
    let manifest = format!("{MANIFEST}required = [\"huge_pages\"]\n");
    let mut stage = Stage::new(file, scenario, CHIP_ALONE).with_profile(
        &manifest,
        &[
            (GOVERNOR, "performance\n"),
            (&format!("{PAGES}/nr_hugepages"), "64\n"),
            (&format!("{PAGES}/free_hugepages"), "64\n"),
        ],
    );
    stage.looks(21);
}
