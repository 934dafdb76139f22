//! Contexts: what one tenant's queues may touch.

use std::sync::{Arc, Weak};

use auk_asic::PAGE;
use auk_asic::admin::{AdminCommand, MAX_WINDOWS, Window};
use auk_asic::program::Program;
use auk_asic::submission::Operand;
use zerocopy::IntoBytes;

use super::inner::{Inner, Life, Sweeper};
use super::{Device, DeviceMemory, LoadedProgram};
use crate::deadline::Deadline;
use crate::dma::DmaBuffer;
use crate::error::Error;

/// A context: its queues reach its windows and its own allocations, and the chip refuses everything else.
///
/// Deleted when the last of its handles, queues, programs and allocations is gone.
#[derive(Clone, Debug)]
pub struct Context {
    id: ContextId,
    inner: Arc<Inner>,
    _sweeper: Sweeper,
}

/// Which context something belongs to; keeps it alive.
#[derive(Clone, Debug)]
pub(crate) struct ContextId(Option<Arc<Created>>);

#[derive(Debug)]
struct Created {
    /// As in `Allocation`, which keeps its context.
    inner: Weak<Inner>,
    life: Life,
    number: u32,
    /// The memory behind the windows.
    windows: Vec<DmaBuffer>,
}

impl Drop for Created {
    fn drop(&mut self) {
        let command = AdminCommand::DeleteContext {
            context: self.number,
        };
        if let Some(inner) = self.inner.upgrade() {
            inner.leave(self.life, command);
        }
    }
}

impl ContextId {
    /// Context 0, which has no bounds.
    pub(crate) const fn owner() -> Self {
        Self(None)
    }

    pub(crate) fn number(&self) -> u32 {
        self.0.as_ref().map_or(0, |created| created.number)
    }
}

/// What a context may have.
#[derive(Clone, Debug, Default)]
pub struct ContextOptions {
    windows: Vec<DmaBuffer>,
    memory: u64,
}

impl ContextOptions {
    /// Lets the context's queues touch a buffer, whole pages of it: one that has pages of its own
    /// ([`DmaBuffer::has_own_pages`]). The context keeps it alive.
    #[must_use]
    pub fn window(mut self, buffer: &DmaBuffer) -> Self {
        self.windows.push(buffer.clone());
        self
    }

    /// Most bytes of device memory that the context may allocate; 0 unless told.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }
}

impl Device {
    /// Makes a context.
    ///
    /// # Errors
    /// [`Error::Invalid`] for too many windows, or one of another space or of a page that other buffers share;
    /// [`Error::Command`] with
    /// [`OutOfResources`](auk_asic::Status::OutOfResources); [`Error::TimedOut`], what has become of the chip.
    pub fn create_context(&self, options: &ContextOptions) -> Result<Context, Error> {
        let inner = &self.inner;
        let count = options.windows.len();
        if count > MAX_WINDOWS as usize {
            return Err(Error::Invalid {
                what: "windows of a context",
                found: count.to_string(),
                expected: format!("{MAX_WINDOWS} at most"),
            });
        }
        for window in &options.windows {
            inner.check_space(window)?;
            if !window.has_own_pages() {
                return Err(Error::Invalid {
                    what: "a window of a context",
                    found: format!(
                        "a buffer of {} bytes, whose page others share",
                        window.len()
                    ),
                    expected: format!("one of {PAGE} bytes or more"),
                });
            }
        }
        let life = inner.running_life()?;
        inner.sweep();
        let list = inner.space.alloc((count * Window::SIZE).max(1))?;
        for (index, window) in options.windows.iter().enumerate() {
            let window = Window {
                base: window.iova(),
                length: window.len().next_multiple_of(PAGE) as u64,
            };
            list.write(index * Window::SIZE, window.as_bytes())?;
        }
        let command = AdminCommand::CreateContext {
            windows: Operand::host(if count == 0 { 0 } else { list.iova() }),
            count: count as u32,
            memory: options.memory,
        };
        let deadline = Deadline::after(inner.capabilities.timeouts().command);
        let result = inner.execute_in(life, command, Some(list), "creating a context", deadline)?;
        let number = u32::try_from(result)
            .ok()
            .filter(|number| *number != 0)
            .ok_or_else(|| {
                inner.malformed(auk_asic::Malformed {
                    what: "number of a context",
                    found: result,
                    expected: "1 to 2^32 - 1",
                })
            })?;
        Ok(Context {
            id: ContextId(Some(Arc::new(Created {
                inner: Arc::downgrade(inner),
                life,
                number,
                windows: options.windows.clone(),
            }))),
            inner: Arc::clone(inner),
            _sweeper: Sweeper::new(inner),
        })
    }
}

impl Context {
    /// Its number on the chip.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.id.number()
    }

    /// The buffers that its queues may touch.
    #[must_use]
    pub fn windows(&self) -> &[DmaBuffer] {
        self.id.0.as_ref().map_or(&[], |created| &created.windows)
    }

    /// Allocates device memory that only this context's queues, and the owner's, reach.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn alloc(&self, length: u64) -> Result<DeviceMemory, Error> {
        DeviceMemory::new(&self.inner, &self.id, length)
    }

    /// Loads a program for this context's queues.
    ///
    /// # Errors
    /// As [`Device::load`].
    pub fn load(&self, program: &Program) -> Result<LoadedProgram, Error> {
        LoadedProgram::new(&self.inner, &self.id, program)
    }

    pub(crate) const fn id(&self) -> &ContextId {
        &self.id
    }
}

impl Inner {
    /// Refuses a buffer that the chip cannot reach.
    #[inline]
    pub(crate) fn check_space(&self, buffer: &DmaBuffer) -> Result<(), Error> {
        match buffer.is_in(&self.space) {
            true => Ok(()),
            false => Err(out_of_reach()),
        }
    }
}

#[cold]
fn out_of_reach() -> Error {
    Error::Invalid {
        what: "a buffer",
        found: "one of another DMA space".to_owned(),
        expected: "one of the space that the device is attached to".to_owned(),
    }
}
