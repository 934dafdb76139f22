//! The control socket of a simulated host, and whoever talks to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host_support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use auk_sim::host::SimulatedHost;
use auk_sim::inject::{self, CONTROL_SOCKET, Injection, SendError, Verb};
use host_support::{DEADLINE, read, scratch, small_host, wait_for};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};

fn connect(root: &Path) -> UnixStream {
    let stream = UnixStream::connect(root.join(CONTROL_SOCKET)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends bytes as they are, and reads one line.
fn ask(root: &Path, request: &[u8]) -> String {
    let mut stream = connect(root);
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

fn ok(root: &Path) {
    let answer = ask(root, b"{\"verb\":\"ecc-ce\",\"target\":\"0000:01:00.0\"}\n");
    assert_eq!(answer, "{\"ok\":true}\n");
}

/// Correctable errors in the vital signs, which change every 100 ms at most.
fn corrected(host: &SimulatedHost) -> u32 {
    host.chips()[0].chip.vital_signs().ecc_ce
}

#[test]
fn the_client_and_the_host_agree() {
    let root = scratch();
    let host = small_host(root.path(), 1, 1);
    let send =
        |target: &str, verb| inject::send(root.path(), &Injection::new(target, verb), DEADLINE);
    send("0000:01:00.0", Verb::EccCe { count: 5 }).unwrap();
    send("01:00.0", Verb::EccCe { count: 2 }).unwrap();
    wait_for("seven errors", || corrected(&host) == 7);
    send("0000:01:00.0", Verb::LinkWidth { lanes: 4 }).unwrap();
    send(
        "eth0",
        Verb::CarrierFlap {
            count: 1,
            down_ms: 1,
        },
    )
    .unwrap();
    send("0000:01:00.0", Verb::FirmwareHang).unwrap();
    send("0000:01:00.0", Verb::EccUe).unwrap();
    let Err(SendError::Refused(reason)) = send("0000:09:00.0", Verb::EccUe) else {
        panic!("there is no such chip");
    };
    assert!(
        reason.contains("0000:01:00.0") && reason.contains("eth0"),
        "{reason}"
    );
    let Err(SendError::Refused(reason)) = send("0000:41:00.0", Verb::EccUe) else {
        panic!("a NIC has no such memory");
    };
    assert!(reason.contains("NIC"), "{reason}");
}

#[test]
fn a_refusal_says_what_would_have_been_right() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 0);
    for (request, hint) in [
        (
            "{\"verb\":\"ecc-eu\",\"target\":\"01:00.0\"}",
            "\\\"ecc-ue\\\"?",
        ),
        (
            "{\"verb\":\"explode\",\"target\":\"01:00.0\"}",
            "auk sim faults",
        ),
        ("{\"verb\":\"ecc-ue\"}", "target"),
        ("{\"target\":\"01:00.0\"}", "verb"),
        ("{\"verb\":1,\"target\":\"01:00.0\"}", "verb"),
        (
            "{\"verb\":\"ecc-ce\",\"target\":\"01:00.0\",\"cuont\":9}",
            "cuont",
        ),
        (
            "{\"verb\":\"ecc-ue\",\"target\":\"01:00.0\",\"count\":9}",
            "count",
        ),
        (
            "{\"verb\":\"ecc-ce\",\"target\":\"01:00.0\",\"count\":0}",
            "at least 1",
        ),
        (
            "{\"verb\":\"ecc-ce\",\"target\":\"01:00.0\",\"count\":-1}",
            "-1",
        ),
        (
            "{\"verb\":\"link-width\",\"target\":\"01:00.0\",\"lanes\":3}",
            "1, 2, 4, 8",
        ),
        (
            "{\"verb\":\"link-width\",\"target\":\"01:00.0\",\"lanes\":16}",
            "16",
        ),
        ("[]", "JSON object"),
        ("\"ecc-ue\"", "JSON object"),
        ("", "JSON object"),
        ("{\"verb\":\"ecc-ue\",", "JSON object"),
        ("\u{1b}[2J", "JSON object"),
    ] {
        let answer = ask(root.path(), format!("{request}\n").as_bytes());
        assert!(
            answer.starts_with("{\"ok\":false,\"error\":"),
            "{request}: {answer}"
        );
        assert!(answer.contains(hint), "{request}: {answer}");
    }
    ok(root.path());
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 0);
    let answer = ask(root.path(), b"\xff\xfe\x00{\n");
    assert!(answer.contains("error"), "{answer}");
    ok(root.path());
}

#[test]
fn a_line_without_an_end_is_cut_off() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 0);
    let mut stream = connect(root.path());
    // The host may hang up before it has all of it.
    let _ = stream.write_all(&vec![b'x'; 1 << 20]);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.contains("4096"), "{answer}");
    ok(root.path());
}

#[test]
fn half_a_line_and_then_nothing_does_no_harm() {
    let root = scratch();
    let host = small_host(root.path(), 1, 0);
    let mut stream = connect(root.path());
    stream
        .write_all(b"{\"verb\":\"ecc-ue\",\"target\":\"01:00.0\"}")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(host.chips()[0].chip.vital_signs().ecc_ue, 0);
    ok(root.path());
}

