//! Versions of a NIC's firmware and driver, against the manifest. There is no order in what vendors write, so a version is right
//! that begins with one of those that are named.

use serde::{Deserialize, Serialize};

use super::{Check, Finding, View};
use crate::facts::{FactKind, Query};
use crate::verdict::Action;

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct NicVersion {}

impl Check for NicVersion {
    fn name(&self) -> &'static str {
        "nic_version"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Ethtool]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (ethtool, source) = view.ethtool(&[Query::Driver])?;
        let wanted = view.wanted().port;
        if wanted.firmware.is_none() && wanted.driver_version.is_none() {
            return Ok(Finding::not_applicable("the manifest names no version"));
        }
        // Other firmware is for a time without jobs.
        for (what, found, wanted, action) in [
            (
                "firmware",
                &ethtool.firmware,
                wanted.firmware,
                Action::Drain,
            ),
            (
                "driver",
                &ethtool.driver_version,
                wanted.driver_version,
                Action::Watch,
            ),
        ] {
            let Some(wanted) = wanted else { continue };
            if wanted.iter().any(|wanted| begins(found, wanted)) {
                continue;
            }
            let limit = wanted.join(" or ");
            let shown = match found.as_str() {
                "" => "none",
                found => found,
            };
            let reason = format!("{what} version {shown}, and the manifest wants {limit}");
            let evidence = view.evidence(&format!("{what} version"), shown, limit, source);
            return Ok(Finding::degraded(reason, action).with(evidence));
        }
        let found = [&ethtool.driver, &ethtool.driver_version, &ethtool.firmware];
        Ok(Finding::healthy(found.map(String::as_str).join(" ")))
    }
}

/// Whether a version begins with another, and not within a number of it: 22.4 is not the beginning of 22.41.
fn begins(version: &str, with: &str) -> bool {
    version.strip_prefix(with).is_some_and(|rest| {
        let cut = |c: char| c.is_ascii_digit();
        !(rest.starts_with(cut) && with.ends_with(cut))
    })
}

#[cfg(test)]
mod tests {
    use super::begins;

    #[test]
    fn a_version_begins_with_whole_numbers() {
        assert!(begins("22.41.1000 (MT_0000000436)", "22.41.1000"));
        assert!(begins("22.41.1000", "22.41"));
        assert!(!begins("22.41.1000", "22.4"));
        assert!(!begins("6.120.1", "6.12"));
        assert!(!begins("", "1"));
    }
}
