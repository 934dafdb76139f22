//! Each accelerator: what stands between it and a job.

mod config;
mod group;

use std::path::Path;

use super::ground::Ground;
use super::{Finding, Level, memory, vfio};
use crate::facts::{Kind, PowerState};
use crate::probe::directory::Directory;
use crate::probe::discover::{self, upstream};
use crate::probe::{ProbeError, attributes, text};

/// BARs that an A1 has, `docs/hardware.md`.
const BARS: [usize; 3] = [0, 2, 4];
/// `IORESOURCE_UNSET` of `<linux/ioport.h>`: the BAR has a size and no address.
const UNSET: u64 = 0x2000_0000;

/// One accelerator.
struct Accelerator<'a> {
    ground: &'a Ground,
    bdf: &'a str,
    /// As the agent reads it.
    function: Directory,
}

/// Examines all of them.
pub(super) fn examine(ground: &Ground) -> Vec<Finding> {
    const CHECK: &str = "accelerators";
    const EXPECTED: &str = "at least one";
    let found = match discover::discover(&ground.path("")) {
        Ok(found) => found,
        Err(error) => return vec![Finding::unread(CHECK, &error, EXPECTED)],
    };
    let bdfs: Vec<&str> = found
        .iter()
        .filter(|found| found.kind == Kind::Accelerator)
        .map(|found| found.bdf.as_str())
        .collect();
    if bdfs.is_empty() {
        return vec![
            Finding::new(CHECK, Level::Warn, "none", EXPECTED)
                .mend("look at the slots and their power; echo 1 > /sys/bus/pci/rescan"),
        ];
    }
    let mut findings = vec![Finding::new(CHECK, Level::Ok, bdfs.join(" "), EXPECTED)];
    for bdf in bdfs {
        let directory = ground.path("sys/bus/pci/devices").join(bdf);
        let of_it = match Directory::open(&directory) {
            Ok(function) => Accelerator {
                ground,
                bdf,
                function,
            }
            .examine(),
            Err(error) => vec![Finding::unread(
                CHECK,
                &error,
                "a function that stays listed",
            )],
        };
        findings.extend(of_it.into_iter().map(|f| f.of(bdf)));
    }
    findings
}

