//! The macros that make a table of codes or fields once, for the compiler and for the test that
//! compares it with `docs/hardware.md`.

/// A closed set of codes: the enum, `parse`, `code`, `name` and the list of all of them.
macro_rules! codes {
    (
        $(#[$meta:meta])*
        pub enum $name:ident : $repr:ty {
            $( $(#[$vmeta:meta])* $variant:ident = $value:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[repr($repr)]
        pub enum $name {
            $( $(#[$vmeta])* $variant = $value, )+
        }

        impl $name {
            /// Every code, in the order of the table in `docs/hardware.md`.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )+];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> $repr {
                self as $repr
            }

            /// The name in `docs/hardware.md`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => stringify!($variant), )+
                }
            }

            /// The code for a number from the wire.
            ///
            /// # Errors
            /// [`Malformed`](crate::Malformed) when no such code exists.
            pub const fn parse(raw: $repr) -> Result<Self, crate::Malformed> {
                match raw {
                    $( $value => Ok(Self::$variant), )+
                    other => Err(crate::Malformed {
                        what: stringify!($name),
                        found: other as u64,
                        expected: concat!("a code of the table ", stringify!($name)),
                    }),
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

/// The offsets and names of a structure's fields, asserted against the compiler's layout.
macro_rules! fields {
    ($name:ident, size = $size:literal, { $( $offset:literal => $field:ident, )+ }) => {
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        $( const _: () = assert!(core::mem::offset_of!($name, $field) == $offset); )+

        impl $name {
            /// Bytes of the structure.
            pub const SIZE: usize = $size;

            /// Offset and name of each field, as in `docs/hardware.md`.
            pub const FIELDS: &'static [(usize, &'static str)] =
                &[$( ($offset, stringify!($field)), )+];
        }
    };
}
