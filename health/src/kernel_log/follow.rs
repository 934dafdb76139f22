//! Goes through the log: what was lost is told, what is of interest is kept, what comes in storms is counted.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde_json::json;

use super::clock::Clock;
use super::names::Names;
use super::pattern::{Found, has_segment, in_first_segment};
use super::record::Line;
use super::rules::{self, Rule, Weight};
use super::source::{Next, Source};
use crate::facts::Heard;
use crate::operator::HOST;
use crate::store::{KernelBatch, KernelRecord, Record};
use crate::time::{Moment, millis};

/// [`Record::kind`] of a line of the kernel.
pub const LINE: &str = "kernel_log";
/// [`Record::kind`] of lines that were lost.
pub const GAP: &str = "kernel_log_gap";
/// [`Record::kind`] of lines that were counted and not kept.
pub const STORM: &str = "kernel_log_storm";

/// Lines of a rule about one component that are kept of a storm.
const KEPT: u64 = 10;
/// How long a storm is counted before it is told again.
const STORM_LASTS: Duration = Duration::from_secs(60);
/// Storms that are counted at once; no host has so many functions and rules that complain.
const MOST_STORMS: usize = 256;
/// Components of which something was heard and not asked for yet.
const MOST_BLAMED: usize = 1024;
/// Lines that count are summed by the minute in which they were printed: what was said in weeks is not the rate of now.
const SUMMED: Duration = Duration::from_secs(60);
/// Minutes of one rule about one component that are kept; the oldest go first.
const MOST_MINUTES: usize = 120;

