//! The faults whose traces are in the tree of a simulated host: each looks as the catalogue says, and all of the catalogue can
//! be injected without harm to the host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host_support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command as Process;
use std::time::Duration;

use auk_driver::{Command, Device, Error, OpenOptions, QueueOptions};
use auk_sim::host::{Host, SimulatedHost};
use auk_sim::inject::{self, Form, InjectError, Injection, Opcode, Script, Target, Trigger, Verb};
use host_support::{DEADLINE, names, read, scratch, simulator_threads, small_host, wait_for};

const CHIP: &str = "0000:01:00.0";
const CHIP_PORT: &str = "0000:00:01.0";
const NIC: &str = "0000:41:00.0";
const NIC_PORT: &str = "0000:00:10.0";
const DEVICES: &str = "sys/bus/pci/devices";

fn inject(host: &SimulatedHost, target: &str, verb: Verb) {
    host.inject(&Injection::new(target, verb)).unwrap();
}

fn refusal(host: &SimulatedHost, target: &str, verb: Verb) -> InjectError {
    host.inject(&Injection::new(target, verb)).unwrap_err()
}

/// An attribute of a function.
fn of(host: &SimulatedHost, bdf: &str, name: &str) -> String {
    read(host.root(), &format!("{DEVICES}/{bdf}/{name}"))
}

fn log(host: &SimulatedHost) -> String {
    read(host.root(), "dev/kmsg")
}

fn open(host: &SimulatedHost) -> Result<Device, Error> {
    let found = auk_driver::pci::Host::at(host.root());
    Device::open(&found, CHIP.parse().unwrap(), &OpenOptions::default())
}

/// Link Status in a file of config space: speed, lanes, and whether the data link layer is up.
fn link_status(host: &SimulatedHost, bdf: &str) -> (u16, u16, bool) {
    let config = fs::read(host.root().join(DEVICES).join(bdf).join("config")).unwrap();
    let at = usize::from(auk_asic::config::pcie::OFFSET + auk_asic::config::pcie::LNKSTA);
    let bits = u16::from_le_bytes([config[at], config[at + 1]]);
    (bits & 0xF, bits >> 4 & 0x3F, bits & 1 << 13 != 0)
}

#[test]
fn pcie_errors_are_counted_at_both_ends_and_reported_in_the_log() {
    let root = scratch();
    let host = small_host(root.path(), 1, 1);
    for (bdf, port, driver) in [(CHIP, CHIP_PORT, "vfio-pci"), (NIC, NIC_PORT, "mlx5_core")] {
        inject(&host, bdf, Verb::AerCorrectable { count: 3 });
        inject(&host, bdf, Verb::AerCorrectable { count: 1 });
        inject(&host, bdf, Verb::AerNonfatal { count: 2 });
        inject(&host, bdf, Verb::AerFatal { count: 1 });
        let correctable = of(&host, bdf, "aer_dev_correctable");
        assert!(correctable.contains("\nBadTLP 4\n"), "{correctable}");
        assert!(correctable.ends_with("TOTAL_ERR_COR 4\n"));
        let nonfatal = of(&host, bdf, "aer_dev_nonfatal");
        assert!(nonfatal.contains("\nCmpltTO 2\n"), "{nonfatal}");
        assert!(nonfatal.ends_with("TOTAL_ERR_NONFATAL 2\n"));
        let fatal = of(&host, bdf, "aer_dev_fatal");
        assert!(fatal.contains("\nDLP 1\n"), "{fatal}");
        assert!(fatal.ends_with("TOTAL_ERR_FATAL 1\n"));
        for (name, total) in [("cor", "4\n"), ("nonfatal", "2\n"), ("fatal", "1\n")] {
            let file = format!("aer_rootport_total_err_{name}");
            assert_eq!(of(&host, port, &file), total, "{name}");
        }
        let log = log(&host);
        for line in [
            format!(
                "-;pcieport {port}: AER: Multiple Correctable error message received from {bdf}\n"
            ),
            format!("-;pcieport {port}: AER: Correctable error message received from {bdf}\n"),
            format!(
                "-;{driver} {bdf}: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Receiver ID)\n"
            ),
            format!("error status/mask=00000040/00002000\n SUBSYSTEM=pci\n DEVICE=+pci:{bdf}\n"),
            format!("-;{driver} {bdf}:    [ 6] BadTLP                \n"),
            format!(
                "-;{driver} {bdf}: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer, (Requester ID)\n"
            ),
            format!("-;{driver} {bdf}:    [14] CmpltTO                (First)\n"),
            format!(
                "-;{driver} {bdf}: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Data Link Layer, (Receiver ID)\n"
            ),
        ] {
            assert!(log.contains(&line), "{line:?} is not in {log}");
        }
        let none = refusal(&host, bdf, Verb::AerFatal { count: 0 });
        assert!(none.to_string().contains("at least 1"), "{none}");
    }
}

