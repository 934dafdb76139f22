//! The hold on an agent that runs in a thread of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Reloader;
use super::shared::Shared;
use crate::verdict::Transition;
use crate::{AgentError, Status, WaitError};

/// The loop ends at its next wait; connections and readers have a second each.
const STOP: Duration = Duration::from_secs(5);

/// A running agent. Dropped, it is told to stop and not waited for.
pub struct AgentHandle {
    shared: Arc<Shared>,
    stop: Arc<Notify>,
    reloader: Reloader,
    thread: Option<JoinHandle<Result<(), AgentError>>>,
    address: Option<SocketAddr>,
}

impl AgentHandle {
    pub(super) fn new(
        shared: Arc<Shared>,
        stop: Arc<Notify>,
        reloader: Reloader,
        thread: JoinHandle<Result<(), AgentError>>,
        address: Option<SocketAddr>,
    ) -> Self {
        Self {
            shared,
            stop,
            reloader,
            thread: Some(thread),
            address,
        }
    }

    /// A snapshot of all that it knows.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Each change of state from now on, as it is judged. A subscriber that falls more than 1,024
    /// behind is let go; the channel also ends when the agent does.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<Transition> {
        self.shared.subscribe()
    }

    /// Waits for a status that meets a condition, which is asked after each round of looks.
    ///
    /// # Errors
    /// When it does not come in time, or the agent stops before.
    pub fn wait_until(
        &self,
        deadline: Duration,
        condition: impl FnMut(&Status) -> bool,
    ) -> Result<Status, WaitError> {
        self.shared.wait_until(deadline, condition)
    }

    /// Reads the configuration again before the next look, as [`Reloader::reload`] does.
    pub fn reload(&self) {
        self.reloader.reload();
    }

    /// The TCP address that it serves on, with the port that the kernel chose.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Stops it: the sockets are closed and removed, the lock is free, the thread has ended.
    ///
    /// # Errors
    /// When it ended badly, or not within five seconds.
    pub fn stop(mut self) -> Result<(), AgentError> {
        self.stop.notify_one();
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let start = Instant::now();
        while !thread.is_finished() {
            if start.elapsed() >= STOP {
                return Err(AgentError::StopTimeout { deadline: STOP });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        thread.join().unwrap_or(Err(AgentError::Died))
    }
}

impl Drop for AgentHandle {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}
