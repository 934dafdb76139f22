//! The program that a reader process runs.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

/// A program and its arguments that end in [`run_process`](super::run_process).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderCommand {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl ReaderCommand {
    /// This program, as it runs, with these arguments: also after its file was replaced.
    pub fn this_program(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::new("/proc/self/exe", arguments)
    }

    /// A program with these arguments.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Self {
        let owned = |argument: &OsStr| argument.to_owned();
        Self {
            program: program.into(),
            arguments: arguments
                .into_iter()
                .map(|argument| owned(argument.as_ref()))
                .collect(),
        }
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}
