//! What the kernel tells of devices as it happens: `NETLINK_KOBJECT_UEVENT`, as `udev` hears it.
//!
//! It tells of a function that comes or goes, that its driver is bound to or taken from, and that recovers from a PCIe
//! error (`pci_uevent_ers` in `drivers/pci/pci-driver.c`). It does not tell of a correctable error, nor of a link that
//! trains to less: the looks find these. What it tells is never judged, it only has a look come early.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::probe::discover::is_bdf;

/// The kernel's own messages; `udev` repeats them in another group.
const KERNEL: u32 = 1;
/// Longest message, `UEVENT_BUFFER_SIZE` in include/linux/kobject.h with room for the header before it.
const LONGEST: usize = 8192;

/// So long after a message the rest of what belongs to it has happened too.
const SETTLE: Duration = Duration::from_millis(100);

/// What was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Something about the last of these functions, each below the one before.
    Of(Vec<String>),
    /// More than could be taken: anything may have happened.
    Overrun,
}

/// The messages, of this machine only.
#[derive(Debug)]
pub(super) struct Uevents {
    /// To tokio a socket is one of whatever family: nothing but its readiness is asked.
    socket: Option<UnixDatagram>,
}

impl Uevents {
    /// Those of the host below a root: of another than this machine there are none. To be called in a runtime.
    pub(super) fn of(root: &Path) -> Self {
        let here = root.canonicalize().is_ok_and(|root| root == Path::new("/"));
        let socket = match here.then(open).transpose() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::info!(%error, "the kernel's device events are not heard; looks find what they would tell");
                None
            }
        };
        Self { socket }
    }

    /// The next one that is about a PCI function; never where there are none.
    pub(super) async fn next(&mut self) -> Notice {
        loop {
            let Some(socket) = &self.socket else {
                return std::future::pending().await;
            };
            let received = socket.async_io(Interest::READABLE, || receive(socket));
            match received.await {
                Ok(Some(notice)) => return notice,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "the kernel's device events are heard no more");
                    self.socket = None;
                }
            }
        }
    }
}

/// When a round is to come early. A storm of messages must not become a storm of looks.
#[derive(Debug, Default)]
pub(super) struct Hurry {
    last: Option<Instant>,
}

impl Hurry {
    /// How soon after a message, if sooner than it comes anyway; once in an interval.
    pub(super) fn after(&mut self, interval: Duration) -> Option<Duration> {
        if self.last.is_some_and(|last| last.elapsed() < interval) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(SETTLE.min(interval))
    }
}

fn open() -> io::Result<UnixDatagram> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
    UnixDatagram::from_std(socket.into())
}

/// A message, if it is one that matters.
fn receive(socket: &UnixDatagram) -> io::Result<Option<Notice>> {
    let mut buffer = [0; LONGEST];
    match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut buffer) {
        // Port 0 is the kernel; anything else is somebody who plays it.
        Ok((length, Some(sender))) if sender.pid() == 0 => {
            Ok(buffer.get(..length).and_then(parse).map(Notice::Of))
        }
        Ok(_) => Ok(None),
        Err(Errno::ENOBUFS) => Ok(Some(Notice::Overrun)),
        Err(errno) => Err(errno.into()),
    }
}

/// The PCI functions in a message's path, from the root down; `None` when it has none.
///
/// A message is `ACTION@DEVPATH` and then `KEY=VALUE`s, each ended by a NUL.
fn parse(message: &[u8]) -> Option<Vec<String>> {
    let mut parts = message.split(|byte| *byte == 0);
    let (_, path) = std::str::from_utf8(parts.next()?).ok()?.split_once('@')?;
    let functions: Vec<String> = path
        .split('/')
        .filter(|part| is_bdf(part))
        .map(str::to_owned)
        .collect();
    (!functions.is_empty()).then_some(functions)
}

/// Takes some bytes for a message, for a fuzz target.
#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8]) {
    if let Some(functions) = parse(bytes) {
        assert!(functions.iter().all(|function| is_bdf(function)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_functions_on_its_path() {
        let message =
            b"remove@/devices/pci0000:00/0000:00:01.0/0000:01:00.0\0ACTION=remove\0SUBSYSTEM=pci\0";
        let functions = vec!["0000:00:01.0".to_owned(), "0000:01:00.0".to_owned()];
        assert_eq!(parse(message), Some(functions));
        let below = b"add@/devices/pci0000:00/0000:00:03.0/net/eth0\0ACTION=add\0";
        assert_eq!(parse(below), Some(vec!["0000:00:03.0".to_owned()]));
    }

    #[test]
    fn what_is_of_no_function_or_is_no_message_is_left_out() {
        for message in [
            &b"change@/devices/virtual/net/lo\0ACTION=change\0"[..],
            b"libudev\0\xfe\xed\xca\xfe",
            b"@",
            b"\xff@/0000:00:01.0",
            b"",
        ] {
            assert_eq!(parse(message), None, "{message:?}");
        }
    }

    /// Asks the kernel to say it again, which `udevadm trigger` does; needs root.
    #[test]
    fn the_kernel_is_heard() {
        let devices = std::fs::read_dir("/sys/bus/pci/devices");
        let device = devices.ok().and_then(|mut devices| devices.next()?.ok());
        let Some(device) = device.filter(|_| nix::unistd::geteuid().is_root()) else {
            eprintln!("SKIPPED: to have the kernel say something takes root and a PCI function");
            return;
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .unwrap();
        let name = device.file_name().into_string().unwrap();
        let heard = runtime.block_on(async {
            let mut uevents = Uevents::of(Path::new("/"));
            std::fs::write(device.path().join("uevent"), "change").unwrap();
            let heard = async {
                loop {
                    match uevents.next().await {
                        Notice::Of(functions) if functions.last() == Some(&name) => return,
                        _ => {}
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(30), heard).await
        });
        assert!(heard.is_ok(), "{name} was not heard of");
    }

    #[test]
    fn a_storm_of_messages_makes_one_early_round_an_interval() {
        let mut hurry = Hurry::default();
        let hour = Duration::from_secs(3600);
        assert_eq!(hurry.after(hour), Some(SETTLE));
        assert_eq!(hurry.after(hour), None);
        assert_eq!(hurry.after(Duration::ZERO), Some(Duration::ZERO));
    }

    #[test]
    fn of_a_simulated_host_nothing_is_heard() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Uevents::of(directory.path()).socket.is_none());
    }
}
