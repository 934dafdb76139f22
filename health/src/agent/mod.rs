//! The loop: look, judge, tell; once a second, whatever hangs.

mod handle;
mod round;
mod shared;
mod socket;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

pub use handle::AgentHandle;
pub use socket::path as socket_path;

use crate::check::Settings;
use crate::output::http;
use crate::probe::text;
use crate::reader::ReaderCommand;
use crate::time::Moment;
use crate::{AgentError, Status};
use round::{Cadence, Rounds};
pub(crate) use shared::Shared;
use socket::Sockets;

/// The promise to see an uncorrectable error within two seconds needs a look each second.
const INTERVAL: Duration = Duration::from_secs(1);
/// What the kernel counts is not lost between two looks, so ten seconds do, and cost a tenth.
const SLOW: u32 = 10;
/// Faster than this a look would begin before the last one's deadline.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);
/// How long a look may take before the component counts as not seen.
const READ_DEADLINE: Duration = Duration::from_millis(500);
/// How long answers that are under way may take when the agent stops.
const DRAIN: Duration = Duration::from_secs(1);

/// How an agent shall run.
#[derive(Clone, Debug)]
pub struct Builder {
    root: PathBuf,
    interval: Duration,
    slow_interval: Option<Duration>,
    reader_command: Option<ReaderCommand>,
    read_deadline: Duration,
    listen: Option<SocketAddr>,
    settings: Settings,
    boot_known: bool,
}

impl Builder {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            interval: INTERVAL,
            slow_interval: None,
            reader_command: None,
            read_deadline: READ_DEADLINE,
            listen: None,
            settings: Settings::default(),
            boot_known: false,
        }
    }

    /// Time between two looks; a second by default.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Time between two looks at what the kernel counts or keeps: links, AER, ports; ten times that
    /// of [`interval`](Self::interval) by default.
    #[must_use]
    pub fn slow_interval(mut self, interval: Duration) -> Self {
        self.slow_interval = Some(interval);
        self
    }

    /// The program whose processes read; it must end in [`run_reader`](crate::run_reader). Without
    /// one, threads of this process read, and one that the kernel holds delays the end of it.
    #[must_use]
    pub fn reader_command(mut self, command: ReaderCommand) -> Self {
        self.reader_command = Some(command);
        self
    }

    /// How long a look may take; half a second by default.
    #[must_use]
    pub fn read_deadline(mut self, deadline: Duration) -> Self {
        self.read_deadline = deadline;
        self
    }

    /// A loopback TCP address to serve on beside the Unix socket; none by default.
    #[must_use]
    pub fn listen(mut self, address: Option<SocketAddr>) -> Self {
        self.listen = address;
        self
    }

    /// What all checks share. A `booted` in it stands; without one the host's uptime is looked up.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.boot_known = settings.booted.is_some();
        self.settings = settings;
        self
    }

    /// Takes the host's lock and opens the sockets; looks at nothing yet.
    ///
    /// # Errors
    /// When the root is no directory, an option cannot work, another agent watches this root, or
    /// the sockets cannot be opened.
    pub fn build(mut self) -> Result<Agent, AgentError> {
        if self.interval < LEAST_INTERVAL {
            return Err(AgentError::Interval {
                found: self.interval,
                least: LEAST_INTERVAL,
            });
        }
        // Also tells a file from a directory.
        fs::read_dir(&self.root).map_err(|source| AgentError::Root {
            root: self.root.clone(),
            source,
        })?;
        if !self.boot_known {
            self.settings.booted = booted(&self.root);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|source| AgentError::Thread { source })?;
        let sockets = Sockets::open(&self.root, self.listen)?;
        let shared = Arc::new(Shared::new(&self));
        Ok(Agent {
            options: self,
            runtime,
            sockets,
            shared,
        })
    }

    /// Starts an agent in a thread of its own.
    ///
    /// # Errors
    /// As [`build`](Self::build), and when the thread cannot be started.
    pub fn start(self) -> Result<AgentHandle, AgentError> {
        let agent = self.build()?;
        let shared = Arc::clone(&agent.shared);
        let address = agent.sockets.tcp_address();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("auk-health".to_owned())
            .spawn(move || agent.run_until(async move { stopped.notified().await }))
            .map_err(|source| AgentError::Thread { source })?;
        Ok(AgentHandle::new(shared, stop, thread, address))
    }
}

