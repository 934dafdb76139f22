//! `[agent]`: how the agent itself runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{Keys, Section};

/// What the kernel counts is not lost between two looks, so ten seconds do, and cost a tenth.
const SLOW: u32 = 10;
/// To answer costs a card's firmware more than it costs the agent to ask.
const RARE: u32 = 3;

/// How the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// Time between two looks.
    pub interval: Duration,
    /// Time between two looks at what the kernel counts or keeps; ten times the interval when not set.
    pub slow_interval: Option<Duration>,
    /// Time between two looks at what a card's firmware is asked for; three times the slow interval when not set.
    pub rare_interval: Option<Duration>,
    /// Time between two looks at how the host is set up.
    pub host_interval: Duration,
    /// How long a look may take before the component counts as not seen.
    pub read_deadline: Duration,
    /// A loopback address to serve on beside the Unix socket.
    pub listen: Option<SocketAddr>,
    /// Where what must survive the agent is kept, below the root.
    pub state_directory: PathBuf,
    /// How many hooks may run at once.
    pub hooks_at_once: u32,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            slow_interval: None,
            rare_interval: None,
            host_interval: Duration::from_secs(300),
            read_deadline: Duration::from_millis(500),
            listen: None,
            state_directory: PathBuf::from("/var/lib/auk"),
            hooks_at_once: 4,
        }
    }
}

impl AgentSettings {
    /// Time between two looks at what the kernel counts or keeps.
    #[must_use]
    pub fn slow_interval(&self) -> Duration {
        let slow = self.slow_interval;
        slow.unwrap_or(self.interval.saturating_mul(SLOW))
    }

    /// Time between two looks at what a card's firmware is asked for.
    #[must_use]
    pub fn rare_interval(&self) -> Duration {
        let rare = self.rare_interval;
        rare.unwrap_or(self.slow_interval().saturating_mul(RARE))
    }
}

impl Section for AgentSettings {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why =
            "time between two looks; an uncorrectable error is promised to be seen within 2 s";
        let bounds = Duration::from_millis(50)..=Duration::from_secs(3600);
        keys.within("interval", &mut self.interval, bounds, why);
        let why = "time between two looks at links, AER, ports and what else the kernel counts or keeps; ten times \
                   interval while it is not set";
        let expected = "a duration with its unit, such as \"10 s\", from \"50 ms\" to \"1 d\"";
        let slow = Duration::from_millis(50)..=Duration::from_secs(86_400);
        let field = &mut self.slow_interval;
        keys.optional(
            "slow_interval",
            field,
            expected,
            |value| slow.contains(value),
            why,
        );
        let why = "time between two looks at RDMA and what else a card's firmware is asked for; three times \
                   slow_interval while it is not set";
        let field = &mut self.rare_interval;
        keys.optional(
            "rare_interval",
            field,
            expected,
            |value| slow.contains(value),
            why,
        );
        let why =
            "time between two looks at how the host is set up, which hardly changes without a boot";
        let bounds = Duration::from_millis(50)..=Duration::from_secs(86_400);
        keys.within("host_interval", &mut self.host_interval, bounds, why);
        // Who looks more often than the default lets a look take means all looks.
        self.read_deadline = self.read_deadline.min(self.interval);
        let why = "a look that takes longer counts as not seen";
        let bounds = Duration::from_millis(10)..=Duration::from_secs(60);
        keys.within("read_deadline", &mut self.read_deadline, bounds, why);
        let names = ["read_deadline", "interval"];
        keys.require(self.read_deadline <= self.interval, &names, || {
            format!(
                "at most interval, which is {}",
                super::duration(self.interval)
            )
        });
        let expected = "a loopback address with a port, such as \"127.0.0.1:9400\"";
        let why = "serves HTTP beside the Unix socket; without access control, so on this host only; read at start";
        let loopback = |address: &SocketAddr| address.ip().is_loopback();
        keys.optional("listen", &mut self.listen, expected, loopback, why);
        let why = "where what must survive the agent is kept, below the root; read at start";
        keys.set("state_directory", &mut self.state_directory, why);
        let why = "a storm of changes must not become a storm of processes";
        keys.within("hooks_at_once", &mut self.hooks_at_once, 1..=64, why);
    }
}
