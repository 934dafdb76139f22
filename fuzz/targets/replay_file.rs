//! A recording, and with it the engine: any file is one or an error that says where.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use auk_health::recording::replay;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    match memory.is_dir() {
        true => TempDir::new_in(memory),
        false => TempDir::new(),
    }
    .expect("a directory for recordings")
});

fuzz_target!(|bytes: &[u8]| {
    let file = DIRECTORY.path().join("recording.jsonl");
    // Its first line is right, so that what is after it is read.
    let mut whole = b"{\"auk_recording\":1,\"agent\":\"fuzz\"}\n".to_vec();
    if bytes.starts_with(b"{\"auk_recording\"") {
        whole.clear();
    }
    whole.extend_from_slice(bytes);
    fs::write(&file, whole).expect("writing a recording");
    match replay(&file, None) {
        Ok(replayed) => {
            let _ = replayed.transitions().count();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
