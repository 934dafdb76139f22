//! What is read of a host, each with the error where it could not be.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::facts::Reading;
use crate::probe::{ProbeError, text};

pub(crate) const RELEASE: &str = "proc/sys/kernel/osrelease";
pub(crate) const COMMAND_LINE: &str = "proc/cmdline";
pub(crate) const LIMITS: &str = "proc/self/limits";
pub(crate) const MAX_MAP_COUNT: &str = "proc/sys/vm/max_map_count";
pub(crate) const NUMA_BALANCING: &str = "proc/sys/kernel/numa_balancing";
pub(crate) const CLOCK_SOURCE: &str =
    "sys/devices/system/clocksource/clocksource0/current_clocksource";
pub(crate) const GOVERNORS: &str = "sys/devices/system/cpu/cpufreq";
pub(crate) const HUGE_PAGES: &str = "sys/kernel/mm/hugepages";
pub(crate) const NODES: &str = "sys/devices/system/node";
pub(crate) const IOMMUS: &str = "sys/class/iommu";
pub(crate) const GROUPS: &str = "sys/kernel/iommu_groups";
pub(crate) const MODULES: &str = "sys/module";

/// How a host is set up. `None` is a file that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Release of the kernel, `6.12.43`.
    pub kernel: Reading<Option<String>>,
    /// The kernel's command line.
    pub command_line: Reading<Option<String>>,
    /// Limits of the process that reads: what a unit gets that sets none.
    pub limits: Reading<Option<Limits>>,
    /// `vm.max_map_count`.
    pub max_map_count: Reading<Option<u64>>,
    /// `kernel.numa_balancing`.
    pub numa_balancing: Reading<Option<u64>>,
    /// The clock source in use.
    pub clock_source: Reading<Option<String>>,
    /// CPU frequency policies by their governor.
    pub governors: Reading<BTreeMap<String, u32>>,
    /// Huge pages of each size, first of the host and then of each node.
    pub huge_pages: Reading<Vec<Huge>>,
    /// IOMMUs in use.
    pub iommus: Vec<String>,
    /// Groups of the IOMMUs by the type of their default domain; `""` where it cannot be told.
    pub groups: BTreeMap<String, u32>,
    /// Modules that were asked for, and whether they are there: loaded, or built in with something to show for it.
    pub modules: BTreeMap<String, bool>,
    /// Their parameters that were asked for, by `MODULE.PARAMETER`.
    pub parameters: BTreeMap<String, Reading<Option<String>>>,
}

/// Soft limits of a process; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `Max locked memory`, in bytes.
    pub locked: Option<u64>,
    /// `Max open files`.
    pub open_files: Option<u64>,
}

/// Huge pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Huge {
    /// Size of one in KiB.
    pub kib: u64,
    /// The node; `None` of the whole host.
    pub node: Option<u32>,
    /// How many.
    pub share: Share,
}

/// Pages, and those of them that nobody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// All.
    pub all: u64,
    /// Those that are free.
    pub free: u64,
}

impl Profile {
    /// Reads it below a root. Of modules and their parameters only those are looked at that are asked for, `MODULE` or
    /// `MODULE.PARAMETER`.
    #[must_use]
    pub fn read(root: &Path, asked: &[String]) -> Self {
        let text = |below: &str| text::optional(text::read(&root.join(below)));
        let number = |below: &str| text::optional(text::number(&root.join(below), "a number"));
        let mut modules = BTreeMap::new();
        let mut parameters = BTreeMap::new();
        for asked in asked {
            let (module, parameter) = asked.split_once('.').unwrap_or((asked, ""));
            let directory = format!("{MODULES}/{module}");
            modules.insert(module.to_owned(), root.join(&directory).is_dir());
            if !parameter.is_empty() {
                let read = text(&format!("{directory}/parameters/{parameter}"));
                parameters.insert(asked.clone(), read);
            }
        }
        Self {
            kernel: text(RELEASE),
            command_line: text(COMMAND_LINE),
            limits: limits(root),
            max_map_count: number(MAX_MAP_COUNT),
            numa_balancing: number(NUMA_BALANCING),
            clock_source: text(CLOCK_SOURCE),
            governors: governors(root),
            huge_pages: huge_pages(root),
            iommus: names(&root.join(IOMMUS)),
            groups: groups(root),
            modules,
            parameters,
        }
    }

    /// The NUMA nodes that have huge pages to show.
    pub(crate) fn huge_on(&self, node: u32) -> Option<Share> {
        let pools = self.huge_pages.as_ref().ok()?;
        let mut here = pools.iter().filter(|pool| pool.node == Some(node));
        let first = here.next()?.share;
        Some(here.fold(first, |sum, pool| Share {
            all: sum.all + pool.share.all,
            free: sum.free + pool.share.free,
        }))
    }

    /// Major and minor number of a release.
    pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
            _ => None,
        }
    }
}

/// The NUMA nodes of a host.
pub(crate) fn nodes(root: &Path) -> Vec<u32> {
    let names = names(&root.join(NODES));
    let mut nodes: Vec<u32> = names
        .iter()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .collect();
    nodes.sort_unstable();
    nodes
}

