//! A file whose reads can be left unanswered: a FUSE file system of that one file.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses its part, and a failing helper is a failing test"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyOpen, Request, SessionACL,
};
use nix::mount::{MntFlags, umount2};

/// A file that is served from here, until it is dropped.
pub struct ServedFile {
    path: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

struct Shared {
    contents: Vec<u8>,
    mode: u16,
    reads: Mutex<Reads>,
}

#[derive(Default)]
struct Reads {
    hang: bool,
    unanswered: Vec<(ReplyData, u64, u32)>,
    /// When the first of them came.
    since: Option<Instant>,
}

impl ServedFile {
    /// Serves a file in its place, with what is in it. `None` where that is impossible and somebody has said that
    /// this is known.
    #[track_caller]
    pub fn over(path: &Path) -> Option<Self> {
        Self::over_with(path, &Config::default())
    }

    /// As [`over`](Self::over), for every user.
    #[track_caller]
    pub fn over_for_all(path: &Path) -> Option<Self> {
        let mut config = Config::default();
        config.acl = SessionACL::All;
        Self::over_with(path, &config)
    }

    #[track_caller]
    fn over_with(path: &Path, config: &Config) -> Option<Self> {
        let path = fs::canonicalize(path).unwrap();
        let shared = Arc::new(Shared {
            contents: fs::read(&path).unwrap(),
            mode: (fs::metadata(&path).unwrap().permissions().mode() & 0o777) as u16,
            reads: Mutex::default(),
        });
        match fuser::spawn_mount(Server(Arc::clone(&shared)), &path, config) {
            Ok(session) => Some(Self {
                path,
                shared,
                session: Some(session),
            }),
            Err(error) if std::env::var("AUK_WITHOUT_FUSE").is_ok_and(|said| said == "1") => {
                eprintln!("SKIPPED: no FUSE file system can be mounted here: {error}");
                None
            }
            Err(error) => panic!(
                "mounting a FUSE file system on {}: {error}; it takes root and /dev/fuse, and \
                 AUK_WITHOUT_FUSE=1 leaves this test out",
                path.display()
            ),
        }
    }

    /// From now on no read of it is answered.
    pub fn hang(&self) {
        self.shared.reads().hang = true;
    }

    /// How long ago the first read began that was not answered.
    pub fn hangs_since(&self) -> Option<Duration> {
        self.shared.reads().since.map(|since| since.elapsed())
    }

    /// Answers all reads, and those that waited.
    pub fn let_go(&self) {
        let mut reads = self.shared.reads();
        reads.hang = false;
        reads.since = None;
        for (reply, offset, size) in std::mem::take(&mut reads.unanswered) {
            reply.data(self.shared.part(offset, size));
        }
    }
}

impl Drop for ServedFile {
    fn drop(&mut self) {
        self.let_go();
        // Somebody may have it open still: it goes when the last one has closed it.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        drop(self.session.take());
    }
}

impl Shared {
    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap()
    }

    fn part(&self, offset: u64, size: u32) -> &[u8] {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.contents.get(offset..))
            .unwrap_or_default();
        &rest[..rest.len().min(size as usize)]
    }

    fn attributes(&self) -> FileAttr {
        let epoch = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: INodeNo::ROOT,
            size: self.contents.len() as u64,
            blocks: 1,
            atime: epoch,
            mtime: epoch,
            ctime: epoch,
            crtime: epoch,
            kind: FileType::RegularFile,
            perm: self.mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 512,
        }
    }
}

struct Server(Arc<Shared>);

impl Filesystem for Server {
    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &self.0.attributes());
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() == fuser::OpenAccMode::O_RDONLY {
            // What the kernel has cached would be read without us.
            reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
        } else {
            reply.error(Errno::EACCES);
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut reads = self.0.reads();
        if reads.hang {
            reads.since.get_or_insert_with(Instant::now);
            reads.unanswered.push((reply, offset, size));
        } else {
            reply.data(self.0.part(offset, size));
        }
    }
}
