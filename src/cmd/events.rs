//! `auk events`: what happened, as the health agent's store has it.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auk_health::Config;
use auk_health::client::{self, ClientError};
use auk_health::probe::discover::is_bdf;
use auk_health::store::{self, Event, Page, Query, Reader};

use super::status::{DEADLINE, tone, with_advice};
use crate::failure;
use crate::output::{self, Cell, Grid, Screen, day_and_time};

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk events
  auk events --since 2h --component 0000:01:00.0
  auk events --since 2026-11-26T05:30:00Z --all
  auk events --follow --json | jq 'select(.details.to == \"unhealthy\")'

Without --since the last 50 are shown, with it all since then. Times are UTC. With --json
each has its id, by which hooks and the journal name it; ids grow over restarts of the agent and of the host. When no
agent runs, the file that it left is read.";

/// How long the agent is asked to wait for something new.
const WAIT: Duration = Duration::from_secs(5);
/// Between two tries to reach an agent that is not there.
const RETRY: Duration = Duration::from_secs(1);
/// Events that are shown when nobody says how many, or since when.
const SHOWN: u16 = 50;
/// The same before those that are waited for.
const SHOWN_BEFORE: u16 = 10;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what comes as well, until interrupted
    #[arg(short, long)]
    follow: bool,

    /// Only what happened since then: a time such as 2026-11-26T05:30:00Z, or so long ago, such as 90s, 30m, 2h or 1d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<u64>,

    /// Only those of this component: its address, or while an agent runs its serial number, slot or interface
    #[arg(long, value_name = "NAME")]
    component: Option<String>,

    /// Only the last so many
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: Option<u16>,

    /// Also that a check was found well for the first time, or has nothing to say
    #[arg(long)]
    all: bool,

    /// Print each as JSON, one in a line
    #[arg(long)]
    json: bool,
}

/// Shows what the agent of the host below `root` has stored.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let screen = Screen::stdout();
    let source = Source::find(root)?;
    let (events, mut last) = match args.limit {
        None if args.since.is_some() => all(&source, args)?,
        limit => newest(&source, args, limit)?,
    };
    show(&events, args, screen)?;
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        let waited = client::fetch_events(root, &query(args, last), WAIT, DEADLINE);
        match waited {
            Ok(page) => {
                for event in &page.events {
                    follow(event, args, screen)?;
                }
                last = end_of(&page, last);
            }
            // One that is started goes on where the last one stopped.
            Err(ClientError::NoAgent { .. } | ClientError::Io { .. }) => thread::sleep(RETRY),
            Err(error) => return Err(error.into()),
        }
    }
}

fn query(args: &Args, after: u64) -> Query {
    Query {
        after,
        since: args.since,
        component: args.component.clone(),
        news: !args.all,
        ..Query::default()
    }
}

/// The last few events, and the id after which others follow.
fn newest(
    source: &Source<'_>,
    args: &Args,
    limit: Option<u16>,
) -> anyhow::Result<(Vec<Event>, u64)> {
    let default = if args.follow { SHOWN_BEFORE } else { SHOWN };
    let page = source.page(&Query {
        limit: Some(limit.unwrap_or(default).into()),
        newest: true,
        ..query(args, 0)
    })?;
    if page.more && limit.is_none() && !args.follow {
        output::note(&format!(
            "only the last {SHOWN} are shown; --since shows all since a time"
        ));
    }
    let last = end_of(&page, 0);
    Ok((page.events, last))
}

/// All events since a time, and the id after which others follow.
fn all(source: &Source<'_>, args: &Args) -> anyhow::Result<(Vec<Event>, u64)> {
    let (mut events, mut last) = (Vec::new(), 0);
    loop {
        let page = source.page(&query(args, last))?;
        last = match page.more {
            true => page.events.last().map_or(last, |event| event.id),
            false => end_of(&page, last),
        };
        events.extend(page.events);
        if !page.more {
            return Ok((events, last));
        }
    }
}

/// The id after which what follows a page begins: all before it was looked at.
fn end_of(page: &Page, before: u64) -> u64 {
    let last = page.events.last().map_or(before, |event| event.id);
    match page.more && !page.events.is_empty() {
        true => last,
        false => last.max(page.last_id),
    }
}

/// Who has the events.
enum Source<'a> {
    Agent(&'a Path),
    File(Reader),
}

