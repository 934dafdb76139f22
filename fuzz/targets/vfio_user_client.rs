//! A vfio-user client: whatever a server answers ends in a value or an error, and in time.
#![no_main]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use auk_vfio_user::client::{Client, Options};
use libfuzzer_sys::fuzz_target;

/// Answers each request with the next part of the input, until that is used up.
fn answer(mut socket: UnixStream, input: Vec<u8>) {
    let mut rest = &input[..];
    let mut first = true;
    loop {
        let mut header = [0; 16];
        if socket.read_exact(&mut header).is_err() {
            return;
        }
        let size = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let mut payload = vec![0; (size as usize).saturating_sub(16)];
        if socket.read_exact(&mut payload).is_err() {
            return;
        }
        let mut reply = payload.clone();
        let mut flags = 1;
        if !std::mem::take(&mut first) || input.first().is_some_and(|byte| byte % 8 == 0) {
            let [kind, length, after @ ..] = rest else {
                return;
            };
            let (new, after) = after.split_at(after.len().min(usize::from(*length)));
            rest = after;
            match kind % 4 {
                // What is to be read back is of the length that was asked for; the rest is the input's.
                0 => reply.iter_mut().zip(new).for_each(|(old, new)| *old = *new),
                1 => reply = new.to_vec(),
                2 => reply.extend_from_slice(new),
                _ => {
                    reply = new.to_vec();
                    flags = u32::from(*kind) >> 2;
                }
            }
        }
        header[4..8].copy_from_slice(&(16 + reply.len() as u32).to_le_bytes());
        header[8..12].copy_from_slice(&flags.to_le_bytes());
        if socket.write_all(&[&header[..], &reply].concat()).is_err() {
            return;
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let input = bytes.to_vec();
    let server = std::thread::spawn(move || answer(theirs, input));
    let soon = || Instant::now() + Duration::from_millis(100);
    let begun = Instant::now();
    if let Ok(client) = Client::from_fd(ours.into(), Options::default(), soon()) {
        let _ = client.device_info(soon());
        for index in [0, 7, 8] {
            let _ = client.region_info(index, soon());
        }
        let _ = client.irq_info(2, soon());
        let mut data = [0; 64];
        let _ = client.region_read(7, 0, &mut data, soon());
        let _ = client.region_write(7, 0, &data, soon());
        let _ = client.dma_unmap(0x1000, 0x1000, soon());
        let _ = client.dma_unmap_all(soon());
        let _ = client.reset(soon());
        let _ = client.serve_requests(Instant::now());
    }
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    server.join().expect("the server's thread");
});