#[test]
fn records_of_the_log_are_numbered_and_timed_as_the_kernel_does() {
    let root = scratch();
    let host = small_host(root.path(), 1, 0);
    assert_eq!(log(&host), "");
    for _ in 0..3 {
        inject(&host, CHIP, Verb::AerNonfatal { count: 1 });
    }
    let log = log(&host);
    let records = log.lines().filter(|line| !line.starts_with(' '));
    let prefixes: Vec<Vec<u64>> = records
        .map(|record| {
            let (prefix, _) = record.split_once(",-;").unwrap();
            prefix
                .split(',')
                .map(|part| part.parse().unwrap())
                .collect()
        })
        .collect();
    assert_eq!(prefixes.len(), 12);
    for pair in prefixes.windows(2) {
        assert_eq!(pair[0][1] + 1, pair[1][1], "sequence numbers");
        assert!(pair[0][2] <= pair[1][2], "microseconds");
    }
    assert_eq!((prefixes[0][0], prefixes[1][0]), (6, 3), "levels");
}

#[test]
fn a_log_that_grows_too_long_begins_anew_with_its_numbers_going_on() {
    let root = scratch();
    let host = small_host(root.path(), 0, 1);
    let first = |host: &SimulatedHost| {
        let log = log(host);
        log.split(',')
            .nth(1)
            .map_or(0, |number| number.parse::<u64>().unwrap())
    };
    inject(&host, NIC, Verb::AerFatal { count: 1 });
    let begun = first(&host);
    let when = Trigger {
        every_ms: 1,
        times: 4000,
        ..Trigger::default()
    };
    let storm = Injection::new(NIC, Verb::AerFatal { count: 1 }).when(when);
    host.inject(&storm).unwrap();
    wait_for("another log", || first(&host) > begun);
    let length = fs::metadata(host.root().join("dev/kmsg")).unwrap().len();
    assert!(length < 2 << 20, "{length}");
}

#[test]
fn a_chip_that_is_pulled_out_is_gone_and_comes_back_as_after_power_on() {
    let root = scratch();
    let host = small_host(root.path(), 2, 1);
    let directory = fs::canonicalize(root.path().join(DEVICES).join(CHIP)).unwrap();
    let held = File::open(directory.join("config")).unwrap();
    inject(&host, CHIP, Verb::AerFatal { count: 1 });
    let device = open(&host).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();

    inject(&host, CHIP, Verb::Remove);
    assert!(!directory.exists());
    assert!(!host.chips()[0].socket.exists());
    for links in [DEVICES, "sys/bus/pci/drivers/vfio-pci"] {
        let names = names(&root.path().join(links));
        assert!(!names.iter().any(|name| name == CHIP), "{links}: {names:?}");
        assert!(names.iter().any(|name| name == "0000:02:00.0"), "{names:?}");
    }
    assert!(!root.path().join("sys/kernel/iommu_groups/3").exists());
    assert_eq!(
        read(root.path(), "sys/bus/pci/slots/1/address"),
        "0000:01:00\n",
        "the slot is the board's"
    );
    let mut bytes = [0; 4096];
    held.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0xFF));
    assert_eq!(link_status(&host, CHIP_PORT), (1, 0, false));
    assert_eq!(of(&host, CHIP_PORT, "current_link_width"), "0\n");
    assert!(log(&host).contains(&format!(
        "pcieport {CHIP_PORT}: pciehp: Slot(1): Card not present\n"
    )));
    let error = device.check().unwrap_err();
    assert!(error.is_fatal(), "{error}");
    let late = queue
        .submit(&Command::nop())
        .and_then(|ticket| queue.wait(ticket, DEADLINE));
    assert!(late.is_err(), "{late:?}");
    let found = auk_driver::pci::Host::at(root.path());
    assert_eq!(found.accelerators().unwrap().len(), 1);
    open(&host).unwrap_err();
    // Pulled out twice is pulled out.
    inject(&host, CHIP, Verb::Remove);
    drop((queue, device));

    inject(&host, CHIP, Verb::Return);
    assert_eq!(found.accelerators().unwrap().len(), 2);
    assert!(of(&host, CHIP, "aer_dev_fatal").ends_with("TOTAL_ERR_FATAL 0\n"));
    assert_eq!(of(&host, CHIP_PORT, "aer_rootport_total_err_fatal"), "1\n");
    assert_eq!(of(&host, CHIP_PORT, "current_link_width"), "8\n");
    assert!(link_status(&host, CHIP_PORT).2);
    for link in ["driver", "iommu_group", "subsystem"] {
        fs::canonicalize(root.path().join(DEVICES).join(CHIP).join(link)).unwrap();
    }
    let device = open(&host).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let ticket = queue.submit(&Command::nop()).unwrap();
    queue.wait(ticket, DEADLINE).unwrap();
    held.read_exact_at(&mut bytes, 0).unwrap();
    assert!(
        bytes.iter().all(|byte| *byte == 0xFF),
        "an old descriptor is of what is gone"
    );
}

