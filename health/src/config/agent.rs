//! `[agent]`: how the agent itself runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{Keys, Section};

/// How the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// Time between two looks.
    pub interval: Duration,
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
            read_deadline: Duration::from_millis(500),
            listen: None,
            state_directory: PathBuf::from("/var/lib/auk"),
            hooks_at_once: 4,
        }
    }
}

impl Section for AgentSettings {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why =
            "time between two looks; an uncorrectable error is promised to be seen within 2 s";
        let bounds = Duration::from_millis(50)..=Duration::from_secs(3600);
        keys.within("interval", &mut self.interval, bounds, why);
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
