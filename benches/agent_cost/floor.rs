//! What nobody who looks once a second can go below: the reads of the vital signs alone, by a process that does nothing else.
//!
//! A process that wakes once a second finds its memory in no cache, and pays for that and not for its work. How much, the
//! machine decides, so the agent's cost is told beside this one's, of the same time.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use auk_asic::config::dvsec;
use auk_asic::vitals::{BODY, LIVE_SIZE};

/// Reads of each accelerator below a root what a look of the agent reads of config space at least, each second, for ever.
pub(crate) fn run(root: &Path) {
    let devices = root.join("sys/bus/pci/devices");
    let chips: Vec<File> = fs::read_dir(devices)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::read_to_string(path.join("vendor")).unwrap() == "0x1ae5\n")
        .map(|path| File::open(path.join("config")).unwrap())
        .collect();
    let block = u64::from(dvsec::OFFSET + BODY);
    let mut next = Instant::now();
    loop {
        for chip in &chips {
            chip.read_exact_at(&mut [0; 4], 0).unwrap();
            chip.read_exact_at(&mut [0; LIVE_SIZE], block).unwrap();
            chip.read_exact_at(&mut [0; 4], block).unwrap();
        }
        next += Duration::from_secs(1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
