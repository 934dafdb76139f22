//! Every file that the agent reads of a component, holding what no kernel writes, or nothing, or not to be read: the fact is
//! an error that names the file and says what was expected, or is known to be absent where that is a fact; whatever rests
//! on it is not healthy, and nothing is called ill for it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/tree.rs"]
mod tree;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use auk_asic::vitals::VitalSigns;
use auk_health::facts::{Class, FactKind, Facts};
use auk_health::probe::ProbeError;
use auk_health::probe::discover::{Discovery, discover};
use auk_health::probe::target::{Sample, Target};
use auk_health::time::Moment;
use auk_health::verdict::HealthState;
use auk_health::{Agent, Engine, Settings};
use nix::unistd::{Uid, geteuid, setfsuid};
use tree::{CHIP, NIC, Tree, signs};

/// What a file is made to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Empty,
    Blank,
    Binary,
    Zero,
    Huge,
    Endless,
    Words,
    Negative,
    Fraction,
    TooBig,
    Missing,
    Forbidden,
    Directory,
    Circle,
}

const ALL: [Harm; 14] = [
    Harm::Empty,
    Harm::Blank,
    Harm::Binary,
    Harm::Zero,
    Harm::Huge,
    Harm::Endless,
    Harm::Words,
    Harm::Negative,
    Harm::Fraction,
    Harm::TooBig,
    Harm::Missing,
    Harm::Forbidden,
    Harm::Directory,
    Harm::Circle,
];

impl Harm {
    /// Does harm to a file, and undoes it after what is done meanwhile.
    fn during<T>(self, file: &Path, what: impl FnOnce() -> T) -> T {
        let aside = file.with_file_name("aside");
        if file.is_symlink() {
            symlink(fs::read_link(file).unwrap(), &aside).unwrap();
        } else {
            fs::copy(file, &aside).unwrap();
        }
        self.inflict(file);
        let done = what();
        // It is not there, a directory, or anything else.
        let _ = fs::remove_dir(file).or_else(|_| fs::remove_file(file));
        fs::rename(aside, file).unwrap();
        done
    }

    fn inflict(self, file: &Path) {
        if self == Self::Forbidden {
            if file.is_symlink() {
                // Links have no permissions.
                return;
            }
            fs::set_permissions(file, Permissions::from_mode(0o000)).unwrap();
            return;
        }
        fs::remove_file(file).unwrap();
        let contents: &[u8] = match self {
            Self::Missing => return,
            Self::Directory => return fs::create_dir(file).unwrap(),
            Self::Circle => return symlink(file, file).unwrap(),
            Self::Endless => return symlink("/dev/zero", file).unwrap(),
            Self::Empty | Self::Forbidden => b"",
            Self::Blank => b" \n",
            Self::Binary => &[0xFF, 0xFE, 0x00, 0x80, 0x31],
            Self::Zero => b"\0\0\0\0",
            Self::Huge => &[b'1'; 1 << 20],
            Self::Words => b"as the vendor likes\n",
            Self::Negative => b"-5\n",
            Self::Fraction => b"1.5\n",
            Self::TooBig => b"18446744073709551616\n",
        };
        fs::write(file, contents).unwrap();
    }
}

/// A file that is read.
struct File {
    /// Of which function.
    of: &'static str,
    /// Below the function's directory.
    name: &'static str,
    fact: FactKind,
    /// Checks that rest on it.
    checks: &'static [&'static str],
    /// Harm after which the fact is known all the same.
    known: &'static [Harm],
    /// Harm after which it is known that there is nothing.
    nothing: &'static [Harm],
}

const fn file(
    of: &'static str,
    name: &'static str,
    fact: FactKind,
    checks: &'static [&'static str],
) -> File {
    File {
        of,
        name,
        fact,
        checks,
        known: &[],
        nothing: &[],
    }
}

const ABOVE: &str = "..";
const LINK: &[&str] = &["link"];
const AER: &[&str] = &["aer_uncorrectable", "aer_correctable"];
const PORT: &[&str] = &["carrier", "carrier_flaps", "port_speed", "port_errors"];
const VITALS: &[&str] = &[
    "firmware_state",
    "heartbeat",
    "ecc_ue",
    "ecc_ce",
    "temperature",
];
const MISSING: &[Harm] = &[Harm::Missing];
/// All that leaves a text, for a file of which only matters that it is there.
const TEXTS: &[Harm] = &[
    Harm::Empty,
    Harm::Blank,
    Harm::Zero,
    Harm::Words,
    Harm::Negative,
    Harm::Fraction,
    Harm::TooBig,
];

