//! A chip in this process, at the other end of a socket, and a queue of it.

use std::time::{Duration, Instant};

use auk_driver::{Command, Device, IoQueue, OpenOptions, QueueOptions, WaitMode};
use auk_sim::{Chip, ChipProfile, Serving};

use crate::pairs::{Groups, Sample};
use crate::processors::Processors;

pub(crate) const DEPTH: u32 = 256;
/// How long a chip looks for work before it sleeps, where there is more than one processor. (Left to itself it would count those of
/// the thread that makes it.)
pub(crate) const SPIN: Duration = Duration::from_micros(100);
/// More than any wait in here takes, unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Polls in a row without a completion after which the chip is asked whether it is well, and how often that is right.
const IDLE_POLLS: u64 = 1 << 24;
const MOST_CHECKS: u32 = 1000;

pub(crate) struct Rig {
    pub(crate) queue: IoQueue,
    pub(crate) device: Device,
    _serving: Serving,
    _chip: Chip,
}

impl Rig {
    /// A chip whose engine is on the partner's processor. The thread that serves its socket has work when nobody polls.
    pub(crate) fn new(processors: Processors, spin: Duration) -> Self {
        let profile = ChipProfile {
            spin,
            ..ChipProfile::silicon(1)
        };
        let chip = processors.start(|| Chip::new(profile).expect("a chip"));
        let (serving, socket) = processors.start_anywhere(|| chip.connect().expect("a server"));
        let device =
            Device::from_socket("bench", socket, &OpenOptions::default()).expect("a device");
        let queue = device
            .create_queue(&QueueOptions::default().depth(DEPTH))
            .expect("a queue");
        Self {
            queue,
            device,
            _serving: serving,
            _chip: chip,
        }
    }

    /// Runs commands with up to `in_flight` of them under way, on a chip that is awake.
    pub(crate) fn polled(
        &mut self,
        command: &Command<'_>,
        groups: Groups,
        in_flight: u64,
    ) -> Sample {
        self.run(&Command::nop(), 1, 1);
        groups.time(|count| self.run(command, count, in_flight))
    }

    /// The time of `count` commands, polled for.
    pub(crate) fn run(&mut self, command: &Command<'_>, count: u64, in_flight: u64) -> Duration {
        let start = Instant::now();
        let (mut submitted, mut done) = (0, 0);
        let (mut idle, mut checks) = (0, 0);
        while done < count {
            while submitted < count && submitted - done < in_flight {
                self.queue.push(command).expect("room in the queue");
                submitted += 1;
            }
            self.queue.ring().expect("a doorbell");
            idle += 1;
            for completion in self.queue.completions() {
                completion.result.expect("success");
                done += 1;
                idle = 0;
            }
            if idle == IDLE_POLLS {
                self.device.check().expect("a chip that is well");
                (idle, checks) = (0, checks + 1);
                assert!(checks < MOST_CHECKS, "the chip completes nothing");
            }
        }
        start.elapsed()
    }

    /// The time of a command, waited for asleep.
    pub(crate) fn by_interrupt(&mut self, command: &Command<'_>) -> Duration {
        self.queue.set_wait_mode(WaitMode::Interrupt);
        let start = Instant::now();
        self.queue.run(command, PATIENCE).expect("success");
        start.elapsed()
    }
}
