//! `auk agent`: the health agent in the foreground.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use auk_health::{Agent, ReaderCommand};
use tokio::sync::oneshot;

use crate::output;
use crate::signals::Stop;

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk agent
  auk agent --root /tmp/host --interval 500
  auk agent --listen 127.0.0.1:9400
  curl --unix-socket /run/auk/agent.sock http://agent/metrics

It only reads, from sysfs and config space, and disturbs no job. It answers `auk status` and /metrics at
run/auk/agent.sock below the root, until SIGINT or SIGTERM.";

/// What a reader process of an agent has for its only argument. It is for no person to give, so the command line does
/// not know it: `main` looks for it before anything else, as a reader is to stay small.
pub(crate) const READER: &str = "agent-reader";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Milliseconds between two looks
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..=3_600_000))]
    interval: u64,

    /// A loopback address to serve on as well; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

/// Watches the host below `root`.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let stop = Stop::hold()?;
    let agent = Agent::builder(root)
        .interval(Duration::from_millis(args.interval))
        .reader_command(ReaderCommand::this_program([READER]))
        .listen(args.listen)
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
    thread::Builder::new()
        .name("auk-signals".to_owned())
        .spawn(move || {
            let signal = stop.wait();
            tracing::info!(?signal, "stopping");
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