/// Names in a directory, in order; none when it is not there.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn limits(root: &Path) -> Reading<Option<Limits>> {
    let path = root.join(LIMITS);
    let Some(text) = text::optional(text::read(&path))? else {
        return Ok(None);
    };
    parse_limits(&text).map(Some).ok_or_else(|| {
        ProbeError::malformed(&path, &text, "lines Max locked memory and Max open files")
    })
}

/// The soft limits of `proc/PID/limits`, proc_pid_limits(5).
fn parse_limits(text: &str) -> Option<Limits> {
    let soft = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        match line.split_whitespace().next()? {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        }
    };
    Some(Limits {
        locked: soft("Max locked memory")?,
        open_files: soft("Max open files").unwrap_or_default(),
    })
}

fn governors(root: &Path) -> Reading<BTreeMap<String, u32>> {
    let mut governors = BTreeMap::new();
    for policy in names(&root.join(GOVERNORS)) {
        if policy.starts_with("policy") {
            let path = root.join(format!("{GOVERNORS}/{policy}/scaling_governor"));
            if let Some(governor) = text::optional(text::read(&path))? {
                *governors.entry(governor).or_default() += 1;
            }
        }
    }
    Ok(governors)
}

fn huge_pages(root: &Path) -> Reading<Vec<Huge>> {
    let mut pools = Vec::new();
    read_pools(root, HUGE_PAGES, None, &mut pools)?;
    for node in nodes(root) {
        read_pools(
            root,
            &format!("{NODES}/node{node}/hugepages"),
            Some(node),
            &mut pools,
        )?;
    }
    Ok(pools)
}

/// Pools by size, `hugepages-2048kB`.
fn read_pools(
    root: &Path,
    below: &str,
    node: Option<u32>,
    pools: &mut Vec<Huge>,
) -> Result<(), ProbeError> {
    for name in names(&root.join(below)) {
        let kib = name
            .strip_prefix("hugepages-")
            .and_then(|size| size.strip_suffix("kB")?.parse().ok());
        let Some(kib) = kib else { continue };
        let number = |file: &str| {
            let path = root.join(format!("{below}/{name}/{file}"));
            text::optional(text::number(&path, "a number"))
        };
        if let (Some(all), Some(free)) = (number("nr_hugepages")?, number("free_hugepages")?) {
            let share = Share { all, free };
            pools.push(Huge { kib, node, share });
        }
    }
    pools.sort_by_key(|pool| (pool.node, pool.kib));
    Ok(())
}

fn groups(root: &Path) -> BTreeMap<String, u32> {
    let mut types = BTreeMap::new();
    for group in names(&root.join(GROUPS)) {
        let kind = text::read(&root.join(format!("{GROUPS}/{group}/type")));
        *types.entry(kind.unwrap_or_default()).or_default() += 1;
    }
    types
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(root: &Path, below: &str, contents: &str) {
        let path = root.join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    #[test]
    fn a_tree_without_anything_has_nothing_and_no_error() {
        let root = tempfile::tempdir().unwrap();
        let profile = Profile::read(root.path(), &["vfio".to_owned()]);
        assert_eq!(profile.kernel, Ok(None));
        assert_eq!(profile.huge_pages, Ok(Vec::new()));
        assert_eq!(profile.governors, Ok(BTreeMap::new()));
        assert!(!profile.modules["vfio"]);
    }

    #[test]
    fn what_the_kernel_shows_is_read() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, RELEASE, "6.12.43-1.el10\n");
        write(
            root,
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "64\n",
        );
        write(
            root,
            "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
            "60\n",
        );
        write(
            root,
            "sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages",
            "4",
        );
        write(
            root,
            "sys/devices/system/node/node1/hugepages/hugepages-1048576kB/free_hugepages",
            "4",
        );
        write(
            root,
            "sys/devices/system/cpu/cpufreq/policy0/scaling_governor",
            "performance\n",
        );
        write(
            root,
            "sys/devices/system/cpu/cpufreq/policy4/scaling_governor",
            "powersave\n",
        );
        write(root, "sys/kernel/iommu_groups/3/type", "identity\n");
        write(
            root,
            "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
            "N\n",
        );
        let asked = ["vfio.enable_unsafe_noiommu_mode".to_owned()];
        let profile = Profile::read(root, &asked);
        assert_eq!(
            profile.kernel.as_ref().unwrap().as_deref(),
            Some("6.12.43-1.el10")
        );
        let pools = profile.huge_pages.as_ref().unwrap();
        assert_eq!(
            (pools[0].kib, pools[0].node, pools[0].share.free),
            (2048, None, 60)
        );
        assert_eq!(profile.huge_on(1).unwrap().all, 4);
        assert_eq!(profile.huge_on(0), None);
        assert_eq!(profile.governors.as_ref().unwrap().len(), 2);
        assert_eq!(profile.groups["identity"], 1);
        assert_eq!(profile.parameters[&asked[0]], Ok(Some("N".to_owned())));
        assert!(profile.modules["vfio"]);
    }

    #[test]
    fn a_release_has_two_numbers_at_least() {
        assert_eq!(Profile::version("6.12.43-1.el10"), Some((6, 12)));
        for release in ["", "6", "six.twelve", ".6.12", "99999999999.1"] {
            assert_eq!(Profile::version(release), None, "{release}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_limits_or_none(text in "\\PC{0,200}") {
            let _ = parse_limits(&text);
            let _ = Profile::version(&text);
        }
    }
}
