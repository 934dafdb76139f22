//! An I/O queue over a completion ring that holds anything: it does as the model of the driver's tests says.
#![no_main]

#[path = "../../driver/tests/hostile_chip/mod.rs"]
mod hostile_chip;

use hostile_chip::model::{self, Script};
use libfuzzer_sys::fuzz_target;

/// Bytes of a script that are read: some hundred steps.
const MOST: usize = 2048;

fuzz_target!(|bytes: &[u8]| model::run(&Script::decode(&bytes[..bytes.len().min(MOST)])));
