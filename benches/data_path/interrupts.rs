//! Commands waited for asleep, beside two threads that wake each other through eventfds. A chip that is awake may be done
//! before its interrupt is armed; then nobody sleeps.

use std::thread;
use std::time::Duration;

use auk_driver::Command;

use crate::pairs::{Bench, Groups};
use crate::report::{Bound, Budget, Row, Unit};
use crate::rig::Rig;
use crate::yardstick::EventfdRoundTrip;

/// How long the chip of the one row looks for work before it sleeps: longer than a command and its wait take.
const SPIN: Duration = Duration::from_millis(3);

pub(crate) fn measure(bench: &mut Bench) {
    let processors = bench.processors;
    for (what, spin, most) in [
        ("nop by interrupt, chip awake", SPIN, 0.7),
        ("nop by interrupt, chip parked", Duration::ZERO, 1.1),
    ] {
        let mut rig = Rig::new(processors, spin);
        bench.pair(
            Row {
                what,
                unit: Unit::Microseconds,
                least: Groups {
                    number: 64,
                    size: 1,
                },
                reference: Some("eventfds"),
                budget: Budget::Ratio(Bound::AtMost(most)),
            },
            |groups| {
                // The chip is on the partner's processor as well, and has to be asleep.
                thread::sleep(2 * spin);
                let mut eventfds = EventfdRoundTrip::start(processors);
                groups.time(|count| eventfds.run(count))
            },
            |groups| groups.time(|count| rig.by_interrupt(&Command::nop(), count)),
        );
    }
}
