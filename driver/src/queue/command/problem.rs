//! What is wrong with a command.

use std::sync::Weak;

use super::Place;
use crate::device::{Inner, LoadedProgram};
use crate::error::Error;

/// What is wrong with a command whatever else it names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Problem {
    TooShort {
        what: &'static str,
        offset: u64,
        length: u64,
        size: u64,
    },
    WrongProgram {
        found: &'static str,
        expected: &'static str,
    },
    Empty,
    TooLong {
        length: u64,
        most: u64,
    },
}

impl Problem {
    #[cold]
    pub(super) fn too_short(what: &'static str, place: &Place<'_>, length: u64) -> Self {
        Self::TooShort {
            what,
            offset: place.offset,
            length,
            size: place.size(),
        }
    }

    #[cold]
    pub(super) fn program(program: &LoadedProgram, expected: &'static str) -> Self {
        Self::WrongProgram {
            found: program.program().kernel().name(),
            expected,
        }
    }

    #[cold]
    pub(super) fn error(&self) -> Error {
        match *self {
            Self::TooShort {
                what,
                offset,
                length,
                size,
            } => Error::Invalid {
                what,
                found: format!("{length} bytes from {offset} on"),
                expected: format!("a range inside its {size} bytes"),
            },
            Self::WrongProgram { found, expected } => Error::Invalid {
                what: "the program of a launch",
                found: found.to_owned(),
                expected: expected.to_owned(),
            },
            Self::Empty => wrong_length(0, "1 byte at least".to_owned()),
            Self::TooLong { length, most } => wrong_length(length, format!("1 to {most} bytes")),
        }
    }
}

fn wrong_length(length: u64, expected: String) -> Error {
    Error::Invalid {
        what: "the length of a copy or fill",
        found: format!("{length} bytes"),
        expected,
    }
}

#[cold]
pub(super) fn another_devices(what: &'static str, owner: &Weak<Inner>, device: &Inner) -> Error {
    let owner = owner.upgrade();
    let name = owner
        .as_ref()
        .map_or("a closed device", |owner| &owner.name);
    Error::Invalid {
        what,
        found: format!("one of {name}"),
        expected: format!("one of {}", device.name),
    }
}
