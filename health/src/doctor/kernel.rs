//! The kernel's version against what needs a newer one.

use super::ground::Ground;
use super::{Finding, Level};

const VERSION: &str = "kernel-version";
pub(super) const CHECKS: &[&str] = &[VERSION];

/// What a version brought that is used where it is there.
const FEATURES: &[(u32, u32, &str)] = &[
    (5, 15, "choice of reset methods (reset_method)"),
    (
        6,
        1,
        "low power for open devices (VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY)",
    ),
    (
        6,
        4,
        "vendor capabilities in VFIO's config space (until then vital signs are read through sysfs)",
    ),
    (6, 6, "VFIO character devices with iommufd"),
];
const EXPECTED: &str = "6.6 or newer for all that is used where it is there";

pub(super) fn examine(ground: &Ground) -> Vec<Finding> {
    let finding = match ground.kernel() {
        Err(error) => Finding::unread(VERSION, &error, EXPECTED),
        Ok(None) => Finding::not_applicable(VERSION, "no proc/sys/kernel/osrelease in this tree"),
        Ok(Some((major, minor, release))) => judged(major, minor, &release),
    };
    vec![finding]
}

fn judged(major: u32, minor: u32, release: &str) -> Finding {
    let lacks: Vec<&str> = FEATURES
        .iter()
        .filter(|(since, patch, _)| (major, minor) < (*since, *patch))
        .map(|(.., name)| *name)
        .collect();
    if lacks.is_empty() {
        return Finding::new(VERSION, Level::Ok, release, EXPECTED);
    }
    let found = format!("{release}, which lacks: {}", lacks.join("; "));
    Finding::new(VERSION, Level::Warn, found, EXPECTED)
        .mend("chips open all the same, by VFIO groups; a newer kernel brings the rest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_is_told_what_it_lacks() {
        let old = judged(6, 1, "6.1.0-40-amd64");
        assert_eq!(old.level, Level::Warn);
        assert!(old.found.contains("iommufd") && !old.found.contains("low power"));
        assert_eq!(judged(6, 12, "6.12.43").level, Level::Ok);
    }
}
