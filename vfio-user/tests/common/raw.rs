//! Messages made by hand, for peers that do not keep to the rules.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses its own part of this"
)]

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

pub const VERSION: u16 = 1;
pub const DMA_MAP: u16 = 2;
pub const DMA_UNMAP: u16 = 3;
pub const GET_INFO: u16 = 4;
pub const GET_REGION_INFO: u16 = 5;
pub const GET_IRQ_INFO: u16 = 7;
pub const SET_IRQS: u16 = 8;
pub const REGION_READ: u16 = 9;
pub const REGION_WRITE: u16 = 10;
pub const DMA_READ: u16 = 11;
pub const DMA_WRITE: u16 = 12;
pub const RESET: u16 = 13;

pub const REPLY: u32 = 1;
pub const NO_REPLY: u32 = 0x10;
pub const ERROR: u32 = 0x20;

/// A peer at the other end of a socket.
pub struct Raw(pub UnixStream);

/// A message as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    pub id: u16,
    pub command: u16,
    pub flags: u32,
    pub error: u32,
    pub payload: Vec<u8>,
}

/// A header with whatever is in it.
pub fn header(id: u16, command: u16, size: u32, flags: u32, error: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&id.to_ne_bytes());
    bytes.extend_from_slice(&command.to_ne_bytes());
    for word in [size, flags, error] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// A message with the right size in its header.
pub fn message(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(id, command, 16 + payload.len() as u32, flags, 0);
    bytes.extend_from_slice(payload);
    bytes
}

/// 32-bit words, one after the other.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// 64-bit words, one after the other.
pub fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

/// Payload of REGION_READ and REGION_WRITE.
pub fn region_access(offset: u64, region: u32, count: u32, data: &[u8]) -> Vec<u8> {
    [longs(&[offset]), words(&[region, count]), data.to_vec()].concat()
}

/// Payload of DMA_MAP.
pub fn dma_map(argsz: u32, flags: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    [words(&[argsz, flags]), longs(&[offset, address, size])].concat()
}

/// Payload of DMA_UNMAP.
pub fn dma_unmap(argsz: u32, flags: u32, address: u64, size: u64) -> Vec<u8> {
    [words(&[argsz, flags]), longs(&[address, size])].concat()
}

/// Payload of VERSION.
pub fn version(major: u16, minor: u16, json: &str) -> Vec<u8> {
    [&major.to_ne_bytes(), &minor.to_ne_bytes(), json.as_bytes()].concat()
}

impl Raw {
    pub fn new(stream: UnixStream) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(stream)
    }

    /// Sends bytes; a peer that has hung up is for the receiving side to notice.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    pub fn send_with_fds(&mut self, bytes: &[u8], fds: &[RawFd]) {
        let rights = [ControlMessage::ScmRights(fds)];
        let parts = [IoSlice::new(bytes)];
        let sent = sendmsg::<()>(
            self.0.as_raw_fd(),
            &parts,
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// The next message; `None` when the peer has closed.
    pub fn receive(&mut self) -> Option<Received> {
        let mut header = [0; 16];
        let mut have = 0;
        while have < header.len() {
            match self.0.read(&mut header[have..]) {
                Ok(0) => return None,
                Ok(count) => have += count,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the peer neither answers nor closes: {error}"),
            }
        }
        let half = |at: usize| u16::from_ne_bytes(header[at..at + 2].try_into().unwrap());
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; word(4) as usize - 16];
        self.0.read_exact(&mut payload).unwrap();
        Some(Received {
            id: half(0),
            command: half(2),
            flags: word(8),
            error: word(12),
            payload,
        })
    }

    /// Sends a request and gives its reply.
    pub fn ask(&mut self, command: u16, payload: &[u8]) -> Received {
        self.send(&message(77, command, 0, payload));
        self.reply_to(command)
    }

    pub fn ask_with_fds(&mut self, command: u16, payload: &[u8], fds: &[RawFd]) -> Received {
        self.send_with_fds(&message(77, command, 0, payload), fds);
        self.reply_to(command)
    }

    fn reply_to(&mut self, command: u16) -> Received {
        let reply = self.receive().expect("a reply");
        assert_eq!(
            (reply.id, reply.command, reply.flags & 0xf),
            (77, command, REPLY)
        );
        if reply.flags & ERROR != 0 {
            assert!(reply.payload.is_empty(), "an error reply has no payload");
        }
        reply
    }

    /// Sends a request and gives the error it is refused with; 0 if it is not.
    pub fn error(&mut self, command: u16, payload: &[u8]) -> i32 {
        let reply = self.ask(command, payload);
        assert_eq!(reply.flags & ERROR != 0, reply.error != 0);
        reply.error as i32
    }

    pub fn error_with_fds(&mut self, command: u16, payload: &[u8], fds: &[RawFd]) -> i32 {
        self.ask_with_fds(command, payload, fds).error as i32
    }

    /// Whether the peer closes, whatever it may say before.
    pub fn closes(&mut self) -> bool {
        while self.receive().is_some() {}
        true
    }
}