/// When the host booted, on the clock of [`Moment::uptime`], by its `proc/uptime`.
fn booted(root: &Path) -> Option<Duration> {
    let uptime = text::read(&root.join("proc/uptime")).ok()?;
    let seconds: f64 = uptime.split(' ').next()?.parse().ok()?;
    let uptime = Duration::try_from_secs_f64(seconds).ok()?;
    // A host that boots before this machine did is a simulated one, and booted long ago.
    Moment::now().uptime.checked_sub(uptime)
}

/// An agent that holds its host's lock and sockets.
pub struct Agent {
    options: Builder,
    runtime: Runtime,
    sockets: Sockets,
    shared: Arc<Shared>,
}

impl Agent {
    /// An agent for the host under `root`: `/`, or the directory of a simulated one.
    pub fn builder(root: impl AsRef<Path>) -> Builder {
        Builder::new(root.as_ref())
    }

    /// The TCP address that it serves on, with the port that the kernel chose.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.sockets.tcp_address()
    }

    /// Looks, judges and serves in this thread, until `stop` is ready. `stop` is polled in a
    /// tokio runtime with I/O and time, so it may be `tokio::signal::ctrl_c`.
    ///
    /// # Errors
    /// When the sockets cannot be served.
    pub fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), AgentError> {
        let Self {
            options,
            runtime,
            sockets,
            shared,
        } = self;
        let result = runtime.block_on(serve(&options, sockets, &shared, stop));
        // Nothing in the runtime blocks; what is left of connections is dropped here.
        runtime.shutdown_background();
        shared.close();
        result
    }
}

async fn serve(
    options: &Builder,
    mut sockets: Sockets,
    shared: &Arc<Shared>,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let (unix, tcp) = sockets.listeners()?;
    let (closing, close) = watch::channel(false);
    let mut servers = Vec::new();
    if let Some(unix) = unix {
        servers.push(tokio::spawn(http::serve(
            unix,
            Arc::clone(shared),
            close.clone(),
        )));
    }
    if let Some(tcp) = tcp {
        servers.push(tokio::spawn(http::serve(
            tcp,
            Arc::clone(shared),
            close.clone(),
        )));
    }
    info!(root = %options.root.display(), interval = ?options.interval, "watching");

    let slow = options
        .slow_interval
        .unwrap_or(options.interval.saturating_mul(SLOW));
    let cadence = Cadence::new(options.interval, slow, options.read_deadline);
    let mut rounds = Rounds::new(&options.root, cadence, options.reader_command.clone());
    let mut ticks = interval(options.interval);
    // After a pause of the whole machine one look is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            _ = ticks.tick() => {}
        }
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = rounds.run(shared) => {}
        }
    }
    // The path goes first, so that nobody new comes.
    drop(sockets);
    closing.send_replace(true);
    for server in servers {
        match timeout(DRAIN, server).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "a server ended badly"),
            Err(_) => info!("clients were still connected at the end"),
        }
    }
    rounds.close();
    info!("stopped");
    Ok(())
}

impl Builder {
    fn empty_status(&self) -> Status {
        let now = Moment::now();
        Status {
            schema: crate::status::SCHEMA,
            at_unix_ms: now.unix_ms,
            agent: crate::status::AgentStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                root: self.root.display().to_string(),
                started_unix_ms: now.unix_ms,
                interval_ms: crate::time::millis(self.interval),
                rounds: 0,
                cpu_seconds: 0.0,
                resident_bytes: 0,
                readers: Default::default(),
                config_access: Default::default(),
            },
            discovery_error: None,
            components: Vec::new(),
            incidents: Vec::new(),
            transitions: Vec::new(),
            orders: Vec::new(),
            switches: Vec::new(),
        }
    }
}
