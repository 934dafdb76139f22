//! Copies from host to device memory, beside `memcpy` in this thread.

use std::hint::black_box;
use std::time::{Duration, Instant};

use auk_driver::Command;

use crate::pairs::{Bench, Groups};
use crate::report::{Bound, Budget, Row, Unit};
use crate::rig::{Rig, SPIN};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

pub(crate) fn measure(bench: &mut Bench) {
    let near_memcpy = Budget::Ratio(Bound::AtLeast(0.95));
    for (what, bytes, in_flight, least, unit, budget) in [
        (
            "copy 4 KiB, 32 in flight",
            4 * KIB,
            32,
            Groups {
                number: 8,
                size: 1024,
            },
            Unit::MillionsPerSecond,
            Budget::Value(Bound::AtLeast(4.0)),
        ),
        (
            "copy 1 MiB, 4 in flight",
            MIB,
            4,
            Groups {
                number: 8,
                size: 16,
            },
            Unit::GigabytesPerSecond(MIB),
            near_memcpy,
        ),
        (
            "copy 256 MiB, 2 in flight",
            256 * MIB,
            2,
            Groups { number: 1, size: 2 },
            Unit::GigabytesPerSecond(256 * MIB),
            near_memcpy,
        ),
    ] {
        let source = vec![7_u8; bytes];
        let mut target = vec![0_u8; bytes];
        let mut rig = Rig::new(bench.processors, SPIN);
        let host = rig.device.buffer(bytes).expect("host memory");
        let local = rig.device.alloc(bytes as u64).expect("device memory");
        host.write(0, &source).expect("a filled buffer");
        let command = Command::copy(&local, &host, bytes as u64);
        bench.pair(
            Row {
                what,
                unit,
                least,
                reference: Some("memcpy"),
                budget,
            },
            |groups| groups.time(|count| memcpy(&source, &mut target, count)),
            |groups| rig.polled(&command, groups, in_flight),
        );
    }
}

fn memcpy(source: &[u8], target: &mut [u8], count: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        black_box(&mut *target).copy_from_slice(black_box(source));
    }
    start.elapsed()
}
