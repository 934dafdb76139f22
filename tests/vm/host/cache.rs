//! The folder below `target/` where everything from outside is kept.
//!
//! A thing is made under a name of its own and renamed when it is complete, so one that is there is whole, however
//! an earlier run ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

/// What unfinished things begin with.
const UNFINISHED: &str = "unfinished-";

/// The folder, which is ours as long as this lives.
pub(crate) struct Cache {
    root: PathBuf,
    _lock: Flock<File>,
}

impl Cache {
    /// Opens or makes the folder, and waits until no other run uses it.
    pub(crate) fn open(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
        let lock = root.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock)
            .with_context(|| format!("opening {}", lock.display()))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, _)) => {
                eprintln!(
                    "setup  waiting for another run, which uses {}",
                    root.display()
                );
                Flock::lock(file, FlockArg::LockExclusive)
                    .map_err(|(_, errno)| errno)
                    .with_context(|| format!("locking {}", root.display()))?
            }
        };
        let cache = Self { root, _lock: lock };
        cache.sweep()?;
        Ok(cache)
    }

    /// Where a thing is, or would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The thing of this name; `make` makes it, at the path that it is given, if it is not there yet.
    pub(crate) fn once(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.path(name);
        if path.exists() {
            return Ok(path);
        }
        let started = Instant::now();
        eprintln!("setup  {name} ...");
        let unfinished = self.scratch(name)?;
        make(&unfinished).with_context(|| format!("setting up {name}"))?;
        fs::rename(&unfinished, &path)
            .with_context(|| format!("renaming {}", unfinished.display()))?;
        eprintln!("setup  {name} in {:.1} s", started.elapsed().as_secs_f32());
        Ok(path)
    }

    /// An empty folder that goes away with the next run at the latest.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(format!("{UNFINISHED}{name}"));
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    /// Removes what an earlier run left unfinished.
    fn sweep(&self) -> Result<()> {
        let listing = || format!("listing {}", self.root.display());
        for entry in fs::read_dir(&self.root).with_context(listing)? {
            let entry = entry.with_context(listing)?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let path = entry.path();
                fs::remove_dir_all(&path)
                    .with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_finished_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("cache");
        let cache = Cache::open(root.clone()).unwrap();
        let failed = cache.once("thing", |path| {
            fs::write(path.join("half"), "")?;
            anyhow::bail!("killed")
        });
        assert!(failed.is_err());
        drop(cache);

        let cache = Cache::open(root).unwrap();
        let thing = cache
            .once("thing", |path| Ok(fs::write(path.join("whole"), "")?))
            .unwrap();
        assert!(thing.join("whole").exists() && !thing.join("half").exists());
    }

    #[test]
    fn what_is_there_is_not_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path().join("cache")).unwrap();
        cache.once("thing", |_| Ok(())).unwrap();
        cache
            .once("thing", |_| anyhow::bail!("made twice"))
            .unwrap();
    }
}
