//! What the targets share: peers that pass descriptors.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::eventfd::EventFd;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Bytes of the memory that a peer passes where it plays by the rules.
pub const MEMORY: u64 = 64 << 10;

/// A descriptor of the kind that the byte says: what a peer should pass, what it might by mistake, and worse.
pub fn descriptor(kind: u8) -> OwnedFd {
    let shrink = SealFlag::F_SEAL_SHRINK;
    match kind % 12 {
        0 | 1 => memory(
            MEMORY,
            Some(shrink | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL),
        ),
        2 => memory(MEMORY, Some(SealFlag::empty())),
        3 => memory(MEMORY, None),
        4 => memory(100, Some(shrink)),
        5 => memory(0, Some(SealFlag::empty())),
        6 => memory(MEMORY, Some(shrink | SealFlag::F_SEAL_WRITE)),
        7 => EventFd::new().expect("an eventfd").into(),
        8 => std::io::pipe().expect("a pipe").0.into(),
        9 => UnixStream::pair().expect("a socket pair").0.into(),
        10 => open("/dev/zero"),
        _ => open("/"),
    }
}

fn open(path: &str) -> OwnedFd {
    File::open(path)
        .expect("a file that everybody may read")
        .into()
}

/// A memfd; without `seals` one that cannot be sealed.
fn memory(bytes: u64, seals: Option<SealFlag>) -> OwnedFd {
    let sealable = match seals {
        Some(_) => MFdFlags::MFD_ALLOW_SEALING,
        None => MFdFlags::empty(),
    };
    let memory =
        File::from(memfd_create("fuzz", MFdFlags::MFD_CLOEXEC | sealable).expect("a memfd"));
    memory.set_len(bytes).expect("its size");
    if let Some(seals) = seals {
        fcntl(&memory, FcntlArg::F_ADD_SEALS(seals)).expect("its seals");
    }
    memory.into()
}

/// Sends bytes, and descriptors with the first of them. Whether the other end is still there.
pub fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> bool {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &[][..] } else { &rights };
    let mut sent = 0;
    while sent < bytes.len() {
        let rights = if sent == 0 { rights } else { &[] };
        let part = [IoSlice::new(&bytes[sent..])];
        match sendmsg::<()>(
            socket.as_raw_fd(),
            &part,
            rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Ok(count) => sent += count,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// A message of vfio-user (`struct vfio_user_header` and a payload).
pub fn message(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + payload.len());
    bytes.extend(id.to_ne_bytes());
    bytes.extend(command.to_ne_bytes());
    bytes.extend((16 + payload.len() as u32).to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(payload);
    bytes
}
