//! One run of one hook: a process group with an event on its stdin, watched to its end.

use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::config::Hook;
use crate::store::Event;
use crate::verdict::Transition;

/// What of its output is kept for the log.
const OUTPUT: usize = 4096;
/// How often is looked whether it has ended, while it runs.
const LOOK: Duration = Duration::from_millis(20);
/// As a service of systemd has it, whatever the agent's own is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// How a run ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It was killed at its deadline.
    Late,
    /// It was killed because the agent stops.
    Stopped,
    /// It could not be started.
    NotStarted(io::Error),
}

/// Runs a hook to its end, and gives what it wrote.
pub(super) fn run(
    name: &str,
    hook: &Hook,
    event: &Event,
    change: &Transition,
    stopping: &AtomicBool,
) -> (End, String) {
    let mut output = Output::default();
    let end = match start(name, hook, event, change) {
        Ok((mut child, pipe)) => {
            output.pipe = Some(pipe);
            watch(&mut child, hook.deadline, &mut output, stopping)
        }
        Err(error) => End::NotStarted(error),
    };
    (end, String::from_utf8_lossy(&output.kept).into_owned())
}

fn start(
    name: &str,
    hook: &Hook,
    event: &Event,
    change: &Transition,
) -> io::Result<(Child, PipeReader)> {
    let (program, arguments) = hook
        .command
        .split_first()
        .ok_or_else(|| io::Error::other("it has no command"))?;
    let (reader, writer) = io::pipe()?;
    // Of the reading end alone: the hook may write as it is used to.
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let id = event.id.to_string();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let from = change.from.map(|from| from.to_string()).unwrap_or_default();
    let variables = [
        ("PATH", PATH.to_owned()),
        ("AUK_HOOK", name.to_owned()),
        ("AUK_EVENT_ID", id),
        ("AUK_BOOT_ID", event.boot_id.clone()),
        ("AUK_COMPONENT", change.component.clone()),
        ("AUK_SERIAL", text(&change.serial)),
        ("AUK_CHECK", text(&change.check)),
        ("AUK_FROM", from),
        ("AUK_TO", change.to.to_string()),
        ("AUK_REASON", change.reason.clone()),
    ];
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        // What a device's files said may hold anything.
        .envs(variables.map(|(name, value)| (name, value.replace('\0', " "))))
        .current_dir("/")
        .process_group(0)
        .stdin(stdin(event)?)
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    Ok((child, reader))
}

/// The event as JSON, in memory: a hook that does not read it holds nobody up.
fn stdin(event: &Event) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create(c"auk-event", MFdFlags::MFD_CLOEXEC)?);
    serde_json::to_writer(&mut file, event)?;
    file.write_all(b"\n")?;
    file.rewind()?;
    Ok(file.into())
}

fn watch(child: &mut Child, deadline: Duration, output: &mut Output, stopping: &AtomicBool) -> End {
    let start = Instant::now();
    let end = loop {
        output.take();
        if has_ended(child) {
            break None;
        }
        if stopping.load(Ordering::Relaxed) {
            break Some(End::Stopped);
        }
        if start.elapsed() >= deadline {
            break Some(End::Late);
        }
        std::thread::sleep(LOOK);
    };
    // Before the child is reaped its group cannot be anybody else's. An error is a group that is
    // empty, or the one left in it who became somebody else.
    let _ = killpg(pid(child), Signal::SIGKILL);
    let status = child.wait();
    output.take();
    match (end, status) {
        (Some(end), _) => end,
        (None, Ok(status)) => End::Exited(status),
        // Nobody else reaps it; were it so, how it ended is not known.
        (None, Err(_)) => End::Exited(ExitStatus::from_raw(0)),
    }
}

fn pid(child: &Child) -> Pid {
    // The kernel's process IDs are at most 2^22.
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// Whether it has ended. It is not reaped, so that its group keeps its number.
fn has_ended(child: &Child) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(
        waitid(Id::Pid(pid(child)), flags),
        Ok(WaitStatus::StillAlive)
    )
}

/// The beginning of what a hook writes; the rest is read and dropped, so that it can go on.
#[derive(Default)]
struct Output {
    pipe: Option<PipeReader>,
    kept: Vec<u8>,
}

impl Output {
    fn take(&mut self) {
        let mut buffer = [0; 4096];
        // Bounded: one that writes without end is looked at again only after its process.
        for _ in 0..64 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    let room = OUTPUT.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(_) => return,
            }
        }
    }
}
