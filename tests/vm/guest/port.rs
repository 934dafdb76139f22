//! The serial port to the host.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};

use anyhow::{Context, Result, bail};
use auk_vm::{FromGuest, FromHost, MAX_LINE, PORT, from_line, to_line};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

/// The guest's end of the port.
pub(crate) struct Port {
    reader: BufReader<File>,
    writer: File,
}

impl Port {
    pub(crate) fn open() -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(PORT)
            .with_context(|| format!("opening {PORT}"))?;
        // Nothing is to be echoed, translated or taken for a control character.
        let mut settings = tcgetattr(&file).with_context(|| format!("asking {PORT}"))?;
        cfmakeraw(&mut settings);
        tcsetattr(&file, SetArg::TCSANOW, &settings).with_context(|| format!("setting {PORT}"))?;
        let writer = file
            .try_clone()
            .with_context(|| format!("duplicating {PORT}"))?;
        Ok(Self {
            reader: BufReader::new(file),
            writer,
        })
    }

    pub(crate) fn send(&mut self, message: &FromGuest) -> Result<()> {
        self.writer
            .write_all(to_line(message).as_bytes())
            .with_context(|| format!("writing to {PORT}"))
    }

    pub(crate) fn receive(&mut self) -> Result<FromHost> {
        let mut line = String::new();
        (&mut self.reader)
            .take(MAX_LINE as u64)
            .read_line(&mut line)
            .with_context(|| format!("reading {PORT}"))?;
        if line.is_empty() {
            bail!("{PORT} has ended");
        }
        from_line(&line).map_err(|error| anyhow::anyhow!("the host says {error}"))
    }
}
