//! Each topic of the profile against what the manifest wants of it.

use std::collections::BTreeMap;

use super::MIB;
use super::against::{Compared, Of};
use super::profile::{
    CLOCK_SOURCE, COMMAND_LINE, GOVERNORS, GROUPS, HUGE_PAGES, Huge, IOMMUS, LIMITS, MAX_MAP_COUNT,
    MODULES, NODES, NUMA_BALANCING, Profile, RELEASE,
};
use crate::config::{ExpectedHost, ExpectedNode, KernelVersion};

/// A topic: the name of its check, and the comparison.
pub struct Topic {
    /// The check.
    pub name: &'static str,
    /// Holds the profile against the manifest.
    pub compare: fn(&Profile, &ExpectedHost) -> Compared,
}

/// All of them.
pub const TOPICS: &[Topic] = &[
    Topic {
        name: "kernel_version",
        compare: kernel_version,
    },
    Topic {
        name: "command_line",
        compare: command_line,
    },
    Topic {
        name: "iommu",
        compare: iommu,
    },
    Topic {
        name: "huge_pages",
        compare: huge_pages,
    },
    Topic {
        name: "limits",
        compare: limits,
    },
    Topic {
        name: "modules",
        compare: modules,
    },
    Topic {
        name: "clock_source",
        compare: clock_source,
    },
    Topic {
        name: "cpu_governor",
        compare: cpu_governor,
    },
    Topic {
        name: "numa_balancing",
        compare: numa_balancing,
    },
];

const REBOOT: &str = "change the host profile, and reboot";

fn kernel_version(profile: &Profile, wanted: &ExpectedHost) -> Compared {
    let mut compared = Compared::default();
    let (from, to) = (wanted.kernel_from, wanted.kernel_to);
    let expected = match (from, to) {
        (None, None) => return compared,
        (Some(from), None) => format!("{from} or newer"),
        (None, Some(to)) => format!("{to} or older"),
        (Some(from), Some(to)) => format!("{from} to {to}"),
    };
    let of = Of {
        what: "kernel",
        expected,
        source: RELEASE,
        mend: "boot an image with such a kernel".to_owned(),
    };
    compared.take(of, &profile.kernel, Clone::clone, |release| {
        Profile::version(release).is_some_and(|(major, minor)| {
            let found = KernelVersion { major, minor };
            from.is_none_or(|from| found >= from) && to.is_none_or(|to| found <= to)
        })
    });
    compared
}

fn command_line(profile: &Profile, wanted: &ExpectedHost) -> Compared {
    let mut compared = Compared::default();
    let has = |line: &String, word: &str| line.split_whitespace().any(|found| found == word);
    for word in &wanted.command_line {
        // Of a parameter with another value that value is what was found.
        let (name, _) = word.split_once('=').unwrap_or((word, ""));
        let shown = |line: &String| {
            let like = line.split_whitespace();
            let like: Vec<_> = like
                .filter(|found| found.split('=').next() == Some(name))
                .collect();
            match like.is_empty() {
                true => "not there".to_owned(),
                false => like.join(" "),
            }
        };
        let of = Of {
            what: word,
            expected: word.clone(),
            source: COMMAND_LINE,
            mend: format!("{REBOOT}: the kernel's command line lacks {word}"),
        };
        compared.take(of, &profile.command_line, shown, |line| has(line, word));
    }
    for word in &wanted.command_line_without {
        let is_it = |found: &str| found == word || found.split('=').next() == Some(word);
        let shown = |line: &String| {
            let like: Vec<_> = line
                .split_whitespace()
                .filter(|found| is_it(found))
                .collect();
            match like.is_empty() {
                true => "not there".to_owned(),
                false => like.join(" "),
            }
        };
        let of = Of {
            what: word,
            expected: format!("no {word}"),
            source: COMMAND_LINE,
            mend: format!("{REBOOT}: take {word} off the kernel's command line"),
        };
        compared.take(of, &profile.command_line, shown, |line| {
            !line.split_whitespace().any(is_it)
        });
    }
    compared
}

