//! Records the corpus anew: `cargo test --test corpus_record -- --ignored`. `health/tests/corpus.rs` replays it.

mod corpus_scenarios;
mod corpus_support;

use std::path::Path;
use std::thread;

use corpus_scenarios::{ill, well};

#[test]
#[ignore = "writes health/corpus anew, for a look at what has changed"]
fn the_corpus_is_recorded_from_simulated_hosts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("health/corpus");
    std::fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    // Each waits for hearts to beat most of the time.
    thread::scope(|scope| {
        for (name, record) in well::ALL.iter().chain(ill::ALL) {
            let file = directory.join(format!("{name}.jsonl"));
            scope.spawn(move || record(&file));
        }
    });
}