#[test]
fn a_nic_that_is_pulled_out_takes_its_interface_and_its_rdma_device_along() {
    let root = scratch();
    let host = small_host(root.path(), 1, 2);
    inject(&host, NIC, Verb::PortErrors { count: 9 });
    inject(
        &host,
        NIC,
        Verb::InterfaceRename {
            name: "ens1".into(),
        },
    );
    inject(&host, "ens1", Verb::Remove);
    let net = || names(&root.path().join("sys/class/net"));
    let rdma = || names(&root.path().join("sys/class/infiniband"));
    assert_eq!(
        (net(), rdma()),
        (vec!["eth1".to_owned()], vec!["mlx5_1".to_owned()])
    );
    assert!(!root.path().join(DEVICES).join(NIC).exists());
    assert_eq!(link_status(&host, NIC_PORT), (1, 0, false));
    // What befalls a NIC that is not there befalls nobody.
    inject(
        &host,
        NIC,
        Verb::CarrierFlap {
            count: 1,
            down_ms: 1,
        },
    );
    inject(&host, NIC, Verb::AerFatal { count: 1 });
    assert_eq!(of(&host, NIC_PORT, "aer_rootport_total_err_fatal"), "0\n");
    inject(&host, NIC, Verb::Return);
    assert_eq!(
        (net(), rdma().len()),
        (vec!["eth0".to_owned(), "eth1".to_owned()], 2)
    );
    let errors = read(root.path(), "sys/class/net/eth0/statistics/rx_errors");
    assert_eq!(errors, "0\n");
    assert_eq!(link_status(&host, NIC_PORT), (5, 16, true));
}

#[test]
fn a_chip_off_the_bus_reads_as_ones_and_its_port_has_no_link() {
    let root = scratch();
    let host = small_host(root.path(), 2, 0);
    let device = open(&host).unwrap();
    let dead = |host: &SimulatedHost| {
        let config = fs::read(root.path().join(DEVICES).join(CHIP).join("config")).unwrap();
        assert_eq!(config.len(), 4096);
        let ones = config.iter().all(|byte| *byte == 0xFF);
        // Two files do not change together.
        ones && of(host, CHIP, "current_link_width") == "63\n"
    };
    inject(&host, CHIP, Verb::ConfigOnes { for_ms: 0 });
    assert!(dead(&host));
    assert_eq!(of(&host, CHIP, "current_link_speed"), "Unknown\n");
    // What the kernel remembers stays.
    assert_eq!(of(&host, CHIP, "vendor"), "0x1ae5\n");
    assert_eq!(of(&host, CHIP, "max_link_width"), "8\n");
    assert_eq!(of(&host, CHIP, "power_state"), "D0\n");
    assert_eq!(link_status(&host, CHIP_PORT), (1, 0, false));
    let error = device.check().unwrap_err();
    assert!(error.is_fatal(), "{error}");
    inject(&host, CHIP, Verb::Heal);
    assert!(!dead(&host));
    assert_eq!(of(&host, CHIP, "current_link_speed"), "32.0 GT/s PCIe\n");
    assert_eq!(link_status(&host, CHIP_PORT), (5, 8, true));
    // A BAR is where it was.
    let config = fs::read(root.path().join(DEVICES).join(CHIP).join("config")).unwrap();
    assert_eq!(config[0x10] & 0xF, 0x4);

    inject(
        &host,
        CHIP,
        Verb::LinkFlap {
            count: 1,
            down_ms: 300_000,
        },
    );
    assert!(dead(&host));
    inject(&host, CHIP, Verb::Heal);
    assert!(!dead(&host));

    drop(device);
    inject(&host, CHIP, Verb::ResetDead);
    assert!(!dead(&host), "it waits for a reset");
    open(&host).unwrap_err();
    wait_for("a dead chip", || dead(&host));
    inject(&host, CHIP, Verb::Heal);
    open(&host).unwrap();
}

