//! Messages between the agent and its readers: any bytes are one or an error, and one is sent as it was received.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| auk_health::fuzz_reader_wire(bytes));
