//! What comes out of the store: rows of states and events that an agent goes on from.
#![no_main]

use std::collections::BTreeMap;

use auk_health::store::{Event, Record};
use auk_health::time::Moment;
use auk_health::{Engine, Saved, Settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Parts: the host's, and one of a component after each NUL.
    let mut texts = text.split('\0');
    let host = texts.next().unwrap_or_default().to_owned();
    let mut parts = BTreeMap::from([("host".to_owned(), host)]);
    for (index, part) in texts.enumerate() {
        parts.insert(format!("component {index}"), part.to_owned());
    }
    if let Ok(Some(saved)) = Saved::from_parts(&parts) {
        let now = Moment::default();
        if let Ok(engine) = Engine::restored(Settings::default(), saved, now, Some("boot")) {
            let _ = engine.components(now);
            let _ = engine.saved(now, Some("boot"));
        }
    }
    for kind in ["transition", "order", "other"] {
        let record = Record {
            details: text.parse().unwrap_or_default(),
            ..Record::of_agent(0, kind, text)
        };
        let event = Event {
            id: 1,
            boot_id: String::new(),
            stored: true,
            record,
        };
        let _ = (event.transition(), event.is_news(), event.order());
    }
});
