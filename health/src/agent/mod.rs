//! The loop: look, judge, tell; once a second, whatever hangs.

mod functions;
mod handle;
mod judging;
mod kernel_log;
mod links;
mod memory;
mod reload;
mod round;
mod shared;
mod socket;
mod supervisor;
mod tell;
mod uevent;
mod usage;
mod watched;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

pub use handle::AgentHandle;
pub use reload::Reloader;
pub use socket::path as socket_path;

use crate::check::Settings;
use crate::config::{Config, Overrides};
use crate::hook::HookSettings;
use crate::output::http;
use crate::probe::text;
use crate::reader::ReaderCommand;
use crate::recording::Recorder;
use crate::store::Store;
use crate::time::Moment;
use crate::{AgentError, Status};
use functions::Functions;
use kernel_log::KernelLog;
use links::Links;
use reload::InForce;
use round::{Cadence, Rounds};
pub(crate) use shared::Shared;
use socket::Sockets;
use supervisor::Supervisor;
use uevent::{Hurry, Notice, Uevents};

/// Takes some bytes for what the kernel tells of devices and processes, for the fuzz target `kernel_messages`.
#[cfg(fuzzing)]
pub fn fuzz_kernel_messages(bytes: &[u8]) {
    uevent::fuzz(bytes);
    usage::fuzz(&String::from_utf8_lossy(bytes));
}

/// Faster than this a look would begin before the last one's deadline.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);
/// Notices on interfaces that may wait for the loop, which takes them between two rounds.
const NOTICES: usize = 64;
/// How long answers that are under way may take when the agent stops.
const DRAIN: Duration = Duration::from_secs(1);

/// How an agent shall run.
#[derive(Clone, Debug)]
pub struct Builder {
    root: PathBuf,
    config: Config,
    overrides: Overrides,
    reader_command: Option<ReaderCommand>,
    record: Option<PathBuf>,
    is_service: bool,
    state_directory: Option<PathBuf>,
}

impl Builder {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            config: Config::default(),
            overrides: Overrides::default(),
            reader_command: None,
            record: None,
            is_service: false,
            state_directory: None,
        }
    }

    /// The configuration to begin with; without one all is default, and no file is read before the
    /// first reload.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// What stands above the configuration, now and after each reload.
    #[must_use]
    pub fn overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = overrides;
        self
    }

    /// Time between two looks, whatever the configuration says.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.overrides.interval = Some(interval);
        self
    }

    /// Time between two looks at what the kernel counts or keeps: links, AER, ports; whatever the
    /// configuration says.
    #[must_use]
    pub fn slow_interval(mut self, interval: Duration) -> Self {
        self.overrides.slow_interval = Some(interval);
        self
    }

    /// The program whose processes read; it must end in [`run_reader`](crate::run_reader). Without
    /// one, threads of this process read, and one that the kernel holds delays the end of it.
    #[must_use]
    pub fn reader_command(mut self, command: ReaderCommand) -> Self {
        self.reader_command = Some(command);
        self
    }

    /// It is what the service manager started this process for: systemd is told when it is ready, how
    /// the host is and that the loop goes round, if it asked to be. See sd_notify(3).
    #[must_use]
    pub fn service(mut self) -> Self {
        self.is_service = true;
        self
    }

    /// How long a look may take, whatever the configuration says.
    #[must_use]
    pub fn read_deadline(mut self, deadline: Duration) -> Self {
        self.overrides.read_deadline = Some(deadline);
        self
    }

    /// A loopback TCP address to serve on beside the Unix socket, in place of the configuration's.
    #[must_use]
    pub fn listen(mut self, address: Option<SocketAddr>) -> Self {
        self.overrides.listen = address;
        self
    }

    /// What all checks share, until the first reload. A `booted` in it stands; without one the host's
    /// uptime is looked up.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.config.settings = settings;
        self
    }

    /// A file to which all is written that the engine is fed; see [`recording`](crate::recording). One that is there is
    /// gone on with.
    #[must_use]
    pub fn record(mut self, file: Option<PathBuf>) -> Self {
        self.record = file;
        self
    }

    /// Where to keep what must outlive the agent, such as [`Config::state_directory`]; by default it is kept in memory
    /// alone.
    #[must_use]
    pub fn state_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state_directory = Some(directory.into());
        self
    }

    /// Takes the host's lock and opens the sockets; looks at nothing yet.
    ///
    /// # Errors
    /// When the root is no directory, an option cannot work, another agent watches this root, the sockets or the
    /// recording cannot be opened, or a newer agent kept what is in the state directory. One that cannot be written
    /// is no error: the agent says so, and goes on from memory.
    pub fn build(mut self) -> Result<Agent, AgentError> {
        self.config = self.config.overridden(&self.overrides);
        let agent = &self.config.agent;
        if agent.interval < LEAST_INTERVAL {
            return Err(AgentError::Interval {
                found: agent.interval,
                least: LEAST_INTERVAL,
            });
        }
        // Also tells a file from a directory.
        fs::read_dir(&self.root).map_err(|source| AgentError::Root {
            root: self.root.clone(),
            source,
        })?;
        let settings = &mut self.config.settings;
        settings.booted = settings.booted.or_else(|| booted(&self.root));
        reload::tell_warnings(&self.config);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            // They read the store for those who ask for events, each for no longer than its deadline.
            .max_blocking_threads(2)
            .build()
            .map_err(|source| AgentError::Thread { source })?;
        let sockets = Sockets::open(&self.root, self.config.agent.listen)?;
        let recorder = self.record.as_deref().map(Recorder::append).transpose()?;
        let (store, boot_id) = self.open_store()?;
        let shared = Arc::new(Shared::new(&self, store, boot_id, recorder));
        Ok(Agent {
            options: self,
            runtime,
            sockets,
            shared,
            reloader: Reloader::default(),
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
        let reloader = agent.reloader();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("auk-health".to_owned())
            .spawn(move || agent.run_until(async move { stopped.notified().await }))
            .map_err(|source| AgentError::Thread { source })?;
        Ok(AgentHandle::new(shared, stop, reloader, thread, address))
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
    reloader: Reloader,
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

    /// What asks it to read its configuration again.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
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
            reloader,
        } = self;
        let result = runtime.block_on(serve(options, sockets, &shared, &reloader, stop));
        // Nothing in the runtime blocks; what is left of connections is dropped here.
        runtime.shutdown_background();
        shared.close();
        result
    }
}

