//! What can be wrong with a message.

use thiserror::Error;

/// A message that breaks the protocol: what was found in it, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// The header's size field is below the header's own size, or above the limit.
    #[error("message size {found} in the header, expected {least} to {most} bytes")]
    Size {
        /// As in the header.
        found: u32,
        /// The header itself.
        least: usize,
        /// What the receiver accepts.
        most: usize,
    },
    /// The header's type bits are neither command nor reply.
    #[error("message type {0:#x}, expected 0 (command) or 1 (reply)")]
    Type(u32),
    /// A reply where only a command makes sense, or the other way round.
    #[error("command {command} came as a {found}, which nobody asked for")]
    Unsolicited {
        /// Command number.
        command: u16,
        /// "reply" or "command".
        found: &'static str,
    },
    /// A reply with another command than the request it answers.
    #[error("the reply is for command {found}, the request was command {expected}")]
    WrongCommand {
        /// In the reply.
        found: u16,
        /// In the request.
        expected: u16,
    },
    /// The payload ends before the structure does.
    #[error("payload of {found} bytes, at least {needed} needed")]
    Short {
        /// Payload bytes in the message.
        found: usize,
        /// Payload bytes that must be there.
        needed: usize,
    },
    /// The payload goes on after the structure.
    #[error("payload of {found} bytes, exactly {expected} expected")]
    Long {
        /// Payload bytes in the message.
        found: usize,
        /// Payload bytes of this message.
        expected: usize,
    },
    /// `argsz` does not even cover the fixed part of the structure.
    #[error("argsz is {found}, at least {least} expected")]
    Argsz {
        /// As in the message.
        found: u32,
        /// Size of the fixed part.
        least: usize,
    },
    /// A field has a value that is not allowed.
    #[error("{field} is {found:#x}, {rule}")]
    Field {
        /// Name of the field in the specification.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What is allowed.
        rule: &'static str,
    },
    /// The wrong number of file descriptors came with a message.
    #[error("{found} file descriptors came with the message, expected {expected}")]
    Descriptors {
        /// How many came.
        found: usize,
        /// How many are allowed, in words.
        expected: &'static str,
    },
    /// More descriptors or other control data than agreed came, and the kernel had to drop some.
    #[error("more file descriptors than the agreed {most} came in one message")]
    ControlTruncated {
        /// How many this end accepts.
        most: usize,
    },
    /// The capabilities in a VERSION message are not the JSON they should be.
    #[error("capabilities in VERSION: {0}")]
    Capabilities(String),
    /// The peer speaks another major version, or answered with a newer minor one than proposed.
    #[error("protocol version {major}.{minor} of the peer, expected 0.0 to 0.{newest}")]
    VersionMismatch {
        /// Of the peer.
        major: u16,
        /// Of the peer.
        minor: u16,
        /// Our newest minor version.
        newest: u16,
    },
    /// The list of region capabilities does not hang together.
    #[error("region capability at offset {offset}: {what}")]
    RegionCapability {
        /// From the beginning of the region info.
        offset: u32,
        /// What is wrong there.
        what: &'static str,
    },
}
