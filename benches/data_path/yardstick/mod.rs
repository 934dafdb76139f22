//! What the data path is measured against: how fast two threads of this machine can be at all.

use std::time::Duration;

mod eventfd;
mod ping_pong;
mod ring_floor;

pub(crate) use eventfd::EventfdRoundTrip;
pub(crate) use ping_pong::PingPong;
pub(crate) use ring_floor::RingFloor;

/// A value on a cache line of its own; two lines, because the prefetcher of x86 takes lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// Waits until two threads that were just started have a processor each, as far as ten rounds of theirs can tell: a
/// scheduler may leave both on one for a while, and then each round costs a time slice.
fn settle(mut ten_rounds: impl FnMut() -> Duration) {
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(1));
        if ten_rounds() < Duration::from_micros(100) {
            return;
        }
    }
}
