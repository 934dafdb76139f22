//! What the health agent costs, beside node_exporter and beside what nobody can go below, in the same minute.
//!
//! `cargo bench --bench agent_cost` ends with a table of ratios; the budgets in it are those of the project's design.
//! `AUK_COST_SECONDS` says how long each agent is watched (60). node_exporter is Debian's package
//! `prometheus-node-exporter`, with the collectors of its own accord, of which netclass and infiniband are two, and ethtool;
//! it is scraped once a second, as often as the agent looks, and then back to back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench that cannot go on has nothing to report"
)]

mod floor;
mod instructions;
mod process;
mod tree;

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use auk_health::Agent;
use process::{Child, Cost, get};

const AUK: &str = env!("CARGO_BIN_EXE_auk");
/// As `main`'s first argument: an agent of this program, whose readers are threads.
const THREADS: &str = "agent-with-threads";
/// As `main`'s first argument: the floor.
const FLOOR: &str = "floor";
/// Chips and NICs of the host that the budgets are for.
const HOST: (usize, usize) = (64, 16);
/// Chips whose cost must be in proportion.
const LINEAR: [usize; 3] = [1, 64, 1000];
const SCRAPES: usize = 50;
/// As often as the agent looks.
const SCRAPED_EACH: Duration = Duration::from_secs(1);
/// The first looks open and find out what later ones need not.
const WARM_UP: Duration = Duration::from_secs(15);

const MOST_RESIDENT: f64 = 20.0;
const MOST_SCRAPE: f64 = 3.0;
const MOST_CPU: f64 = 0.3;
const MOST_DWORDS: f64 = 20.0;

/// Parts of the time for which an agent is watched. The median of them is told, as other work on the machine makes some
/// of them dear.
const WINDOWS: u32 = 6;

/// What runs beside an agent, and is measured in the same windows.
#[derive(Default)]
struct Beside<'a> {
    floor: Option<&'a Child>,
    /// Where it is scraped, too.
    exporter: Option<&'a (Child, SocketAddr)>,
}

/// What was measured of an agent.
struct Measured {
    /// MB of the agent, and of it with its readers, what they share counted once.
    resident: (f64, f64),
    /// Per cent of a core: the median of all windows, and the least.
    cpu: (f64, f64),
    /// The same of what ran beside it; 0 of what did not.
    floor: (f64, f64),
    exporter: (f64, f64),
    /// Milliseconds: the median, and what 99 of 100 do not exceed.
    scrape: (f64, f64),
    scrape_kilobytes: usize,
    /// Dwords of config space a chip and second.
    dwords: f64,
    /// Milliseconds of a round.
    round: f64,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [THREADS, root] => return agent_with_threads(Path::new(root)),
        [FLOOR, root] => return floor::run(Path::new(root)),
        [instructions::ROUNDS, root, rounds] => {
            return instructions::run(Path::new(root), rounds.parse().unwrap());
        }
        _ => {}
    }
    let seconds = env::var("AUK_COST_SECONDS").ok();
    let watch = Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(60));

    let (chips, nics) = HOST;
    println!("a simulated host of {chips} chips and {nics} NICs, watched for {watch:?}\n");
    let directory = tree::scratch();
    let root = directory.path().join("host");
    let host = simulated(&root, chips, nics);
    let exporter = node_exporter();
    if exporter.is_none() {
        println!(
            "SKIPPED: no prometheus-node-exporter here; install Debian's package of that name to compare"
        );
    }
    let floor = this(FLOOR, &root);
    let beside = Beside {
        floor: Some(&floor),
        exporter: exporter.as_ref(),
    };
    let processes = measure(agent(&root), chips, watch, &beside);
    tell("readers are processes", &processes);
    tell_beside(&processes);
    let threads = measure(threads(&root), chips, watch, &beside);
    tell("readers are threads", &threads);
    tell_beside(&threads);
    drop((host, floor));
    let exporter = exporter.map(back_to_back);
    if let Some(instructions) = instructions::of_a_round(chips) {
        println!("instructions           {instructions:.0} a round at {chips} chips that sleep");
    }

    println!("\nplain files that nobody changes, readers are processes");
    let mut each = Vec::new();
    for chips in LINEAR {
        let directory = tree::scratch();
        tree::still(directory.path(), chips);
        let alone = Beside::default();
        let measured = measure(agent(directory.path()), chips, watch / 3, &alone);
        tell(&format!("{chips} chips"), &measured);
        each.push((chips, measured));
    }

    println!(
        "\n{:<44} {:>10} {:>10}",
        "64 chips and 16 NICs", "found", "budget"
    );
    let row = |what: &str, found: f64, most: f64, unit: &str| {
        let word = if found <= most { "" } else { "  MISSED" };
        println!("{what:<44} {found:>7.2} {unit:<2} {most:>7.2} {unit}{word}");
    };
    row(
        "resident, all processes",
        processes.resident.1,
        MOST_RESIDENT,
        "MB",
    );
    row("CPU of a core", processes.cpu.0, MOST_CPU, "%");
    row("a scrape, median", processes.scrape.0, MOST_SCRAPE, "ms");
    row(
        "config dwords a chip and second",
        processes.dwords,
        MOST_DWORDS,
        "",
    );
    let least = processes.floor.0;
    println!(
        "CPU beside the floor's ({least:.2} %): {:.1}",
        processes.cpu.0 / least
    );
    let once = processes.exporter.0;
    if exporter.is_some() {
        println!(
            "CPU beside node_exporter's, scraped once a second ({once:.2} %): {:.2}",
            processes.cpu.0 / once
        );
    }
    if let Some((resident, cpu)) = exporter {
        println!(
            "resident beside node_exporter's: {:.2}",
            processes.resident.1 / resident
        );
        // An agent that is scraped every 15 s, as is usual.
        let share = cpu / 15_000.0 * 100.0;
        println!(
            "CPU beside node_exporter's when that is scraped every 15 s ({share:.2} %): {:.2}",
            processes.cpu.0 / share
        );
    }
    if let [.., (some, few), (more, many)] = each.as_slice() {
        let grew = *more as f64 / *some as f64;
        println!(
            "{more} chips beside {some}: {grew:.1} times as many cost {:.1} times the CPU",
            many.cpu.0 / few.cpu.0
        );
    }
}

