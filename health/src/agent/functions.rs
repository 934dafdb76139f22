//! Which functions a line of the kernel log may mean.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;

use super::round::Rounds;
use crate::kernel_log::follow::Named;
use crate::probe::discover::is_bdf;

/// The functions of the host, listed once for all lines that are read in one go, and only when one asks for it.
pub(super) struct Functions<'a> {
    root: &'a Path,
    rounds: &'a Rounds,
    listed: OnceCell<Vec<String>>,
}

impl<'a> Functions<'a> {
    pub(super) fn of(root: &'a Path, rounds: &'a Rounds) -> Self {
        Self {
            root,
            rounds,
            listed: OnceCell::new(),
        }
    }

    /// Those that are meant by a name: more than one where it does not say which.
    pub(super) fn named(&self, named: Named<'_>) -> Vec<String> {
        match named {
            Named::Interface(name) => self.rounds.function(name).into_iter().collect(),
            Named::InSomeSegment(address) => {
                let listed = self.listed.get_or_init(|| self.list());
                let at = |bdf: &&String| bdf.split_once(':').is_some_and(|(_, at)| at == address);
                listed.iter().filter(at).cloned().collect()
            }
        }
    }

    /// Whatever the kernel lists, for a line may be about what is not watched, and what is watched and may have left
    /// the list since the line was printed.
    fn list(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("sys/bus/pci/devices"));
        let entries = entries.into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .chain(self.rounds.addresses().map(str::to_owned))
            .filter(|name| is_bdf(name))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
