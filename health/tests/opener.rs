//! The opener: what it opens, for whom, and an agent whose readers could not do it themselves.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/tree.rs"]
mod tree;

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use auk_health::kernel_log::source::{Next, Source};
use auk_health::opener::{Opener, ask, ask_kernel_log, socket_path};
use auk_health::probe::ProbeError;
use auk_health::{Agent, ReaderCommand, run_reader};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind,
    connect, listen, recv, send, socket_with,
};
use tree::{CHIP, NIC, Tree};

const SOON: Duration = Duration::from_secs(20);
/// `nobody`, as everywhere.
const NOBODY: u32 = 65534;

/// Serves a root for the rest of the test's process.
fn open_for(root: &Path, user: u32) {
    let opener = Opener::open(root, user).unwrap();
    thread::spawn(move || opener.run());
}

/// Whether this test can change its user; says so when it cannot.
fn may_change_user(what: &str) -> bool {
    let may = Uid::effective().is_root();
    if !may {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: only root can be somebody else: {what}"
        );
    }
    may
}

/// Runs one of the ignored tests below as another user, and tells whether it passed.
fn as_nobody(test: &str, argument: &Path) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--ignored", "--nocapture"])
        .env("AUK_TEST_ROOT", argument)
        .uid(NOBODY)
        .gid(NOBODY);
    command.status().unwrap().success()
}

fn root_of_the_test() -> std::path::PathBuf {
    std::env::var_os("AUK_TEST_ROOT").unwrap_or_default().into()
}

fn let_everybody_in(tree: &Tree) {
    fs::set_permissions(tree.root(), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn config_space_of_an_accelerator_and_of_a_nic_is_opened_for_reading_only() {
    let tree = Tree::new();
    fs::write(tree.device(NIC).join("class"), "0x020000\n").unwrap();
    open_for(tree.root(), NOBODY);
    for bdf in [CHIP, NIC] {
        let config = ask(tree.root(), bdf).unwrap();
        let mut vendor = [0; 2];
        config.read_exact_at(&mut vendor, 0).unwrap();
        assert_ne!(vendor, [0, 0]);
        assert!(config.write_at(&[0], 0).is_err());
    }
}

#[test]
fn nothing_else_is_opened_whatever_it_is_called() {
    let tree = Tree::new();
    fs::write(tree.device(NIC).join("class"), "0x010802\n").unwrap();
    open_for(tree.root(), NOBODY);
    for name in [
        NIC,
        "0000:00:01.0",
        "0000:77:00.0",
        "",
        "..",
        "../../../../etc/passwd",
    ] {
        let error = ask(tree.root(), name).unwrap_err();
        assert!(
            !matches!(error, ProbeError::Malformed { .. }),
            "{name}: {error}"
        );
    }
    let config = tree.device(CHIP).join("config");
    fs::remove_file(&config).unwrap();
    mkfifo(&config, Mode::S_IRUSR).unwrap();
    ask(tree.root(), CHIP).unwrap_err();
    fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &config).unwrap();
    ask(tree.root(), CHIP).unwrap_err();
}

fn peer_of(tree: &Tree) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let peer = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let address = SocketAddrUnix::new(socket_path(tree.root())).unwrap();
    connect(&peer, &address).unwrap();
    peer
}

#[test]
fn any_request_is_answered_in_five_bytes_and_only_a_good_one_well() {
    let tree = Tree::new();
    open_for(tree.root(), NOBODY);
    let near = any::<(usize, u8)>().prop_map(|(at, byte)| {
        let mut request = [&[1], CHIP.as_bytes()].concat();
        let length = request.len();
        request[at % length] = byte;
        request
    });
    let any = proptest::collection::vec(any::<u8>(), 1..64);
    let requests = prop_oneof![near, any];
    let run = TestRunner::default().run(&requests, |request| {
        let peer = peer_of(&tree);
        send(&peer, &request, SendFlags::NOSIGNAL).unwrap();
        let mut answer = [0; 64];
        let (_, length) = recv(&peer, &mut answer, RecvFlags::empty()).unwrap();
        prop_assert_eq!((length, answer[0]), (5, 1));
        let good = request == [&[1], CHIP.as_bytes()].concat();
        prop_assert_eq!(answer[1..5] == [0; 4], good, "{:?}", request);
        Ok(())
    });
    run.unwrap();
}

