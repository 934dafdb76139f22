//! The access log: who asked the chip for what, so that a test can tell who left it alone.

use std::collections::VecDeque;

/// What one client asked for. Stores to pages that it has mapped reach the chip without a word, so what
/// tells of those is whether it was given a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// Reads of a BAR.
    pub bar_reads: u64,
    /// Writes to a BAR.
    pub bar_writes: u64,
    /// Times that it was given a descriptor to map a BAR by.
    pub bar_mappings: u64,
    /// Reads of config space.
    pub config_reads: u64,
    /// Writes to config space.
    pub config_writes: u64,
}

impl Connection {
    /// Everything that it did to a BAR.
    #[must_use]
    pub fn bar_accesses(&self) -> u64 {
        self.bar_reads + self.bar_writes + self.bar_mappings
    }
}

/// The last connections; a client that comes again and again must not eat the host's memory.
const KEPT: usize = 256;

/// The log.
#[derive(Debug, Default)]
pub(crate) struct AccessLog {
    connections: VecDeque<Connection>,
}

impl AccessLog {
    /// A client has come.
    pub(crate) fn connected(&mut self) {
        if self.connections.len() == KEPT {
            self.connections.pop_front();
        }
        self.connections.push_back(Connection::default());
    }

    /// The client that came last. A device that is asked without a server has but one.
    pub(crate) fn client(&mut self) -> &mut Connection {
        if self.connections.is_empty() {
            self.connected();
        }
        let last = self.connections.len() - 1;
        &mut self.connections[last]
    }

    /// The last 256, the oldest first.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.connections.iter().copied().collect()
    }
}