/// All that is read of a component.
fn files() -> Vec<File> {
    let mut files = Vec::new();
    let speeds = [
        "current_link_speed",
        "current_link_width",
        "max_link_speed",
        "max_link_width",
    ];
    let counters = ["aer_dev_nonfatal", "aer_dev_fatal"];
    for of in [CHIP, NIC] {
        files.push(file(of, "config", FactKind::Presence, &["presence"]));
        files.push(file(of, "power_state", FactKind::PowerState, &[]));
        files.push(file(of, "numa_node", FactKind::NumaNode, &[]));
        files.extend(speeds.map(|name| file(of, name, FactKind::Link, LINK)));
        files.extend(counters.map(|name| file(of, name, FactKind::Aer, AER)));
        files.push(File {
            // The kernel does not count, or the firmware owns the counters.
            nothing: MISSING,
            ..file(of, "aer_dev_correctable", FactKind::Aer, AER)
        });
        files.push(File {
            nothing: MISSING,
            // A link that leads somewhere, or that nobody follows.
            known: &[Harm::Endless, Harm::Circle, Harm::Forbidden],
            ..file(of, "driver", FactKind::Driver, &[])
        });
        files.push(File {
            nothing: MISSING,
            known: &[Harm::Forbidden],
            ..file(of, "iommu_group", FactKind::IommuGroup, &[])
        });
    }
    files.extend(speeds.map(|name| file(ABOVE, name, FactKind::LinkAbove, &[])));
    files.extend(counters.map(|name| file(ABOVE, name, FactKind::AerAbove, &[])));
    files.push(File {
        nothing: MISSING,
        ..file(ABOVE, "aer_dev_correctable", FactKind::AerAbove, &[])
    });
    files.push(file(CHIP, "config", FactKind::Vitals, VITALS));
    files.push(File {
        // The interface has left.
        nothing: MISSING,
        known: TEXTS,
        ..file(NIC, "net/eth0/operstate", FactKind::Port, PORT)
    });
    files.push(file(NIC, "net/eth0/carrier", FactKind::Port, PORT));
    files.push(File {
        // As drivers write that there is none.
        known: &[Harm::Missing, Harm::Negative],
        ..file(NIC, "net/eth0/speed", FactKind::Port, PORT)
    });
    let counts = [
        "net/eth0/flags",
        "net/eth0/carrier_up_count",
        "net/eth0/carrier_down_count",
        "net/eth0/statistics/rx_errors",
        "net/eth0/statistics/tx_errors",
        "net/eth0/statistics/rx_crc_errors",
    ];
    files.extend(counts.map(|name| File {
        // This driver does not count it; the rest of the port is known.
        known: MISSING,
        ..file(NIC, name, FactKind::Port, PORT)
    }));
    files
}

impl File {
    fn path(&self, tree: &Tree) -> PathBuf {
        let function = match self.of {
            ABOVE => port_above(tree),
            of => tree.device(of),
        };
        function.join(self.name)
    }

    /// The component whose look reads it.
    fn component(&self) -> &'static str {
        match self.of {
            ABOVE => CHIP,
            of => of,
        }
    }
}

fn port_above(tree: &Tree) -> PathBuf {
    let chip = fs::canonicalize(tree.device(CHIP)).unwrap();
    chip.parent().unwrap().to_owned()
}

/// A host on which there is each file, and which others may look at.
fn host() -> Tree {
    let tree = Tree::new();
    fs::set_permissions(tree.root(), Permissions::from_mode(0o755)).unwrap();
    for name in fs::read_dir(tree.device(CHIP)).unwrap() {
        let name = name.unwrap().file_name();
        let file = name.to_str().unwrap();
        if file.contains("_link_") || file.contains("aer_") {
            fs::copy(tree.device(CHIP).join(file), port_above(&tree).join(file)).unwrap();
        }
    }
    for function in [CHIP, NIC].map(|bdf| tree.device(bdf)) {
        symlink("../../../bus/pci/drivers/some", function.join("driver")).unwrap();
        symlink(
            "../../../kernel/iommu_groups/7",
            function.join("iommu_group"),
        )
        .unwrap();
    }
    tree
}