#[test]
fn many_requests_in_one_write_are_answered_in_order() {
    let root = scratch();
    let host = small_host(root.path(), 1, 0);
    let mut stream = connect(root.path());
    stream
        .write_all(
            b"{\"verb\":\"ecc-ce\",\"target\":\"01:00.0\"}\nnonsense\n{\"verb\":\"ecc-ce\",\"target\":\"01:00.0\"}\n",
        )
        .unwrap();
    let lines: Vec<String> = BufReader::new(stream)
        .lines()
        .take(3)
        .map(Result::unwrap)
        .collect();
    assert_eq!(lines[0], "{\"ok\":true}");
    assert!(lines[1].contains("error"));
    assert_eq!(lines[2], "{\"ok\":true}");
    wait_for("two errors", || corrected(&host) == 2);
}

#[test]
fn clients_that_say_nothing_hold_nobody_up() {
    let root = scratch();
    let host = small_host(root.path(), 1, 0);
    let mut silent: Vec<UnixStream> = (0..50).map(|_| connect(root.path())).collect();
    for stream in &mut silent {
        stream.write_all(b"{\"verb\":").unwrap();
    }
    ok(root.path());
    host.stop();
    // They were hung up on, not waited for.
    for stream in &mut silent {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
}

#[test]
fn more_clients_than_the_host_takes_are_told_so_and_the_host_recovers() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 0);
    let crowd: Vec<UnixStream> = (0..64).map(|_| connect(root.path())).collect();
    let mut one_more = connect(root.path());
    let mut answer = String::new();
    one_more.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("64 clients"), "{answer}");
    drop(crowd);
    wait_for("a place", || {
        let answer = ask(
            root.path(),
            b"{\"verb\":\"ecc-ce\",\"target\":\"0000:01:00.0\"}\n",
        );
        answer == "{\"ok\":true}\n"
    });
}

#[test]
fn a_client_that_sends_a_byte_now_and_then_does_not_keep_the_host_from_stopping() {
    let root = scratch();
    let host = small_host(root.path(), 1, 0);
    let mut stream = connect(root.path());
    let trickle = std::thread::spawn(move || {
        // Ends when the host hangs up.
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end && stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
        Instant::now() < end
    });
    std::thread::sleep(Duration::from_millis(250));
    host.stop();
    assert!(trickle.join().unwrap(), "the host waited for the client");
}

#[test]
fn a_client_that_never_reads_its_answers_is_dropped() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 0);
    let mut deaf = connect(root.path());
    deaf.set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut sent = 0;
    // Until the host hangs up, or its and our buffers are full.
    while sent < 100_000 && deaf.write_all(b"nonsense\n").is_ok() {
        sent += 1;
    }
    ok(root.path());
}

#[test]
fn without_a_host_the_client_says_where_it_looked() {
    let root = scratch();
    let request = Injection::new("eth0", Verb::EccUe);
    let error = inject::send(root.path(), &request, DEADLINE).unwrap_err();
    assert!(matches!(error, SendError::NoHost { .. }));
    let text = error.to_string();
    assert!(
        text.contains(CONTROL_SOCKET) && text.contains("auk sim host"),
        "{text}"
    );
}

#[test]
fn a_host_that_does_not_answer_is_given_up_on() {
    let root = scratch();
    let socket = root.path().join(CONTROL_SOCKET);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    // A listener that takes nobody, with a queue of one.
    let listener = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    socket::bind(listener.as_raw_fd(), &UnixAddr::new(&socket).unwrap()).unwrap();
    socket::listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let request = Injection::new("eth0", Verb::EccUe);
    let send = || inject::send(root.path(), &request, Duration::from_millis(300));
    let mut first = send();
    for _ in 0..4 {
        let Err(SendError::Io { source, .. }) = first else {
            break;
        };
        assert_eq!(source.kind(), ErrorKind::TimedOut);
        first = send();
    }
    // The queue is full now, and connecting does not wait for a place in it.
    assert!(matches!(first, Err(SendError::NoHost { .. })), "{first:?}");
}

#[test]
fn an_answer_that_is_none_is_not_taken_for_one() {
    let root = scratch();
    let socket = root.path().join(CONTROL_SOCKET);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answers = ["{\"ok\":false}\n", "{\"ok\":true", "hello\n", "", "{}\n"];
    let liar = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for answer in answers {
        let error =
            inject::send(root.path(), &Injection::new("eth0", Verb::EccUe), DEADLINE).unwrap_err();
        assert!(
            matches!(error, SendError::Malformed { .. } | SendError::Io { .. }),
            "{answer}: {error}"
        );
    }
    liar.join().unwrap();
}

#[test]
fn the_tree_shows_a_fault_as_soon_as_it_is_answered() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 1);
    let chip = "sys/bus/pci/devices/0000:01:00.0";
    for lanes in [4, 1, 8] {
        inject::send(
            root.path(),
            &Injection::new("01:00.0", Verb::LinkWidth { lanes }),
            DEADLINE,
        )
        .unwrap();
        let shown = read(root.path(), &format!("{chip}/current_link_width"));
        assert_eq!(shown, format!("{lanes}\n"));
    }
}
