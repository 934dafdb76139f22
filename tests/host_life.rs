//! How a simulated host starts, where it refuses to, what it costs, and what it leaves behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host_support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use auk_asic::config::dvsec;
use auk_asic::vitals::{BODY, VitalSigns};
use auk_sim::host::{Host, HostError, MAX_DEVICES};
use auk_sim::inject::{Injection, Verb};
use host_support::{DEADLINE, read, scratch, simulator_threads, small_host, wait_for};
use zerocopy::FromBytes;

fn entries(root: &Path) -> Vec<PathBuf> {
    fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// Memory and sockets of the simulator among this process's descriptors.
fn simulator_descriptors() -> usize {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter(|target| target.to_string_lossy().contains("auk-sim"))
        .count()
}

#[test]
fn a_stopped_host_leaves_no_file_no_thread_and_no_memory() {
    // In a process of its own, because other tests of this binary run hosts at the same time.
    if std::env::var_os("AUK_TEST_ALONE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_stopped_host_leaves_no_file_no_thread_and_no_memory",
            ])
            .env("AUK_TEST_ALONE", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let parent = scratch();
    let root = parent.path().join("host");
    let host = small_host(&root, 3, 3);
    let client = std::os::unix::net::UnixStream::connect(&host.chips()[0].socket).unwrap();
    assert!(simulator_threads() >= 3);
    assert!(simulator_descriptors() >= 3);
    host.stop();
    assert_eq!(entries(parent.path()), Vec::<PathBuf>::new());
    assert_eq!(simulator_threads(), 0);
    assert_eq!(simulator_descriptors(), 0);
    drop(client);

    // A directory that was there before stays.
    drop(small_host(parent.path(), 1, 1));
    assert_eq!(entries(parent.path()), Vec::<PathBuf>::new());
}

#[test]
fn what_others_put_beside_the_host_stays() {
    let root = scratch();
    let host = small_host(root.path(), 1, 0);
    let agent = root.path().join("run/auk/agent.sock");
    let _listener = UnixListener::bind(&agent).unwrap();
    host.stop();
    assert!(agent.exists());
    assert!(!root.path().join("sys").exists());
}

#[test]
fn a_directory_with_something_else_in_it_is_refused_and_left_alone() {
    let root = scratch();
    fs::write(root.path().join("thesis.tex"), "ten years").unwrap();
    let error = Host::builder(root.path()).chips(1).start().unwrap_err();
    assert!(matches!(&error, HostError::NotEmpty { found, .. } if found == "thesis.tex"));
    assert!(error.to_string().contains("thesis.tex"));
    assert_eq!(entries(root.path()), [root.path().join("thesis.tex")]);
}

#[test]
fn a_marker_that_no_host_signed_is_no_marker() {
    let root = scratch();
    let marker = root.path().join("run/auk/sim/host");
    fs::create_dir_all(marker.parent().unwrap()).unwrap();
    fs::create_dir_all(root.path().join("sys/precious")).unwrap();
    fs::write(&marker, "something else\n").unwrap();
    let error = Host::builder(root.path()).chips(1).start().unwrap_err();
    assert!(matches!(error, HostError::NotEmpty { .. }), "{error}");
    assert!(root.path().join("sys/precious").exists());
}

#[test]
fn a_directory_has_one_host_at_a_time() {
    let root = scratch();
    let first = small_host(root.path(), 1, 0);
    let error = Host::builder(root.path()).chips(1).start().unwrap_err();
    let HostError::InUse { pid, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*pid, std::process::id().to_string());
    // The refused one did no harm.
    assert!(first.chips()[0].socket.exists());
    read(root.path(), "sys/bus/pci/devices/0000:01:00.0/vendor");
    first.stop();
    small_host(root.path(), 1, 0).stop();
}

#[test]
fn of_many_who_start_at_once_one_gets_the_directory() {
    let root = scratch();
    for _ in 0..5 {
        let results: Vec<_> = std::thread::scope(|scope| {
            let start = || Host::builder(root.path()).nics(1).start();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let started = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(started, 1, "{results:?}");
    }
}

#[test]
fn what_a_dead_host_left_is_replaced() {
    let root = scratch();
    // What is left after kill -9: a tree, sockets, a marker that nobody locks.
    let sockets = root.path().join("run/auk/sim");
    fs::create_dir_all(&sockets).unwrap();
    fs::create_dir_all(root.path().join("sys/bus/pci/devices/0000:07:00.0")).unwrap();
    fs::write(sockets.join("host"), "auk-sim-host 4194304\n").unwrap();
    drop(UnixListener::bind(sockets.join("0000:01:00.0.sock")).unwrap());
    drop(UnixListener::bind(sockets.join("control.sock")).unwrap());
    let host = small_host(root.path(), 1, 0);
    assert!(
        !root
            .path()
            .join("sys/bus/pci/devices/0000:07:00.0")
            .exists()
    );
    assert!(host.chips()[0].socket.exists());
    host.stop();
    assert_eq!(entries(root.path()), Vec::<PathBuf>::new());
}

#[test]
fn too_many_devices_are_refused_before_anything_is_made() {
    let parent = scratch();
    let root = parent.path().join("host");
    for (chips, nics, what) in [(MAX_DEVICES + 1, 0, "chips"), (0, MAX_DEVICES + 1, "NICs")] {
        let error = Host::builder(&root)
            .chips(chips)
            .nics(nics)
            .start()
            .unwrap_err();
        assert!(error.to_string().contains(&format!("64 {what}")), "{error}");
    }
    assert!(!root.exists());
}

#[test]
fn a_root_that_cannot_be_made_is_an_error_that_names_it() {
    let parent = scratch();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [file.clone(), file.join("below")] {
        let error = Host::builder(&root).chips(1).start().unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}

#[test]
fn a_root_longer_than_a_socket_address_works() {
    let parent = scratch();
    let root = parent
        .path()
        .join("a-directory-with-a-long-name/".repeat(6));
    assert!(root.as_os_str().len() > 150);
    let host = small_host(&root, 1, 0);
    let injection = Injection::new("0000:01:00.0", Verb::LinkWidth { lanes: 4 });
    auk_sim::inject::send(&root, &injection, DEADLINE).unwrap();
    assert_eq!(
        read(&root, "sys/bus/pci/devices/0000:01:00.0/current_link_width"),
        "4\n"
    );
    host.stop();
}

#[test]
fn a_descriptor_of_config_stays_live() {
    let root = scratch();
    let host = small_host(root.path(), 1, 0);
    let config = File::open(root.path().join("sys/bus/pci/devices/0000:01:00.0/config")).unwrap();
    assert_eq!(config.metadata().unwrap().len(), 4096);
    let vitals = || {
        let mut bytes = [0; VitalSigns::SIZE];
        config
            .read_exact_at(&mut bytes, u64::from(dvsec::OFFSET + BODY))
            .unwrap();
        VitalSigns::read_from_bytes(&bytes).unwrap()
    };
    wait_for("a heartbeat", || vitals().heartbeat > 2);
    let before = vitals();
    host.chips()[0]
        .chip
        .inject(Verb::EccCe { count: 4 })
        .unwrap();
    wait_for("four errors", || vitals().ecc_ce == before.ecc_ce + 4);
    assert!(vitals().sequence != before.sequence);
}

#[test]
fn a_reader_of_the_vital_signs_never_sees_half_a_change() {
    let root = scratch();
    let host = small_host(root.path(), 1, 0);
    let config = File::open(root.path().join("sys/bus/pci/devices/0000:01:00.0/config")).unwrap();
    let at = u64::from(dvsec::OFFSET + BODY);
    let end = Instant::now() + Duration::from_secs(2);
    let mut settled = 0;
    while Instant::now() < end {
        // Both counters change in one step of the chip.
        host.chips()[0]
            .chip
            .inject(Verb::EccCe { count: 1 })
            .unwrap();
        let mut bytes = [0; VitalSigns::SIZE];
        let mut again = [0; 4];
        // A dword at a time, as the kernel serves it.
        for offset in (0..VitalSigns::SIZE).step_by(4) {
            config
                .read_exact_at(&mut bytes[offset..offset + 4], at + offset as u64)
                .unwrap();
        }
        config.read_exact_at(&mut again, at).unwrap();
        let vitals = VitalSigns::read_from_bytes(&bytes).unwrap();
        if vitals.sequence % 2 == 0 && vitals.sequence.to_le_bytes() == again {
            auk_asic::vitals::Vitals::parse(&vitals).unwrap();
            settled += 1;
        }
    }
    assert!(settled > 10, "only {settled} reads settled");
}

/// CPU time of the simulator's threads in this process, in clock ticks.
fn simulator_ticks() -> u64 {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("stat")).ok())
        .filter(|stat| stat.contains("(auk-sim"))
        .map(|stat| {
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        })
        .sum()
}

/// Not a timed test: what start and idleness cost here and now, for whoever reads the output, and a bound that only a
/// thread that spins would break.
#[test]
fn an_idle_host_does_not_spin() {
    if std::env::var_os("AUK_TEST_ALONE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_idle_host_does_not_spin", "--nocapture"])
            .env("AUK_TEST_ALONE", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let root = scratch();
    let begun = Instant::now();
    let host = Host::builder(root.path()).chips(8).nics(8).start().unwrap();
    let started = begun.elapsed();
    std::thread::sleep(Duration::from_millis(500));
    let (before, begun) = (simulator_ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let seconds = (simulator_ticks() - before) as f64 / 100.0;
    let share = seconds / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    host.stop();
    eprintln!(
        "8 chips and 8 NICs: {started:?} to start, {:.1} % of a core while idle, {:?} to stop",
        share * 100.0,
        begun.elapsed()
    );
    assert!(share < 0.5, "{share} of a core while idle");
}
