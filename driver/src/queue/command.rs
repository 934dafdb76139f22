//! Commands, by the handles of what they work on.

use std::sync::Arc;

use auk_asic::io::IoCommand;
use auk_asic::program::Program;
use auk_asic::submission::Operand;

use crate::device::{DeviceMemory, Hold, Inner, Life, LoadedProgram, NextSubmission};
use crate::dma::DmaBuffer;
use crate::error::Error;
use crate::ring::Keep;

/// What one command keeps alive: three operands and a program at most.
#[derive(Debug, Default)]
pub(super) struct Holds {
    held: [Option<Hold>; 4],
    count: usize,
}

impl Holds {
    #[inline]
    fn keep(&mut self, hold: Hold) {
        debug_assert!(self.count < self.held.len(), "no command has more");
        if let Some(place) = self.held.get_mut(self.count) {
            *place = Some(hold);
            self.count += 1;
        }
    }
}

impl Keep for Holds {
    #[inline]
    fn release(&mut self) {
        if self.count > 0 {
            self.held
                .iter_mut()
                .take(self.count)
                .for_each(|held| *held = None);
            self.count = 0;
        }
    }
}

/// A place in memory: a buffer of the host's or memory of the chip's, from its start or, as a pair with an offset in
/// bytes, from there.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    memory: Memory<'a>,
    offset: u64,
}

#[derive(Clone, Copy, Debug)]
enum Memory<'a> {
    Host(&'a DmaBuffer),
    Local(&'a DeviceMemory),
}

impl<'a> From<&'a DmaBuffer> for Place<'a> {
    fn from(buffer: &'a DmaBuffer) -> Self {
        (buffer, 0).into()
    }
}

impl<'a> From<(&'a DmaBuffer, u64)> for Place<'a> {
    fn from((buffer, offset): (&'a DmaBuffer, u64)) -> Self {
        Self {
            memory: Memory::Host(buffer),
            offset,
        }
    }
}

impl<'a> From<&'a DeviceMemory> for Place<'a> {
    fn from(memory: &'a DeviceMemory) -> Self {
        (memory, 0).into()
    }
}

impl<'a> From<(&'a DeviceMemory, u64)> for Place<'a> {
    fn from((memory, offset): (&'a DeviceMemory, u64)) -> Self {
        Self {
            memory: Memory::Local(memory),
            offset,
        }
    }
}

/// A command for an I/O queue. It names memory and programs by their handles, and holds on to them while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    work: Work<'a>,
    fenced: bool,
}

#[derive(Clone, Copy, Debug)]
enum Work<'a> {
    Nop,
    Copy {
        dst: Place<'a>,
        src: Place<'a>,
        length: u64,
    },
    Fill {
        dst: Place<'a>,
        pattern: u64,
        length: u64,
    },
    Gemm {
        program: &'a LoadedProgram,
        rows: u32,
        dst: Place<'a>,
        src: Place<'a>,
        params: Place<'a>,
    },
    EmbeddingSum {
        program: &'a LoadedProgram,
        bags: u32,
        indices: u64,
        dst: Place<'a>,
        src: Place<'a>,
        table: Place<'a>,
    },
    Checksum {
        program: &'a LoadedProgram,
        src: Place<'a>,
        length: u64,
    },
    Signal {
        dst: Place<'a>,
        value: u64,
    },
    Wait {
        src: Place<'a>,
        value: u64,
        timeout_ms: u32,
    },
}

impl<'a> Command<'a> {
    const fn of(work: Work<'a>) -> Self {
        Self {
            work,
            fenced: false,
        }
    }

    /// Does nothing but complete.
    #[must_use]
    pub const fn nop() -> Self {
        Self::of(Work::Nop)
    }

    /// Copies `length` bytes, between host and chip or within either; the two places must not overlap.
    #[must_use]
    pub fn copy(dst: impl Into<Place<'a>>, src: impl Into<Place<'a>>, length: u64) -> Self {
        Self::of(Work::Copy {
            dst: dst.into(),
            src: src.into(),
            length,
        })
    }