#[test]
fn a_slower_link_shows_at_both_ends() {
    let root = scratch();
    let host = small_host(root.path(), 1, 1);
    for (bdf, port, lanes) in [(CHIP, CHIP_PORT, 8), (NIC, NIC_PORT, 16)] {
        inject(&host, bdf, Verb::LinkSpeed { generation: 3 });
        inject(&host, bdf, Verb::LinkWidth { lanes: 2 });
        for end in [bdf, port] {
            assert_eq!(of(&host, end, "current_link_speed"), "8.0 GT/s PCIe\n");
            assert_eq!(link_status(&host, end), (3, 2, link_status(&host, end).2));
        }
        for generation in [0, 6] {
            refusal(&host, bdf, Verb::LinkSpeed { generation });
        }
        inject(&host, bdf, Verb::Heal);
        for end in [bdf, port] {
            assert_eq!(of(&host, end, "current_link_speed"), "32.0 GT/s PCIe\n");
            assert_eq!(of(&host, end, "current_link_width"), format!("{lanes}\n"));
        }
    }
}

#[test]
fn an_interface_that_is_renamed_keeps_its_nic_and_its_counts() {
    let root = scratch();
    let host = small_host(root.path(), 0, 2);
    inject(&host, "eth0", Verb::PortDrops { count: 4 });
    inject(
        &host,
        "eth0",
        Verb::InterfaceRename {
            name: "ens1np0".into(),
        },
    );
    let net = root.path().join("sys/class/net");
    assert_eq!(names(&net), ["ens1np0", "eth1"]);
    let device = fs::canonicalize(net.join("ens1np0/device")).unwrap();
    assert_eq!(device.file_name().unwrap(), NIC);
    assert_eq!(names(&device.join("net")), ["ens1np0"]);
    let file = |name: &str| read(root.path(), &format!("sys/class/net/ens1np0/{name}"));
    assert_eq!(file("uevent"), "INTERFACE=ens1np0\nIFINDEX=2\n");
    assert_eq!(file("statistics/rx_dropped"), "4\n");
    // By its new name from now on, and what befalls it is seen there.
    inject(&host, "ens1np0", Verb::PortDrops { count: 1 });
    assert_eq!(file("statistics/rx_dropped"), "5\n");
    let gone = refusal(&host, "eth0", Verb::DriverReload).to_string();
    assert!(gone.contains("(ens1np0)"), "{gone}");
    for name in [
        "",
        "eth1",
        "a/b",
        "a:b",
        "..",
        "sixteen-letters-",
        "with space",
    ] {
        let verb = Verb::InterfaceRename { name: name.into() };
        let error = refusal(&host, "ens1np0", verb);
        assert!(
            matches!(error, InjectError::OutOfRange { .. }),
            "{name:?}: {error}"
        );
    }
    assert_eq!(names(&net), ["ens1np0", "eth1"]);
}

