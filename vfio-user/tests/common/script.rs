//! Servers that do as they are told.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses its own part of this"
)]

use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use auk_vfio_user::client::{Client, Error, Options};

use super::raw::*;
use super::soon;

pub const CAPS: &str = "{\"capabilities\":{\"max_msg_fds\":8}}\0";

/// A server that does what `script` says, in a thread of its own.
pub fn server(script: impl FnOnce(&mut Raw) + Send + 'static) -> (UnixStream, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (
        ours,
        std::thread::spawn(move || script(&mut Raw::new(theirs))),
    )
}

/// The same, after it has agreed on a version.
pub fn agreed(script: impl FnOnce(&mut Raw) + Send + 'static) -> (Client, JoinHandle<()>) {
    agreed_with(CAPS, script)
}

pub fn agreed_with(
    caps: &'static str,
    script: impl FnOnce(&mut Raw) + Send + 'static,
) -> (Client, JoinHandle<()>) {
    let (stream, thread) = server(move |raw| {
        let request = raw.receive().unwrap();
        raw.send(&message(request.id, VERSION, REPLY, &version(0, 1, caps)));
        script(raw);
    });
    (
        Client::from_fd(stream.into(), Options::default(), soon()).unwrap(),
        thread,
    )
}

/// What becomes of a call that is answered with `answer`.
pub fn answered<T>(
    answer: impl FnOnce(&mut Raw, Received) + Send + 'static,
    call: impl FnOnce(&Client) -> Result<T, Error>,
) -> Result<T, Error> {
    let (client, thread) = agreed(|raw| {
        let request = raw.receive().unwrap();
        answer(raw, request);
    });
    let result = call(&client);
    drop(client);
    thread.join().unwrap();
    result
}

/// What becomes of a call that is answered with a well-formed reply with this payload.
pub fn answered_with<T>(
    payload: Vec<u8>,
    call: impl FnOnce(&Client) -> Result<T, Error>,
) -> Result<T, Error> {
    answered(
        move |raw, request| raw.send(&message(request.id, request.command, REPLY, &payload)),
        call,
    )
}

pub fn is_violation<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Protocol { .. })), "{result:?}");
}

pub fn read4(client: &Client) -> Result<[u8; 4], Error> {
    let mut data = [0; 4];
    client
        .region_read(0, 0x10, &mut data, soon())
        .map(|()| data)
}
