//! The 64-byte submission entry that every command is written in.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Status;

codes! {
    /// The address space of an operand.
    pub enum Space: u8 {
        /// An IOVA in host memory.
        Host = 0,
        /// An address in this chip's device memory.
        Local = 1,
        /// An address in another chip's device memory, where CAP_DMA.peer is set.
        Peer = 2,
    }
}

/// An address with its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Which space `address` is in.
    pub space: Space,
    /// Byte address in that space.
    pub address: u64,
}

impl Operand {
    /// An IOVA in host memory.
    #[must_use]
    pub const fn host(iova: u64) -> Self {
        Self {
            space: Space::Host,
            address: iova,
        }
    }

    /// An address in device memory.
    #[must_use]
    pub const fn local(address: u64) -> Self {
        Self {
            space: Space::Local,
            address,
        }
    }
}

/// Flag: the command starts after all earlier commands of its queue have completed.
pub const FLAG_FENCE: u8 = 1 << 0;

/// A submission entry: header, three operands, four arguments whose meaning is the opcode's.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(64))]
pub struct Submission {
    /// Opcode, of the table for the admin queue or of the one for I/O queues.
    pub opcode: u8,
    /// [`FLAG_FENCE`]; all other bits are 0.
    pub flags: u8,
    /// Chosen by the driver, returned in the completion.
    pub command_id: u16,
    /// [`Space`] of `dst`.
    pub dst_space: u8,
    /// [`Space`] of `src`.
    pub src_space: u8,
    /// [`Space`] of `aux`.
    pub aux_space: u8,
    /// 0.
    pub reserved: u8,
    /// Where the command writes.
    pub dst: u64,
    /// Where the command reads.
    pub src: u64,
    /// A third operand.
    pub aux: u64,
    /// Arguments.
    pub args: [u64; 4],
}

fields!(Submission, size = 64, {
    0x00 => opcode,
    0x01 => flags,
    0x02 => command_id,
    0x04 => dst_space,
    0x05 => src_space,
    0x06 => aux_space,
    0x07 => reserved,
    0x08 => dst,
    0x10 => src,
    0x18 => aux,
    0x20 => args,
});

impl Submission {
    /// Where the identifier begins in the first 64-bit word of the entry, least significant byte first.
    pub const COMMAND_ID_SHIFT: u32 = 8 * core::mem::offset_of!(Self, command_id) as u32;

    pub(crate) const fn of(opcode: u8, args: [u64; 4]) -> Self {
        Self {
            opcode,
            flags: 0,
            command_id: 0,
            dst_space: 0,
            src_space: 0,
            aux_space: 0,
            reserved: 0,
            dst: 0,
            src: 0,
            aux: 0,
            args,
        }
    }

    pub(crate) const fn to(mut self, dst: Operand) -> Self {
        self.dst_space = dst.space.code();
        self.dst = dst.address;
        self
    }

    pub(crate) const fn from(mut self, src: Operand) -> Self {
        self.src_space = src.space.code();
        self.src = src.address;
        self
    }

    pub(crate) const fn with(mut self, aux: Operand) -> Self {
        self.aux_space = aux.space.code();
        self.aux = aux.address;
        self
    }

    /// The same entry under the driver's command identifier.
    #[must_use]
    pub const fn with_id(mut self, command_id: u16) -> Self {
        self.command_id = command_id;
        self
    }

    /// The same entry, to start after all earlier ones of its queue have completed.
    #[must_use]
    pub const fn fenced(mut self) -> Self {
        self.flags |= FLAG_FENCE;
        self
    }

    /// Whether the entry waits for all earlier ones.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        self.flags & FLAG_FENCE != 0
    }

    pub(crate) fn dst(&self) -> Result<Operand, Status> {
        operand(self.dst_space, self.dst)
    }

    pub(crate) fn src(&self) -> Result<Operand, Status> {
        operand(self.src_space, self.src)
    }

    pub(crate) fn aux(&self) -> Result<Operand, Status> {
        operand(self.aux_space, self.aux)
    }

    /// `self` decoded to a command whose canonical entry is `canonical`: everything that the
    /// command does not use must be 0, so that a later model can give it a meaning.
    pub(crate) fn unused_fields_are_zero(&self, canonical: Self) -> Result<(), Status> {
        let header = Self {
            flags: self.flags & FLAG_FENCE,
            command_id: self.command_id,
            ..canonical
        };
        if header == *self {
            Ok(())
        } else {
            Err(Status::InvalidField)
        }
    }
}

fn operand(space: u8, address: u64) -> Result<Operand, Status> {
    let space = Space::parse(space).map_err(|_| Status::InvalidField)?;
    Ok(Operand { space, address })
}
