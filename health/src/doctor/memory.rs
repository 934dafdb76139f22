//! What DMA memory is made of, and how much of it a process may have.

use super::ground::Ground;
use super::{Finding, Level};
use crate::host::{self, Huge, Share};

const LOCKED: &str = "memlock";
const HUGE: &str = "huge-pages";
const MAPS: &str = "max-map-count";
pub(super) const CHECKS: &[&str] = &[LOCKED, HUGE, MAPS];

/// A job that maps less than this has no use for a chip.
const LEAST_LOCKED: u64 = 64 << 20;
const ENOUGH_LOCKED: u64 = 1 << 30;
/// `CAP_IPC_LOCK` of `<linux/capability.h>`: DMA memory is not counted.
const IPC_LOCK: u64 = 1 << 14;
/// The kernel's own, `DEFAULT_MAX_MAP_COUNT` of `<linux/mm.h>`.
const DEFAULT_MAPS: u64 = 65_530;
/// Sizes of huge pages that are used, in KiB and in words.
const SIZES: &[(u64, &str)] = &[(2048, "2 MiB"), (1_048_576, "1 GiB")];

pub(super) fn examine(ground: &Ground) -> Vec<Finding> {
    vec![locked(ground), huge(ground), maps(ground)]
}

fn locked(ground: &Ground) -> Finding {
    const EXPECTED: &str = "as much as a job maps for its chips, or unlimited";
    let limits = match &ground.profile().limits {
        Err(error) => return Finding::unread(LOCKED, error, EXPECTED),
        Ok(None) => return Finding::not_applicable(LOCKED, "no proc/self/limits in this tree"),
        Ok(Some(limits)) => limits,
    };
    let finding = |level, found: String| Finding::new(LOCKED, level, found, EXPECTED);
    let bytes = match limits.locked {
        None => return finding(Level::Ok, "unlimited".to_owned()),
        Some(bytes) => bytes,
    };
    let amount = format!("{} MiB", bytes >> 20);
    if has_capability(ground, IPC_LOCK) {
        let found =
            format!("{amount}, and this process has CAP_IPC_LOCK, so it does not count here");
        return finding(Level::Ok, found);
    }
    let level = match bytes {
        0..LEAST_LOCKED => Level::Fail,
        LEAST_LOCKED..ENOUGH_LOCKED => Level::Warn,
        _ => return finding(Level::Ok, amount),
    };
    finding(level, format!("{amount} of DMA memory for this process, and no more")).mend(
        "a unit: LimitMEMLOCK=infinity (systemd gives 8 MiB); a shell: memlock in /etc/security/limits.conf, or ulimit -l as root",
    )
}

