//! One round: list the host's devices, look at each, judge what comes in time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::judging::Judging;
use super::kernel_log::KernelLog;
use super::shared::{RoundEnd, Shared};
use super::uevent::Notice;
use super::watched::Watched;
use crate::Missing;
use crate::config::AgentSettings;
use crate::facts::{Class, Facts, Heard, Identity, Kind, Reading};
use crate::operator::HOST;
use crate::probe::ProbeError;
use crate::probe::discover::Found;
use crate::probe::target::{ConfigAccess, Sample};
use crate::reader::{Done, Job, Pool, ReaderCommand};
use crate::status::ConfigAccessStatus;
use crate::time::{Moment, millis};

/// How long readers may take to end when the agent stops; one that the kernel holds is left.
const CLOSE: Duration = Duration::from_millis(200);
/// Readers are done within milliseconds as a rule. To wake for each of their answers would cost more
/// than to judge it, so the agent looks again when they were done the last time, and then less and less often.
const FIRST_PAUSE: Duration = Duration::from_millis(3);
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// How often what is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    /// Rounds between two slow looks at a component.
    pub(super) slow: u64,
    /// Rounds between two rare looks at a component.
    pub(super) rare: u64,
    /// Rounds between two looks at the host.
    pub(super) host: u64,
    /// How long a round may take.
    pub(super) deadline: Duration,
}

impl Cadence {
    pub(super) fn of(agent: &AgentSettings) -> Self {
        let fast = millis(agent.interval).max(1);
        let rounds = |interval| millis(interval).div_ceil(fast).max(1);
        Self {
            slow: rounds(agent.slow_interval()),
            rare: rounds(agent.rare_interval()),
            host: rounds(agent.host_interval),
            deadline: agent.read_deadline,
        }
    }
}

/// The components of a host and what reads them.
pub(super) struct Rounds {
    cadence: Cadence,
    pool: Pool,
    round: u64,
    /// Components met so far: the next one's number.
    next: u64,
    by_address: BTreeMap<String, u64>,
    components: BTreeMap<u64, Watched>,
    listing: Option<ProbeError>,
    /// Whether there was a list at all.
    listed: bool,
    /// What the manifest names and was not found, by kind and name.
    missing: BTreeSet<(Kind, String)>,
    /// Dwords of config space that were asked for.
    config_dwords: u64,
    /// After how long the last round's answers were there.
    answered: Duration,
}

/// A look that did nothing but listen.
pub(super) fn only_heard(
    name: &Arc<str>,
    kind: Kind,
    heard: Option<Reading<Vec<Heard>>>,
) -> Sample {
    Sample {
        bdf: Arc::clone(name),
        kind,
        identity: Identity::default(),
        facts: Facts {
            kernel_log: heard,
            ..Facts::none(Moment::now())
        },
    }
}

impl Rounds {
    /// With those components that were known to a former agent: one that is gone is to be missed.
    pub(super) fn new(
        root: &Path,
        cadence: Cadence,
        command: Option<ReaderCommand>,
        known: Vec<Found>,
    ) -> Self {
        let mut rounds = Self {
            pool: Pool::new(command, root, cadence.deadline),
            cadence,
            round: 0,
            next: 0,
            by_address: BTreeMap::new(),
            components: BTreeMap::new(),
            listing: None,
            listed: false,
            missing: BTreeSet::new(),
            config_dwords: 0,
            answered: Duration::ZERO,
        };
        for found in known {
            rounds.add(found);
        }
        rounds
    }

    /// Another cadence from the next round on.
    pub(super) fn set_cadence(&mut self, cadence: Cadence) {
        self.cadence = cadence;
        self.pool.set_deadline(cadence.deadline);
        for component in self.components.values_mut() {
            component.slow = component.slow.min(self.round + cadence.slow);
            component.rare = component.rare.min(self.round + cadence.rare);
        }
    }

    /// Has those looked at thoroughly that a notice of the kernel is about.
    pub(super) fn heed(&mut self, notice: &Notice) {
        for component in self.components.values_mut() {
            component.heed(notice, self.round);
        }
    }