fn iommu(profile: &Profile, wanted: &ExpectedHost) -> Compared {
    let mut compared = Compared::default();
    if let Some(on) = wanted.iommu {
        let groups: u32 = profile.groups.values().sum();
        let is_on = !profile.iommus.is_empty() || groups > 0;
        let found = match is_on {
            true => format!("{} in use, {groups} groups", profile.iommus.len()),
            false => "none in use".to_owned(),
        };
        let of = Of {
            what: "IOMMU",
            expected: if on { "one in use" } else { "none" }.to_owned(),
            source: IOMMUS,
            mend: match on {
                true => "turn VT-d or AMD-Vi on in the firmware's setup and on the kernel's command line; auk doctor says how",
                false => "intel_iommu=off or amd_iommu=off on the kernel's command line, and reboot",
            }
            .to_owned(),
        };
        compared.take(of, &Ok(Some(found)), Clone::clone, |_| is_on == on);
    }
    if !wanted.iommu_domains.is_empty() {
        let types: Vec<String> = profile
            .groups
            .iter()
            .map(|(kind, count)| {
                let kind = if kind.is_empty() {
                    "of a type that is not told"
                } else {
                    kind
                };
                format!("{count} groups {kind}")
            })
            .collect();
        let found = (!types.is_empty()).then(|| types.join(", "));
        let of = Of {
            what: "default domains",
            expected: format!("none but {}", wanted.iommu_domains.join(", ")),
            source: GROUPS,
            mend: format!("{REBOOT}: iommu=pt makes them identity, iommu.strict=1 DMA"),
        };
        compared.take(of, &Ok(found), Clone::clone, |_| {
            profile
                .groups
                .keys()
                .all(|kind| wanted.iommu_domains.contains(kind))
        });
    }
    compared
}

fn huge_pages(profile: &Profile, wanted: &ExpectedHost) -> Compared {
    let mut compared = Compared::default();
    let everywhere = ExpectedNode {
        huge_pages_2m: wanted.huge_pages_2m,
        huge_pages_1g: wanted.huge_pages_1g,
    };
    let nodes = wanted.nodes.iter();
    let nodes = nodes.filter_map(|(name, node)| Some((Some(name.parse().ok()?), *node)));
    for (node, wanted) in std::iter::once((None, everywhere)).chain(nodes) {
        for (kib, size, least) in [
            (2048, "2 MiB", wanted.huge_pages_2m),
            (1_048_576, "1 GiB", wanted.huge_pages_1g),
        ] {
            let Some(least) = least else { continue };
            let what = match node {
                Some(node) => format!("huge pages of {size} on node {node}"),
                None => format!("huge pages of {size}"),
            };
            let source = match node {
                Some(node) => {
                    format!("{NODES}/node{node}/hugepages/hugepages-{kib}kB/nr_hugepages")
                }
                None => format!("{HUGE_PAGES}/hugepages-{kib}kB/nr_hugepages"),
            };
            let of = Of {
                what: &what,
                expected: format!("at least {least}"),
                source: &source,
                mend: format!("{REBOOT}: hugepagesz= and hugepages= on the kernel's command line"),
            };
            let is_it = |pool: &&Huge| pool.kib == kib && pool.node == node;
            let read = profile.huge_pages.clone();
            let read = read.map(|pools| pools.iter().find(is_it).map(|pool| pool.share.all));
            compared.take(of, &read, ToString::to_string, |all| *all >= least);
        }
    }
    compared
}

fn limits(profile: &Profile, wanted: &ExpectedHost) -> Compared {
    let mut compared = Compared::default();
    let unit = |key| format!("{key}= in the unit, or Default{key}= of systemd-system.conf(5)");
    if let Some(least) = wanted.memlock_mib {
        let of = Of {
            what: "locked memory",
            expected: format!("at least {least} MiB"),
            source: LIMITS,
            mend: unit("LimitMEMLOCK"),
        };
        let shown = |limits: &super::Limits| match limits.locked {
            Some(bytes) => format!("{} MiB", bytes / MIB),
            None => "unlimited".to_owned(),
        };
        compared.take(of, &profile.limits, shown, |limits| {
            limits.locked.is_none_or(|bytes| bytes / MIB >= least)
        });
    }
    if let Some(least) = wanted.open_files {
        let of = Of {
            what: "open files",
            expected: format!("at least {least}"),
            source: LIMITS,
            mend: unit("LimitNOFILE"),
        };
        let shown = |limits: &super::Limits| match limits.open_files {
            Some(most) => most.to_string(),
            None => "unlimited".to_owned(),
        };
        compared.take(of, &profile.limits, shown, |limits| {
            limits.open_files.is_none_or(|most| most >= least)
        });
    }
    if let Some(least) = wanted.max_map_count {
        let of = Of {
            what: "vm.max_map_count",
            expected: format!("at least {least}"),
            source: MAX_MAP_COUNT,
            mend: format!("vm.max_map_count={least} in /etc/sysctl.d"),
        };
        compared.take(of, &profile.max_map_count, ToString::to_string, |count| {
            *count >= least
        });
    }
    compared
}

