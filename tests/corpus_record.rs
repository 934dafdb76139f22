//! Records the corpus anew: `cargo test --test corpus_record -- --ignored`. `health/tests/corpus.rs` replays it. With
//! `AUK_SCENARIO=NAME` only those whose names contain that.

mod corpus_scenarios;
mod corpus_support;

use std::path::Path;
use std::thread;

use corpus_scenarios::{ill, log, well};

#[test]
#[ignore = "writes health/corpus anew, for a look at what has changed"]
fn the_corpus_is_recorded_from_simulated_hosts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("health/corpus");
    std::fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let asked = std::env::var("AUK_SCENARIO").unwrap_or_default();
    // Each waits for hearts to beat most of the time.
    thread::scope(|scope| {
        let all = well::ALL.iter().chain(ill::ALL).chain(log::ALL);
        for (name, record) in all.filter(|(name, _)| name.contains(&asked)) {
            let file = directory.join(format!("{name}.jsonl"));
            scope.spawn(move || record(&file));
        }
    });
}
