//! What explains what: a dead port takes with it all that is below.

mod support;

use auk_health::facts::{PortGone, Presence};
use auk_health::incident::incidents;
use auk_health::verdict::{Action, HealthState};
use support::{BDF, Bench};

const PORT: &str = "0000:00:01.0";

fn below_a_dead_port(bench: &mut Bench) {
    bench.facts.presence = Some(Ok(Presence::AllOnes));
    bench.facts.port_gone = Some(Ok(Some(PortGone {
        bdf: PORT.to_owned(),
        presence: Presence::AllOnes,
    })));
}

#[test]
fn a_dead_port_explains_what_is_below_it_and_is_no_offence_of_the_chip() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    for _ in 0..3 {
        below_a_dead_port(&mut bench);
        bench.looks(3);
        let verdict = bench.verdict("presence");
        assert_eq!(verdict.state, HealthState::Unhealthy);
        assert_eq!(verdict.reason, "the port above, 0000:00:01.0, is gone");
        assert_eq!(verdict.blamed_on.as_deref(), Some("0000:00:01.0"));
        assert_eq!(bench.status().action, Action::Reboot);
        bench.facts.presence = Some(Ok(Presence::Present));
        bench.facts.port_gone = None;
        bench.minutes(15);
    }
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn two_chips_below_a_dead_port_are_one_incident_and_it_names_the_port() {
    let mut bench = Bench::accelerator();
    for (bdf, serial) in [(BDF, "a1"), ("0000:02:00.0", "a2")] {
        bench.bdf = bdf;
        bench.serial = Some(serial.to_owned());
        bench.facts.presence = Some(Ok(Presence::Present));
        bench.facts.port_gone = None;
        bench.looks(3);
        below_a_dead_port(&mut bench);
        bench.looks(3);
    }
    let found = incidents(&bench.engine.components(bench.now));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].cause, PORT);
    assert_eq!(found[0].components, [BDF, "0000:02:00.0"]);
}

#[test]
fn two_chips_that_are_ill_by_themselves_are_two_incidents_the_worse_first() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.width(4);
    bench.looks(5);
    (bench.bdf, bench.serial) = ("0000:02:00.0", Some("a2".to_owned()));
    bench.looks(3);
    bench.vitals().ecc_ue = 1;
    bench.looks(3);
    let found = incidents(&bench.engine.components(bench.now));
    let causes: Vec<_> = found
        .iter()
        .map(|incident| incident.cause.as_str())
        .collect();
    assert_eq!(causes, ["0000:02:00.0", BDF]);
    assert_eq!(found[0].state, HealthState::Unhealthy);
}
