//! Messages between the agent and a reader: one a datagram, bounded, of one version.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::facts::{Class, Facts, Identity};
use crate::probe::ProbeError;
use crate::probe::discover::Found;
use crate::probe::target::ConfigAccess;

/// Version of the messages. Both ends are one program, unless it was replaced while it ran.
pub(super) const VERSION: u16 = 3;
/// Longest message. A look has a dozen facts and each of their texts at most a page.
pub(super) const LONGEST: usize = 64 << 10;
/// Functions in one part of a list, so that a part stays far below [`LONGEST`].
pub(super) const LIST_PART: usize = 256;

/// From the agent.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The first message.
    Start {
        /// [`VERSION`].
        version: u16,
        /// The root of the host.
        root: PathBuf,
    },
    /// What to read, in this order; each is answered as soon as it is read.
    Read {
        /// The round that it is for.
        round: u64,
        /// Whether to list the host's devices first, and the number of the list that the agent
        /// has from this reader; 0 for none.
        list: Option<u64>,
        /// Components to look at.
        looks: Vec<Look>,
        /// Components that it will not be asked for again.
        forget: Vec<u64>,
    },
}

/// A look to take.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Look {
    /// The agent's number for the component.
    pub(super) id: u64,
    /// What to read of it.
    pub(super) class: Class,
    /// What it is, when the reader does not know it yet.
    pub(super) found: Option<Found>,
}

/// From a reader.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// To [`Request::Start`].
    Ready {
        /// [`VERSION`].
        version: u16,
    },
    /// The host's devices, in parts.
    Listed {
        /// The round that it is for.
        round: u64,
        /// The number of the list; another one means that it has changed.
        number: u64,
        /// A part of the list; `None` when the agent has it. An error after parts is why the list may not be whole.
        listed: Result<Option<Vec<Found>>, ProbeError>,
        /// Whether that was the last part.
        whole: bool,
    },
    /// A look.
    Looked {
        /// The round that it is for.
        round: u64,
        /// The agent's number for the component.
        id: u64,
        /// Who it is, as far as could be read.
        identity: Identity,
        /// How its config space is read.
        access: ConfigAccess,
        /// Dwords of its config space that were asked for.
        dwords: u32,
        /// What was seen.
        facts: Box<Facts>,
    },
}

/// Sends a message.
///
/// # Errors
/// When it is too long, or the other end is gone or does not listen.
pub(super) fn transmit(
    to: impl AsFd,
    message: &impl Serialize,
    flags: SendFlags,
) -> io::Result<()> {
    let bytes = encode(message)?;
    send(to, &bytes, flags | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The bytes of a message.
fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let bytes = postcard::to_allocvec(message).map_err(|error| invalid(error.to_string()))?;
    match bytes.len() {
        ..=LONGEST => Ok(bytes),
        length => Err(invalid(format!(
            "a message of {length} bytes, expected at most {LONGEST}"
        ))),
    }
}

/// Receives a message into a buffer of [`LONGEST`]; `None` when the other end has closed.
///
/// # Errors
/// When the message is none of ours, or nothing can be received.
pub(super) fn receive<T: DeserializeOwned>(
    from: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Option<T>> {
    let (_, length) = recv(from, &mut *buffer, flags | RecvFlags::TRUNC)?;
    match buffer.get(..length) {
        Some([]) => Ok(None),
        Some(bytes) => decode(bytes).map(Some),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes, expected at most {LONGEST}"),
        )),
    }
}

/// The message in some bytes, all of which it must take.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} bytes after a message", rest.len()),
        )),
        Err(error) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("no message: {error}"),
        )),
    }
}

/// Takes some bytes for a message of either end, for the fuzz target of that name.
#[cfg(fuzzing)]
#[allow(clippy::expect_used, reason = "what was understood must be sent")]
pub fn fuzz_reader_wire(bytes: &[u8]) {
    fn both_ways<T: DeserializeOwned + Serialize + PartialEq>(bytes: &[u8]) {
        if let Ok(message) = decode::<T>(bytes) {
            let again = encode(&message).expect("encoding a message that was decoded");
            let again = decode::<T>(&again).expect("decoding a message that was encoded");
            assert!(again == message);
        }
    }
    both_ways::<Request>(bytes);
    both_ways::<Answer>(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{FactKind, Kind};
    use crate::time::Moment;
    use proptest::prelude::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let look = Look {
            id: 7,
            class: Class::Slow,
            found: Some(Found {
                bdf: "0000:01:00.0".to_owned(),
                kind: Kind::Accelerator,
                pci_id: "1ae5:a100".to_owned(),
                interface: None,
                asked: Vec::new(),
            }),
        };
        let request = Request::Read {
            round: 3,
            list: Some(2),
            looks: vec![look],
            forget: vec![1],
        };
        let bytes = encode(&request).unwrap();
        assert_eq!(decode::<Request>(&bytes).unwrap(), request);

        let late = ProbeError::Late { deadline_ms: 500 };
        let answer = Answer::Looked {
            round: 3,
            id: 7,
            identity: Identity::default(),
            access: ConfigAccess::Opener,
            dwords: 16,
            facts: Box::new(Facts::blind(Moment::default(), FactKind::ALL, &late)),
        };
        let bytes = encode(&answer).unwrap();
        assert_eq!(decode::<Answer>(&bytes).unwrap(), answer);
        assert!(decode::<Answer>(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_message_that_is_too_long_is_not_sent() {
        let request = Request::Read {
            round: 0,
            list: None,
            looks: Vec::new(),
            forget: vec![u64::MAX; LONGEST],
        };
        assert!(encode(&request).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Answer>(&bytes);
        }
    }
}