fn tell(what: &str, measured: &Measured) {
    println!(
        "{what:<22} {:>5.1} MB ({:.1} with readers)  {:>5.2} % of a core, least {:.2} %  scrape {:>5.2} ms, p99 {:>5.2} ms, {} KB  \
         {:>5.1} dwords  round {:.1} ms",
        measured.resident.0,
        measured.resident.1,
        measured.cpu.0,
        measured.cpu.1,
        measured.scrape.0,
        measured.scrape.1,
        measured.scrape_kilobytes,
        measured.dwords,
        measured.round,
    );
}

fn tell_beside(measured: &Measured) {
    let ((floor, floor_least), (exporter, exporter_least)) = (measured.floor, measured.exporter);
    println!(
        "  in the same windows  {floor:.2} % the floor, least {floor_least:.2} %; {exporter:.2} % node_exporter once a \
         second, least {exporter_least:.2} %"
    );
}

fn simulated(root: &Path, chips: usize, nics: usize) -> Child {
    let (chips, nics) = (chips.to_string(), nics.to_string());
    let mut command = Command::new(AUK);
    command.args([
        "sim", "host", "--json", "--chips", &chips, "--nics", &nics, "--root",
    ]);
    Child::start(command.arg(root).stdout(Stdio::piped())).until_stdout()
}

/// A free port, which nobody else here takes before it is used.
fn port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn agent(root: &Path) -> (Child, SocketAddr) {
    let address = port();
    let mut command = Command::new(AUK);
    command
        .arg("agent")
        .arg("--listen")
        .arg(address.to_string());
    let command = command.arg("--root").arg(root);
    (Child::start(command.stderr(Stdio::null())), address)
}

fn threads(root: &Path) -> (Child, SocketAddr) {
    let address = port();
    let mut command = Command::new(env::current_exe().unwrap());
    let command = command
        .arg(THREADS)
        .arg(root)
        .env("AUK_COST_LISTEN", address.to_string());
    (Child::start(command), address)
}

/// This program again, for something else.
fn this(what: &str, root: &Path) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    Child::start(command.arg(what).arg(root))
}

fn agent_with_threads(root: &Path) {
    let address = env::var("AUK_COST_LISTEN").unwrap();
    let agent = Agent::builder(root).listen(Some(address.parse().unwrap()));
    agent
        .build()
        .unwrap()
        .run_until(std::future::pending())
        .unwrap();
}

