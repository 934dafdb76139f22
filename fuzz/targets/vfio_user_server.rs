//! A vfio-user server with a chip behind it: whatever a client sends ends in replies or in the end of its connection.
#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::time::Duration;

use auk_sim::{Chip, ChipProfile};
use auk_vfio_user::server::{Options, Server};
use libfuzzer_sys::fuzz_target;

static CHIP: LazyLock<Chip> = LazyLock::new(|| {
    let profile = ChipProfile {
        memory: 16 << 20,
        ..ChipProfile::silicon(1)
    };
    Chip::new(profile).expect("a chip")
});

fn message(out: &mut Vec<u8>, id: u16, command: u16, flags: u32, payload: &[u8]) {
    out.extend(id.to_le_bytes());
    out.extend(command.to_le_bytes());
    out.extend((16 + payload.len() as u32).to_le_bytes());
    out.extend(flags.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    out.extend(payload);
}

fuzz_target!(|bytes: &[u8]| {
    let mut sent = Vec::new();
    let mut rest = bytes;
    // The first byte says whether what comes is framed as messages are.
    if let [0x80..=0xFF, raw @ ..] = bytes {
        sent.extend_from_slice(raw);
    } else {
        message(&mut sent, 0, 1, 0, b"\0\0\x01\0{\"capabilities\":{}}\0");
        let mut id = 0;
        while let [command, flags, length, after @ ..] = rest {
            let (payload, after) = after.split_at(after.len().min(usize::from(*length)));
            rest = after;
            id += 1;
            message(
                &mut sent,
                id,
                u16::from(command % 32),
                u32::from(flags & 0x3F),
                payload,
            );
        }
    }
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let mut writing = ours.try_clone().expect("the socket again");
    let reading = std::thread::spawn(move || {
        let mut ours = ours;
        let mut sink = [0; 4096];
        while ours.read(&mut sink).is_ok_and(|read| read > 0) {}
    });
    let sending = std::thread::spawn(move || {
        // It may be disconnected before the end.
        let _ = writing.write_all(&sent);
        let _ = writing.shutdown(Shutdown::Write);
    });
    let options = Options {
        message_timeout: Duration::from_millis(500),
        max_data_xfer_size: 1 << 16,
        ..Options::default()
    };
    let server = Server::new(options).expect("a server");
    let _ = server.serve_fd(theirs.into(), &mut CHIP.device(), None);
    sending.join().expect("sending");
    reading.join().expect("reading");
});
