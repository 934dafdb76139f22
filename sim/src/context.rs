//! Contexts: who may touch what.

use std::collections::BTreeMap;

use auk_asic::PAGE;
use auk_asic::Status;
use auk_asic::admin::Window;
use auk_asic::program::Program;
use auk_asic::submission::{Operand, Space};

use crate::memory::Allocator;

/// The owner's context, which may touch everything.
pub(crate) const OWNER: u32 = 0;

/// A context's bounds.
#[derive(Debug)]
pub(crate) struct Context {
    windows: Vec<Window>,
    /// Most bytes of device memory.
    pub(crate) memory: u64,
}

/// The contexts beside the owner's.
#[derive(Debug)]
pub(crate) struct Contexts {
    contexts: BTreeMap<u32, Context>,
    most: usize,
}

impl Contexts {
    pub(crate) fn new(most: u8) -> Self {
        Self {
            contexts: BTreeMap::new(),
            most: usize::from(most),
        }
    }

    /// Makes a context; its number is the lowest that is free.
    ///
    /// # Errors
    /// [`Status::OutOfResources`]; [`Status::Misaligned`] or [`Status::InvalidField`] for a window
    /// that is not whole pages or wraps.
    pub(crate) fn create(&mut self, windows: Vec<Window>, memory: u64) -> Result<u32, Status> {
        for window in &windows {
            let page = PAGE as u64;
            if window.base % page != 0 || window.length % page != 0 {
                return Err(Status::Misaligned);
            }
            if window.length == 0 || window.base.checked_add(window.length).is_none() {
                return Err(Status::InvalidField);
            }
        }
        if self.contexts.len() >= self.most {
            return Err(Status::OutOfResources);
        }
        let number = (1..)
            .find(|number| !self.contexts.contains_key(number))
            .ok_or(Status::OutOfResources)?;
        self.contexts.insert(number, Context { windows, memory });
        Ok(number)
    }

    /// # Errors
    /// [`Status::InvalidContext`].
    pub(crate) fn delete(&mut self, number: u32) -> Result<(), Status> {
        match self.contexts.remove(&number) {
            Some(_) => Ok(()),
            None => Err(Status::InvalidContext),
        }
    }

    /// Whether the context exists.
    ///
    /// # Errors
    /// [`Status::InvalidContext`].
    pub(crate) fn check_exists(&self, number: u32) -> Result<(), Status> {
        if number == OWNER || self.contexts.contains_key(&number) {
            Ok(())
        } else {
            Err(Status::InvalidContext)
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Context> {
        self.contexts.get(&number)
    }

    /// Whether a queue of the context may touch `length` bytes at `operand`.
    ///
    /// # Errors
    /// [`Status::AccessDenied`].
    #[inline]
    pub(crate) fn check(
        &self,
        number: u32,
        operand: Operand,
        length: u64,
        allocator: &Allocator,
    ) -> Result<(), Status> {
        if number == OWNER {
            return Ok(());
        }
        let allowed = match operand.space {
            Space::Host => self.contexts.get(&number).is_some_and(|context| {
                context
                    .windows
                    .iter()
                    .any(|window| contains(window, operand.address, length))
            }),
            Space::Local => allocator.owns(number, operand.address, length),
            Space::Peer => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(Status::AccessDenied)
        }
    }

    /// Contexts that exist, the owner's included.
    pub(crate) fn count(&self) -> usize {
        self.contexts.len() + 1
    }

    pub(crate) fn clear(&mut self) {
        self.contexts.clear();
    }
}

fn contains(window: &Window, address: u64, length: u64) -> bool {
    address
        .checked_sub(window.base)
        .and_then(|offset| offset.checked_add(length))
        .is_some_and(|end| end <= window.length)
}

/// The loaded programs.
#[derive(Debug)]
pub(crate) struct Programs {
    programs: BTreeMap<u32, (Program, u32)>,
    most: usize,
}

impl Programs {
    pub(crate) fn new(most: u8) -> Self {
        Self {
            programs: BTreeMap::new(),
            most: usize::from(most),
        }
    }

    /// The handle of the loaded program, from 1 on.
    ///
    /// # Errors
    /// [`Status::OutOfResources`].
    pub(crate) fn load(&mut self, program: Program, context: u32) -> Result<u32, Status> {
        if self.programs.len() >= self.most {
            return Err(Status::OutOfResources);
        }
        let handle = (1..)
            .find(|handle| !self.programs.contains_key(handle))
            .ok_or(Status::OutOfResources)?;
        self.programs.insert(handle, (program, context));
        Ok(handle)
    }

    /// # Errors
    /// [`Status::InvalidProgram`].
    pub(crate) fn unload(&mut self, handle: u32) -> Result<(), Status> {
        match self.programs.remove(&handle) {
            Some(_) => Ok(()),
            None => Err(Status::InvalidProgram),
        }
    }

    /// The program that a queue of `context` may launch under `handle`.
    ///
    /// # Errors
    /// [`Status::InvalidProgram`]; [`Status::AccessDenied`] for another context's.
    pub(crate) fn get(&self, handle: u32, context: u32) -> Result<Program, Status> {
        let (program, owner) = self.programs.get(&handle).ok_or(Status::InvalidProgram)?;
        if context == OWNER || context == *owner {
            Ok(*program)
        } else {
            Err(Status::AccessDenied)
        }
    }

    pub(crate) fn unload_context(&mut self, context: u32) {
        self.programs.retain(|_, (_, owner)| *owner != context);
    }

    pub(crate) fn count(&self) -> usize {
        self.programs.len()
    }

    pub(crate) fn clear(&mut self) {
        self.programs.clear();
    }
}