#[test]
fn any_answer_without_a_descriptor_is_an_error() {
    let tree = Tree::new();
    let path = socket_path(tree.root());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let flags = SocketFlags::CLOEXEC;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 4).unwrap();
    let (answers, to_give) = channel::<Vec<u8>>();
    thread::spawn(move || {
        for answer in to_give {
            let peer = accept(&listener).unwrap();
            // The asking side may have gone, when the test has failed.
            let _ = send(&peer, &answer, SendFlags::NOSIGNAL);
        }
    });
    let likely = any::<i32>().prop_map(|errno| [&[1], &errno.to_le_bytes()[..]].concat());
    let any = proptest::collection::vec(any::<u8>(), 0..16);
    let run = TestRunner::default().run(&prop_oneof![likely, any], |answer| {
        answers.send(answer).unwrap();
        prop_assert!(ask(tree.root(), CHIP).is_err());
        Ok(())
    });
    run.unwrap();
}

#[test]
fn a_peer_that_says_nonsense_or_nothing_keeps_nobody_from_an_answer() {
    let tree = Tree::new();
    open_for(tree.root(), NOBODY);
    let peer = || peer_of(&tree);
    let _silent = peer();
    for nonsense in [&[][..], &[9], &[1; 4096], b"\x010000:01:00.0\0"] {
        let peer = peer();
        // An empty message is no message: the opener waits for one, and not for long.
        send(&peer, nonsense, SendFlags::NOSIGNAL).unwrap();
        let mut answer = [0; 16];
        let (_, length) = recv(&peer, &mut answer, RecvFlags::empty()).unwrap();
        assert!(length == 0 || answer[1..5] != [0; 4], "{answer:?}");
    }
    ask(tree.root(), CHIP).unwrap();
}

#[test]
fn a_user_whom_it_does_not_serve_is_refused() {
    if !may_change_user("who is refused by the opener") {
        return;
    }
    let tree = Tree::new();
    let_everybody_in(&tree);
    open_for(tree.root(), NOBODY - 1);
    assert!(as_nobody("nobody_is_refused", tree.root()));
}

/// Not a test by itself.
#[test]
#[ignore = "runs as another user, for the test above"]
fn nobody_is_refused() {
    let error = ask(&root_of_the_test(), CHIP).unwrap_err();
    assert!(matches!(error, ProbeError::Denied { .. }), "{error}");
}

/// On this machine's own sysfs: the kernel asks who opened the file, not who reads it.
#[test]
fn a_user_without_privilege_reads_all_of_a_real_config_space() {
    if !may_change_user("reading real config space through the opener") {
        return;
    }
    let Some(bdf) = real_nic() else {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: this machine shows no NIC on PCI, so no real config space was read"
        );
        return;
    };
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    let devices = root.path().join("sys/bus/pci/devices");
    fs::create_dir_all(&devices).unwrap();
    let real = fs::canonicalize(Path::new("/sys/bus/pci/devices").join(&bdf)).unwrap();
    std::os::unix::fs::symlink(real, devices.join(&bdf)).unwrap();
    open_for(root.path(), NOBODY);
    assert!(as_nobody("nobody_reads_all", root.path()));
}

/// Not a test by itself.
#[test]
#[ignore = "runs as another user, for the test above"]
fn nobody_reads_all() {
    let root = root_of_the_test();
    let bdf = real_nic().unwrap();
    let length = |mut file: File| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes.len()
    };
    let path = root.join("sys/bus/pci/devices").join(&bdf).join("config");
    assert_eq!(length(File::open(path).unwrap()), 64);
    assert!(length(ask(&root, &bdf).unwrap()) >= 256);
}

