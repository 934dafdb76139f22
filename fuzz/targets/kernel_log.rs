//! The kernel log, whatever is in it: records are sifted or passed over, and the engine takes what was heard.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use auk_health::facts::{Facts, Identity, Kind};
use auk_health::kernel_log::follow::Follower;
use auk_health::kernel_log::source::Source;
use auk_health::probe::target::Sample;
use auk_health::time::Moment;
use auk_health::{Engine, Settings};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const CHIP: &str = "0000:01:00.0";

static ROOT: LazyLock<TempDir> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("a directory for the log");
    fs::create_dir(root.path().join("dev")).expect("its dev");
    root
});

fn log() -> PathBuf {
    ROOT.path().join("dev/kmsg")
}

fuzz_target!(|bytes: &[u8]| {
    fs::write(log(), bytes).expect("the log");
    let mut source = Source::open(ROOT.path()).expect("a plain file");
    let mut follower = Follower::after(bytes.first().map(|byte| u64::from(*byte)));
    let mut engine = Engine::new(Settings::default());
    let mut now = Moment {
        uptime: Duration::from_secs(1000),
        unix_ms: 1_700_000_000_000,
    };
    loop {
        let read = follower.read(&mut source, now, 64, |_| vec![CHIP.to_owned()]);
        let batch = read.expect("a plain file can be read");
        assert!(batch.kept.records.len() <= 64);
        for (bdf, kind) in [(CHIP, Kind::Accelerator), ("host", Kind::Host)] {
            let mut facts = Facts::none(now);
            facts.kernel_log = Some(Ok(follower.take_heard(bdf)));
            engine.observe(Sample {
                bdf: bdf.into(),
                kind,
                identity: Identity::default(),
                facts,
            });
        }
        now.uptime += Duration::from_secs(61);
        if !batch.more {
            break;
        }
    }
    let _ = engine.components(now);
    let _ = engine.saved(now, Some("boot")).expect("a memory that can be kept");
});