    /// Takes one look at everything; ends within the read deadline.
    pub(super) async fn run(&mut self, shared: &Shared, log: &mut KernelLog) {
        let begun = Instant::now();
        self.round += 1;
        self.pool.begin();
        self.pool.ask([Job::List]);
        let known = self.components.keys().copied().collect();
        self.look(known);
        // A little sooner than the last time, else it would only ever become later.
        let mut first = Some((self.answered * 7 / 8).clamp(FIRST_PAUSE, LONGEST_PAUSE));
        let mut pause = FIRST_PAUSE;
        loop {
            let done = self.pool.collect();
            self.take_all(shared, log, done);
            if self.pool.is_idle() {
                break;
            }
            let left = self.pool.time_left();
            if left.is_zero() {
                break;
            }
            let this = first.take().unwrap_or_else(|| {
                let longer = (pause * 2).min(LONGEST_PAUSE);
                std::mem::replace(&mut pause, longer)
            });
            tokio::time::sleep(this.min(left)).await;
        }
        self.answered = begun.elapsed();
        let missed = self.pool.give_up();
        self.take_all(shared, log, missed);
        self.expect(shared);
        self.hear_of_host(shared, log);
        log.round_ended();
        shared.end_round(RoundEnd {
            discovery_error: self.listing.as_ref(),
            took: begun.elapsed(),
            readers: self.pool.usage(),
            processes: self.pool.processes(),
            config_access: self.access(),
            config_dwords: self.config_dwords,
        });
    }

    /// Ends the readers.
    pub(super) fn close(self) {
        self.pool.close(CLOSE);
    }

    /// Accelerators by how their config space is read.
    fn access(&self) -> ConfigAccessStatus {
        let mut status = ConfigAccessStatus::default();
        for component in self.components.values() {
            if component.found.kind == Kind::Accelerator {
                *match component.access {
                    ConfigAccess::Direct => &mut status.direct,
                    ConfigAccess::Opener => &mut status.opener,
                    ConfigAccess::None => &mut status.none,
                } += 1;
            }
        }
        status
    }

