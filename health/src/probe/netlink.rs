//! Messages and attributes of netlink (`include/uapi/linux/netlink.h`). Lengths that lie are errors.

use netlink_packet_core::{NetlinkBuffer, NlasIterator};

/// Why some bytes are no netlink message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetlinkError {
    /// The frame of a message, or of an attribute, does not fit.
    #[error("no netlink message: {0}")]
    Framing(String),
    /// A message of a kind begins with a fixed part, and this one ends before.
    #[error("a netlink message with {found} bytes of contents, expected at least {expected}")]
    Short {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// An attribute has another length than its type has.
    #[error("netlink attribute {kind} has {found} bytes, expected {expected}")]
    Attribute {
        /// Its number.
        kind: u16,
        /// How many there are.
        found: usize,
        /// What belongs there.
        expected: &'static str,
    },
}

/// One message: its type, and what follows its header.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) contents: &'a [u8],
}

/// The messages of a datagram.
pub(crate) fn messages(mut datagram: &[u8]) -> Result<Vec<Message<'_>>, NetlinkError> {
    let mut messages = Vec::new();
    while !datagram.is_empty() {
        let buffer = NetlinkBuffer::new_checked(datagram)
            .map_err(|error| NetlinkError::Framing(error.to_string()))?;
        let length = buffer.length() as usize;
        let (Some(contents), rest) = (
            datagram.get(HEADER..length),
            // The next one is aligned; the last one need not be padded.
            datagram
                .get(length.next_multiple_of(ALIGN)..)
                .unwrap_or_default(),
        ) else {
            return Err(NetlinkError::Framing(format!("a length of {length}")));
        };
        messages.push(Message {
            kind: buffer.message_type(),
            contents,
        });
        datagram = rest;
    }
    Ok(messages)
}

/// `NLMSG_HDRLEN` and `NLMSG_ALIGNTO`.
const HEADER: usize = 16;
const ALIGN: usize = 4;

/// An attribute.
#[derive(Clone, Copy)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

/// The attributes in some bytes, to the first whose length lies.
pub(crate) fn attributes(
    bytes: &[u8],
) -> impl Iterator<Item = Result<Attribute<'_>, NetlinkError>> {
    let mut at = 0;
    NlasIterator::new(bytes).map(move |attribute| {
        let attribute = attribute.map_err(|error| NetlinkError::Framing(error.to_string()))?;
        let start = at + ATTRIBUTE;
        let end = at + usize::from(attribute.length());
        at = end.next_multiple_of(ALIGN);
        Ok(Attribute {
            kind: attribute.kind(),
            value: bytes.get(start..end).unwrap_or_default(),
        })
    })
}

/// `NLA_HDRLEN`.
const ATTRIBUTE: usize = 4;

impl Attribute<'_> {
    pub(crate) fn byte(&self) -> Result<u8, NetlinkError> {
        let [byte] = self.array("1 byte")?;
        Ok(byte)
    }

    pub(crate) fn half(&self) -> Result<u16, NetlinkError> {
        self.array("2 bytes").map(u16::from_ne_bytes)
    }

    pub(crate) fn number(&self) -> Result<u32, NetlinkError> {
        self.array("4 bytes").map(u32::from_ne_bytes)
    }

    /// The first of the 64-bit numbers that it holds.
    pub(crate) fn first_count(&self) -> Result<u64, NetlinkError> {
        let first = self.value.first_chunk();
        let first = first.ok_or_else(|| self.wrong("8 bytes or more"))?;
        Ok(u64::from_ne_bytes(*first))
    }

    /// Text that ends at its first NUL.
    pub(crate) fn text(&self) -> Result<String, NetlinkError> {
        let end = self.value.iter().position(|byte| *byte == 0);
        let text = &self.value[..end.unwrap_or(self.value.len())];
        match std::str::from_utf8(text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.wrong("text")),
        }
    }

    pub(crate) fn nested(&self) -> impl Iterator<Item = Result<Attribute<'_>, NetlinkError>> {
        attributes(self.value)
    }

    fn array<const LENGTH: usize>(
        &self,
        expected: &'static str,
    ) -> Result<[u8; LENGTH], NetlinkError> {
        self.value.try_into().map_err(|_| self.wrong(expected))
    }

    fn wrong(&self, expected: &'static str) -> NetlinkError {
        NetlinkError::Attribute {
            kind: self.kind,
            found: self.value.len(),
            expected,
        }
    }
}
