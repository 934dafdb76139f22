//! The job of one chip: results one after the other, whatever becomes of the chip.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use auk_asic::firmware::FirmwareVersion;
use auk_asic::ident::Model;
use auk_driver::pci::{Bdf, Host};
use auk_driver::{Device, DmaSpace, Error, OpenOptions, ResetKind, Step};
use auk_sim::firmware::build_image;
use fastrand::Rng;

use super::job::{Bench, Job};
use super::ledger::{Ledger, Signal, Wish};

/// A rest before a chip that cannot be had is tried again.
const REST: Duration = Duration::from_millis(20);

/// How long a job may still try when the soak is over.
const GRACE: Duration = Duration::from_secs(60);

/// How jobs follow each other, and when they are to end.
#[derive(Clone, Copy)]
pub(super) struct Pace<'a> {
    /// With its next right answer.
    pub(super) stop: &'a AtomicBool,
    /// Without one.
    pub(super) hurry: &'a AtomicBool,
    /// After each job.
    pub(super) rest: Duration,
}

impl Pace<'_> {
    fn is_given_up(self, begun: Instant) -> bool {
        let hurries = self.hurry.load(Ordering::Relaxed);
        self.stop.load(Ordering::Relaxed) && (hurries || begun.elapsed() > GRACE)
    }
}

/// Runs jobs on a chip until it is told to stop, and then until the one at hand has its right answer.
pub(super) fn work(
    (root, bdf): (&Path, Bdf),
    space: &DmaSpace,
    seed: u64,
    ledger: &Ledger,
    pace: Pace<'_>,
) {
    let mut worker = Worker {
        root,
        bdf,
        space,
        random: Rng::with_seed(seed),
        ledger,
        device: None,
        bench: None,
    };
    let mut jobs = Rng::with_seed(seed.wrapping_add(1));
    while !pace.stop.load(Ordering::Relaxed) {
        let job = Job::random(&mut jobs);
        ledger.count(|counts| counts.begun += 1);
        let begun = Instant::now();
        loop {
            if worker.attempt(&job) {
                ledger.acknowledge(begun.elapsed());
                break;
            }
            if pace.is_given_up(begun) {
                return;
            }
        }
        worker.grant();
        std::thread::sleep(pace.rest);
    }
}

struct Worker<'a> {
    root: &'a Path,
    bdf: Bdf,
    /// One for all chips, as a job has it.
    space: &'a DmaSpace,
    random: Rng,
    ledger: &'a Ledger,
    device: Option<Device>,
    bench: Option<Bench<'a>>,
}

/// How long the chip may take for what firmware does.
const FIRMWARE: Duration = Duration::from_secs(5);

/// Restarts the firmware, from a new image where the chip has refused the one that it had.
fn restart(device: &Device) -> anyhow::Result<()> {
    match device.restart_firmware() {
        Err(Error::NotReady { .. }) => {}
        done => return Ok(done?),
    }
    let version = FirmwareVersion::of(1, 0, 1);
    let image = build_image(Model::Silicon, version, 1, b"soak")?;
    device.install_firmware(&image, 0, true, FIRMWARE)?;
    Ok(device.restart_firmware()?)
}

impl<'a> Worker<'a> {
    /// Tries a job once. False when there is no right answer.
    fn attempt(&mut self, job: &Job) -> bool {
        let outcome = self.bench().and_then(|bench| {
            let wrong = bench.run(job)?;
            Ok((wrong, bench.new_strays()))
        });
        match outcome {
            Ok((wrong, strays)) => {
                if strays > 0 {
                    self.ledger.signal(Signal::Strays(strays));
                }
                if let Some(wrong) = wrong {
                    self.ledger.signal(Signal::Wrong(wrong));
                    // What is on the chip may be wrong as well: weights came there by a copy.
                    self.bench = None;
                    return false;
                }
                true
            }
            Err(error) => {
                tracing::debug!(%error, chip = %self.bdf, "a job failed");
                self.ledger.signal(Signal::Error(error.to_string()));
                self.recover(&error);
                false
            }
        }
    }

    fn bench(&mut self) -> Result<&mut Bench<'a>, Error> {
        let device = match &mut self.device {
            Some(device) => device,
            none => {
                let options = OpenOptions::default()
                    .restart_faulted(true)
                    .space(self.space);
                none.insert(Device::open(&Host::at(self.root), self.bdf, &options)?)
            }
        };
        match &mut self.bench {
            Some(bench) => Ok(bench),
            none => Ok(none.insert(Bench::set_up(device, &mut self.random, self.ledger)?)),
        }
    }

    /// Gets the chip back: the queue alone where that is enough, else by the ladder, else by opening it again.
    fn recover(&mut self, error: &Error) {
        let strays = self.bench.as_mut().map_or(0, Bench::new_strays);
        if strays > 0 {
            self.ledger.signal(Signal::Strays(strays));
        }
        if let Some(bench) = &mut self.bench
            && !is_lost(error)
            && bench.recover().is_ok_and(|made_anew| !made_anew)
        {
            self.ledger.count(|counts| counts.recoveries += 1);
            return;
        }
        self.bench = None;
        let Some(device) = &self.device else {
            return std::thread::sleep(REST);
        };
        self.ledger.count(|counts| counts.recoveries += 1);
        let recovered = if is_lost(error) {
            Err(anyhow!("{error}"))
        } else {
            device
                .recover(Step::HotReset)
                .map(drop)
                .or_else(|_| restart(device))
        };
        if let Err(error) = recovered {
            self.ledger.signal(Signal::Error(format!("{error:#}")));
            self.device = None;
            std::thread::sleep(REST);
        }
    }

    /// Does what a fault needs.
    fn grant(&mut self) {
        let (Some(device), Some(wish)) = (&self.device, self.ledger.take_wish()) else {
            return;
        };
        self.bench = None;
        let done = match wish {
            Wish::Restart => device.restart_firmware(),
            Wish::Cure => device
                .restart_firmware()
                .and_then(|()| device.self_test(FIRMWARE).map(drop)),
            Wish::Reset => device.reset(ResetKind::Flr),
        };
        if let Err(error) = done {
            self.ledger.signal(Signal::Error(error.to_string()));
        }
    }
}

/// Whether the way to the chip is gone: only opening it again helps.
const fn is_lost(error: &Error) -> bool {
    matches!(
        error,
        Error::Disconnected { .. } | Error::MappingLost { .. }
    )
}
