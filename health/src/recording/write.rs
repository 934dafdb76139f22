//! Writes a recording, a system call a line: a kill loses no more than the one that it cut short.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::delta;
use super::line::{AGAIN, Again, Entry, LOOK, Like, like};
use super::{Header, Reader, WriteError};
use crate::probe::target::Sample;

/// A recording that was forgotten must not fill the disk of its host.
const MOST_BYTES: u64 = 1 << 30;
/// A line is looked for in the end of a file in pieces of this size.
const PIECE: u64 = 4096;

/// A recording under way. It ends with the first line that cannot be written.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: Option<File>,
    written: u64,
    last: BTreeMap<Like, Value>,
}

impl Recorder {
    /// Begins a new file.
    ///
    /// # Errors
    /// When it is there already, or cannot be made.
    pub fn create(path: &Path, header: &Header) -> Result<Self, WriteError> {
        let file = File::options().write(true).create_new(true).open(path);
        let mut recorder = Self::of(path, file.map_err(failed("create", path))?, 0);
        recorder.write(header).map_err(failed("begin", path))?;
        Ok(recorder)
    }

    /// Goes on with a file, or begins it. A line that a kill has cut short is taken away.
    ///
    /// # Errors
    /// When it cannot be opened, or is no recording of this version.
    pub fn append(path: &Path) -> Result<Self, WriteError> {
        let mut options = File::options();
        options.read(true).write(true);
        match options.open(path) {
            Ok(mut file) => {
                Reader::open(path)
                    .map_err(|error| failed("go on with", path)(io::Error::other(error)))?;
                let end = whole_lines(&mut file).map_err(failed("read", path))?;
                file.set_len(end).map_err(failed("mend", path))?;
                file.seek(SeekFrom::Start(end))
                    .map_err(failed("go on with", path))?;
                Ok(Self::of(path, file, end))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::create(path, &Header::new(None))
            }
            Err(error) => Err(failed("open", path)(error)),
        }
    }

    fn of(path: &Path, file: File, written: u64) -> Self {
        Self {
            path: path.to_owned(),
            file: Some(file),
            written,
            last: BTreeMap::new(),
        }
    }

    /// Writes what an engine is fed.
    pub fn put(&mut self, entry: &Entry) {
        match entry {
            Entry::Look(sample) => return self.look(sample),
            Entry::Start(_) => self.last.clear(),
            Entry::Forget { bdf, kind } => self
                .last
                .retain(|(known, address, _), _| known != kind || address != bdf),
            _ => {}
        }
        self.line(entry);
    }

    /// Writes a look.
    pub fn look(&mut self, sample: &Sample) {
        if self.file.is_none() {
            return;
        }
        let next = match serde_json::to_value(sample) {
            Ok(next) => next,
            Err(error) => return self.end(&error.into()),
        };
        let like = like(sample);
        let last = self.last.get(&like);
        match last.and_then(|last| delta::changes(last, &next)) {
            Some(changes) => self.line(&json!({ AGAIN: Again {
                bdf: like.1.clone(),
                kind: like.0,
                class: like.2,
                changes,
            } })),
            None => self.line(&json!({ LOOK: next })),
        }
        self.last.insert(like, next);
    }

    fn line(&mut self, line: &impl Serialize) {
        if let Err(error) = self.write(line) {
            self.end(&error);
        }
    }

    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let length = text.len() as u64;
        if self.written.saturating_add(length) > MOST_BYTES {
            let text = format!("it has {MOST_BYTES} bytes, which is the most that one may have");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        file.write_all(&text)?;
        self.written += length;
        Ok(())
    }

    /// A recording that fails does not end the agent.
    fn end(&mut self, error: &io::Error) {
        self.file = None;
        self.last.clear();
        tracing::error!(recording = %self.path.display(), %error, "the recording ends here");
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError {
        doing,
        path,
        source,
    }
}

/// Where the last whole line of a file ends.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut piece = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        file.seek(SeekFrom::Start(start))?;
        piece.clear();
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
