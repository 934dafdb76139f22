//! The engine: the thread that serves the queues.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::gate::Gate;
use crate::machine::Machine;

/// Looks without work between two looks at the clock.
const LOOKS_PER_TICK: u32 = 64;
/// How long the engine sleeps when it must look again by itself: at semaphores, and at doorbells
/// of queues without a park word.
const SHORTEST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// Starts the engine of a chip.
///
/// # Errors
/// When the system has no thread for it.
pub(crate) fn start(gate: Arc<Gate>, spin: Duration) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("auk-sim-engine".to_owned())
        .spawn(move || run(&gate, spin))
}

fn run(gate: &Gate, spin: Duration) {
    let mut nap = SHORTEST_NAP;
    let mut machine = gate.lock();
    while !machine.stopping {
        machine.update(Instant::now());
        let work = work_until_idle(gate, machine, spin);
        machine = work.machine;
        if work.worked {
            nap = SHORTEST_NAP;
        }
        if machine.stopping {
            return;
        }
        // Parking: the word first, then one more look at doorbells and armings; the driver does both
        // the other way round, so one of the two sees the other (docs/hardware.md, section 5).
        machine.set_parked(true);
        fence(Ordering::SeqCst);
        machine.look_at_armings();
        if !machine.wants_engine() {
            let now = Instant::now();
            let limit = machine.sleep_limit(now, nap);
            machine.asleep = true;
            machine = gate.sleep(machine, limit);
            machine.asleep = false;
            nap = (nap * 2).min(LONGEST_NAP);
        }
        machine.set_parked(false);
        machine.attention = false;
    }
}

struct Worked<'a> {
    machine: std::sync::MutexGuard<'a, Machine>,
    worked: bool,
}

/// Serves the queues until there was nothing to do for `spin`.
fn work_until_idle<'a>(
    gate: &'a Gate,
    mut machine: std::sync::MutexGuard<'a, Machine>,
    spin: Duration,
) -> Worked<'a> {
    let mut worked = false;
    let mut idle_since = None;
    let mut looks = 0;
    loop {
        if gate.has_visitors() {
            machine = gate.yield_to_visitors(machine);
            if machine.stopping {
                return Worked { machine, worked };
            }
        }
        if machine.turn() {
            worked = true;
            idle_since = None;
            looks = 0;
            continue;
        }
        looks += 1;
        if looks % LOOKS_PER_TICK == 0 || !machine.serves() {
            let now = Instant::now();
            machine.update(now);
            let since = *idle_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= spin || !machine.serves() {
                return Worked { machine, worked };
            }
        }
        std::hint::spin_loop();
    }
}
