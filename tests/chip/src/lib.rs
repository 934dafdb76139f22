//! What any A1 does, whatever bus it is on: the same checks run on a simulated chip over vfio-user and on one
//! behind a real kernel's VFIO.
//!
//! Each check takes an open device that nobody else uses, and panics when the device does otherwise than it should.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a check is a test whose name says what it checks, and which fails by a panic"
)]

use std::time::Duration;

use auk_asic::log::LogPage;
use auk_asic::telemetry::Telemetry;
use auk_driver::Device;

pub mod launches;
pub mod memory;
pub mod queues;
pub mod resets;

/// Generous: the machine may be busy, or emulated.
pub const SOON: Duration = Duration::from_secs(10);

/// A check by name.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    pub name: &'static str,
    pub run: fn(&Device),
}

/// Gives the path of every check to a macro, so that none is forgotten.
#[macro_export]
macro_rules! for_each_check {
    ($callback:ident) => {
        $callback! {
            memory::bytes_go_to_the_chip_and_through_it_and_back,
            memory::plain_bytes_are_uploaded_and_downloaded_in_pieces,
            memory::a_fill_repeats_its_pattern_and_is_cut_at_the_end,
            memory::what_is_dropped_is_freed_on_the_chip,
            launches::an_int8_product_equals_the_plain_one,
            launches::a_checksum_is_the_result_of_its_command,
            launches::an_embedding_sum_adds_the_rows_it_names,
            launches::the_self_test_passes_and_the_vital_signs_say_so,
            queues::a_full_queue_says_so_and_goes_on_after_its_outcomes_are_collected,
            queues::a_wait_of_any_mode_ends_with_its_command,
            queues::two_queues_meet_at_a_semaphore,
            queues::a_command_that_does_not_end_can_be_waited_for_again_and_aborted,
            queues::a_mixed_batch_gives_each_command_its_own_end,
            queues::a_context_keeps_its_queues_inside_its_bounds,
            resets::a_function_level_reset_scrubs_memory_and_ends_what_was_made,
            resets::device_memory_survives_a_restart_of_the_firmware,
            resets::a_queue_of_another_thread_learns_of_a_reset,
            resets::a_buffer_dropped_in_flight_lives_until_its_command_ends,
            resets::device_memory_dropped_in_flight_is_freed_after_its_command,
            resets::a_queue_dropped_in_flight_frees_its_memory_once_the_chip_deleted_it,
            resets::a_reset_under_load_ends_every_command_once_and_the_next_life_works,
        }
    };
}

macro_rules! list {
    ($($module:ident::$name:ident,)*) => {
        /// All of them.
        pub const ALL: &[Check] = &[$(Check { name: stringify!($name), run: $module::$name },)*];
    };
}

for_each_check!(list);

/// The telemetry as it is now: what is read in pieces from BAR 0 may be some milliseconds old.
fn telemetry(device: &Device) -> Telemetry {
    Telemetry::parse(&device.log(LogPage::Telemetry, Telemetry::SIZE).unwrap()).unwrap()
}

/// Bytes that differ from their neighbours and from one seed to the next.
#[must_use]
pub fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (i as u32).wrapping_mul(0x9E37_79B1).to_le_bytes()[3] ^ seed)
        .collect()
}
