//! What somebody sends to the agent's socket as an order: it is done to an engine, or refused with a reason.
#![no_main]

use auk_health::facts::{Facts, Identity, Kind, Presence};
use auk_health::operator::{Author, Order};
use auk_health::probe::target::Sample;
use auk_health::time::Moment;
use auk_health::{Engine, Settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As the server has it: one order, or a few, one a line.
    let mut engine = Engine::new(Settings::default());
    let at = Moment::default();
    engine.observe(Sample {
        bdf: "0000:01:00.0".into(),
        kind: Kind::Accelerator,
        identity: Identity::default(),
        facts: Facts {
            presence: Some(Ok(Presence::Present)),
            ..Facts::none(at)
        },
    });
    let author = Author {
        uid: 0,
        name: None,
    };
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(order) = serde_json::from_slice::<Order>(line) else {
            continue;
        };
        match engine.order(at, &author, order) {
            Ok((done, _)) => {
                let kept = serde_json::to_vec(&done).expect("an order that is kept");
                let again = serde_json::from_slice(&kept).expect("an order that was kept");
                assert!(done == again);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        engine.expire(at);
        let _ = engine.components(at);
    }
});
