//! Requests to the opener: each has one answer of five bytes, with a descriptor when and only when it says that all is well.
#![no_main]

use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::LazyLock;

use auk_health::opener::{Opener, socket_path};
use libfuzzer_sys::fuzz_target;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv,
    recvmsg, send, socket,
};
use nix::unistd::{close, getuid};
use tempfile::TempDir;

struct Host {
    _directory: TempDir,
    socket: PathBuf,
}

/// A host with a chip, a function that is none of ours, and an opener.
static HOST: LazyLock<Host> = LazyLock::new(|| {
    let directory = TempDir::new().expect("a directory");
    for (bdf, vendor, class) in [
        ("0000:01:00.0", "0x1ae5", "0x120000"),
        ("0000:02:00.0", "0x8086", "0x010802"),
    ] {
        let function = directory.path().join("sys/bus/pci/devices").join(bdf);
        fs::create_dir_all(&function).expect("a function");
        for (name, text) in [("vendor", vendor), ("device", "0xa100"), ("class", class)] {
            fs::write(function.join(name), format!("{text}\n")).expect("an attribute");
        }
        fs::write(function.join("config"), [0; 4096]).expect("config space");
    }
    let opener = Opener::open(directory.path(), getuid().as_raw()).expect("an opener");
    let socket = socket_path(directory.path());
    std::thread::spawn(move || opener.run());
    Host {
        _directory: directory,
        socket,
    }
});

fuzz_target!(|bytes: &[u8]| {
    // A message of no bytes is the end of a connection.
    if bytes.is_empty() || bytes.len() > 4096 {
        return;
    }
    let host = &*HOST;
    let flags = SockFlag::SOCK_CLOEXEC;
    let peer: OwnedFd =
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("a socket");
    let address = UnixAddr::new(&host.socket).expect("its address");
    connect(peer.as_raw_fd(), &address).expect("connecting to the opener");
    send(peer.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL).expect("asking the opener");
    let mut answer = [0; 16];
    let mut into = [IoSliceMut::new(&mut answer)];
    let mut space = nix::cmsg_space!([i32; 4]);
    // libFuzzer's clock interrupts it now and then.
    let length = loop {
        match recv(
            peer.as_raw_fd(),
            &mut [],
            MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC,
        ) {
            Err(Errno::EINTR) => {}
            length => break length.expect("the opener's answer"),
        }
    };
    assert_eq!(length, 5);
    let received = recvmsg::<()>(
        peer.as_raw_fd(),
        &mut into,
        Some(&mut space),
        MsgFlags::empty(),
    )
    .expect("the opener's answer");
    let mut passed = 0;
    for message in received.cmsgs().expect("what came along") {
        if let ControlMessageOwned::ScmRights(descriptors) = message {
            for descriptor in descriptors {
                passed += 1;
                let _ = close(descriptor);
            }
        }
    }
    assert_eq!(received.bytes, 5);
    let well = answer[1..5] == [0; 4];
    assert_eq!(passed, usize::from(well));
    assert_eq!(well, bytes == b"\x010000:01:00.0");
});