fn look(tree: &Tree, bdf: &str) -> Sample {
    let found = discover(tree.root()).unwrap();
    let found = found.into_iter().find(|found| found.bdf == bdf).unwrap();
    let root = tree.root().to_owned();
    as_other(move || Target::new(&root, found).look(Class::Slow))
}

/// Does something as somebody to whom permissions apply.
fn as_other<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        if geteuid().is_root() {
            // Of this thread alone; with it go the capabilities on files.
            setfsuid(Uid::from_raw(65_534));
        }
        what()
    });
    thread.join().unwrap()
}

/// What was read of a fact: an error, nothing, or something.
fn outcome(facts: &Facts, fact: FactKind) -> Result<bool, ProbeError> {
    fn some<T>(read: &Option<Result<Option<T>, ProbeError>>) -> Result<bool, ProbeError> {
        let read = read.as_ref().unwrap().as_ref();
        read.map(Option::is_some).map_err(Clone::clone)
    }
    match fact {
        FactKind::Aer => some(&facts.aer),
        FactKind::AerAbove => some(&facts.aer_above),
        FactKind::LinkAbove => some(&facts.link_above),
        FactKind::Port => some(&facts.port),
        FactKind::Driver => some(&facts.driver),
        FactKind::IommuGroup => some(&facts.iommu_group),
        fact => match facts.outcome(fact).unwrap() {
            Ok(()) => Ok(true),
            Err(error) => Err(error.clone()),
        },
    }
}

/// What an engine says that has seen the same for five seconds.
fn judged(sample: &Sample) -> auk_health::status::ComponentStatus {
    let mut engine = Engine::new(Settings::default());
    let mut at = Moment::default();
    for beat in 1..=5 {
        at.uptime = Duration::from_secs(1000 + beat);
        let mut sample = sample.clone();
        sample.facts.at = at;
        if let Some(Ok(vitals)) = &mut sample.facts.vitals {
            vitals.heartbeat = u32::try_from(10 * beat).unwrap();
        }
        engine.observe(sample);
    }
    engine.components(at).remove(0)
}

fn state(status: &auk_health::status::ComponentStatus, check: &str) -> HealthState {
    status.verdict(check).unwrap().state
}

#[test]
fn all_that_rests_on_these_files_is_healthy_while_they_are() {
    let tree = host();
    for file in files() {
        let sample = look(&tree, file.component());
        assert_eq!(outcome(&sample.facts, file.fact), Ok(true), "{}", file.name);
        let status = judged(&sample);
        for check in file.checks {
            assert_eq!(
                state(&status, check),
                HealthState::Healthy,
                "{check}: {status:#?}"
            );
        }
    }
}

