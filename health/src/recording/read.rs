//! Reads a recording line by line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::delta;
use super::line::{AGAIN, Again, Entry, LOOK, Like, like};
use super::{Header, ReadError, VERSION};
use crate::probe::target::Sample;

/// Longest line: the memory of an engine with a thousand components.
const LONGEST: u64 = 64 << 20;

/// A recording that is read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    lines: BufReader<File>,
    header: Header,
    line: u64,
    last: BTreeMap<Like, Value>,
    cut_short: bool,
}

impl Reader {
    /// Opens a recording and reads its first line.
    ///
    /// # Errors
    /// When it cannot be read, or is none of this version.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Version {
            auk_recording: u32,
            #[serde(default)]
            agent: String,
        }
        let io = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        let mut lines = BufReader::new(File::open(path).map_err(io)?);
        let bytes = read_line(&mut lines).map_err(io)?;
        let no_recording = |error: serde_json::Error| ReadError::NoRecording {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let version: Version = serde_json::from_slice(&bytes).map_err(no_recording)?;
        if version.auk_recording != VERSION {
            return Err(ReadError::Version {
                path: path.to_owned(),
                found: version.auk_recording,
                agent: version.agent,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            lines,
            header: serde_json::from_slice(&bytes).map_err(no_recording)?,
            line: 1,
            last: BTreeMap::new(),
            cut_short: false,
        })
    }

    /// The first line.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Lines read so far.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.line
    }

    /// Whether the last line was cut short, as by a kill of the agent that wrote it.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// The next entry; `None` at the end. A last line without an end that makes no sense was cut short, and is left out.
    ///
    /// # Errors
    /// When the file cannot be read, or a line makes no sense.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        let bytes = read_line(&mut self.lines).map_err(|source| ReadError::Io {
            path: self.path.clone(),
            source,
        })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let whole = bytes.ends_with(b"\n");
        let line = match serde_json::from_slice(&bytes) {
            Ok(line) => line,
            Err(_) if !whole && bytes.len() as u64 <= LONGEST => {
                self.cut_short = true;
                return Ok(None);
            }
            Err(error) => return Err(self.damaged(self.line + 1, error.to_string())),
        };
        self.line += 1;
        self.entry(line).map(Some)
    }

    /// An error in the line that was read last.
    pub(super) fn damaged_here(&self, reason: impl ToString) -> ReadError {
        self.damaged(self.line, reason.to_string())
    }

    fn damaged(&self, line: u64, reason: String) -> ReadError {
        ReadError::Damaged {
            path: self.path.clone(),
            line,
            reason,
        }
    }

    fn entry(&mut self, mut line: Value) -> Result<Entry, ReadError> {
        if let Some(look) = line.get_mut(LOOK) {
            let look = look.take();
            return self.look(look);
        }
        if let Some(again) = line.get(AGAIN) {
            let again = Again::deserialize(again).map_err(|error| self.damaged_here(error))?;
            let like = (again.kind, again.bdf, again.class);
            let Some(mut look) = self.last.remove(&like) else {
                let reason = format!("changes of {}, of which no look was before it", like.1);
                return Err(self.damaged_here(reason));
            };
            delta::merge(&mut look, again.changes);
            return self.look(look);
        }
        let entry = Entry::deserialize(line).map_err(|error| self.damaged_here(error))?;
        match &entry {
            Entry::Start(_) => self.last.clear(),
            Entry::Forget { bdf, kind } => self
                .last
                .retain(|(known, address, _), _| known != kind || address != bdf),
            _ => {}
        }
        Ok(entry)
    }

    fn look(&mut self, look: Value) -> Result<Entry, ReadError> {
        let sample = Sample::deserialize(&look).map_err(|error| self.damaged_here(error))?;
        self.last.insert(like(&sample), look);
        Ok(Entry::Look(Box::new(sample)))
    }
}

/// A line with its end, if it has one; empty at the end of the file.
fn read_line(lines: &mut BufReader<File>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    lines.take(LONGEST + 1).read_until(b'\n', &mut bytes)?;
    Ok(bytes)
}
