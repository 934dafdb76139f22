//! Servers that clients find by a path.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use auk_vfio_user::client::{Client, Error, Options};
use auk_vfio_user::pci::BAR0_REGION;
use auk_vfio_user::server::{self, Ended, ListenError, Listener, Server};
use common::*;

fn connect(path: &Path) -> Result<Client, Error> {
    Client::connect(path, Options::default(), soon())
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A path too long for a socket address, and its directory.
fn long_path(below: &Path) -> PathBuf {
    let mut path = below.to_owned();
    for _ in 0..5 {
        path.push("a-directory-with-quite-a-long-name");
    }
    std::fs::create_dir_all(&path).unwrap();
    path.join("vfio-user.sock")
}

#[test]
fn clients_are_served_one_after_the_other() {
    let directory = directory();
    let path = directory.path().join("socket");
    let server = Listening::start(&path);
    for round in 0..20_u8 {
        let client = connect(&path).unwrap();
        let mut read = [0];
        client
            .region_read(BAR0_REGION, 0x100, &mut read, soon())
            .unwrap();
        // What one client leaves behind, the next one finds.
        assert_eq!(read, [round]);
        client
            .region_write(BAR0_REGION, 0x100, &[round + 1], soon())
            .unwrap();
    }
    let seen = server.seen.clone();
    assert_eq!(server.stop(), Ended::Stopped);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.clients, seen.gone), (20, 20));
}

#[test]
fn paths_of_any_length_work_and_are_removed_again() {
    let directory = directory();
    let path = long_path(directory.path());
    assert!(path.as_os_str().len() > 150);
    let server = Listening::start(&path);
    connect(&path).unwrap().reset(soon()).unwrap();
    assert!(matches!(
        Listener::bind(&path),
        Err(ListenError::InUse { .. })
    ));
    server.stop();
    assert!(!path.exists());
    let stale = directory.path().join("stale");
    std::os::unix::fs::symlink(path.parent().unwrap(), &stale).unwrap();
    drop(UnixListener::bind(stale.join("vfio-user.sock")).unwrap());
    drop(Listener::bind(&path).unwrap());
    assert!(!path.exists());
}

#[test]
fn a_name_too_long_for_any_socket_is_an_error() {
    let directory = directory();
    let path = directory.path().join("x".repeat(150));
    assert!(matches!(Listener::bind(&path), Err(ListenError::Io { .. })));
    assert!(matches!(connect(&path), Err(Error::Connect { .. })));
}

#[test]
fn a_second_client_is_told_that_the_device_is_in_use_and_disturbs_nothing() {
    let directory = directory();
    let path = directory.path().join("socket");
    let server = Listening::start(&path);
    let first = connect(&path).unwrap();
    for busy in [false, true] {
        std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                for _ in 0..5 {
                    let second = connect(&path);
                    assert!(matches!(second, Err(Error::InUse)), "{second:?}");
                }
            });
            let mut four = [0; 4];
            while busy && !others.is_finished() {
                first
                    .region_read(BAR0_REGION, 0, &mut four, soon())
                    .unwrap();
            }
        });
    }
    first.reset(soon()).unwrap();
    drop(first);
    connect(&path).unwrap().reset(soon()).unwrap();
    assert_eq!(server.seen.lock().unwrap().clients, 2);
    server.stop();
}

#[test]
fn clients_who_are_turned_away_and_say_nothing_do_not_pile_up() {
    let directory = directory();
    let path = directory.path().join("socket");
    let server = Listening::start(&path);
    let first = connect(&path).unwrap();
    let silent: Vec<_> = (0..50)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    first.reset(soon()).unwrap();
    let mut byte = [0];
    for mut stream in silent {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // Closed, at once or when its time is up, without an answer.
        assert_eq!(std::io::Read::read(&mut stream, &mut byte).unwrap_or(0), 0);
    }
    first.reset(soon()).unwrap();
    server.stop();
}

#[test]
fn a_living_server_is_not_replaced() {
    let directory = directory();
    let path = directory.path().join("socket");
    let server = Listening::start(&path);
    assert!(matches!(
        Listener::bind(&path),
        Err(ListenError::InUse { .. })
    ));
    connect(&path).unwrap().reset(soon()).unwrap();
    // A server that is busy with a client is alive as well.
    let _client = connect(&path).unwrap();
    assert!(matches!(
        Listener::bind(&path),
        Err(ListenError::InUse { .. })
    ));
    server.stop();
}

#[test]
fn what_a_dead_server_left_behind_is_replaced() {
    let directory = directory();
    let path = directory.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    assert!(matches!(connect(&path), Err(Error::Connect { .. })));
    let server = Listening::start(&path);
    connect(&path).unwrap().reset(soon()).unwrap();
    server.stop();
    assert!(!path.exists());
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let directory = directory();
    let path = directory.path().join("file");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(
        Listener::bind(&path),
        Err(ListenError::NotASocket { .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_listener_does_not_remove_the_socket_of_its_successor() {
    let directory = directory();
    let path = directory.path().join("socket");
    let first = Listener::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = Listener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[test]
fn nobody_listening_is_an_error_that_names_the_path() {
    let directory = directory();
    let path = directory.path().join("nobody");
    let error = connect(&path).unwrap_err();
    assert!(error.to_string().contains("nobody"), "{error}");
}

#[test]
fn a_listener_that_never_accepts_is_an_error_at_the_deadline() {
    let directory = directory();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    // The first ones get into the queue and wait for an answer there; nobody takes them out again.
    let attempt = || {
        Client::connect(
            &path,
            Options::default(),
            Instant::now() + Duration::from_millis(100),
        )
    };
    let error = (0..10)
        .map(|_| attempt())
        .find(|result| !matches!(result, Err(Error::TimedOut { .. })));
    let error = error.expect("a full queue");
    assert!(matches!(error, Err(Error::Connect { .. })), "{error:?}");
}

#[test]
fn a_server_without_clients_stops_when_told_and_when_its_time_is_up() {
    let directory = directory();
    let listener = Listener::bind(&directory.path().join("socket")).unwrap();
    let server = Server::new(server::Options::default()).unwrap();
    let until = Instant::now() + Duration::from_millis(50);
    let ended = server
        .serve(&listener, &mut Toy::new(), Some(until))
        .unwrap();
    assert_eq!(ended, Ended::Deadline);
    let stop = server.stop_handle();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            server
                .serve(&listener, &mut Toy::new(), Some(soon()))
                .unwrap()
        });
        stop.stop();
        assert_eq!(serving.join().unwrap(), Ended::Stopped);
    });
}