#[test]
fn a_file_that_holds_nonsense_is_an_error_with_its_name_and_nothing_that_rests_on_it_is_healthy() {
    let mut failures = Vec::new();
    let tree = host();
    for file in files() {
        for harm in ALL {
            let sample = harm.during(&file.path(&tree), || look(&tree, file.component()));
            let outcome = outcome(&sample.facts, file.fact);
            let known = file.known.contains(&harm);
            let sound = match &outcome {
                Ok(something) => *something == known && (known || file.nothing.contains(&harm)),
                Err(error) => {
                    let name = Path::new(file.name).file_name().unwrap();
                    let said = error.to_string();
                    !known && !file.nothing.contains(&harm) && said.contains(name.to_str().unwrap())
                }
            };
            let status = judged(&sample);
            let ill = status.state >= HealthState::Degraded;
            let mut healthy = file.checks.to_vec();
            healthy.retain(|check| !known && state(&status, check) == HealthState::Healthy);
            if !sound || ill || !healthy.is_empty() {
                let (of, name, state) = (file.of, file.name, status.state);
                failures.push(format!(
                    "{of} {name} {harm:?}: {outcome:?}; {state}; healthy: {healthy:?}"
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_function_of_which_nobody_can_read_what_it_is_is_told_and_hides_no_other() {
    for name in ["vendor", "device"] {
        for harm in ALL {
            let tree = host();
            harm.inflict(&tree.device(CHIP).join(name));
            let mut discovery = Discovery::new(tree.root());
            let listed = as_other(move || {
                let listed = discovery.list().unwrap();
                (listed, discovery.unread().map(ToString::to_string))
            });
            let (found, unread) = listed;
            let found: Vec<_> = found.iter().map(|found| found.bdf.as_str()).collect();
            assert_eq!(found, [NIC], "{name} {harm:?}");
            let unread = unread.unwrap_or_default();
            assert!(unread.contains(name), "{name} {harm:?}: {unread}");
        }
    }
}

#[test]
fn an_agent_that_cannot_read_what_a_function_is_says_so_and_watches_the_others() {
    let tree = host();
    Harm::Words.inflict(&tree.device(CHIP).join("vendor"));
    let agent = Agent::builder(tree.root())
        .interval(Duration::from_millis(50))
        .start()
        .unwrap();
    let seen = agent.wait_until(Duration::from_secs(30), |status| {
        let nic = status.component(NIC);
        status.agent.rounds > 4 && nic.is_some_and(|nic| nic.state == HealthState::Healthy)
    });
    let status = seen.unwrap();
    let error = status.discovery_error.unwrap();
    assert!(
        error.contains("vendor") && error.contains("as the vendor likes"),
        "{error}"
    );
    assert!(
        status
            .components
            .iter()
            .all(|component| component.bdf != CHIP)
    );
    fs::write(tree.device(CHIP).join("vendor"), "0x1ae5\n").unwrap();
    let whole = agent.wait_until(Duration::from_secs(30), |status| {
        status.discovery_error.is_none() && status.component(CHIP).is_some()
    });
    whole.unwrap();
    agent.stop().unwrap();
}

#[test]
fn an_agent_starts_whatever_the_host_says_of_its_boot() {
    for harm in ALL {
        let tree = host();
        let proc = tree.root().join("proc");
        fs::create_dir_all(proc.join("sys/kernel/random")).unwrap();
        for name in ["uptime", "sys/kernel/random/boot_id"] {
            fs::write(proc.join(name), "").unwrap();
            harm.inflict(&proc.join(name));
        }
        let agent = Agent::builder(tree.root())
            .interval(Duration::from_millis(50))
            .start()
            .unwrap();
        let looked = agent.wait_until(Duration::from_secs(30), |status| status.agent.rounds > 1);
        assert_eq!(looked.unwrap().components.len(), 2, "{harm:?}");
        agent.stop().unwrap();
    }
}

/// Counters that begin anew, or that are at the end of what they can count.
#[test]
fn a_counter_that_wraps_is_no_burst() {
    let counters = [
        (CHIP, "aer_dev_correctable", "TOTAL_ERR_COR ", u64::MAX),
        (NIC, "net/eth0/carrier_down_count", "", u32::MAX.into()),
        (NIC, "net/eth0/statistics/rx_errors", "", u64::MAX),
        (NIC, "net/eth0/statistics/rx_crc_errors", "", u64::MAX),
    ];
    for (bdf, name, before, most) in counters {
        let tree = host();
        let mut engine = Engine::new(Settings::default());
        let mut at = Moment::default();
        for (second, count) in [most - 1, most, 0, 1].iter().enumerate() {
            fs::write(tree.device(bdf).join(name), format!("{before}{count}\n")).unwrap();
            at.uptime = Duration::from_secs(1000 + second as u64);
            tree.set_vitals(&VitalSigns {
                heartbeat: 10 * second as u32,
                ..signs()
            });
            let mut sample = look(&tree, bdf);
            sample.facts.at = at;
            engine.observe(sample);
            let status = engine.components(at).remove(0);
            assert_ne!(
                status.state,
                HealthState::Unhealthy,
                "{name} {count}: {status:#?}"
            );
        }
    }
}

#[test]
fn who_somebody_is_is_not_made_of_nonsense() {
    for harm in ALL {
        let tree = host();
        let slot = tree.root().join("sys/bus/pci/slots/7");
        fs::create_dir_all(&slot).unwrap();
        fs::write(slot.join("address"), "0000:01:00\n").unwrap();
        harm.inflict(&slot.join("address"));
        assert_eq!(look(&tree, CHIP).identity.slot, None, "{harm:?}");
        harm.inflict(&tree.interface().join("address"));
        assert_eq!(look(&tree, NIC).identity.serial, None, "{harm:?}");
        let lease = tree.root().join("run/auk/lease").join(CHIP);
        fs::create_dir_all(lease.parent().unwrap()).unwrap();
        fs::write(&lease, "").unwrap();
        harm.inflict(&lease);
        assert_eq!(look(&tree, CHIP).facts.holder, None, "{harm:?}");
    }
}
