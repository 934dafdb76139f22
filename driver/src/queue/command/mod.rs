//! Commands, by the handles of what they work on.
//!
//! A command is written down once, when it is made, in the form that the chip reads; to submit it, as often as one likes, is to
//! check whose its handles are, to hold on to them, and to copy 64 bytes.

mod place;
mod problem;

use std::sync::{Arc, Weak};

use auk_asic::io::IoCommand;
use auk_asic::program::Program;
use auk_asic::submission::Operand;

use place::Memory;
pub use place::Place;
use problem::Problem;

use crate::device::{Hold, Inner, Life, LoadedProgram, NextSubmission};
use crate::error::Error;
use crate::ring::{Keep, SubmissionWords};

/// Handles that one command has at most: three operands and a program.
const MOST_HANDLES: usize = 4;

/// What one command keeps alive: nothing after the first place with nothing.
#[derive(Debug, Default)]
pub(super) struct Holds([Option<Hold>; MOST_HANDLES]);

impl Keep for Holds {
    #[inline]
    fn release(&mut self) {
        for held in &mut self.0 {
            if held.is_none() {
                return;
            }
            *held = None;
        }
    }

    fn is_nothing(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl IntoIterator for Holds {
    type Item = Hold;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Hold>, MOST_HANDLES>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

/// A command for an I/O queue. It names memory and programs by their handles, and holds on to them while it runs.
///
/// What is wrong with it, such as a range that its memory does not have, is told when it is submitted.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    entry: SubmissionWords,
    /// None after the first `None`.
    handles: [Option<Handle<'a>>; MOST_HANDLES],
    /// Bytes that a copy or fill moves; 0 of other commands, and more than any chip moves when there is a problem, which only
    /// commands with handles have.
    transfer: u64,
    problem: Option<Problem>,
}

/// What a command names.
#[derive(Clone, Copy, Debug)]
enum Handle<'a> {
    Memory(Memory<'a>),
    Program(&'a LoadedProgram),
}

impl<'a> Command<'a> {
    const EMPTY: Self = Self {
        entry: SubmissionWords::new(IoCommand::Nop.encode()),
        handles: [None; MOST_HANDLES],
        transfer: 0,
        problem: None,
    };

    /// Does nothing but complete.
    #[must_use]
    pub const fn nop() -> Self {
        Self::EMPTY
    }

    /// Copies `length` bytes, between host and chip or within either; the two places must not overlap.
    #[must_use]
    #[inline]
    pub fn copy(dst: impl Into<Place<'a>>, src: impl Into<Place<'a>>, length: u64) -> Self {
        let mut made = Self::moving(length);
        let dst = made.operand("the copy's destination", dst.into(), length);
        let src = made.operand("the copy's source", src.into(), length);
        made.encoded(IoCommand::Copy { dst, src, length })
    }

    /// Writes `pattern` over `length` bytes, least significant byte first.
    #[must_use]
    #[inline]
    pub fn fill(dst: impl Into<Place<'a>>, pattern: u64, length: u64) -> Self {
        let mut made = Self::moving(length);
        let dst = made.operand("the fill's destination", dst.into(), length);
        made.encoded(IoCommand::Fill {
            dst,
            pattern,
            length,
        })
    }

    /// Runs a matrix product on `rows` rows at `src`, with the parameter block at `params`
    /// ([`Gemm::params`](auk_asic::program::Gemm::params) says how it is laid out).
    /// The output may overlap neither input nor parameters: the chip fails that as
    /// [`InvalidField`](auk_asic::Status::InvalidField).
    #[must_use]
    pub fn gemm(
        program: &'a LoadedProgram,
        rows: u32,
        dst: impl Into<Place<'a>>,
        src: impl Into<Place<'a>>,
        params: impl Into<Place<'a>>,
    ) -> Self {
        let Program::Gemm(gemm) = *program.program() else {
            return Self::mistaken(program, "a matrix product");
        };
        let length = gemm.input_bytes(rows);
        let mut made = Self::launching(program);
        let dst = made.operand("the product's output", dst.into(), gemm.output_bytes(rows));
        let src = made.operand("the product's input", src.into(), length);
        let params = made.operand(
            "the product's parameters",
            params.into(),
            gemm.params().length,
        );
        made.encoded(IoCommand::Launch {
            program: program.loaded.handle,
            rows,
            dst,
            src,
            params,
            length,
        })
    }

    /// Runs an embedding-bag sum: at `src` lie `bags + 1` 32-bit offsets, then `indices` 32-bit row numbers; at `table` the
    /// f32 table; `dst` gets a row of f32 sums per bag. The sums may overlap neither of the others: the chip fails that as
    /// [`InvalidField`](auk_asic::Status::InvalidField).
    #[must_use]
    pub fn embedding_sum(
        program: &'a LoadedProgram,
        bags: u32,
        indices: u64,
        dst: impl Into<Place<'a>>,
        src: impl Into<Place<'a>>,
        table: impl Into<Place<'a>>,
    ) -> Self {
        let Program::EmbeddingSum {
            rows: all_rows,
            columns,
        } = *program.program()
        else {
            return Self::mistaken(program, "an embedding sum");
        };
        let bytes = |rows: u32| u64::from(rows) * u64::from(columns) * 4;
        let length = (u64::from(bags) + 1)
            .saturating_add(indices)
            .saturating_mul(4);
        let mut made = Self::launching(program);
        let dst = made.operand("the sums", dst.into(), bytes(bags));
        let src = made.operand("the offsets and indices", src.into(), length);
        let params = made.operand("the table", table.into(), bytes(all_rows));
        made.encoded(IoCommand::Launch {
            program: program.loaded.handle,
            rows: bags,
            dst,
            src,
            params,
            length,
        })
    }

    /// Computes the CRC-32C of `length` bytes; it is the command's result.
    #[must_use]
    pub fn checksum(program: &'a LoadedProgram, src: impl Into<Place<'a>>, length: u64) -> Self {
        if *program.program() != Program::Checksum {
            return Self::mistaken(program, "a checksum");
        }
        let mut made = Self::launching(program);
        let src = made.operand("the checksum's input", src.into(), length);
        let none = Operand::host(0);
        made.encoded(IoCommand::Launch {
            program: program.loaded.handle,
            rows: 0,
            dst: none,
            src,
            params: none,
            length,
        })
    }

    /// Adds `value` to the 64-bit semaphore at `dst`, after all earlier fenced writes of the queue. The result is its new
    /// value.
    #[must_use]
    pub fn signal(dst: impl Into<Place<'a>>, value: u64) -> Self {
        let mut made = Self::EMPTY;
        let dst = made.operand("the semaphore", dst.into(), 8);
        made.encoded(IoCommand::Signal { dst, value })
    }

    /// Completes when the 64-bit semaphore at `src` is at least `value`, or with
    /// [`TimedOut`](auk_asic::Status::TimedOut) after `timeout_ms`, where 0 is the chip's own limit for a command.
    #[must_use]
    pub fn wait(src: impl Into<Place<'a>>, value: u64, timeout_ms: u32) -> Self {
        let mut made = Self::EMPTY;
        let src = made.operand("the semaphore", src.into(), 8);
        made.encoded(IoCommand::Wait {
            src,
            value,
            timeout_ms,
        })
    }

    /// The same command, to start after all earlier ones of its queue have completed.
    #[must_use]
    pub const fn fenced(mut self) -> Self {
        self.entry = self.entry.fenced();
        self
    }

    #[inline]
    fn moving(bytes: u64) -> Self {
        let mut made = Self {
            transfer: bytes,
            ..Self::EMPTY
        };
        if bytes == 0 {
            made.fail(Problem::Empty);
        }
        made
    }

    fn launching(program: &'a LoadedProgram) -> Self {
        let mut made = Self::EMPTY;
        made.name(Handle::Program(program));
        made
    }

    /// A launch of a program that computes something else than is wanted.
    fn mistaken(program: &'a LoadedProgram, expected: &'static str) -> Self {
        let mut made = Self::launching(program);
        made.fail(Problem::program(program, expected));
        made
    }

    /// Of several problems the first is told.
    #[cold]
    fn fail(&mut self, problem: Problem) {
        self.problem.get_or_insert(problem);
        self.transfer = u64::MAX;
    }

    #[inline]
    fn name(&mut self, handle: Handle<'a>) {
        if let Some(place) = self.handles.iter_mut().find(|place| place.is_none()) {
            *place = Some(handle);
        }
    }

    const fn encoded(mut self, command: IoCommand) -> Self {
        self.entry = SubmissionWords::new(command.encode());
        self
    }

    /// Names a place that is to have `length` bytes.
    #[inline]
    fn operand(&mut self, what: &'static str, place: Place<'a>, length: u64) -> Operand {
        self.name(Handle::Memory(place.memory));
        if !place.has(length) {
            self.fail(Problem::too_short(what, &place, length));
        }
        place.operand()
    }

    /// Writes the command to its place in the ring, once everything that it names is known to be this device's, and is held.
    /// `most` is what the device moves at most.
    #[inline]
    pub(super) fn prepare(
        &self,
        inner: &Arc<Inner>,
        life: Life,
        most: u64,
        holds: &mut Holds,
        entry: NextSubmission<'_>,
    ) -> Result<(), Box<Error>> {
        if self.handles[0].is_some() {
            self.hold(inner, life, most, holds)?;
        }
        entry.write(&self.entry);
        Ok(())
    }

    #[inline(never)]
    fn hold(
        &self,
        inner: &Arc<Inner>,
        life: Life,
        most: u64,
        holds: &mut Holds,
    ) -> Result<(), Box<Error>> {
        if self.transfer > most {
            return Err(self.refusal(most));
        }
        for (held, handle) in holds.0.iter_mut().zip(&self.handles) {
            let Some(handle) = handle else {
                break;
            };
            *held = Some(handle.hold(inner, life).map_err(Error::boxed)?);
        }
        Ok(())
    }

    /// Why it cannot be submitted to a chip that moves so much at most.
    #[cold]
    fn refusal(&self, most: u64) -> Box<Error> {
        let too_long = Problem::TooLong {
            length: self.transfer,
            most,
        };
        self.problem.unwrap_or(too_long).error().boxed()
    }
}

impl Handle<'_> {
    /// Keeps alive what it names, if that is of this device and of this life of it.
    #[inline]
    fn hold(&self, inner: &Arc<Inner>, life: Life) -> Result<Hold, Error> {
        match self {
            Self::Memory(Memory::Host(buffer)) => {
                inner.check_space(buffer)?;
                Ok(Hold::Host((*buffer).clone()))
            }
            Self::Memory(Memory::Local(memory)) => {
                let memory = &memory.allocation;
                check_owner("device memory", (&memory.inner, memory.life), (inner, life))?;
                Ok(Hold::Local {
                    _memory: Arc::clone(memory),
                })
            }
            Self::Program(program) => {
                let program = &program.loaded;
                check_owner("program", (&program.inner, program.life), (inner, life))?;
                Ok(Hold::Program {
                    _program: Arc::clone(program),
                })
            }
        }
    }
}

#[inline]
fn check_owner(
    what: &'static str,
    (owner, made_in): (&Weak<Inner>, Life),
    (device, life): (&Arc<Inner>, Life),
) -> Result<(), Error> {
    if !std::ptr::eq(owner.as_ptr(), Arc::as_ptr(device)) {
        return Err(problem::another_devices(what, owner, device));
    }
    if made_in != life {
        return Err(device.stale(what));
    }
    Ok(())
}