    /// Writes `pattern` over `length` bytes, least significant byte first.
    #[must_use]
    pub fn fill(dst: impl Into<Place<'a>>, pattern: u64, length: u64) -> Self {
        Self::of(Work::Fill {
            dst: dst.into(),
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
        Self::of(Work::Gemm {
            program,
            rows,
            dst: dst.into(),
            src: src.into(),
            params: params.into(),
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
        Self::of(Work::EmbeddingSum {
            program,
            bags,
            indices,
            dst: dst.into(),
            src: src.into(),
            table: table.into(),
        })
    }

    /// Computes the CRC-32C of `length` bytes; it is the command's result.
    #[must_use]
    pub fn checksum(program: &'a LoadedProgram, src: impl Into<Place<'a>>, length: u64) -> Self {
        Self::of(Work::Checksum {
            program,
            src: src.into(),
            length,
        })
    }

    /// Adds `value` to the 64-bit semaphore at `dst`, after all earlier fenced writes of the queue. The result is its new
    /// value.
    #[must_use]
    pub fn signal(dst: impl Into<Place<'a>>, value: u64) -> Self {
        Self::of(Work::Signal {
            dst: dst.into(),
            value,
        })
    }

    /// Completes when the 64-bit semaphore at `src` is at least `value`, or with
    /// [`TimedOut`](auk_asic::Status::TimedOut) after `timeout_ms`, where 0 is the chip's own limit for a command.
    #[must_use]
    pub fn wait(src: impl Into<Place<'a>>, value: u64, timeout_ms: u32) -> Self {
        Self::of(Work::Wait {
            src: src.into(),
            value,
            timeout_ms,
        })
    }

    /// The same command, to start after all earlier ones of its queue have completed.
    #[must_use]
    pub const fn fenced(mut self) -> Self {
        self.fenced = true;
        self
    }

    /// Writes the command to its place in the ring, once everything that it names is known to be there and large enough.
    #[inline]
    pub(super) fn prepare(
        &self,
        inner: &Arc<Inner>,
        life: Life,
        holds: &mut Holds,
        entry: NextSubmission<'_>,
    ) -> Result<(), Error> {
        let device = Target { inner, life };
        // Each way ends in a write of its own, of an entry whose form the compiler then knows.
        let write = |command: IoCommand| {
            let encoded = command.encode();
            entry.write(&if self.fenced {
                encoded.fenced()
            } else {
                encoded
            });
            Ok(())
        };
        match &self.work {
            Work::Nop => write(IoCommand::Nop),
            &Work::Copy {
                ref dst,
                ref src,
                length,
            } => {
                device.check_transfer(length)?;
                let dst = device.place("the copy's destination", dst, length, holds)?;
                let src = device.place("the copy's source", src, length, holds)?;
                write(IoCommand::Copy { dst, src, length })
            }
            &Work::Fill {
                ref dst,
                pattern,
                length,
            } => {
                device.check_transfer(length)?;
                write(IoCommand::Fill {
                    dst: device.place("the fill's destination", dst, length, holds)?,
                    pattern,
                    length,
                })
            }
            &Work::Signal { ref dst, value } => write(IoCommand::Signal {
                dst: device.place("the semaphore", dst, 8, holds)?,
                value,
            }),
            &Work::Wait {
                ref src,
                value,
                timeout_ms,
            } => write(IoCommand::Wait {
                src: device.place("the semaphore", src, 8, holds)?,
                value,
                timeout_ms,
            }),
            launch => write(device.launch(launch, holds)?),
        }
    }
}

/// The device that a command is for.
struct Target<'a> {
    inner: &'a Arc<Inner>,
    life: Life,
}

impl Target<'_> {
    fn launch(&self, work: &Work<'_>, holds: &mut Holds) -> Result<IoCommand, Error> {
        let (program, rows, length) = match *work {
            Work::Gemm { program, rows, .. } => {
                let Program::Gemm(gemm) = program.loaded.program else {
                    return Err(wrong_program(program, "a matrix product"));
                };
                (program, rows, gemm.input_bytes(rows))
            }
            Work::EmbeddingSum {
                program,
                bags,
                indices,
                ..
            } => (
                program,
                bags,
                (u64::from(bags) + 1)
                    .saturating_add(indices)
                    .saturating_mul(4),
            ),
            Work::Checksum {
                program, length, ..
            } => (program, 0, length),
            Work::Nop
            | Work::Copy { .. }
            | Work::Fill { .. }
            | Work::Signal { .. }
            | Work::Wait { .. } => {
                return Ok(IoCommand::Nop);
            }
        };
        let none = Operand::host(0);
        let (dst, src, params) = match (*work, program.loaded.program) {
            (
                Work::Gemm {
                    dst, src, params, ..
                },
                Program::Gemm(gemm),
            ) => (
                self.place("the product's output", &dst, gemm.output_bytes(rows), holds)?,
                self.place("the product's input", &src, length, holds)?,
                self.place(
                    "the product's parameters",
                    &params,
                    gemm.params().length,
                    holds,
                )?,
            ),
            (
                Work::EmbeddingSum {
                    dst, src, table, ..
                },
                Program::EmbeddingSum { rows: all, columns },
            ) => {
                let bytes = |rows: u32| u64::from(rows) * u64::from(columns) * 4;
                (
                    self.place("the sums", &dst, bytes(rows), holds)?,
                    self.place("the offsets and indices", &src, length, holds)?,
                    self.place("the table", &table, bytes(all), holds)?,
                )
            }
            (Work::Checksum { src, .. }, Program::Checksum) => (
                none,
                self.place("the checksum's input", &src, length, holds)?,
                none,
            ),
            (Work::EmbeddingSum { .. }, _) => {
                return Err(wrong_program(program, "an embedding sum"));
            }
            _ => return Err(wrong_program(program, "a checksum")),
        };
        let loaded = &program.loaded;
        self.check_owner("program", &loaded.inner, loaded.life)?;
        holds.keep(Hold::Program {
            _program: Arc::clone(loaded),
        });
        Ok(IoCommand::Launch {
            program: loaded.handle,
            rows,
            dst,
            src,
            params,
            length,
        })
    }

    /// The operand for `length` bytes at a place, which is held on to from now on.
    #[inline]
    fn place(
        &self,
        what: &'static str,
        place: &Place<'_>,
        length: u64,
        holds: &mut Holds,
    ) -> Result<Operand, Error> {
        let fits = |size: u64| match place.offset.checked_add(length) {
            Some(end) if end <= size => Ok(()),
            _ => Err(too_short(what, place.offset, length, size)),
        };
        match place.memory {
            Memory::Host(buffer) => {
                fits(buffer.len() as u64)?;
                self.inner.check_space(buffer)?;
                holds.keep(Hold::Host {
                    _buffer: buffer.clone(),
                });
                Ok(Operand::host(buffer.iova() + place.offset))
            }
            Memory::Local(memory) => {
                fits(memory.len())?;
                let allocation = &memory.allocation;
                self.check_owner("device memory", &allocation.inner, allocation.life)?;
                holds.keep(Hold::Local {
                    _memory: Arc::clone(allocation),
                });
                Ok(Operand::local(allocation.address + place.offset))
            }
        }
    }

    #[inline]
    fn check_owner(&self, what: &'static str, owner: &Arc<Inner>, life: Life) -> Result<(), Error> {
        if !Arc::ptr_eq(owner, self.inner) {
            return Err(another_devices(what, owner, self.inner));
        }
        if life != self.life {
            return Err(self.inner.stale(what));
        }
        Ok(())
    }

    #[inline]
    fn check_transfer(&self, length: u64) -> Result<(), Error> {
        let most = self.inner.capabilities.max_transfer();
        if length == 0 || length > most {
            return Err(wrong_length(length, most));
        }
        Ok(())
    }
}

#[cold]
fn too_short(what: &'static str, offset: u64, length: u64, size: u64) -> Error {
    Error::Invalid {
        what,
        found: format!("{length} bytes from {offset} on"),
        expected: format!("a range inside its {size} bytes"),
    }
}

#[cold]
fn wrong_length(length: u64, most: u64) -> Error {
    Error::Invalid {
        what: "the length of a copy or fill",
        found: length.to_string(),
        expected: format!("1 to {most} bytes"),
    }
}

#[cold]
fn another_devices(what: &'static str, owner: &Inner, device: &Inner) -> Error {
    Error::Invalid {
        what,
        found: format!("one of {}", owner.name),
        expected: format!("one of {}", device.name),
    }
}

#[cold]
fn wrong_program(program: &LoadedProgram, expected: &str) -> Error {
    Error::Invalid {
        what: "the program of a launch",
        found: program.program().kernel().name().to_owned(),
        expected: expected.to_owned(),
    }
}