impl Accelerator<'_> {
    fn examine(&self) -> Vec<Finding> {
        vec![
            self.driver(),
            group::examine(self),
            self.way_in(),
            self.port(),
            self.bars(),
            config::examine(self),
            self.numa(),
            self.power(),
        ]
    }

    fn driver(&self) -> Finding {
        const EXPECTED: &str = "vfio-pci, or a variant of it";
        const CHECK: &str = "driver";
        match attributes::driver(&self.function) {
            Err(error) => Finding::unread(CHECK, &error, EXPECTED),
            Ok(Some(driver)) if is_vfio(&driver) => {
                Finding::new(CHECK, Level::Ok, driver, EXPECTED)
            }
            Ok(driver) => {
                let found = driver.unwrap_or_else(|| "none".to_owned());
                Finding::new(CHECK, Level::Fail, found, EXPECTED)
                    .mend(format!("auk bind {}", self.bdf))
            }
        }
    }

    /// The node or the socket that a job opens.
    fn way_in(&self) -> Finding {
        const CHECK: &str = "permission";
        const EXPECTED: &str = "a way in that this user may open";
        let nodes: Vec<String> = match self.ground.is_simulated() {
            true => vec![format!("run/auk/sim/{}.sock", self.bdf)],
            false => self.nodes(),
        };
        let there: Vec<&String> = nodes.iter().filter(|node| self.ground.has(node)).collect();
        let Some(first) = there.first() else {
            let finding = Finding::new(CHECK, Level::Fail, "none", EXPECTED);
            return match self.ground.is_simulated() {
                true => finding.mend("its simulator is gone: start the host again"),
                false => finding.mend("bind it to VFIO, as above"),
            };
        };
        match there.iter().find(|node| self.ground.may_open(node)) {
            Some(node) => Finding::new(CHECK, Level::Ok, node.as_str(), EXPECTED),
            None => Finding::new(
                CHECK,
                Level::Fail,
                format!("{first}, and not for this user"),
                EXPECTED,
            )
            .mend(vfio::udev_rule()),
        }
    }

    /// Its character device, its group.
    fn nodes(&self) -> Vec<String> {
        let below = format!("sys/bus/pci/devices/{}/vfio-dev", self.bdf);
        let devices = self.ground.names(&below);
        let mut nodes: Vec<String> = devices
            .iter()
            .map(|name| format!("dev/vfio/devices/{name}"))
            .collect();
        if let Ok(Some(group)) = attributes::iommu_group(&self.function) {
            nodes.push(format!("dev/vfio/{group}"));
            nodes.push(format!("dev/vfio/noiommu-{group}"));
        }
        nodes
    }

    fn port(&self) -> Finding {
        const CHECK: &str = "port-above";
        const EXPECTED: &str = "a port whose driver takes its errors and its hot-plug events";
        let Some(port) = upstream(self.function.path()) else {
            return Finding::new(CHECK, Level::Ok, "none: it is on a root bus", EXPECTED);
        };
        let name = port.file_name().unwrap_or_default().to_string_lossy();
        match driver_of(&port) {
            Err(error) => Finding::unread(CHECK, &error, EXPECTED),
            Ok(Some(driver)) => {
                Finding::new(CHECK, Level::Ok, format!("{name} ({driver})"), EXPECTED)
            }
            Ok(None) => Finding::new(
                CHECK,
                Level::Warn,
                format!("{name}, without a driver"),
                EXPECTED,
            )
            .mend("give it back to pcieport: without it no error of the slot is told"),
        }
    }

    fn bars(&self) -> Finding {
        const CHECK: &str = "bars";
        const EXPECTED: &str = "BAR 0, 2 and 4, each with a size and an address";
        let text = match text::read(&self.function.path().join("resource")) {
            Ok(text) => text,
            Err(error) => return Finding::unread(CHECK, &error, EXPECTED),
        };
        let lines: Vec<Option<u64>> = text.lines().map(bar_size).collect();
        let size = |bar: &usize| lines.get(*bar).copied().flatten();
        let lacking: Vec<String> = BARS
            .iter()
            .filter(|bar| size(bar).is_none())
            .map(|bar| format!("BAR {bar}"))
            .collect();
        if lacking.is_empty() {
            let told: Vec<String> = BARS
                .iter()
                .filter_map(|bar| Some(format!("BAR {bar}: {} KiB", size(bar)? >> 10)))
                .collect();
            return Finding::new(CHECK, Level::Ok, told.join(", "), EXPECTED);
        }
        let found = format!("{} has no size or no address", lacking.join(", "));
        Finding::new(CHECK, Level::Fail, found, EXPECTED).mend(
            "let the firmware decode above 4 GiB (its setup), or the kernel place BARs (pci=realloc on its command line); a chip that \
             was hot-plugged needs room in the window of its port",
        )
    }

    fn numa(&self) -> Finding {
        const CHECK: &str = "numa-node";
        const EXPECTED: &str = "its node, with huge pages on it";
        let node = match attributes::numa_node(&self.function) {
            Ok(node) => node,
            Err(error) => return Finding::unread(CHECK, &error, EXPECTED),
        };
        let nodes = memory::nodes(self.ground);
        let Some(node) = node else {
            return match nodes.len() {
                0 | 1 => Finding::new(CHECK, Level::Ok, "not told; there is one node at most", EXPECTED),
                count => Finding::new(CHECK, Level::Warn, format!("not told, of {count} nodes"), EXPECTED)
                    .mend("the firmware leaves out _PXM for its bus; until it is mended, name the node yourself"),
            };
        };
        match memory::on_node(self.ground, node) {
            Some(pool) if pool.all == 0 && nodes.len() > 1 => Finding::new(
                CHECK,
                Level::Warn,
                format!("{node}, without huge pages"),
                EXPECTED,
            )
            .mend(format!(
                "reserve some on node {node}, as huge-pages above says"
            )),
            _ => Finding::new(CHECK, Level::Ok, node.to_string(), EXPECTED),
        }
    }

    fn power(&self) -> Finding {
        const CHECK: &str = "power-state";
        const EXPECTED: &str = "D0, or D3hot while nobody has it open";
        // To the agent each sleep is one.
        let read = attributes::power_state(&self.function)
            .and_then(|state| Ok((state, self.function.text("power_state")?)));
        let (state, name) = match read {
            Ok(read) => read,
            Err(error) => return Finding::unread(CHECK, &error, EXPECTED),
        };
        let control = self.function.text("power/control").unwrap_or_default();
        let found = match control.is_empty() {
            true => name.clone(),
            false => format!("{name}, runtime power management {control}"),
        };
        match (state, name.as_str()) {
            (_, "D3cold") => Finding::new(CHECK, Level::Warn, found, EXPECTED).mend(format!(
                "in D3cold its vital signs cannot be read: echo 0 > /sys/bus/pci/devices/{}/d3cold_allowed",
                self.bdf
            )),
            (PowerState::Unknown, _) => Finding::new(CHECK, Level::Warn, found, EXPECTED)
                .mend("the kernel does not know it: look at the function's link, and at what the kernel log says of it"),
            (PowerState::D0 | PowerState::Asleep, _) => {
                Finding::new(CHECK, Level::Ok, found, EXPECTED)
            }
        }
    }
}

/// The driver of another function, or none where it has left.
fn driver_of(function: &Path) -> Result<Option<String>, ProbeError> {
    let function = text::optional(Directory::open(function))?;
    function.map_or(Ok(None), |function| attributes::driver(&function))
}

/// The size of a BAR by its line of `resource`; `None` for one without size or address.
fn bar_size(line: &str) -> Option<u64> {
    let mut words = line
        .split_whitespace()
        .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    let (start, end, flags) = (words.next()??, words.next()??, words.next()??);
    (end > start && flags & UNSET == 0)
        .then(|| end - start)?
        .checked_add(1)
}