fn has_capability(ground: &Ground, bit: u64) -> bool {
    let status = ground.long_text("proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits & bit != 0)
}

fn huge(ground: &Ground) -> Finding {
    const EXPECTED: &str = "some free, on the node of each accelerator";
    let profile = ground.profile();
    let pools = match &profile.huge_pages {
        Err(error) => return Finding::unread(HUGE, error, EXPECTED),
        Ok(pools) => pools,
    };
    let mut told = Vec::new();
    let (mut all, mut free) = (0, 0);
    for (kib, size) in SIZES {
        let of_size = |pool: &&Huge| pool.kib == *kib;
        let Some(pool) = pools
            .iter()
            .filter(of_size)
            .find(|pool| pool.node.is_none())
        else {
            continue;
        };
        all += pool.share.all;
        free += pool.share.free;
        let by_node = by_node(ground, pools, *kib);
        told.push(format!("{size}: {}{by_node}", shown(pool.share)));
    }
    if told.is_empty() {
        return Finding::not_applicable(HUGE, "no sys/kernel/mm/hugepages in this tree");
    }
    let level = match (all, free) {
        (0, _) | (_, 0) => Level::Warn,
        _ => Level::Ok,
    };
    let finding = Finding::new(HUGE, level, told.join("; "), EXPECTED);
    match (all, free) {
        (0, _) => finding.mend(
            "vm.nr_hugepages=N in /etc/sysctl.d for 2 MiB, hugepagesz=1G hugepages=N on the kernel's command line for 1 GiB; \
             without them DMA memory is of small pages, each a mapping of its own in the IOMMU",
        ),
        (_, 0) => finding.mend("all are taken: reserve more, or end who has them"),
        _ => finding,
    }
}

fn shown(pages: Share) -> String {
    match pages.all {
        0 => "none".to_owned(),
        all => format!("{} of {all} free", pages.free),
    }
}

/// The NUMA nodes of a host.
pub(super) fn nodes(ground: &Ground) -> Vec<u32> {
    host::nodes(&ground.path(""))
}

/// Huge pages of all sizes on a node; `None` when that cannot be told.
pub(super) fn on_node(ground: &Ground, node: u32) -> Option<Share> {
    ground.profile().huge_on(node)
}

/// How they are spread, where there is more than one node.
fn by_node(ground: &Ground, pools: &[Huge], kib: u64) -> String {
    if nodes(ground).len() < 2 {
        return String::new();
    }
    let told: Vec<String> = pools
        .iter()
        .filter(|pool| pool.kib == kib)
        .filter_map(|pool| Some(format!("node {}: {}", pool.node?, shown(pool.share))))
        .collect();
    format!(" ({})", told.join(", "))
}

fn maps(ground: &Ground) -> Finding {
    const EXPECTED: &str = "65530, the kernel's own, or more";
    match &ground.profile().max_map_count {
        Err(error) => Finding::unread(MAPS, error, EXPECTED),
        Ok(None) => Finding::not_applicable(MAPS, "no proc/sys/vm/max_map_count in this tree"),
        Ok(Some(count)) if *count >= DEFAULT_MAPS => {
            Finding::new(MAPS, Level::Ok, count.to_string(), EXPECTED)
        }
        Ok(Some(count)) => {
            let found = format!("{count}: a process cannot have more mappings");
            Finding::new(MAPS, Level::Warn, found, EXPECTED).mend("sysctl vm.max_map_count=65530")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;

    fn limit(tree: &Tree, soft: &str) -> Finding {
        tree.write(
            "proc/self/limits",
            format!(
                "Limit Soft Hard Units\nMax locked memory         {soft}   unlimited   bytes\n"
            ),
        );
        locked(&tree.ground())
    }

    #[test]
    fn the_limit_of_locked_memory_is_judged_by_what_jobs_need() {
        let tree = Tree::new();
        assert_eq!(limit(&tree, "unlimited").level, Level::Ok);
        assert_eq!(limit(&tree, "8388608").level, Level::Fail);
        assert!(
            limit(&tree, "8388608")
                .mend
                .unwrap()
                .contains("LimitMEMLOCK")
        );
        assert_eq!(limit(&tree, "134217728").level, Level::Warn);
        assert_eq!(limit(&tree, "1073741824").level, Level::Ok);
        assert_eq!(limit(&tree, "lots").level, Level::Warn);
        // CAP_IPC_LOCK, as root has it.
        tree.write("proc/self/status", "Name: auk\nCapEff:\t000001ffffffffff\n");
        assert_eq!(limit(&tree, "8388608").level, Level::Ok);
    }

    fn pages(tree: &Tree, directory: &str, all: u64, free: u64) {
        for (kib, _) in SIZES {
            tree.write(
                &format!("{directory}/hugepages-{kib}kB/nr_hugepages"),
                all.to_string(),
            );
            tree.write(
                &format!("{directory}/hugepages-{kib}kB/free_hugepages"),
                free.to_string(),
            );
        }
    }

    #[test]
    fn huge_pages_are_told_by_size_and_node() {
        let tree = Tree::new();
        assert_eq!(huge(&tree.ground()).level, Level::NotApplicable);
        pages(&tree, "sys/kernel/mm/hugepages", 0, 0);
        assert_eq!(huge(&tree.ground()).level, Level::Warn);
        pages(&tree, "sys/kernel/mm/hugepages", 16, 4);
        pages(&tree, "sys/devices/system/node/node0/hugepages", 16, 4);
        pages(&tree, "sys/devices/system/node/node1/hugepages", 0, 0);
        let found = huge(&tree.ground());
        assert_eq!(found.level, Level::Ok);
        assert_eq!(
            found.found.split("; ").next().unwrap(),
            "2 MiB: 4 of 16 free (node 0: 4 of 16 free, node 1: none)"
        );
        assert_eq!(on_node(&tree.ground(), 1).unwrap().all, 0);
    }

    #[test]
    fn fewer_mappings_than_the_kernels_own_are_warned_of() {
        let tree = Tree::new();
        tree.write("proc/sys/vm/max_map_count", "1024\n");
        assert_eq!(maps(&tree.ground()).level, Level::Warn);
        tree.write("proc/sys/vm/max_map_count", "262144\n");
        assert_eq!(maps(&tree.ground()).level, Level::Ok);
    }
}