/// What a line names instead of a function's address in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// A network interface.
    Interface(&'a str),
    /// An address without its segment, `01:00.0`.
    InSomeSegment(&'a str),
}

/// Whom a line blames.
#[derive(Debug, Default)]
struct Blame {
    /// Addresses of the functions that may be meant.
    functions: Vec<String>,
}

/// Follows a log.
#[derive(Debug)]
pub struct Follower {
    /// The last sequence number that was read.
    last: Option<u64>,
    clock: Clock,
    names: Names,
    /// Number and severity of the firmware's report that is being printed.
    report: Option<(String, String)>,
    storms: BTreeMap<(&'static str, String), Storm>,
    /// By component, each with the minute in which it was printed.
    heard: BTreeMap<String, Vec<(u64, Heard)>>,
}

/// Lines of one rule about one component.
#[derive(Clone, Copy, Debug)]
struct Storm {
    since: Duration,
    count: u64,
    first: u64,
    last: u64,
}

/// What was read in one go.
#[derive(Debug, Default)]
pub struct Batch {
    /// What is to be kept.
    pub kept: KernelBatch,
    /// Addresses of what it is about.
    pub blamed: Vec<String>,
    /// Whether there is more to read.
    pub more: bool,
}

impl Follower {
    /// Goes on after a sequence number, or with the oldest record that there is.
    #[must_use]
    pub fn after(last: Option<u64>) -> Self {
        Self {
            last,
            clock: Clock::default(),
            names: Names::default(),
            report: None,
            storms: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    /// The last sequence number that was read.
    #[must_use]
    pub fn seen(&self) -> Option<u64> {
        self.last
    }

    /// Of whom something was heard that nobody asked for yet.
    pub fn heard_of(&self) -> impl Iterator<Item = &str> {
        self.heard.keys().map(String::as_str)
    }

    /// What is still to be told when no more will be read: how long each storm would have gone on, nobody will know.
    pub fn finish(&mut self, now: Moment) -> KernelBatch {
        let mut batch = Batch::default();
        self.tell_storms(now, Duration::ZERO, &mut batch);
        batch.kept
    }

    /// What was heard of a component since this was last asked.
    pub fn take_heard(&mut self, component: &str) -> Vec<Heard> {
        let heard = self.heard.remove(component).unwrap_or_default();
        heard.into_iter().map(|(_, heard)| heard).collect()
    }

    /// Drops what was heard of components that nobody asks about.
    pub fn forget_heard(&mut self) {
        self.heard.clear();
    }

    /// Reads at most so many records. `functions` knows by today's names which may be meant; an address in no known segment is
    /// taken for one in the first.
    ///
    /// # Errors
    /// When the log cannot be read, and nothing was read before that.
    pub fn read(
        &mut self,
        source: &mut Source,
        now: Moment,
        most: usize,
        functions: impl Fn(Named<'_>) -> Vec<String>,
    ) -> io::Result<Batch> {
        let mut batch = Batch::default();
        for _ in 0..most {
            let next = match source.read_next() {
                // What was read is not to be lost; the next read has the error again.
                Err(_) if batch.kept.seen.is_some() => break,
                next => next?,
            };
            match next {
                Next::Record(record) => {
                    if let Some(line) = Line::parse(record) {
                        self.take(&line, now, &functions, &mut batch);
                    }
                }
                // How many, the next record's number says.
                Next::Overrun => {}
                Next::Nothing => {
                    self.clock.read_out(now.uptime);
                    self.tell_storms(now, STORM_LASTS, &mut batch);
                    return Ok(batch);
                }
            }
        }
        self.tell_storms(now, STORM_LASTS, &mut batch);
        batch.more = true;
        Ok(batch)
    }

    fn take(
        &mut self,
        line: &Line<'_>,
        now: Moment,
        functions: &impl Fn(Named<'_>) -> Vec<String>,
        batch: &mut Batch,
    ) {
        if let Some(last) = self.last {
            if line.sequence <= last {
                return;
            }
            if line.sequence > last + 1 {
                Self::tell_gap(last + 1, line.sequence - 1, now, batch);
            }
        }
        self.last = Some(line.sequence);
        batch.kept.seen = Some(line.sequence);
        let printed = self.clock.printed(line.at, now.uptime);
        if !line.of_kernel {
            return;
        }
        self.names.learn(line.text);
        self.follow_report(line.text);
        let Some((rule, found)) = rules::find(line.text, self.severity_of(line.text)) else {
            return;
        };
        let blame = self.blame(line, &found, functions);
        let component = blame.component().unwrap_or(HOST);
        if !blame.is_doubtful() {
            self.hear(component, rule, line, &found, (printed, now));
        }
        if self.is_kept(rule, component, line.sequence, now) {
            let age = now.uptime.saturating_sub(printed);
            let at_unix_ms = now.unix_ms.saturating_sub(millis(age));
            batch
                .kept
                .records
                .push(kept(line, rule, &found, &blame, at_unix_ms));
        }
        for component in blame.looked_at() {
            if !batch.blamed.iter().any(|blamed| blamed == component) {
                batch.blamed.push(component.to_owned());
            }
        }
    }

    /// The firmware's report of an error is many lines that begin with its number; one says how bad it is.
    fn follow_report(&mut self, text: &str) {
        let severity = text
            .strip_prefix('{')
            .and_then(|rest| rest.split_once("}[Hardware Error]: event severity: "));
        if let Some((number, severity)) = severity {
            self.report = Some((number.to_owned(), severity.to_owned()));
        }
    }

    fn severity_of(&self, text: &str) -> Option<&str> {
        let (number, severity) = self.report.as_ref()?;
        let rest = text.strip_prefix('{')?.strip_prefix(number.as_str())?;
        rest.starts_with('}').then_some(severity.as_str())
    }

    /// The function that a line is about, or those of which it does not say which.
    fn blame(
        &self,
        line: &Line<'_>,
        found: &Found<'_>,
        functions: &impl Fn(Named<'_>) -> Vec<String>,
    ) -> Blame {
        let of_interface = |name: &str| match self.names.function(name) {
            Some(function) => vec![function.to_owned()],
            None => functions(Named::Interface(name)),
        };
        let mut blamed = match (found.function, found.interface) {
            (Some(address), _) if has_segment(address) => vec![address.to_owned()],
            (Some(address), _) => match functions(Named::InSomeSegment(address)) {
                known if known.is_empty() => vec![in_first_segment(address)],
                known => known,
            },
            (None, Some(interface)) => of_interface(interface),
            (None, None) => Vec::new(),
        };
        if blamed.is_empty() {
            blamed.extend(line.device.map(str::to_owned));
        }
        Blame { functions: blamed }
    }

    fn hear(
        &mut self,
        component: &str,
        rule: &'static Rule,
        line: &Line<'_>,
        found: &Found<'_>,
        (printed, now): (Duration, Moment),
    ) {
        if self.heard.len() >= MOST_BLAMED && !self.heard.contains_key(component) {
            return;
        }
        let heard = self.heard.entry(component.to_owned()).or_default();
        let count = found.count.unwrap_or(1);
        let news = Heard {
            rule: rule.name.to_owned(),
            count,
            age: now.uptime.saturating_sub(printed),
            sequence: line.sequence,
            text: shortened(line.text),
        };
        // Of what does not count the last says it all.
        let minute = match rule.weight {
            Weight::Counted => printed.as_secs() / SUMMED.as_secs(),
            _ => 0,
        };
        let of_rule = |(_, heard): &(u64, Heard)| heard.rule == rule.name;
        let last = heard.iter_mut().rfind(|known| of_rule(known));
        if let Some((_, known)) = last.filter(|(of, _)| *of == minute) {
            let count = known.count.saturating_add(count);
            *known = Heard { count, ..news };
            return;
        }
        if heard.iter().filter(|known| of_rule(known)).count() >= MOST_MINUTES
            && let Some(oldest) = heard.iter().position(of_rule)
        {
            heard.remove(oldest);
        }
        heard.push((minute, news));
    }

    /// Whether a line is kept, or counted as one of many.
    fn is_kept(
        &mut self,
        rule: &'static Rule,
        component: &str,
        sequence: u64,
        now: Moment,
    ) -> bool {
        let mut key = (rule.name, component.to_owned());
        if !self.storms.contains_key(&key) && self.storms.len() >= MOST_STORMS {
            // Those of all others of this rule are one.
            key.1 = HOST.to_owned();
        }
        let storm = self.storms.entry(key).or_insert(Storm {
            since: now.uptime,
            count: 0,
            first: sequence,
            last: sequence,
        });
        storm.count += 1;
        storm.last = sequence;
        if storm.count == KEPT + 1 {
            storm.first = sequence;
        }
        storm.count <= KEPT
    }

    /// Tells what was counted in storms that have lasted so long.
    fn tell_storms(&mut self, now: Moment, least: Duration, batch: &mut Batch) {
        self.storms.retain(|(rule, component), storm| {
            let lasts = now.uptime.saturating_sub(storm.since);
            if lasts < least {
                return true;
            }
            if storm.count > KEPT {
                let more = storm.count - KEPT;
                let (first, last) = (storm.first, storm.last);
                batch.kept.events.push(Record {
                    at_unix_ms: now.unix_ms,
                    kind: STORM.to_owned(),
                    component: Some(component.clone()).filter(|component| component != HOST),
                    summary: format!(
                        "{rule}: {more} more lines in {} s, which are not kept one by one (records {first} to {last})",
                        lasts.as_secs()
                    ),
                    details: json!({ "rule": rule, "count": more, "first": first, "last": last }),
                });
            }
            false
        });
    }

    fn tell_gap(first: u64, last: u64, now: Moment, batch: &mut Batch) {
        let count = last - first + 1;
        batch.kept.events.push(Record {
            at_unix_ms: now.unix_ms,
            kind: GAP.to_owned(),
            component: None,
            summary: format!(
                "{count} records of the kernel log were overwritten before they were read ({first} to {last})"
            ),
            details: json!({ "count": count, "first": first, "last": last }),
        });
    }
}

impl Blame {
    /// The function that is to blame, where that is certain.
    fn component(&self) -> Option<&str> {
        match self.functions.as_slice() {
            [function] => Some(function),
            _ => None,
        }
    }

    /// Whether the line leaves open which of several it is about.
    fn is_doubtful(&self) -> bool {
        self.functions.len() > 1
    }

    /// What should be looked at for it.
    fn looked_at(&self) -> impl Iterator<Item = &str> {
        let host = self.functions.is_empty().then_some(HOST);
        self.functions.iter().map(String::as_str).chain(host)
    }

    /// What a summary has to add.
    fn doubt(&self) -> String {
        match self.is_doubtful() {
            true => format!(
                " (cannot tell which: {} are at this address, and the line names no segment)",
                self.functions.join(", ")
            ),
            false => String::new(),
        }
    }
}

/// A line and the event that it is.
fn kept(
    line: &Line<'_>,
    rule: &Rule,
    found: &Found<'_>,
    blame: &Blame,
    at_unix_ms: u64,
) -> (KernelRecord, Option<Record>) {
    let record = KernelRecord {
        sequence: line.sequence,
        at_unix_ms,
        priority: line.severity,
        text: line.text.to_owned(),
    };
    let event = Record {
        at_unix_ms,
        kind: LINE.to_owned(),
        component: blame.component().map(str::to_owned),
        summary: format!("{}: {}{}", rule.name, line.text, blame.doubt()),
        details: json!({
            "rule": rule.name,
            "topic": rule.topic,
            "why": rule.why,
            "sequence": line.sequence,
            "severity": line.severity,
            "subject": found.subject,
            "may_be": blame.is_doubtful().then_some(&blame.functions),
            "text": line.text,
        }),
    };
    (record, Some(event))
}

/// As much of a line as evidence shows.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 200;
    text.chars().take(SHOWN).collect()
}
