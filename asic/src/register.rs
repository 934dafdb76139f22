//! How a register is described.

/// What a register does with reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes are errors in strict mode and have no effect otherwise.
    ReadOnly,
    /// Holds what was written.
    ReadWrite,
    /// Reads return 0; a write acts.
    WriteOnly,
}

impl Access {
    /// The abbreviation in the tables of `docs/hardware.md`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "RO",
            Self::ReadWrite => "RW",
            Self::WriteOnly => "WO",
        }
    }
}

/// A 32-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Name in `docs/hardware.md`.
    pub name: &'static str,
    /// Byte offset in its BAR, a multiple of 4.
    pub offset: u64,
    /// What it does with reads and writes.
    pub access: Access,
}

/// Declares registers as constants, and the list of all of them.
macro_rules! registers {
    ($( $(#[$meta:meta])* $name:ident = $offset:literal, $access:ident; )+) => {
        $(
            $(#[$meta])*
            pub const $name: $crate::register::Register = $crate::register::Register {
                name: stringify!($name),
                offset: $offset,
                access: $crate::register::Access::$access,
            };
            const _: () = assert!($offset % 4 == 0);
        )+

        /// Every register, in the order of the table in `docs/hardware.md`.
        pub const REGISTERS: &[$crate::register::Register] = &[$( $name, )+];
    };
}
pub(crate) use registers;
