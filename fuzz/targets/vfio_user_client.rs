//! A vfio-user client: whatever a server answers, bytes and descriptors, ends in a value or an error, and in time; and a region
//! that the client maps cannot be taken from under it.
#![no_main]

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use auk_driver::mmio::Window;
use auk_fuzz::{descriptor, message, send};
use auk_vfio_user::Errno;
use auk_vfio_user::client::{Client, DmaHandler, Options};
use libfuzzer_sys::fuzz_target;

/// What the server does with a request.
#[derive(Debug, Arbitrary)]
struct Answer {
    /// Before the reply, a request of its own: DMA_READ or DMA_WRITE, or anything.
    asks: Option<Ask>,
    reply: Reply,
    /// Kinds of the descriptors that come with it.
    passed: Vec<u8>,
    /// Cuts short what was passed, afterwards.
    shrinks: bool,
}

#[derive(Debug, Arbitrary)]
struct Ask {
    command: Option<u8>,
    address: u64,
    count: u16,
    data: Vec<u8>,
}

#[derive(Debug, Arbitrary)]
enum Reply {
    /// What was asked with, with other bytes at its beginning: what is to be repeated mostly is.
    Repeat(Vec<u8>),
    /// The same and more bytes at the end.
    Longer(Vec<u8>),
    Any(Vec<u8>),
    /// Of other flags.
    Flags {
        flags: u8,
        payload: Vec<u8>,
    },
    /// DEVICE_GET_REGION_INFO with areas that can be mapped.
    Region {
        flags: u8,
        index: u8,
        pages: u8,
        offset: u8,
        areas: Vec<(u8, u8)>,
    },
    /// Bytes that need be no message.
    Bytes(Vec<u8>),
}

fn region(flags: u8, index: u8, pages: u8, offset: u8, areas: &[(u8, u8)]) -> Vec<u8> {
    let page = |count: u8| u64::from(count) * 4096;
    let caps = 16 + 16 * areas.len() as u32;
    let mut payload = Vec::new();
    for word in [32 + caps, u32::from(flags % 16), u32::from(index % 9), 32] {
        payload.extend(word.to_ne_bytes());
    }
    payload.extend(page(pages).to_ne_bytes());
    payload.extend(page(offset).to_ne_bytes());
    payload.extend([1, 0, 1, 0, 0, 0, 0, 0]);
    payload.extend((areas.len() as u32).to_ne_bytes());
    payload.extend([0; 4]);
    for &(at, length) in areas {
        payload.extend(page(at).to_ne_bytes());
        payload.extend(page(length).to_ne_bytes());
    }
    payload
}

/// Answers each request as the input says, until that is used up.
fn answer(mut socket: UnixStream, input: &[u8]) {
    let mut input = Unstructured::new(input);
    // Most servers are of the right version.
    let mut agrees = !input.ratio(1, 16).unwrap_or(false);
    loop {
        let mut header = [0; 16];
        if socket.read_exact(&mut header).is_err() {
            return;
        }
        let size = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        let mut asked = vec![0; (size as usize).saturating_sub(16)];
        if socket.read_exact(&mut asked).is_err() {
            return;
        }
        let id = u16::from_ne_bytes([header[0], header[1]]);
        let command = u16::from_ne_bytes([header[2], header[3]]);
        if std::mem::take(&mut agrees) {
            if !send(&socket, &message(id, command, 1, &asked), &[]) {
                return;
            }
            continue;
        }
        if input.is_empty() {
            return;
        }
        let Ok(answer) = input.arbitrary::<Answer>() else {
            return;
        };
        if let Some(Ask {
            command,
            address,
            count,
            data,
        }) = answer.asks
        {
            let head = [address.to_ne_bytes(), u64::from(count).to_ne_bytes()].concat();
            let command = command.map_or(11 + u16::from(!data.is_empty()), u16::from);
            let ask = message(99, command, 0, &[head, data].concat());
            if !send(&socket, &ask, &[]) {
                return;
            }
        }
        let descriptors: Vec<_> = answer
            .passed
            .iter()
            .take(20)
            .map(|kind| descriptor(*kind))
            .collect();
        let (flags, payload) = match answer.reply {
            Reply::Repeat(new) => {
                asked.iter_mut().zip(new).for_each(|(old, new)| *old = new);
                (1, asked)
            }
            Reply::Longer(more) => (1, [asked, more].concat()),
            Reply::Any(payload) => (1, payload),
            Reply::Flags { flags, payload } => (u32::from(flags), payload),
            Reply::Region {
                flags,
                index,
                pages,
                offset,
                areas,
            } => (1, region(flags, index, pages, offset, &areas)),
            Reply::Bytes(bytes) => {
                if bytes.is_empty() || !send(&socket, &bytes, &descriptors) {
                    return;
                }
                continue;
            }
        };
        if !send(
            &socket,
            &message(id, command, flags, &payload),
            &descriptors,
        ) {
            return;
        }
        if answer.shrinks {
            for descriptor in &descriptors {
                let again = descriptor.as_fd().try_clone_to_owned().expect("another");
                // Only memory that nobody has sealed can be.
                let _ = File::from(again).set_len(1);
            }
        }
    }
}

/// Memory of the client that the server reaches by messages.
struct Memory(Vec<u8>);

impl DmaHandler for Memory {
    fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        let from = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
        let from = self.0.get(from..).and_then(|rest| rest.get(..data.len()));
        data.copy_from_slice(from.ok_or(Errno::EFAULT)?);
        Ok(())
    }

    fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let to = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
        let to = self
            .0
            .get_mut(to..)
            .and_then(|rest| rest.get_mut(..data.len()));
        to.ok_or(Errno::EFAULT)?.copy_from_slice(data);
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let input = bytes.to_vec();
    let server = std::thread::spawn(move || answer(theirs, &input));
    let soon = || Instant::now() + Duration::from_millis(20);
    let begun = Instant::now();
    let options = Options {
        handler: Some(Box::new(Memory(vec![7; 4096]))),
        ..Options::default()
    };
    if let Ok(client) = Client::from_fd(ours.into(), options, soon()) {
        let _ = client.device_info(soon());
        for index in [0, 7, 8] {
            let Ok(info) = client.region_info(index, soon()) else {
                continue;
            };
            if let Ok(window) = Window::map(index, &info, 0, 4096) {
                // That it can be mapped means that it cannot vanish.
                let _ = (window.read_u32(0), window.write_u32(4092, 1));
            }
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