#[test]
fn the_firmware_of_a_nic_is_in_its_rdma_device() {
    let root = scratch();
    let host = small_host(root.path(), 0, 1);
    let version = || read(root.path(), "sys/class/infiniband/mlx5_0/fw_ver");
    inject(
        &host,
        NIC,
        Verb::NicFirmware {
            firmware: "28.40.1000".into(),
        },
    );
    assert_eq!(version(), "28.40.1000\n");
    for version in [
        "",
        "two\nlines",
        "far more than the 31 bytes that it may have",
    ] {
        refusal(
            &host,
            NIC,
            Verb::NicFirmware {
                firmware: version.into(),
            },
        );
    }
    assert_eq!(version(), "28.40.1000\n");
}

#[test]
fn a_nic_that_is_healed_has_its_carrier_its_speed_and_its_rdma_port_and_nothing_waits() {
    let root = scratch();
    let host = small_host(root.path(), 0, 1);
    let net = |name: &str| read(root.path(), &format!("sys/class/net/eth0/{name}"));
    let later = Trigger {
        after_ms: 200,
        ..Trigger::default()
    };
    let waits = Injection::new(NIC, Verb::PortErrors { count: 1 }).when(later);
    host.inject(&waits).unwrap();
    inject(&host, NIC, Verb::RdmaPort { up: false });
    inject(&host, NIC, Verb::PortSpeed { mbit: 1000 });
    inject(
        &host,
        NIC,
        Verb::CarrierFlap {
            count: 5,
            down_ms: 3_600_000,
        },
    );
    assert_eq!(net("carrier"), "0\n");
    inject(&host, NIC, Verb::Heal);
    assert_eq!(
        (net("carrier"), net("speed")),
        ("1\n".into(), "400000\n".into())
    );
    let state = read(root.path(), "sys/class/infiniband/mlx5_0/ports/1/state");
    assert_eq!(state, "4: ACTIVE\n");
    assert_eq!(
        net("carrier_down_count"),
        "1\n",
        "what has happened stays so"
    );
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(net("statistics/rx_errors"), "0\n");
}

#[test]
fn faults_of_a_nic_wait_for_their_time_and_happen_as_often_as_is_said() {
    let root = scratch();
    let host = small_host(root.path(), 1, 1);
    let script = Script::parse(
        r#"
        seed = 7
        [[fault]]
        target = "eth0"
        verb = "port-errors"
        count = 2
        after_ms = 20
        every_ms = 10
        times = 3
        [[fault]]
        target = "0000:41:00.0"
        verb = "aer-correctable"
        after_ms = 10
        "#,
    )
    .unwrap();
    for fault in &script.faults {
        host.inject(fault).unwrap();
    }
    let errors = || read(root.path(), "sys/class/net/eth0/statistics/rx_crc_errors");
    wait_for("six errors", || errors() == "6\n");
    wait_for("a PCIe error", || {
        of(&host, NIC, "aer_dev_correctable").ends_with(" 1\n")
    });
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(errors(), "6\n");
}

#[test]
fn what_a_nic_has_no_occasion_for_is_refused() {
    let root = scratch();
    let host = small_host(root.path(), 1, 1);
    let refused = |when: Trigger| {
        let injection = Injection::new(NIC, Verb::DriverReload).when(when);
        host.inject(&injection).unwrap_err().to_string()
    };
    let none = Trigger::default;
    for when in [
        Trigger {
            queue: Some(1),
            ..none()
        },
        Trigger {
            opcode: Some(Opcode::Copy),
            ..none()
        },
        Trigger {
            register: Some(0),
            ..none()
        },
        Trigger { skip: 1, ..none() },
        Trigger {
            one_in: 2,
            ..none()
        },
    ] {
        let error = refused(when);
        assert!(
            error.contains("a simulated NIC runs no commands"),
            "{error}"
        );
    }
    assert!(refused(Trigger { times: 2, ..none() }).contains("every_ms"));
}

#[test]
fn an_access_to_memory_that_is_not_mapped_is_in_the_log_as_the_iommu_refuses_it() {
    let root = scratch();
    let host = small_host(root.path(), 1, 0);
    let device = open(&host).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let memory = device.alloc(4096).unwrap();
    inject(&host, CHIP, Verb::DmaUnmapped);
    let ticket = queue.submit(&Command::fill(&memory, 1, 64)).unwrap();
    queue.wait(ticket, DEADLINE).unwrap_err();
    wait_for("the IOMMU's word", || {
        log(&host).contains("-;DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr ")
    });
    assert_eq!(host.chips()[0].chip.strict_violations(), []);
}