/// Drivers of VFIO: `vfio-pci`, and the variants for one device, as `mlx5-vfio-pci`.
fn is_vfio(driver: &str) -> bool {
    driver == "vfio-pci" || driver.ends_with("-vfio-pci") || driver.ends_with("_vfio_pci")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::{CHIP, Tree};

    fn finding(tree: &Tree, check: &str) -> Finding {
        let found = examine(&tree.ground());
        let mut of = found.iter().filter(|f| f.check == check);
        of.next()
            .unwrap_or_else(|| panic!("no {check}: {found:?}"))
            .clone()
    }

    #[test]
    fn a_chip_that_can_be_used_is_well() {
        let tree = Tree::with_chip();
        let found = examine(&tree.ground());
        assert!(found.iter().all(|f| f.level == Level::Ok), "{found:#?}");
        assert!(found[1..].iter().all(|f| f.subject == CHIP));
    }

    #[test]
    fn a_chip_on_another_driver_or_none_is_to_be_bound() {
        let tree = Tree::with_chip();
        tree.relink("driver", "sys/bus/pci/drivers/other");
        assert_eq!(finding(&tree, "driver").found, "other");
        tree.remove("driver");
        let none = finding(&tree, "driver");
        assert_eq!((none.level, none.found.as_str()), (Level::Fail, "none"));
        assert_eq!(none.mend.unwrap(), format!("auk bind {CHIP}"));
    }

    #[test]
    fn a_chip_without_a_node_cannot_be_opened() {
        let tree = Tree::with_chip();
        std::fs::remove_file(tree.root().join("dev/vfio/7")).unwrap();
        assert_eq!(finding(&tree, "permission").level, Level::Fail);
        std::fs::create_dir_all(tree.device().join("vfio-dev/vfio3")).unwrap();
        tree.write("dev/vfio/devices/vfio3", "");
        assert_eq!(finding(&tree, "permission").found, "dev/vfio/devices/vfio3");
    }

    #[test]
    fn a_bar_without_a_size_or_an_address_is_told() {
        let tree = Tree::with_chip();
        for line in [
            "0x0000000000000000 0x0000000000000000 0x0000000000000000",
            // Sized, and placed nowhere.
            "0x0000000000000000 0x000000000007ffff 0x0000000020140204",
            "nonsense",
        ] {
            tree.write_device("resource", line);
            let found = finding(&tree, "bars");
            assert_eq!(found.level, Level::Fail);
            assert!(found.found.starts_with("BAR 0, BAR 2, BAR 4"), "{found:?}");
        }
    }

    #[test]
    fn an_unknown_node_matters_where_there_are_several() {
        let tree = Tree::with_chip();
        tree.write_device("numa_node", "-1");
        assert_eq!(finding(&tree, "numa-node").level, Level::Ok);
        tree.write("sys/devices/system/node/node0/cpulist", "0");
        tree.write("sys/devices/system/node/node1/cpulist", "1");
        assert_eq!(finding(&tree, "numa-node").level, Level::Warn);
    }

    #[test]
    fn a_node_without_huge_pages_is_warned_of() {
        let tree = Tree::with_chip();
        tree.write_device("numa_node", "1");
        for (node, pages) in [(0, "8"), (1, "0")] {
            let pool = format!("sys/devices/system/node/node{node}/hugepages/hugepages-2048kB");
            tree.write(&format!("{pool}/nr_hugepages"), pages);
            tree.write(&format!("{pool}/free_hugepages"), pages);
        }
        let found = finding(&tree, "numa-node");
        assert_eq!(
            (found.level, found.found.as_str()),
            (Level::Warn, "1, without huge pages")
        );
    }

    #[test]
    fn d3cold_hides_vital_signs() {
        let tree = Tree::with_chip();
        tree.write_device("power_state", "D3hot");
        assert_eq!(finding(&tree, "power-state").level, Level::Ok);
        tree.write_device("power_state", "D3cold");
        let asleep = finding(&tree, "power-state");
        assert_eq!(asleep.level, Level::Warn);
        assert!(asleep.mend.unwrap().contains("d3cold_allowed"));
        tree.write_device("power_state", "unknown");
        let unknown = finding(&tree, "power-state");
        assert_eq!(unknown.level, Level::Warn);
        assert!(!unknown.mend.unwrap().contains("d3cold_allowed"));
    }

    #[test]
    fn a_port_without_a_driver_tells_no_errors() {
        let tree = Tree::with_chip();
        let port = tree.device();
        let port = std::fs::canonicalize(port).unwrap();
        std::fs::remove_file(port.parent().unwrap().join("driver")).unwrap();
        assert_eq!(finding(&tree, "port-above").level, Level::Warn);
    }

    #[test]
    fn a_host_without_accelerators_is_warned_of() {
        let tree = Tree::new();
        tree.write("sys/bus/pci/devices/.keep", "");
        let found = examine(&tree.ground());
        assert_eq!((found.len(), found[0].level), (1, Level::Warn));
    }
}