fn modules(profile: &Profile, wanted: &ExpectedHost) -> Compared {
    let mut compared = Compared::default();
    let there = |is_there: &bool| if *is_there { "there" } else { "not loaded" }.to_owned();
    let of = |what, expected: &str, mend| Of {
        what,
        expected: expected.to_owned(),
        source: MODULES,
        mend,
    };
    for module in &wanted.modules {
        let mend = format!("modprobe {module}; for each boot a line in /etc/modules-load.d");
        let found = profile.modules.get(module).copied();
        compared.take(of(module, "loaded", mend), &Ok(found), there, |is_there| {
            *is_there
        });
    }
    for module in &wanted.modules_without {
        let mend = format!("blacklist {module} in /etc/modprobe.d, and reboot");
        let found = profile.modules.get(module).copied();
        compared.take(
            of(module, "not loaded", mend),
            &Ok(found),
            there,
            |is_there| !is_there,
        );
    }
    for (name, value) in wanted.parameters() {
        let (module, parameter) = name.split_once('.').unwrap_or((name, ""));
        let source = format!("{MODULES}/{module}/parameters/{parameter}");
        let of = Of {
            what: name,
            expected: value.to_owned(),
            source: &source,
            mend: format!(
                "options {module} {parameter}={value} in /etc/modprobe.d, and load it anew"
            ),
        };
        let read = profile.parameters.get(name).cloned().unwrap_or(Ok(None));
        compared.take(of, &read, Clone::clone, |found| found == value);
    }
    compared
}

fn clock_source(profile: &Profile, wanted: &ExpectedHost) -> Compared {
    let mut compared = Compared::default();
    let Some(source) = &wanted.clock_source else {
        return compared;
    };
    let of = Of {
        what: "clock source",
        expected: source.clone(),
        source: CLOCK_SOURCE,
        mend: format!(
            "clocksource={source} on the kernel's command line; where the kernel left it, its log says why"
        ),
    };
    compared.take(of, &profile.clock_source, Clone::clone, |found| {
        found == source
    });
    compared
}

fn cpu_governor(profile: &Profile, wanted: &ExpectedHost) -> Compared {
    let mut compared = Compared::default();
    let Some(governor) = &wanted.cpu_governor else {
        return compared;
    };
    let of = Of {
        what: "CPU governor",
        expected: governor.clone(),
        source: GOVERNORS,
        mend: format!("tuned, or cpupower frequency-set -g {governor}"),
    };
    let shown = |found: &BTreeMap<String, u32>| {
        let told: Vec<_> = found
            .iter()
            .map(|(name, count)| format!("{name} on {count}"))
            .collect();
        told.join(", ")
    };
    let read = profile.governors.clone();
    let read = read.map(|found| (!found.is_empty()).then_some(found));
    compared.take(of, &read, shown, |found| {
        found.keys().all(|name| name == governor)
    });
    compared
}

fn numa_balancing(profile: &Profile, wanted: &ExpectedHost) -> Compared {
    let mut compared = Compared::default();
    let Some(on) = wanted.numa_balancing else {
        return compared;
    };
    let value = u8::from(on);
    let of = Of {
        what: "kernel.numa_balancing",
        expected: value.to_string(),
        source: NUMA_BALANCING,
        mend: format!("kernel.numa_balancing={value} in /etc/sysctl.d"),
    };
    compared.take(of, &profile.numa_balancing, ToString::to_string, |found| {
        (*found != 0) == on
    });
    compared
}
