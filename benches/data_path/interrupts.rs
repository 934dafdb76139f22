//! Waits that sleep, beside two threads that wake each other through eventfds: two wake-ups, of which a chip that is awake needs one.

use std::thread;
use std::time::Duration;

use auk_driver::Command;

use crate::pairs::{Bench, Groups};
use crate::report::{Bound, Budget, Row, Unit};
use crate::rig::{Rig, SPIN};
use crate::yardstick::EventfdRoundTrip;

/// Bytes of a fill that takes longer than to arm the interrupt and fall asleep.
const LONG: u64 = 1 << 20;
/// After which everybody is asleep who sleeps at all.
const PAUSE: Duration = Duration::from_micros(300);

pub(crate) fn measure(bench: &mut Bench) {
    let processors = bench.processors;
    let row = |what, most| Row {
        what,
        unit: Unit::Microseconds,
        least: Groups {
            number: 64,
            size: 1,
        },
        reference: Some("eventfds"),
        budget: Budget::Ratio(Bound::AtMost(most)),
    };
    let eventfds = |groups: Groups| {
        let mut eventfds = EventfdRoundTrip::start(processors);
        groups.time(|count| eventfds.run(count))
    };

    let mut rig = Rig::new(processors, SPIN);
    let memory = rig.device.alloc(LONG).expect("device memory");
    let fill = Command::fill(&memory, 7, LONG);
    bench.pair(
        row("interrupt wakes the driver", 0.7),
        |groups| {
            // The chip is on the partner's processor as well, and has to be asleep.
            thread::sleep(2 * SPIN);
            eventfds(groups)
        },
        // What the fill itself takes is seen by polling.
        |groups| groups.time(|_| rig.by_interrupt(&fill).saturating_sub(rig.run(&fill, 1, 1))),
    );

    let mut rig = Rig::new(processors, Duration::ZERO);
    bench.pair(
        row("nop by interrupt, both asleep", 1.1),
        eventfds,
        |groups| {
            groups.time(|_| {
                thread::sleep(PAUSE);
                rig.by_interrupt(&Command::nop())
            })
        },
    );
}
