//! Whether there is an IOMMU, and whether it is on.

use super::ground::Ground;
use super::{Finding, Level};

const IOMMU: &str = "iommu";
const GROUPS: &str = "iommu-groups";
const COMMAND_LINE: &str = "kernel-command-line";
pub(super) const CHECKS: &[&str] = &[IOMMU, GROUPS, COMMAND_LINE];

/// The ACPI tables by which firmware tells of an IOMMU: VT-d, AMD-Vi, and the virtual one.
const TABLES: &[&str] = &["DMAR", "IVRS", "VIOT"];
/// Words of the command line that are about IOMMUs, `Documentation/admin-guide/kernel-parameters.txt`.
const WORDS: &[&str] = &[
    "iommu",
    "iommu.passthrough",
    "iommu.strict",
    "intel_iommu",
    "amd_iommu",
];

pub(super) fn examine(ground: &Ground) -> Vec<Finding> {
    let profile = ground.profile();
    let units = &profile.iommus;
    let groups = profile.groups.values().sum();
    let on = !units.is_empty() || groups > 0;
    vec![
        unit(ground, units, groups),
        grouped(groups, units),
        command_line(ground, on),
    ]
}

fn unit(ground: &Ground, units: &[String], groups: u32) -> Finding {
    const EXPECTED: &str = "an IOMMU that the kernel uses";
    if !units.is_empty() {
        return Finding::new(IOMMU, Level::Ok, units.join(", "), EXPECTED);
    }
    if groups > 0 {
        // Drivers of virtual IOMMUs show none in older kernels.
        let found = "groups, and no unit in sys/class/iommu";
        return Finding::new(IOMMU, Level::Ok, found, EXPECTED);
    }
    let table = TABLES
        .iter()
        .find(|table| ground.has(&format!("sys/firmware/acpi/tables/{table}")));
    match table {
        Some(table) => {
            let found = format!("the firmware tells of one (ACPI table {table}), and the kernel does not use it");
            Finding::new(IOMMU, Level::Fail, found, EXPECTED)
                .mend(format!("add {} to the kernel's command line and reboot", words(ground)))
        }
        None => Finding::new(IOMMU, Level::Fail, "none", EXPECTED).mend(format!(
            "turn VT-d or AMD-Vi on in the firmware's setup, and add {} to the kernel's command line",
            words(ground)
        )),
    }
}

/// What turns the IOMMU of this processor on. AMD's is on unless told otherwise.
fn words(ground: &Ground) -> &'static str {
    match ground.long_text("proc/cpuinfo") {
        Some(text) if text.contains("AuthenticAMD") => "iommu=pt",
        _ => "intel_iommu=on iommu=pt",
    }
}

fn grouped(groups: u32, units: &[String]) -> Finding {
    const EXPECTED: &str = "IOMMU groups, the unit in which VFIO hands devices out";
    match groups {
        0 if !units.is_empty() => Finding::new(GROUPS, Level::Warn, "none yet", EXPECTED).mend(
            "bind a device to VFIO: some IOMMUs' drivers make groups only when a driver asks",
        ),
        0 => {
            Finding::new(GROUPS, Level::Fail, "none", EXPECTED).mend("turn the IOMMU on, as above")
        }
        count => Finding::new(GROUPS, Level::Ok, count.to_string(), EXPECTED),
    }
}

fn command_line(ground: &Ground, on: bool) -> Finding {
    const EXPECTED: &str = "nothing that turns the IOMMU off, and iommu=pt";
    let line = match &ground.profile().command_line {
        Err(error) => return Finding::unread(COMMAND_LINE, error, EXPECTED),
        Ok(None) => {
            return Finding::not_applicable(COMMAND_LINE, "no proc/cmdline in this tree");
        }
        Ok(Some(line)) => line,
    };
    let about: Vec<&str> = line
        .split_whitespace()
        .filter(|word| WORDS.contains(&word.split('=').next().unwrap_or_default()))
        .collect();
    let found = match about.is_empty() {
        true => "nothing about IOMMUs".to_owned(),
        false => about.join(" "),
    };
    let values = |word: &str| {
        let (_, values) = word.split_once('=').unwrap_or_default();
        values.split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    let off = about
        .iter()
        .any(|word| values(word).iter().any(|value| value == "off"));
    if off {
        return Finding::new(COMMAND_LINE, Level::Fail, found, EXPECTED)
            .mend("take the word that says off away, and reboot");
    }
    if !on {
        return Finding::new(COMMAND_LINE, Level::Fail, found, EXPECTED)
            .mend(format!("add {} and reboot", words(ground)));
    }
    let finding = Finding::new(COMMAND_LINE, Level::Ok, found, EXPECTED);
    let passes = about.iter().any(|word| {
        *word == "iommu.passthrough=1" || values(word).iter().any(|value| value == "pt")
    });
    match passes {
        true => finding,
        false => finding.mend(
            "iommu=pt would spare the host's own devices, its NICs above all, the cost of translation; VFIO's are translated always",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;

    #[test]
    fn an_iommu_that_is_on_is_well() {
        let tree = Tree::new();
        tree.write("sys/class/iommu/dmar0/x", "");
        tree.write("sys/kernel/iommu_groups/0/type", "DMA-FQ");
        tree.write(
            "proc/cmdline",
            "root=/dev/sda1 intel_iommu=on,sm_on iommu=pt quiet\n",
        );
        let found = examine(&tree.ground());
        assert!(found.iter().all(|f| f.level == Level::Ok), "{found:?}");
        assert_eq!(found[2].found, "intel_iommu=on,sm_on iommu=pt");
        assert_eq!(found[2].mend, None);
    }

    #[test]
    fn an_iommu_that_the_kernel_leaves_off_is_told_apart_from_none() {
        let tree = Tree::new();
        tree.write("proc/cmdline", "quiet");
        let none = examine(&tree.ground());
        assert!(none.iter().all(|f| f.level == Level::Fail), "{none:?}");
        assert!(none[0].mend.as_deref().unwrap().contains("setup"));
        tree.write("sys/firmware/acpi/tables/DMAR", "");
        let off = &examine(&tree.ground())[0];
        assert!(off.found.contains("DMAR"), "{off:?}");
        assert!(off.mend.as_deref().unwrap().contains("intel_iommu=on"));
        tree.write("proc/cpuinfo", "vendor_id : AuthenticAMD\n");
        assert!(
            !examine(&tree.ground())[0]
                .mend
                .as_deref()
                .unwrap()
                .contains("intel")
        );
    }

    #[test]
    fn a_command_line_that_turns_it_off_fails() {
        let tree = Tree::new();
        tree.write("proc/cmdline", "amd_iommu=off");
        assert!(
            examine(&tree.ground())[2]
                .mend
                .as_deref()
                .unwrap()
                .contains("off")
        );
    }
}