async fn serve(
    options: Builder,
    mut sockets: Sockets,
    shared: &Arc<Shared>,
    reloader: &Reloader,
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
    let hooks = HookSettings::from(&options.config);
    let mut force = InForce {
        root: options.root,
        overrides: options.overrides,
        booted: options.config.settings.booted,
        agent: options.config.agent,
        store: options.config.store,
    };
    info!(root = %force.root.display(), interval = ?force.agent.interval, "watching");

    let cadence = Cadence::of(&force.agent);
    let command = options.reader_command;
    let mut rounds = Rounds::new(&force.root, cadence, command, shared.known());
    rounds.watch_host(shared.asked_of_host());
    let mut ticks = ticks(force.agent.interval);
    let mut supervisor = match options.is_service {
        true => Supervisor::of_service(),
        false => Supervisor::none(),
    };
    let mut uevents = Uevents::of(&force.root);
    let (notify, mut notices) = mpsc::channel(NOTICES);
    let listener = Links::of(&force.root)
        .map(|links| tokio::spawn(links::listen(links, Arc::clone(shared), notify)));
    let mut log = KernelLog::of(&force.root, shared);
    let mut hurry = Hurry::default();
    shared.start_hooks(hooks);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = reloader.asked() => {
                supervisor.reloading();
                // What is wrong with it was told.
                if force.reload(shared).is_ok() {
                    rounds.set_cadence(Cadence::of(&force.agent));
                    rounds.watch_host(shared.asked_of_host());
                    ticks = self::ticks(force.agent.interval);
                }
                supervisor.reloaded();
                continue;
            }
            () = supervisor.hungry() => {
                supervisor.alive();
                continue;
            }
            _ = ticks.tick() => {}
            () = log.ready() => {
                if let Some(notice) = log.read(shared, &Functions::of(&force.root, &rounds)) {
                    rounds.heed(&notice);
                    if let Some(soon) = hurry.after(force.agent.interval) {
                        ticks.reset_after(soon);
                    }
                }
                continue;
            }
            notice = next_notice(&mut uevents, &mut notices) => {
                rounds.heed(&notice);
                if let Some(soon) = hurry.after(force.agent.interval) {
                    ticks.reset_after(soon);
                }
                continue;
            }
        }
        if let Some(notice) = log.read(shared, &Functions::of(&force.root, &rounds)) {
            rounds.heed(&notice);
        }
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = rounds.run(shared, &mut log) => supervisor.round_ended(shared),
        }
    }
    supervisor.stopping();
    if let Some(listener) = listener {
        listener.abort();
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
    log.close(shared);
    info!("stopped");
    Ok(())
}

/// What the kernel says next, of devices or of interfaces.
async fn next_notice(uevents: &mut Uevents, links: &mut mpsc::Receiver<Notice>) -> Notice {
    let of_links = async {
        match links.recv().await {
            Some(notice) => notice,
            // Nobody listens: the root is not this machine's.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        notice = uevents.next() => notice,
        notice = of_links => notice,
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    // After a pause of the whole machine one look is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl Builder {
    /// The store, and the boot that it is opened for. Two agents do not meet in it, as the host's lock is held.
    fn open_store(&self) -> Result<(Store, String), AgentError> {
        let boot_id = memory::boot_id(&self.root);
        let settings = &self.config.store;
        let now = Moment::now().unix_ms;
        let store = match &self.state_directory {
            Some(directory) => Store::open(directory, &boot_id, settings, now)?,
            None => Store::in_memory(&boot_id, settings, now)?,
        };
        Ok((store, boot_id))
    }

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
                interval_ms: crate::time::millis(self.config.agent.interval),
                rounds: 0,
                round_seconds: 0.0,
                cpu_seconds: 0.0,
                resident_bytes: 0,
                readers: Default::default(),
                config_access: Default::default(),
                config_dwords: 0,
                config: self.config.status(now.unix_ms),
            },
            discovery_error: None,
            components: Vec::new(),
            incidents: Vec::new(),
            transitions: Vec::new(),
            orders: Vec::new(),
            switches: Vec::new(),
            store: None,
        }
    }
}