    fn look(&mut self, ids: Vec<u64>) {
        let mut jobs = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(component) = self.components.get_mut(&id) else {
                continue;
            };
            let class = component.class(self.round);
            if component.found.kind == Kind::Host && class < Class::Slow {
                // There is nothing else to read of it.
                continue;
            }
            component.asked = Some(class);
            jobs.push(Job::Look {
                id,
                class,
                found: Arc::clone(&component.found),
            });
        }
        self.pool.ask(jobs);
    }

    /// Judges what came in one go, so that what changes is written to disk once for all of it.
    fn take_all(&mut self, shared: &Shared, log: &mut KernelLog, done: Vec<Done>) {
        if !done.is_empty() {
            shared.judge(|judging| {
                for done in done {
                    self.take(judging, log, done);
                }
            });
        }
    }

    fn take(&mut self, judging: &mut Judging<'_>, log: &mut KernelLog, done: Done) {
        match done {
            Done::Listed(Ok(listed)) => {
                self.listing = None;
                self.listed = true;
                if let Some(listed) = listed {
                    let new = self.adopt(judging, listed);
                    self.look(new);
                }
            }
            Done::Listed(Err(error)) | Done::Missed(Job::List, error) => {
                if self.listing.as_ref() != Some(&error) {
                    warn!(%error, "could not list the host's devices");
                }
                self.listing = Some(error);
            }
            Done::Looked {
                id,
                identity,
                access,
                dwords,
                facts,
            } => {
                self.config_dwords += u64::from(dwords);
                // They come spread out, so that not all components have theirs in one round.
                let next = |rounds| self.round + rounds - (self.round + id) % rounds;
                let (mut slow, mut rare) = (next(self.cadence.slow), next(self.cadence.rare));
                let Some(component) = self.components.get_mut(&id) else {
                    return;
                };
                if component.found.kind == Kind::Host {
                    slow = self.round + self.cadence.host;
                    rare = slow;
                }
                let class = component.asked.take();
                component.looked(class, slow, rare);
                if class == Some(Class::Fast) && facts.link.is_some() {
                    // The reader has seen that its link is another.
                    component.attend(self.round);
                }
                component.above.clone_from(&identity.upstream);
                component.say(access);
                let sample = Sample {
                    bdf: Arc::clone(&component.bdf),
                    kind: component.found.kind,
                    identity,
                    facts: Facts {
                        kernel_log: log.heard(&component.bdf),
                        ..*facts
                    },
                };
                judging.observe(sample);
            }
            Done::Missed(Job::Look { id, class, .. }, error) => {
                let Some(component) = self.components.get_mut(&id) else {
                    return;
                };
                component.asked = None;
                let found = &component.found;
                judging.miss(&found.bdf, found.kind, class, &error);
                // The kernel may say what the look that hangs does not.
                let heard = log.heard(&found.bdf);
                if matches!(&heard, Some(Ok(heard)) if !heard.is_empty()) {
                    judging.observe(only_heard(&component.bdf, found.kind, heard));
                }
            }
        }
    }

    /// Judges what the manifest names and nobody found.
    fn expect(&mut self, shared: &Shared) {
        if !self.listed || self.listing.is_some() {
            return;
        }
        let components = self.components.values();
        let listed: Vec<(Kind, &str)> = components
            .map(|component| (component.found.kind, &*component.bdf))
            .collect();
        let missing = shared.missing(&listed);
        let key = |missing: &Missing| (missing.kind, missing.name.clone());
        let now: BTreeSet<_> = missing.iter().map(key).collect();
        let before = std::mem::replace(&mut self.missing, now);
        if missing.is_empty() && before.is_empty() {
            return;
        }
        shared.judge(|judging| {
            for (kind, name) in before.difference(&self.missing) {
                // What was found at its address goes on there; of what has another name nothing is left.
                if !self.by_address.contains_key(name) {
                    judging.forget(name, *kind);
                }
            }
            for missing in &missing {
                judging.observe(missing.sample(Moment::now()));
            }
        });
    }

    /// Has the host looked at in the next round, for what the manifest asks now; not at all when that asks nothing.
    pub(super) fn watch_host(&mut self, asked: Option<Vec<String>>) {
        let known = self.by_address.remove(HOST);
        if let Some(known) = known {
            self.components.remove(&known);
            self.pool.forget(known);
        }
        // What a manifest asked before is not asked any more, which a last look finds.
        if asked.is_some() || known.is_some() {
            self.add(Found::host(asked.unwrap_or_default()));
        }
    }

    /// Judges what the kernel said that is of no function.
    fn hear_of_host(&mut self, shared: &Shared, log: &mut KernelLog) {
        if let Some(heard) = log.heard(HOST) {
            let host = only_heard(&HOST.into(), Kind::Host, Some(heard));
            shared.judge(|judging| judging.observe(host));
        }
    }

    /// The function of an interface, by the names of the last list.
    pub(super) fn function(&self, interface: &str) -> Option<String> {
        let mut components = self.components.values();
        let of = components.find(|known| known.found.interface.as_deref() == Some(interface));
        of.map(|component| component.found.bdf.clone())
    }

    /// Addresses of the components.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.by_address.keys().map(String::as_str)
    }

    /// Takes in what is new; what is listed no more is looked at as before, and found absent.
    fn adopt(&mut self, judging: &mut Judging<'_>, listed: Vec<Found>) -> Vec<u64> {
        let mut new = Vec::new();
        for found in listed {
            if let Some(&known) = self.by_address.get(&found.bdf) {
                let Some(former) = self.components.get(&known) else {
                    continue;
                };
                if *former.found == found {
                    continue;
                }
                if former.found.kind != found.kind {
                    judging.forget(&found.bdf, former.found.kind);
                }
                self.components.remove(&known);
                self.pool.forget(known);
            }
            new.push(self.add(found));
        }
        new
    }

    fn add(&mut self, found: Found) -> u64 {
        self.next += 1;
        let id = self.next;
        self.by_address.insert(found.bdf.clone(), id);
        let component = Watched::new(found, self.round);
        self.components.insert(id, component);
        id
    }
}