fn measure(
    (agent, address): (Child, SocketAddr),
    chips: usize,
    watch: Duration,
    beside: &Beside<'_>,
) -> Measured {
    let metric = |name: &str| metric(&text(address), name);
    thread::sleep(WARM_UP);
    let names = [
        "auk_agent_config_dwords_total",
        "auk_agent_round_duration_seconds_sum",
        "auk_agent_round_duration_seconds_count",
    ];
    let before = names.map(metric);
    let begin = Instant::now();
    let exporter = beside.exporter;
    let watched = [
        Some(&agent),
        beside.floor,
        exporter.map(|(exporter, _)| exporter),
    ];
    let mut shares = watched.map(|_| Vec::new());
    for _ in 0..WINDOWS {
        let scraped = exporter.map(|(_, address)| *address);
        for (of, share) in shares
            .iter_mut()
            .zip(share(watched, watch / WINDOWS, scraped))
        {
            of.push(share);
        }
    }
    let [cpu, floor, exporter] = shares.map(|mut of| {
        of.sort_by(f64::total_cmp);
        (of[of.len() / 2], of[0])
    });
    let (took, grown) = (begin.elapsed(), agent.cost());
    let after = names.map(metric);
    let [dwords, round_seconds, rounds] =
        [0, 1, 2].map(|index: usize| after[index] - before[index]);
    let (scrape, scrape_kilobytes) = scrapes(address);
    Measured {
        resident: (megabytes(grown.own_resident), megabytes(grown.together)),
        cpu,
        floor,
        exporter,
        scrape,
        scrape_kilobytes,
        dwords: dwords / took.as_secs_f64() / chips as f64,
        round: round_seconds / rounds * 1000.0,
    }
}

/// Per cent of a core that each uses for a time, in which an exporter is scraped once a second.
fn share<const N: usize>(
    watched: [Option<&Child>; N],
    time: Duration,
    scraped: Option<SocketAddr>,
) -> [f64; N] {
    let used = || watched.map(|child| child.map_or(Duration::ZERO, |child| child.cost().cpu));
    let (begin, before) = (Instant::now(), used());
    let mut next = begin;
    while next < begin + time {
        if let Some(address) = scraped {
            text(address);
        }
        next += SCRAPED_EACH;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let (after, took) = (used(), begin.elapsed());
    let share = |index: usize| {
        let used = after[index].saturating_sub(before[index]);
        used.as_secs_f64() / took.as_secs_f64() * 100.0
    };
    std::array::from_fn(share)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn text(address: SocketAddr) -> String {
    get(address, "/metrics").unwrap_or_else(|| panic!("{address} serves no metrics"))
}

/// The value of a metric without labels.
fn metric(text: &str, name: &str) -> f64 {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// How long a scrape takes in milliseconds, and how big it is in kilobytes.
fn scrapes(address: SocketAddr) -> ((f64, f64), usize) {
    let mut size = 0;
    let mut times: Vec<f64> = (0..SCRAPES)
        .map(|_| {
            let start = Instant::now();
            size = text(address).len();
            let took = start.elapsed();
            thread::sleep(Duration::from_millis(20));
            took.as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    ((times[SCRAPES / 2], times[SCRAPES * 99 / 100]), size / 1000)
}

/// One that answers; `None` where there is no such program.
fn node_exporter() -> Option<(Child, SocketAddr)> {
    let address = port();
    let mut command = Command::new("prometheus-node-exporter");
    command
        .arg(format!("--web.listen-address={address}"))
        .arg("--collector.ethtool")
        .stderr(Stdio::null());
    let exporter = Child::try_start(&mut command)?;
    let start = Instant::now();
    while get(address, "/metrics").is_none() {
        assert!(start.elapsed() < WARM_UP, "node_exporter does not answer");
        thread::sleep(Duration::from_millis(20));
    }
    Some((exporter, address))
}

/// Resident megabytes and CPU milliseconds a scrape, after as many scrapes as the agent had.
fn back_to_back((exporter, address): (Child, SocketAddr)) -> (f64, f64) {
    let before = exporter.cost();
    let ((median, p99), size) = scrapes(address);
    let Cost { cpu, together, .. } = exporter.cost();
    let each = cpu.saturating_sub(before.cpu).as_secs_f64() * 1000.0 / SCRAPES as f64;
    let resident = megabytes(together);
    println!(
        "node_exporter          {resident:>5.1} MB  {each:.2} ms CPU a scrape  scrape {median:.2} ms, p99 {p99:.2} ms, {size} KB"
    );
    (resident, each)
}
