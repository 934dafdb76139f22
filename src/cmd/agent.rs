//! `auk agent`: the health agent in the foreground.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use auk_health::config::Overrides;
use auk_health::{Agent, Config, ReaderCommand, Reloader};
use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::agent_config;
use crate::signals::Stop;
use crate::{failure, output};

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk agent
  auk agent --root /tmp/host --interval 500
  auk agent --listen 127.0.0.1:9400
  auk agent --check --strict
  auk agent --print-config | grep -v '# default'
  auk agent --record /var/tmp/auk.jsonl
  curl --unix-socket /run/auk/agent.sock http://agent/metrics

It only reads, from sysfs and config space, and disturbs no job. It answers `auk status` and /metrics at
run/auk/agent.sock below the root, until SIGINT or SIGTERM. SIGHUP makes it read its configuration again: agent.toml in
etc/auk, run/auk or usr/lib/auk below the root, and agent.d/*.toml in all three.";

/// What a reader process of an agent has for its only argument. It is for no person to give, so the command line does
/// not know it: `main` looks for it before anything else, as a reader is to stay small.
pub(crate) const READER: &str = "agent-reader";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Milliseconds between two looks, in place of agent.interval
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(50..=3_600_000))]
    interval: Option<u64>,

    /// A loopback address to serve on as well, in place of agent.listen; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Write all that is judged to this file, for `auk replay`; one that is there is gone on with
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Only say what is wrong with the configuration; ends with 1 when anything is
    #[arg(long, conflicts_with = "print_config")]
    check: bool,

    /// Fail too when a check would rest on what was never read on a real kernel
    #[arg(long, requires = "check")]
    strict: bool,

    /// Only print the configuration in force, with the source of each value
    #[arg(long)]
    print_config: bool,

    /// Print it as JSON
    #[arg(long, requires = "print_config")]
    json: bool,
}

/// Watches the host below `root`, or says by what it would.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let overrides = Overrides {
        interval: args.interval.map(Duration::from_millis),
        listen: args.listen,
        ..Overrides::default()
    };
    if args.check {
        return agent_config::check(root, &overrides, args.strict);
    }
    let config = Config::load(root)
        .map_err(|error| failure::with_hint(error, "`auk agent --check` says it without starting"))
        .context("the configuration cannot be used")?;
    if args.print_config {
        return agent_config::print(&config.overridden(&overrides), args.json);
    }

    let stop = Stop::hold()?;
    let state_directory = config.state_directory(root);
    let agent = Agent::builder(root)
        .config(config)
        .overrides(overrides)
        .reader_command(ReaderCommand::this_program([READER]))
        .record(args.record.clone())
        .service()
        .state_directory(state_directory)
        .build()?;
    let mut ready = format!(
        "watching {}, answering at {}",
        root.display(),
        auk_health::socket_path(root).display()
    );
    if let Some(address) = agent.tcp_address() {
        ready.push_str(&format!(" and http://{address}"));
    }
    output::remark(&ready);

    let (asked, to_stop) = oneshot::channel();
    let reloader = agent.reloader();
    thread::Builder::new()
        .name("auk-signals".to_owned())
        .spawn(move || {
            await_stop(&stop, &reloader);
            // Nobody listens: the agent has ended by itself.
            let _ = asked.send(());
        })
        .context("starting the thread that waits for signals")?;
    agent.run_until(async {
        // An error is a signal thread that ended, which is a reason to end as well.
        let _ = to_stop.await;
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for a signal to stop; those to reload are passed on.
fn await_stop(signals: &Stop, reloader: &Reloader) {
    loop {
        let signal = signals.wait();
        if !matches!(signal, Ok(Signal::SIGHUP)) {
            tracing::info!(?signal, "stopping");
            return;
        }
        tracing::info!("asked to read the configuration again");
        reloader.reload();
    }
}
