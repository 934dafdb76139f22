//! Commands that do nothing, polled: what a command costs.

use auk_driver::Command;

use crate::pairs::{Bench, Groups};
use crate::report::{Bound, Budget, Row, Unit};
use crate::rig::{DEPTH, Rig, SPIN};
use crate::yardstick::RingFloor;

const ONE_BY_ONE: Groups = Groups {
    number: 64,
    size: 32,
};
const MANY: Groups = Groups {
    number: 4,
    size: 4096,
};

pub(crate) fn measure(bench: &mut Bench) {
    let processors = bench.processors;
    let nop = Command::nop();
    let mut rig = Rig::new(processors, SPIN);
    for (what, unit, in_flight, least, bound) in [
        (
            "nop, 1 in flight, p50",
            Unit::Nanoseconds,
            1,
            ONE_BY_ONE,
            Bound::AtMost(1.5),
        ),
        (
            "nop, 32 in flight",
            Unit::MillionsPerSecond,
            32,
            MANY,
            Bound::AtLeast(0.6),
        ),
        (
            "nop, 128 in flight",
            Unit::MillionsPerSecond,
            128,
            MANY,
            Bound::AtLeast(0.6),
        ),
    ] {
        bench.pair(
            Row {
                what,
                unit,
                least,
                reference: Some("ring floor"),
                budget: Budget::Ratio(bound),
            },
            |groups| {
                let mut floor = RingFloor::start(processors, DEPTH as usize);
                groups.time(|count| floor.run(count, in_flight))
            },
            |groups| rig.polled(&nop, groups, in_flight),
        );
    }
}
