//! A vfio-user server with a chip behind it: whatever a client sends, bytes and descriptors, ends in replies or in the end of its
//! connection; and the memory that it passed may change, or be cut short, at any time.
#![no_main]

use std::fs::File;
use std::io::Read;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use auk_asic::{PAGE, bar0};
use auk_fuzz::{MEMORY, descriptor, message, send};
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

const BAR0: u32 = 0;
const CONFIG: u32 = 7;

/// What a client does.
#[derive(Debug, Arbitrary)]
enum Step {
    /// Bytes that need not be a message.
    Bytes {
        bytes: Vec<u8>,
        passed: Passed,
    },
    /// A message with any payload.
    Message {
        command: u8,
        flags: u8,
        payload: Vec<u8>,
        passed: Passed,
    },
    /// DMA_MAP and DMA_UNMAP, by pages.
    Map {
        flags: u8,
        offset: u8,
        iova: u8,
        pages: u8,
        passed: Passed,
    },
    Unmap {
        flags: u8,
        iova: u8,
        pages: u8,
    },
    /// DEVICE_SET_IRQS.
    Irqs {
        flags: u8,
        index: u8,
        start: u8,
        count: u8,
        data: Vec<u8>,
        passed: Passed,
    },
    /// Accesses of registers by their numbers, and of anything else.
    Register {
        register: u8,
        value: u32,
    },
    Doorbell {
        queue: u8,
        word: u8,
        value: u32,
    },
    Config {
        offset: u16,
        value: u16,
    },
    Read {
        region: u8,
        offset: u32,
        count: u16,
    },
    /// What was passed before is written, or made shorter.
    Fill {
        which: u8,
        page: u8,
        words: Vec<u64>,
    },
    Shrink {
        which: u8,
        bytes: u16,
    },
    Reset,
}

/// Descriptors that go along.
#[derive(Debug, Arbitrary)]
enum Passed {
    None,
    One(u8),
    /// More than sixteen are too many.
    Many {
        kind: u8,
        count: u8,
    },
}

impl Passed {
    fn descriptors(&self) -> Vec<OwnedFd> {
        match *self {
            Self::None => Vec::new(),
            Self::One(kind) => vec![descriptor(kind)],
            Self::Many { kind, count } => (0..count % 20)
                .map(|more| descriptor(kind.wrapping_add(more)))
                .collect(),
        }
    }
}

/// The client's end of a connection.
struct Client {
    socket: UnixStream,
    id: u16,
    /// Other descriptors of what was passed.
    kept: Vec<File>,
}

impl Client {
    fn send(&mut self, command: u16, flags: u32, payload: &[u8], passed: &Passed) -> bool {
        self.id = self.id.wrapping_add(1);
        let bytes = message(self.id, command, flags, payload);
        self.send_bytes(&bytes, passed)
    }

