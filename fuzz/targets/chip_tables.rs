//! Everything that a chip writes for others to read: completions, events, tables, logs, vital signs, and the images it is given.
#![no_main]

use auk_asic::admin::{AdminCommand, Identify};
use auk_asic::completion::Tail;
use auk_asic::event::{Event, EventResult};
use auk_asic::firmware::Image;
use auk_asic::io::IoCommand;
use auk_asic::log::CrashLog;
use auk_asic::program::Program;
use auk_asic::submission::Submission;
use auk_asic::telemetry::Telemetry;
use auk_asic::vitals::{VitalSigns, Vitals};
use libfuzzer_sys::fuzz_target;
use zerocopy::FromBytes;

fuzz_target!(|bytes: &[u8]| {
    for word in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes([
            word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7],
        ]);
        let _ = Tail::from_bits(word).status();
        let _ = Event::parse(EventResult::from_bits(word));
    }
    if let Ok((raw, _)) = VitalSigns::read_from_prefix(bytes) {
        let _ = Vitals::parse(&raw);
    }
    if let Ok((entry, _)) = Submission::read_from_prefix(bytes) {
        let _ = (AdminCommand::decode(&entry), IoCommand::decode(&entry));
    }
    let _ = (
        Identify::parse(bytes),
        Telemetry::parse(bytes),
        CrashLog::parse(bytes),
    );
    let _ = (Program::parse(bytes), Image::parse(bytes));
});
