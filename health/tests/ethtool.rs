//! What drivers of this machine's interfaces say when asked.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use auk_health::probe::ethtool::{Asker, names};

fn interfaces() -> Vec<String> {
    let listed = std::fs::read_dir("/sys/class/net").unwrap();
    let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // Those of bonding are files.
    names.filter(|name| !name.starts_with("bonding")).collect()
}

#[test]
fn the_driver_of_an_interface_of_this_machine_answers() {
    let mut asker = Asker::default();
    let mut counted = false;
    for interface in interfaces() {
        let Some(said) = asker.ask(&interface).unwrap() else {
            panic!("{interface} is listed, and nobody answers for it");
        };
        println!("{interface}: {said:?}");
        let link = format!("/sys/class/net/{interface}/device/driver");
        if let Ok(driver) = std::fs::read_link(link) {
            assert_eq!(
                driver.file_name().unwrap().to_str(),
                Some(said.driver.as_str())
            );
        }
        let names = names::of(&said.driver);
        counted |= !names.is_empty();
        assert_eq!(
            said.counters.is_empty(),
            names.is_empty(),
            "{interface}: {said:?}"
        );
        // Again, now that it knows where they are.
        let again = asker.ask(&interface).unwrap().unwrap();
        assert!(again.counters.keys().eq(said.counters.keys()));
    }
    if !counted {
        eprintln!(
            "SKIPPED: counters by name: no interface here has a driver whose names are known"
        );
    }
}

#[test]
fn an_interface_that_is_not_here_has_no_driver_to_ask() {
    let mut asker = Asker::default();
    assert_eq!(asker.ask("nobody0"), Ok(None));
    for nonsense in ["", "a-name-that-is-longer-than-any-interface"] {
        assert!(asker.ask(nonsense).is_err(), "{nonsense:?}");
    }
    assert!(
        asker.ask("lo").unwrap().is_some(),
        "it goes on with the next"
    );
}
