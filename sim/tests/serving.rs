//! The chip at a path and on a socket: who may come, and what stays behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Instant;

use auk_asic::State;
use auk_sim::{Chip, ServeError};
use auk_vfio_user::client::{Client, Error, Options};
use common::{DEADLINE, eventually, small};

fn connect(path: &std::path::Path) -> Result<Client, Error> {
    Client::connect(path, Options::default(), Instant::now() + DEADLINE)
}

#[test]
fn clients_come_one_after_the_other_and_the_path_goes_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chip.sock");
    let chip = Chip::new(small()).unwrap();
    let serving = chip.serve(&path).unwrap();
    for _ in 0..3 {
        let client = eventually("the last client's session to end", || connect(&path).ok());
        assert!(matches!(connect(&path), Err(Error::InUse)));
        assert!(client.device_info(Instant::now() + DEADLINE).unwrap().pci);
    }
    assert!(matches!(chip.serve(&path), Err(ServeError::Listen(_))));
    drop(serving);
    assert!(!path.exists());
    assert_eq!(chip.serial(), small().serial, "the chip itself lives on");
}

#[test]
fn a_server_that_is_dropped_disconnects_its_client() {
    let chip = Chip::new(small()).unwrap();
    let (serving, socket) = chip.connect().unwrap();
    let deadline = Instant::now() + DEADLINE;
    let client = Client::from_fd(socket, Options::default(), deadline).unwrap();
    drop(serving);
    assert!(client.device_info(Instant::now() + DEADLINE).is_err());
}

#[test]
fn a_chip_without_any_client_still_lives() {
    let chip = Chip::new(small()).unwrap();
    eventually("Running", || (chip.state() == State::Running).then_some(()));
    let before = chip.vital_signs().heartbeat;
    eventually("the heartbeat", || {
        (chip.vital_signs().heartbeat != before).then_some(())
    });
    chip.shutdown();
    chip.shutdown();
}