    fn send_bytes(&mut self, bytes: &[u8], passed: &Passed) -> bool {
        let descriptors = passed.descriptors();
        if let Some(first) = descriptors.first() {
            self.kept.push(File::from(
                first.as_fd().try_clone_to_owned().expect("another"),
            ));
        }
        send(&self.socket, bytes, &descriptors)
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> bool {
        let access = [words(&[region, data.len() as u32]), data.to_vec()].concat();
        let payload = [offset.to_ne_bytes().to_vec(), access].concat();
        self.send(10, 0, &payload, &Passed::None)
    }

    /// Whether the server is still there.
    fn take(&mut self, step: &Step) -> bool {
        let page = PAGE as u64;
        match step {
            Step::Bytes { bytes, passed } => bytes.is_empty() || self.send_bytes(bytes, passed),
            Step::Message {
                command,
                flags,
                payload,
                passed,
            } => self.send(
                u16::from(command % 32),
                u32::from(flags & 0x3F),
                payload,
                passed,
            ),
            Step::Map {
                flags,
                offset,
                iova,
                pages,
                passed,
            } => {
                let range = [offset % 20, *iova, *pages % 20].map(|count| u64::from(count) * page);
                let payload = [words(&[32, u32::from(flags % 5)]), longs(&range)].concat();
                self.send(2, 0, &payload, passed)
            }
            Step::Unmap { flags, iova, pages } => {
                let range = [*iova, *pages % 20].map(|count| u64::from(count) * page);
                let payload = [words(&[24, u32::from(flags % 4)]), longs(&range)].concat();
                self.send(3, 0, &payload, &Passed::None)
            }
            Step::Irqs {
                flags,
                index,
                start,
                count,
                data,
                passed,
            } => {
                let head = [
                    20,
                    u32::from(*flags),
                    u32::from(index % 6),
                    u32::from(*start),
                    u32::from(*count),
                ];
                self.send(8, 0, &[words(&head), data.clone()].concat(), passed)
            }
            Step::Register { register, value } => {
                let register = bar0::REGISTERS[usize::from(*register) % bar0::REGISTERS.len()];
                self.write(BAR0, register.offset, &value.to_le_bytes())
            }
            Step::Doorbell { queue, word, value } => {
                let at = bar0::doorbell_page(u16::from(queue % 34)) + u64::from(word % 2) * 0x40;
                self.write(BAR0, at, &value.to_le_bytes())
            }
            Step::Config { offset, value } => {
                self.write(CONFIG, u64::from(offset & 0xFFE), &value.to_le_bytes())
            }
            Step::Read {
                region,
                offset,
                count,
            } => {
                let access = words(&[u32::from(region % 9), u32::from(*count)]);
                let payload = [u64::from(*offset).to_ne_bytes().to_vec(), access].concat();
                self.send(9, 0, &payload, &Passed::None)
            }
            Step::Fill {
                which,
                page: at,
                words,
            } => {
                if let Some(memory) = self.kept(*which) {
                    let at = u64::from(*at) * page % MEMORY;
                    let room = ((MEMORY - at) / 8) as usize;
                    // What is no memory, or sealed against writing, stays as it is.
                    let _ = memory.write_all_at(&longs(&words[..words.len().min(room)]), at);
                }
                true
            }
            Step::Shrink { which, bytes } => {
                if let Some(memory) = self.kept(*which) {
                    let _ = memory.set_len(u64::from(*bytes));
                }
                true
            }
            Step::Reset => self.send(13, 0, &[], &Passed::None),
        }
    }

    fn kept(&self, which: u8) -> Option<&File> {
        let count = self.kept.len();
        self.kept.get(usize::from(which).checked_rem(count)?)
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

/// Whether the client begins as it should, and what it does.
fn script(bytes: &[u8]) -> Result<(bool, Vec<Step>)> {
    let mut input = Unstructured::new(bytes);
    let agrees = !input.ratio(1, 16)?;
    let mut steps = Vec::new();
    while !input.is_empty() && steps.len() < 200 {
        steps.push(input.arbitrary()?);
    }
    Ok((agrees, steps))
}

fuzz_target!(|bytes: &[u8]| {
    let Ok((agrees, steps)) = script(bytes) else {
        return;
    };
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let mut reading = ours.try_clone().expect("the socket again");
    let reader = std::thread::spawn(move || {
        let mut sink = [0; 4096];
        while reading.read(&mut sink).is_ok_and(|read| read > 0) {}
    });
    let sender = std::thread::spawn(move || {
        let mut client = Client {
            socket: ours,
            id: 0,
            kept: Vec::new(),
        };
        let version = b"\0\0\x01\0{\"capabilities\":{\"max_msg_fds\":8}}\0";
        if agrees && !client.send(1, 0, version, &Passed::None) {
            return;
        }
        for step in &steps {
            if !client.take(step) {
                return;
            }
        }
        let _ = client.socket.shutdown(Shutdown::Write);
    });
    let options = Options {
        message_timeout: Duration::from_millis(500),
        max_data_xfer_size: 1 << 16,
        ..Options::default()
    };
    let server = Server::new(options).expect("a server");
    let _ = server.serve_fd(theirs.into(), &mut CHIP.device(), None);
    sender.join().expect("sending");
    reader.join().expect("reading");
});
