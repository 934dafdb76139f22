//! Programs.

use std::sync::{Arc, Weak};

use auk_asic::admin::AdminCommand;
use auk_asic::program::{Program, ProgramImage};
use auk_asic::submission::Operand;

use super::Device;
use super::context::ContextId;
use super::inner::{Inner, Life, Sweeper};
use crate::deadline::Deadline;
use crate::error::Error;

/// A program that is loaded. A clone is the same program; it is unloaded when the last handle is gone, and launches
/// hold one until they end.
#[derive(Clone, Debug)]
pub struct LoadedProgram {
    pub(crate) loaded: Arc<Loaded>,
    /// After `loaded`, as in [`super::DeviceMemory`].
    sweeper: Sweeper,
}

#[derive(Debug)]
pub(crate) struct Loaded {
    /// As in `Allocation`.
    pub(crate) inner: Weak<Inner>,
    _context: ContextId,
    pub(crate) life: Life,
    pub(crate) handle: u32,
    pub(crate) program: Program,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let command = AdminCommand::UnloadProgram {
            program: self.handle,
        };
        if let Some(inner) = self.inner.upgrade() {
            inner.leave(self.life, command);
        }
    }
}

impl LoadedProgram {
    pub(super) fn new(
        inner: &Arc<Inner>,
        context: &ContextId,
        program: &Program,
    ) -> Result<Self, Error> {
        let kernel = program.kernel();
        if !inner.capabilities.has_kernel(kernel) {
            return Err(Error::Invalid {
                what: "the program's kernel",
                found: kernel.name().to_owned(),
                expected: "one that the chip has".to_owned(),
            });
        }
        let life = inner.running_life()?;
        inner.sweep();
        let image = inner.space.alloc(ProgramImage::SIZE)?;
        image.write_value(0, &program.image())?;
        let command = AdminCommand::LoadProgram {
            image: Operand::host(image.iova()),
            length: ProgramImage::SIZE as u32,
            context: context.number(),
        };
        let deadline = Deadline::after(inner.capabilities.timeouts().command);
        let result = inner.execute_in(life, command, Some(image), "loading a program", deadline)?;
        let handle = u32::try_from(result).map_err(|_| {
            inner.malformed(auk_asic::Malformed {
                what: "handle of a program",
                found: result,
                expected: "32 bits",
            })
        })?;
        Ok(Self {
            loaded: Arc::new(Loaded {
                inner: Arc::downgrade(inner),
                _context: context.clone(),
                life,
                handle,
                program: *program,
            }),
            sweeper: Sweeper::new(inner),
        })
    }

    /// What it computes.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.loaded.program
    }

    /// Whether no reset has taken it away.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.sweeper.inner().life() == self.loaded.life
    }
}

impl Device {
    /// Loads a program.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the chip lacks the kernel; [`Error::Command`] with
    /// [`InvalidProgram`](auk_asic::Status::InvalidProgram) or [`OutOfResources`](auk_asic::Status::OutOfResources);
    /// [`Error::TimedOut`], what has become of the chip.
    pub fn load(&self, program: &Program) -> Result<LoadedProgram, Error> {
        LoadedProgram::new(&self.inner, &ContextId::owner(), program)
    }
}
