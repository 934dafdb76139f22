//! What the data path is measured against: how fast two threads of this machine can be at all.

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