/// Runs a test of this binary in a process of its own. `None` in that process.
fn alone(test: &str) -> Option<std::process::ExitStatus> {
    if std::env::var_os("AUK_TEST_ALONE").is_some() {
        return None;
    }
    let status = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("AUK_TEST_ALONE", "1")
        .status();
    Some(status.unwrap())
}

#[test]
fn a_host_whose_process_is_killed_leaves_a_tree_in_which_nothing_moves() {
    const ROOT: &str = "AUK_TEST_ROOT";
    if let Some(root) = std::env::var_os(ROOT) {
        let _host = small_host(Path::new(&root), 1, 1);
        std::thread::sleep(10 * DEADLINE);
        panic!("nobody killed it");
    }
    for target in [CHIP, NIC] {
        let root = scratch();
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_host_whose_process_is_killed_leaves_a_tree_in_which_nothing_moves",
            ])
            .env(ROOT, root.path())
            .spawn()
            .unwrap();
        let socket = root.path().join(inject::CONTROL_SOCKET);
        wait_for("the host", || socket.exists());
        let found = auk_driver::pci::Host::at(root.path());
        let device = Device::open(&found, CHIP.parse().unwrap(), &OpenOptions::default()).unwrap();
        let kill = Injection::new(target, Verb::ProcessKill);
        inject::send(root.path(), &kill, DEADLINE).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
        let error = device.check().unwrap_err();
        assert!(error.is_fatal(), "{error}");
        let config = || fs::read(root.path().join(DEVICES).join(CHIP).join("config")).unwrap();
        let before = config();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(config(), before);
        drop(device);
        // The next host takes the place.
        small_host(root.path(), 1, 1).stop();
        assert_eq!(names(root.path()), Vec::<String>::new());
    }
}

/// A fault of the catalogue with the least that must be said of it.
fn example(name: &str, target: &str) -> Injection {
    let entry = Verb::CATALOGUE
        .iter()
        .find(|entry| entry.name == name)
        .unwrap();
    let mut object = serde_json::json!({ "verb": name, "target": target });
    for parameter in entry
        .parameters
        .iter()
        .filter(|parameter| parameter.default.is_none())
    {
        object[parameter.name] = match (parameter.name, parameter.form) {
            ("mbit", _) => 1000.into(),
            (_, Form::Number) => 2.into(),
            (_, Form::Switch) => true.into(),
            (_, Form::Text) => "ens7".into(),
        };
    }
    Injection::parse(object.to_string().as_bytes()).unwrap()
}

#[test]
fn every_fault_of_the_catalogue_can_befall_a_host_which_stops_all_the_same() {
    if let Some(status) =
        alone("every_fault_of_the_catalogue_can_befall_a_host_which_stops_all_the_same")
    {
        assert!(status.success(), "{status}");
        return;
    }
    for entry in Verb::CATALOGUE
        .iter()
        .filter(|entry| entry.name != "process-kill")
    {
        let targets: &[&str] = match entry.target {
            Target::Chip => &[CHIP],
            Target::Nic => &[NIC],
            Target::Device => &[CHIP, NIC],
        };
        let root = scratch();
        let host = Host::builder(root.path()).chips(1).nics(1).start().unwrap();
        let device = open(&host).unwrap();
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        for target in targets {
            host.inject(&example(entry.name, target))
                .unwrap_or_else(|error| panic!("{}: {error}", entry.name));
        }
        let other = match entry.target {
            Target::Chip => Some(NIC),
            Target::Nic => Some(CHIP),
            Target::Device => None,
        };
        if let Some(other) = other {
            let refused = host.inject(&example(entry.name, other)).unwrap_err();
            assert!(
                matches!(refused, InjectError::WrongKind { .. }),
                "{refused}"
            );
        }
        // Whatever becomes of a command, it is not waited for beyond its time.
        let ticket = queue.submit(&Command::nop());
        let _ = ticket.and_then(|ticket| queue.wait(ticket, Duration::from_millis(50)));
        host.stop();
        assert_eq!(simulator_threads(), 0, "{}", entry.name);
        assert_eq!(names(root.path()), Vec::<String>::new(), "{}", entry.name);
        drop((queue, device));
    }
}
