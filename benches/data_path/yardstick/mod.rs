//! What the data path is measured against: how fast two threads of this machine can be at all, and code that is not ours.

use std::time::Duration;

mod eventfd;
mod ping_pong;
mod ring_floor;
mod vfio_user_crate;

pub(crate) use eventfd::EventfdRoundTrip;
pub(crate) use ping_pong::line;
pub(crate) use ring_floor::RingFloor;
pub(crate) use vfio_user_crate::{IOVA, MAPPED, VfioUserCrate, host_memory};

/// A value on a cache line of its own; two lines, because the prefetcher of x86 takes lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// Waits until two threads that were just started both run, as far as ten rounds of theirs can tell: other work on the machine
/// may keep one of them waiting, and then a round costs a time slice.
fn settle(mut ten_rounds: impl FnMut() -> Duration) {
    for _ in 0..100 {
        if ten_rounds() < Duration::from_micros(100) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