/// On this machine's own log: with kernel.dmesg_restrict the kernel asks who opened it, not who reads it.
#[test]
fn a_user_without_privilege_reads_the_real_kernel_log() {
    let real = Path::new("/dev/kmsg");
    if !may_change_user("reading the real kernel log through the opener") {
        return;
    }
    if let Err(error) = File::open(real) {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: this machine shows no kernel log: {error}"
        );
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(root.path().join("dev")).unwrap();
    std::os::unix::fs::symlink(real, root.path().join("dev/kmsg")).unwrap();
    open_for(root.path(), NOBODY);
    assert!(as_nobody("nobody_reads_the_log", root.path()));
}

/// Not a test by itself.
#[test]
#[ignore = "runs as another user, for the test above"]
fn nobody_reads_the_log() {
    let root = root_of_the_test();
    let restricted = fs::read_to_string("/proc/sys/kernel/dmesg_restrict").unwrap();
    let opened = File::open(root.join("dev/kmsg"));
    assert_eq!(opened.is_err(), restricted.trim() == "1", "{opened:?}");
    let mut source = Source::open(&root).unwrap();
    assert!(matches!(source.read_next(), Ok(Next::Record(_))));
}

#[test]
fn no_kernel_log_and_what_is_none_are_errors_that_name_the_opener() {
    let tree = Tree::new();
    open_for(tree.root(), NOBODY);
    assert!(ask_kernel_log(tree.root()).unwrap_err().is_not_found());
    let log = tree.root().join("dev/kmsg");
    fs::create_dir(tree.root().join("dev")).unwrap();
    mkfifo(&log, Mode::S_IRWXU).unwrap();
    let error = ask_kernel_log(tree.root()).unwrap_err();
    assert!(matches!(error, ProbeError::Io { .. }), "{error}");
    fs::remove_file(&log).unwrap();
    fs::write(&log, "6,0,0,-;x\n").unwrap();
    assert!(ask_kernel_log(tree.root()).is_ok());
}

/// The first NIC of this machine.
fn real_nic() -> Option<String> {
    let devices = fs::read_dir("/sys/bus/pci/devices").ok()?;
    let mut names: Vec<String> = devices
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|bdf| {
            let class = Path::new("/sys/bus/pci/devices").join(bdf).join("class");
            fs::read_to_string(class).is_ok_and(|class| class.starts_with("0x02"))
        })
        .collect();
    names.sort_unstable();
    names.into_iter().next()
}

#[test]
fn an_agent_whose_readers_may_not_open_config_space_reads_it_through_the_opener_also_after_a_rescan()
 {
    if !may_change_user("an agent without privilege") {
        return;
    }
    let tree = Tree::new();
    let_everybody_in(&tree);
    tree.remove(CHIP);
    tree.chip(0o600);
    open_for(tree.root(), NOBODY);
    let this = std::env::current_exe().unwrap();
    let user = format!("--reuid={NOBODY}");
    let arguments = [user.as_str(), "--clear-groups", this.to_str().unwrap()];
    let test = ["reader_process", "--exact", "--ignored"];
    let agent = Agent::builder(tree.root())
        .interval(Duration::from_millis(100))
        .reader_command(ReaderCommand::new("setpriv", arguments.iter().chain(&test)))
        .start()
        .unwrap();
    let status = agent.wait_until(SOON, |status| {
        let chip = status.component(CHIP);
        chip.is_some_and(|chip| chip.vitals.is_some())
    });
    let status = status.unwrap();
    assert_eq!(status.agent.config_access.opener, 1, "{status:#?}");
    assert!(status.component(CHIP).unwrap().identity.serial.is_some());

    tree.remove(CHIP);
    let gone = agent.wait_until(SOON, |status| status.agent.config_access.none == 1);
    gone.unwrap();
    tree.chip(0o600);
    let back = agent.wait_until(SOON, |status| status.agent.config_access.opener == 1);
    back.unwrap();
    agent.stop().unwrap();
}

/// Not a test: what the readers of these tests run, in this program.
#[test]
#[ignore = "runs as a reader process of the test above"]
fn reader_process() {
    // Without a test that started it there is no agent on the other side of standard input.
    let _ = run_reader();
}
