//! The thread that waits for the disk, so that nobody else does for long.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::ErrorCode;

use super::database::{Database, Known};
use super::open::{self, SetAside, sql};
use super::{Batch, StoreError, StoreSettings};

/// Jobs that may wait: readers, for a writer waits for its answer.
const QUEUE: usize = 64;
/// Batches between two looks at what is too old or too much.
const RETAIN_EACH: u32 = 256;

/// Which file, of which boot.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) boot_id: String,
    pub(super) settings: StoreSettings,
}

type Job = Box<dyn FnOnce(&mut Keeper) + Send>;

/// The hold on the thread.
pub(super) struct Worker {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    path: PathBuf,
    deadline: Duration,
}

/// What the thread has.
pub(super) struct Keeper {
    place: Place,
    database: Option<Database>,
    until_retention: u32,
}

/// A file that was opened.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) known: Known,
    pub(super) set_aside: Option<SetAside>,
}

/// A batch that was written.
#[derive(Debug)]
pub(super) struct Flushed {
    pub(super) batch: Batch,
    /// What the file knew before, when that was asked for.
    pub(super) known: Option<Known>,
    pub(super) set_aside: Option<SetAside>,
    pub(super) bytes: u64,
}

/// An answer that is on its way.
pub(super) struct Answer<T>(Receiver<Result<T, StoreError>>);

impl<T> Answer<T> {
    pub(super) fn within(self, worker: &Worker) -> Result<T, StoreError> {
        match self.0.recv_timeout(worker.deadline) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(worker.late(worker.deadline)),
            Err(RecvTimeoutError::Disconnected) => Err(worker.died()),
        }
    }
}

impl Worker {
    pub(super) fn start(place: Place) -> Result<Self, StoreError> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let path = place.path.clone();
        let deadline = place.settings.deadline;
        let mut keeper = Keeper {
            place,
            database: None,
            until_retention: 0,
        };
        let thread = thread::Builder::new()
            .name("auk-store".to_owned())
            .spawn(move || {
                for job in queue {
                    job(&mut keeper);
                }
            })
            .map_err(|source| StoreError::Io {
                doing: "start the thread that writes",
                path: path.clone(),
                source,
            })?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
            path,
            deadline,
        })
    }

    /// Gives the thread something to do; its answer comes when the disk lets it.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Keeper) -> T + Send + 'static,
    ) -> Result<Receiver<T>, StoreError> {
        let (sender, answer) = sync_channel(1);
        let job: Job = Box::new(move |keeper| {
            // Nobody waits any more when the disk was too slow.
            let _ = sender.send(job(keeper));
        });
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(jobs) = &*jobs else {
            return Err(self.died());
        };
        match jobs.try_send(job) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(self.late(self.deadline)),
            Err(TrySendError::Disconnected(_)) => Err(self.died()),
        }
    }

    pub(super) fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Answer<T>, StoreError> {
        self.ask(move |keeper| keeper.read(read)).map(Answer)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn late(&self, deadline: Duration) -> StoreError {
        StoreError::Late {
            path: self.path.clone(),
            deadline,
        }
    }

    pub(super) fn died(&self) -> StoreError {
        StoreError::Died {
            path: self.path.clone(),
        }
    }

    /// Ends the thread. One that the disk holds is left to end by itself.
    pub(super) fn close(&self, deadline: Duration) {
        drop(
            self.jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else { return };
        let start = Instant::now();
        while !thread.is_finished() {
            if start.elapsed() >= deadline {
                tracing::warn!(file = %self.path.display(), "the disk still holds the store; it closes when it can");
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        if thread.join().is_err() {
            tracing::warn!("the store's thread ended by a panic, which is a bug of the agent");
        }
    }
}

impl Keeper {
    pub(super) fn open(&mut self, now_unix_ms: u64) -> Result<OpenedFile, StoreError> {
        let path = &self.place.path;
        let opened = open::open(path, now_unix_ms)?;
        let failed = |source| sql("read", path, source);
        let mut database = Database::new(opened.connection, &self.place.boot_id, now_unix_ms)
            .map_err(|source| sql("write", path, source))?;
        database
            .retain(&self.place.settings, now_unix_ms)
            .map_err(|source| sql("write", path, source))?;
        let known = database.known().map_err(failed)?;
        self.database = Some(database);
        self.until_retention = RETAIN_EACH;
        Ok(OpenedFile {
            known,
            set_aside: opened.set_aside,
        })
    }

    /// Writes a batch, to a file that is opened again if it has to be.
    pub(super) fn flush(
        &mut self,
        batch: Batch,
        want_known: bool,
        now_unix_ms: u64,
    ) -> Result<Flushed, StoreError> {
        let set_aside = match self.database {
            Some(_) => None,
            None => self.open(now_unix_ms)?.set_aside,
        };
        let retain = self.until_retention == 0;
        let settings = self.place.settings.clone();
        let (known, bytes) = self.write(|database| {
            let known = want_known.then(|| database.known()).transpose()?;
            database.write(&batch)?;
            if retain {
                database.retain(&settings, now_unix_ms)?;
            }
            Ok((known, database.bytes()?))
        })?;
        self.until_retention = match retain {
            true => RETAIN_EACH,
            false => self.until_retention - 1,
        };
        Ok(Flushed {
            batch,
            known,
            set_aside,
            bytes,
        })
    }

    /// Writes; a file that fails otherwise than by being full is opened and checked anew before
    /// the next time.
    pub(super) fn write<T>(
        &mut self,
        write: impl FnOnce(&mut Database) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = &self.place.path;
        let Some(database) = &mut self.database else {
            return Err(StoreError::Unwritable {
                path: path.clone(),
                reason: "it is not open".to_owned(),
            });
        };
        write(database).map_err(|source| {
            if source.sqlite_error_code() != Some(ErrorCode::DiskFull) {
                self.database = None;
            }
            sql("write", path, source)
        })
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(&Database) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = &self.place.path;
        let Some(database) = &self.database else {
            return Err(StoreError::Unwritable {
                path: path.clone(),
                reason: "it is not open".to_owned(),
            });
        };
        read(database).map_err(|source| sql("read", path, source))
    }
}
