//! A queue whose completion ring holds anything: it never panics, every command ends once, and a buffer is let go by the completion
//! of its command alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a fake that panics fails its test"
)]

mod hostile_chip;

use hostile_chip::model::{self, Script};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_queue_does_as_the_model_whatever_its_completion_ring_holds(
        script in proptest::collection::vec(any::<u8>(), 2..400).prop_map(|bytes| Script::decode(&bytes)),
    ) {
        model::run(&script);
    }
}
