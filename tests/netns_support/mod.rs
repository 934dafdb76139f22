//! A machine in the machine: a network and a mount namespace of this thread's own, in which `/sys` has one function, and the
//! interface of that is one end of a veth pair.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses its part, and a failing helper is a failing test"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use auk_health::client::{fetch_events, fetch_status};
use auk_health::status::{ComponentStatus, Status};
use auk_health::store::{Event, Query};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

use crate::cli_support::{SOON, command};

pub const NIC: &str = "0000:41:00.0";
/// Makes the pair; the address is what the NIC is known by.
pub const ADD: &str = "ip link add port0 address 02:a1:00:00:00:07 type veth peer name far0";
const NONE: Option<&str> = None;

/// What is of this thread and its children only.
pub struct Machine {
    directory: TempDir,
    agent: Option<Child>,
}

/// Whether a machine can be had here; says so loudly when not.
pub fn is_possible(test: &str) -> bool {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: {test}: namespaces of one's own and a veth pair take root");
        return false;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("SKIPPED: {test}: there is no `ip` (iproute2) to make a veth pair with");
        return false;
    }
    true
}

/// Runs a command that must succeed.
#[track_caller]
pub fn run(line: &str) {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}

impl Machine {
    /// With a veth pair `port0` and `far0`, both up, of which `port0` is the interface of the function.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(NONE, "/", NONE, private, NONE).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let machine = Self {
            directory,
            agent: None,
        };
        run("ip link set lo up");
        run(ADD);
        run("ip link set far0 up");
        run("ip link set port0 up");
        machine.make_sys();
        for state in ["/run", "/var/lib"] {
            mount(Some("tmpfs"), state, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
        }
        machine
    }

    /// The kernel's own sysfs of this network namespace.
    pub fn real_sys(&self) -> PathBuf {
        self.directory.path().join("real")
    }

    fn function(&self) -> PathBuf {
        Path::new("/sys/devices/pci0000:40/0000:40:01.0").join(NIC)
    }

    /// Puts a `/sys` over the machine's in which there is one function.
    fn make_sys(&self) {
        let (real, made) = (self.real_sys(), self.directory.path().join("made"));
        fs::create_dir(&real).unwrap();
        mount(Some("sysfs"), &real, Some("sysfs"), MsFlags::empty(), NONE).unwrap();
        let function = format!("devices/pci0000:40/0000:40:01.0/{NIC}");
        fs::create_dir_all(made.join(&function).join("net")).unwrap();
        for (name, contents) in [
            ("vendor", "0x15b3"),
            ("device", "0x1021"),
            ("class", "0x020000"),
            ("power_state", "D0"),
            ("numa_node", "0"),
            ("current_link_speed", "32.0 GT/s PCIe"),
            ("current_link_width", "16"),
            ("max_link_speed", "32.0 GT/s PCIe"),
            ("max_link_width", "16"),
        ] {
            fs::write(made.join(&function).join(name), format!("{contents}\n")).unwrap();
        }
        let mut config = vec![0; 64];
        config[..4].copy_from_slice(&[0xB3, 0x15, 0x21, 0x10]);
        fs::write(made.join(&function).join("config"), config).unwrap();
        fs::create_dir_all(made.join("bus/pci/devices")).unwrap();
        let link = made.join("bus/pci/devices").join(NIC);
        symlink(format!("../../../{function}"), link).unwrap();
        fs::create_dir_all(made.join("class/net")).unwrap();
        mount(Some(&made), "/sys", NONE, MsFlags::MS_BIND, NONE).unwrap();
        self.show("port0");
    }

    /// Shows an interface of the kernel's as that of the function, under its name.
    pub fn show(&self, interface: &str) {
        let real = self.real_sys().join("devices/virtual/net").join(interface);
        let shown = self.function().join("net").join(interface);
        fs::create_dir(&shown).unwrap();
        mount(Some(&real), &shown, NONE, MsFlags::MS_BIND, NONE).unwrap();
        let target = format!("../../devices/pci0000:40/0000:40:01.0/{NIC}/net/{interface}");
        symlink(target, Path::new("/sys/class/net").join(interface)).unwrap();
    }

    /// Shows it no more.
    pub fn hide(&self, interface: &str) {
        let shown = self.function().join("net").join(interface);
        umount2(&shown, MntFlags::MNT_DETACH).unwrap();
        fs::remove_dir(shown).unwrap();
        fs::remove_file(Path::new("/sys/class/net").join(interface)).unwrap();
    }

    /// A count of the kernel's.
    pub fn count(&self, interface: &str, file: &str) -> u64 {
        let path = self.real_sys().join("class/net").join(interface).join(file);
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    /// Starts `auk agent` and waits until it has looked twice.
    pub fn start_agent(&mut self) {
        let mut command = command(&["agent"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.agent = Some(child.unwrap());
        self.wait_for("a second round", |status| status.agent.rounds >= 2);
    }

    /// Stops or continues the agent's process, but not its readers.
    pub fn signal_agent(&self, signal: Signal) {
        let agent = self.agent.as_ref().unwrap();
        kill(Pid::from_raw(i32::try_from(agent.id()).unwrap()), signal).unwrap();
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, mut condition: impl FnMut(&Status) -> bool) -> Status {
        let start = Instant::now();
        loop {
            let status = fetch_status(Path::new("/"), Duration::from_secs(2));
            if let Ok(status) = status
                && condition(&status)
            {
                return status;
            }
            assert!(start.elapsed() < SOON, "no {what} within {SOON:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The NIC once a condition holds.
    #[track_caller]
    pub fn nic(
        &self,
        what: &str,
        mut holds: impl FnMut(&ComponentStatus) -> bool,
    ) -> ComponentStatus {
        let status = self.wait_for(what, |status| status.component(NIC).is_some_and(&mut holds));
        status.component(NIC).unwrap().clone()
    }

    /// Events after an id, that are no changes of state; waits a little when there are none.
    pub fn events(&self, after: u64) -> (Vec<Event>, u64) {
        let query = Query {
            after,
            ..Query::default()
        };
        let wait = Duration::from_secs(1);
        let page = fetch_events(Path::new("/"), &query, wait, Duration::from_secs(5)).unwrap();
        let last = page.events.last().map_or(after, |event| event.id);
        let told = page.events.into_iter().filter(|event| {
            ["carrier", "interface", "link_messages_lost"].contains(&event.record.kind.as_str())
        });
        (told.collect(), last)
    }

    /// Sums of what was told of the carrier so far, when that reaches what the kernel counts.
    #[track_caller]
    pub fn told(&self, what: &str, mut enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
        let start = Instant::now();
        let (mut all, mut last) = (Vec::new(), 0);
        loop {
            let (events, id) = self.events(last);
            all.extend(events);
            last = id;
            if enough(&all) {
                return all;
            }
            assert!(start.elapsed() < SOON, "no {what} in {all:#?}");
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        // What is below is the kernel's, and not to be removed with the directory.
        umount2(&self.real_sys(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// How often the carrier came and went by some events.
pub fn changes(events: &[Event]) -> (u64, u64) {
    let sum = |key: &str| {
        let counts = events.iter();
        counts
            .filter_map(|event| event.record.details[key].as_u64())
            .sum()
    };
    (sum("ups"), sum("downs"))
}

/// The kernel's own messages, to hold the agent's against.
pub struct Notifications {
    socket: std::os::fd::OwnedFd,
}

impl Notifications {
    pub fn open() -> Self {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )
        .unwrap();
        const RTMGRP_LINK: u32 = 1;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, RTMGRP_LINK)).unwrap();
        Self { socket }
    }

    /// Waits for the next one: how often the carrier of an interface came and went in all.
    pub fn next(&self, interface: &str) -> (u64, u64) {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(errno) => panic!("{errno}"),
            };
            for link in auk_health::probe::rtnetlink::parse(&buffer[..length]).unwrap() {
                if link.name.as_deref() == Some(interface) {
                    let count = |count: Option<u32>| u64::from(count.unwrap());
                    return (count(link.carrier_up), count(link.carrier_down));
                }
            }
        }
    }
}

/// A network namespace that lives as long as this does.
pub struct Elsewhere {
    keeper: Child,
}

impl Elsewhere {
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo ready; exec cat"]);
        let mut keeper = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        keeper
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        Self { keeper }
    }

    pub fn pid(&self) -> u32 {
        self.keeper.id()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.keeper.stdin.as_mut().unwrap().flush();
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
