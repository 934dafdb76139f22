//! What the health agent costs, beside node_exporter in the same run.
//!
//! `cargo bench --bench agent_cost` ends with a table of ratios; the budgets in it are those of the project's design.
//! `AUK_COST_SECONDS` says how long each agent is watched (60). node_exporter is Debian's package
//! `prometheus-node-exporter`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench that cannot go on has nothing to report"
)]

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
/// Chips and NICs of the host that the budgets are for.
const HOST: (usize, usize) = (64, 16);
/// Chips whose cost must be in proportion.
const LINEAR: [usize; 3] = [1, 64, 1000];
const SCRAPES: usize = 50;
/// The first looks open and find out what later ones need not.
const WARM_UP: Duration = Duration::from_secs(15);

const MOST_RESIDENT: f64 = 20.0;
const MOST_SCRAPE: f64 = 3.0;
const MOST_CPU: f64 = 0.3;
const MOST_DWORDS: f64 = 20.0;

/// Parts of the time for which an agent is watched. The median of them is told, as other work on the machine makes some
/// of them dear.
const WINDOWS: u32 = 6;

/// What was measured of an agent.
struct Measured {
    /// MB of the agent, and of it with its readers, what they share counted once.
    resident: (f64, f64),
    /// Per cent of a core: the median of all windows, and the least.
    cpu: (f64, f64),
    /// Milliseconds: the median, and what 99 of 100 do not exceed.
    scrape: (f64, f64),
    scrape_kilobytes: usize,
    /// Dwords of config space a chip and second.
    dwords: f64,
    /// Milliseconds of a round.
    round: f64,
}

fn main() {
    let mut args = env::args().skip(1);
    if args.next().as_deref() == Some(THREADS) {
        return agent_with_threads(Path::new(&args.next().unwrap()));
    }
    let seconds = env::var("AUK_COST_SECONDS").ok();
    let watch = Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(60));

    let (chips, nics) = HOST;
    println!("a simulated host of {chips} chips and {nics} NICs, watched for {watch:?}\n");
    let directory = tree::scratch();
    let root = directory.path().join("host");
    let _host = simulated(&root, chips, nics);
    let processes = measure(agent(&root), chips, watch);
    tell("readers are processes", &processes);
    let threads = measure(threads(&root), chips, watch);
    tell("readers are threads", &threads);
    drop(_host);
    let exporter = node_exporter();

    println!("\nplain files that nobody changes, readers are processes");
    let mut each = Vec::new();
    for chips in LINEAR {
        let directory = tree::scratch();
        tree::still(directory.path(), chips);
        let measured = measure(agent(directory.path()), chips, watch / 3);
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

fn agent_with_threads(root: &Path) {
    let address = env::var("AUK_COST_LISTEN").unwrap();
    let agent = Agent::builder(root).listen(Some(address.parse().unwrap()));
    agent
        .build()
        .unwrap()
        .run_until(std::future::pending())
        .unwrap();
}

fn measure((agent, address): (Child, SocketAddr), chips: usize, watch: Duration) -> Measured {
    let metric = |name: &str| metric(&text(address), name);
    thread::sleep(WARM_UP);
    let names = [
        "auk_agent_config_dwords_total",
        "auk_agent_round_duration_seconds_sum",
        "auk_agent_round_duration_seconds_count",
    ];
    let before = names.map(metric);
    let begin = Instant::now();
    let mut shares: Vec<f64> = (0..WINDOWS)
        .map(|_| share(&agent, watch / WINDOWS))
        .collect();
    shares.sort_by(f64::total_cmp);
    let (took, grown) = (begin.elapsed(), agent.cost());
    let after = names.map(metric);
    let [dwords, round_seconds, rounds] =
        [0, 1, 2].map(|index: usize| after[index] - before[index]);
    let (scrape, scrape_kilobytes) = scrapes(address);
    Measured {
        resident: (megabytes(grown.own_resident), megabytes(grown.together)),
        cpu: (shares[shares.len() / 2], shares[0]),
        scrape,
        scrape_kilobytes,
        dwords: dwords / took.as_secs_f64() / chips as f64,
        round: round_seconds / rounds * 1000.0,
    }
}

/// Per cent of a core that an agent uses for a time.
fn share(agent: &Child, time: Duration) -> f64 {
    let (begin, before) = (Instant::now(), agent.cost().cpu);
    thread::sleep(time);
    let used = agent.cost().cpu.saturating_sub(before);
    used.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0
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

/// Resident megabytes and CPU milliseconds a scrape, after as many scrapes as the agent had.
fn node_exporter() -> Option<(f64, f64)> {
    let address = port();
    let mut command = Command::new("prometheus-node-exporter");
    command
        .arg(format!("--web.listen-address={address}"))
        .stderr(Stdio::null());
    let Some(exporter) = Child::try_start(&mut command) else {
        println!(
            "SKIPPED: no prometheus-node-exporter here; install Debian's package of that name to compare"
        );
        return None;
    };
    let start = Instant::now();
    while get(address, "/metrics").is_none() {
        assert!(start.elapsed() < WARM_UP, "node_exporter does not answer");
        thread::sleep(Duration::from_millis(20));
    }
    let before = exporter.cost();
    let ((median, p99), size) = scrapes(address);
    let Cost { cpu, together, .. } = exporter.cost();
    let each = cpu.saturating_sub(before.cpu).as_secs_f64() * 1000.0 / SCRAPES as f64;
    let resident = megabytes(together);
    println!(
        "node_exporter          {resident:>5.1} MB  {each:.2} ms CPU a scrape  scrape {median:.2} ms, p99 {p99:.2} ms, {size} KB"
    );
    Some((resident, each))
}