impl<'a> Source<'a> {
    /// The agent that runs, else the file that the last one left.
    fn find(root: &'a Path) -> anyhow::Result<Self> {
        let none = Query {
            limit: Some(0),
            ..Query::default()
        };
        let error = match client::fetch_events(root, &none, Duration::ZERO, DEADLINE) {
            Err(error @ ClientError::NoAgent { .. }) => error,
            Ok(_) => return Ok(Self::Agent(root)),
            Err(error) => return Err(error.into()),
        };
        // Without a sound configuration no agent could have kept anything elsewhere.
        let directory = Config::load(root).map_or_else(
            |_| store::state_directory(root),
            |config| config.state_directory(root),
        );
        if !store::file(&directory).exists() {
            return Err(with_advice(root, error));
        }
        let reader = Reader::open(&directory)?;
        let file = reader.path().display();
        output::note(&format!(
            "no agent runs; this is what the last one left in {file}"
        ));
        Ok(Self::File(reader))
    }

    fn page(&self, query: &Query) -> anyhow::Result<Page> {
        match self {
            Self::Agent(root) => Ok(client::fetch_events(root, query, Duration::ZERO, DEADLINE)?),
            Self::File(reader) => {
                let mut query = query.clone();
                query.component = query.component.map(|name| address(&name)).transpose()?;
                Ok(reader.events(&query)?)
            }
        }
    }
}

/// A component's address, as a file has it.
fn address(name: &str) -> anyhow::Result<String> {
    let long = format!("0000:{name}");
    let address = [name, &long].into_iter().find(|name| is_bdf(name));
    address.map(str::to_owned).ok_or_else(|| {
        failure::with_hint(
            anyhow::anyhow!("{name:?} is no address such as 0000:01:00.0"),
            "which component goes by another name only a running agent knows",
        )
    })
}

fn show(events: &[Event], args: &Args, screen: Screen) -> anyhow::Result<()> {
    if args.json || args.follow {
        return events
            .iter()
            .try_for_each(|event| follow(event, args, screen));
    }
    if events.is_empty() {
        return Ok(());
    }
    let mut grid = Grid::new(&["WHEN", "COMPONENT", "WHAT", "BECAME", "WHY"]);
    for event in events {
        grid.push(row(event).to_vec());
    }
    output::print(&grid.render(screen))
}

/// One event in a line, as nobody knows how wide those are that follow it.
fn follow(event: &Event, args: &Args, screen: Screen) -> anyhow::Result<()> {
    if args.json {
        return output::print_json_line(event);
    }
    let [when, component, what, became, why] = row(event);
    let cells = [(when, 14), (component, 12), (what, 17), (became, 12)];
    let mut line = String::new();
    for (cell, width) in cells {
        line.push_str(&cell.padded(width, screen));
        line.push_str("  ");
    }
    line.push_str(&why.render(screen));
    line.push('\n');
    output::print(&line)
}

/// An event in the columns of the table.
pub(super) fn row(event: &Event) -> [Cell; 5] {
    let record = &event.record;
    let component = record.component.as_deref().unwrap_or("-");
    let [what, became, why] = match (event.transition(), event.order()) {
        (Some(change), _) => {
            let what = change.check.as_deref().unwrap_or("component");
            let became = Cell::new(change.to.name(), tone(change.to));
            [what.into(), became, change.reason.into()]
        }
        (None, Some(done)) => {
            let author = done.author.as_ref();
            let author = author.map_or_else(|| "the agent".to_owned(), ToString::to_string);
            [author.into(), "ordered".into(), done.outcome.into()]
        }
        (None, None) => {
            let what = record.kind.replace('_', " ");
            [what.into(), "-".into(), record.summary.as_str().into()]
        }
    };
    let when = day_and_time(record.at_unix_ms);
    [when.into(), component.into(), what, became, why]
}

/// Unix time in milliseconds of what `--since` says.
fn since(text: &str) -> Result<u64, String> {
    let millis = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    };
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(millis(
            SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH),
        ));
    }
    let day = format!("{text} 00:00:00");
    let time = humantime::parse_rfc3339_weak(text).or_else(|_| humantime::parse_rfc3339_weak(&day));
    time.map(millis).map_err(|_| {
        "expected a time in UTC such as 2026-11-26, 2026-11-26T05:30:00Z or \"2026-11-26 05:30:00\", \
         or so long ago, such as 90s, 30m, 2h or 1d"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_a_second_or_so_long_ago() {
        let second = Ok(1_795_671_000_000);
        assert_eq!(since("2026-11-26T05:30:00Z"), second);
        assert_eq!(since("2026-11-26 05:30:00"), second);
        assert_eq!(since("2026-11-26"), Ok(1_795_651_200_000));
        let now = since("0s").unwrap();
        let ago = since("2h").unwrap();
        assert!((7_199_000..7_260_000).contains(&(now - ago)), "{ago} {now}");
        for wrong in ["", "yesterday", "2026-13-01", "-2h"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
