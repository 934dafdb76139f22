//! The header that every message begins with.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Violation;

/// Size of [`Header`] on the wire, in bytes.
pub const HEADER_SIZE: usize = size_of::<Header>();

const TYPE_MASK: u32 = 0xf;
const TYPE_COMMAND: u32 = 0;
const TYPE_REPLY: u32 = 1;
const FLAG_NO_REPLY: u32 = 1 << 4;
const FLAG_ERROR: u32 = 1 << 5;

/// Commands by number (section "Commands" of the specification; 14 is of older revisions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub enum Command {
    Version = 1,
    DmaMap = 2,
    DmaUnmap = 3,
    DeviceGetInfo = 4,
    DeviceGetRegionInfo = 5,
    DeviceGetRegionIoFds = 6,
    DeviceGetIrqInfo = 7,
    DeviceSetIrqs = 8,
    RegionRead = 9,
    RegionWrite = 10,
    DmaRead = 11,
    DmaWrite = 12,
    DeviceReset = 13,
    DirtyPages = 14,
    RegionWriteMulti = 15,
    DeviceFeature = 16,
    MigDataRead = 17,
    MigDataWrite = 18,
}

impl Command {
    /// All of them, in the order of their numbers.
    const ALL: [Self; 18] = [
        Self::Version,
        Self::DmaMap,
        Self::DmaUnmap,
        Self::DeviceGetInfo,
        Self::DeviceGetRegionInfo,
        Self::DeviceGetRegionIoFds,
        Self::DeviceGetIrqInfo,
        Self::DeviceSetIrqs,
        Self::RegionRead,
        Self::RegionWrite,
        Self::DmaRead,
        Self::DmaWrite,
        Self::DeviceReset,
        Self::DirtyPages,
        Self::RegionWriteMulti,
        Self::DeviceFeature,
        Self::MigDataRead,
        Self::MigDataWrite,
    ];

    /// The command with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Its number.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// The first 16 bytes of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// Chosen by the sender of a command, repeated in its reply.
    pub id: u16,
    /// A [`Command`], if it is one that is known.
    pub command: u16,
    /// Bytes of the whole message, this header included.
    pub size: u32,
    flags: u32,
    error: u32,
}

impl Header {
    /// A command with a payload of `payload` bytes.
    pub fn command(id: u16, command: Command, payload: usize) -> Self {
        Self {
            id,
            command: command.number(),
            size: total(payload),
            flags: TYPE_COMMAND,
            error: 0,
        }
    }

    /// The same command, with no reply wanted.
    #[must_use]
    pub fn without_reply(mut self) -> Self {
        self.flags |= FLAG_NO_REPLY;
        self
    }

    /// The header of the successful reply to this command, with a payload of `payload` bytes.
    #[must_use]
    pub fn reply(&self, payload: usize) -> Self {
        Self {
            id: self.id,
            command: self.command,
            size: total(payload),
            flags: TYPE_REPLY,
            error: 0,
        }
    }

    /// The reply that tells the sender of this command what went wrong; it has no payload.
    #[must_use]
    pub fn error_reply(&self, errno: u32) -> Self {
        Self {
            flags: TYPE_REPLY | FLAG_ERROR,
            error: errno,
            ..self.reply(0)
        }
    }

    /// Reads a header and checks its size against `limit`, in bytes.
    ///
    /// # Errors
    /// [`Violation::Size`] and [`Violation::Type`]. Reserved bits are left for newer peers to use.
    pub fn parse(bytes: &[u8; HEADER_SIZE], limit: usize) -> Result<Self, Violation> {
        let header: Self = super::fixed(bytes)?;
        let size = header.size as usize;
        if size < HEADER_SIZE || size > limit {
            return Err(Violation::Size {
                found: header.size,
                least: HEADER_SIZE,
                most: limit,
            });
        }
        match header.flags & TYPE_MASK {
            TYPE_COMMAND | TYPE_REPLY => Ok(header),
            other => Err(Violation::Type(other)),
        }
    }

    /// Whether this is a reply; otherwise it is a command.
    pub fn is_reply(&self) -> bool {
        self.flags & TYPE_MASK == TYPE_REPLY
    }

    /// Whether the sender of this command wants no reply.
    pub fn no_reply(&self) -> bool {
        self.flags & FLAG_NO_REPLY != 0
    }

    /// The error number of a reply that tells of an error; peers may leave it 0.
    pub fn error(&self) -> Option<u32> {
        (self.flags & FLAG_ERROR != 0).then_some(self.error)
    }

    /// Bytes after this header.
    pub fn payload(&self) -> usize {
        (self.size as usize).saturating_sub(HEADER_SIZE)
    }
}

/// Message size for a payload; what does not fit a message is refused long before it gets here.
fn total(payload: usize) -> u32 {
    u32::try_from(HEADER_SIZE + payload).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn command_numbers_are_those_of_the_specification() {
        assert_eq!(Command::from_number(0), None);
        assert_eq!(Command::from_number(13), Some(Command::DeviceReset));
        assert_eq!(Command::from_number(18), Some(Command::MigDataWrite));
        assert_eq!(Command::from_number(19), None);
        for number in 1..=18 {
            assert_eq!(
                Command::from_number(number).map(Command::number),
                Some(number)
            );
        }
    }

    #[test]
    fn a_header_has_the_specified_layout() {
        let header = Header::command(0x1234, Command::RegionRead, 16).without_reply();
        let mut expected = Vec::new();
        expected.extend_from_slice(&0x1234_u16.to_ne_bytes());
        expected.extend_from_slice(&9_u16.to_ne_bytes());
        expected.extend_from_slice(&32_u32.to_ne_bytes());
        expected.extend_from_slice(&0x10_u32.to_ne_bytes());
        expected.extend_from_slice(&0_u32.to_ne_bytes());
        assert_eq!(header.as_bytes(), expected);
    }

    #[test]
    fn an_error_reply_carries_the_number_and_no_payload() {
        let reply = Header::command(7, Command::DmaMap, 32).error_reply(17);
        assert!(reply.is_reply());
        assert_eq!(
            (reply.id, reply.command, reply.payload(), reply.error()),
            (7, 2, 0, Some(17))
        );
    }

    #[test]
    fn a_size_below_the_header_or_above_the_limit_is_refused() {
        for size in [0, 15, 101] {
            let header = Header {
                size,
                ..Header::command(0, Command::DmaMap, 0)
            };
            let bytes = zerocopy::transmute!(header);
            assert!(
                matches!(Header::parse(&bytes, 100), Err(Violation::Size { found, .. }) if found == size)
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_a_violation(bytes: [u8; HEADER_SIZE], limit in 0_usize..1 << 24) {
            if let Ok(header) = Header::parse(&bytes, limit) {
                prop_assert!(header.size as usize <= limit);
                prop_assert_eq!(header.payload() + HEADER_SIZE, header.size as usize);
                prop_assert_eq!(header.as_bytes(), &bytes);
            }
        }
    }
}
