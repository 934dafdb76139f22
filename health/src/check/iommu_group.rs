//! The IOMMU group: without one, whoever has the component can reach all memory by DMA.

use serde::{Deserialize, Serialize};

use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::Action;

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IommuGroup {}

impl Check for IommuGroup {
    fn name(&self) -> &'static str {
        "iommu_group"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::IommuGroup]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        // It changes with a boot only, so one look is enough.
        let group = super::known(&view.facts.iommu_group)?;
        let wanted = view.wanted().iommu;
        match (group, wanted) {
            (Some(group), _) => Ok(Finding::healthy(format!("group {group}"))),
            (None, Some(true)) => {
                let evidence =
                    view.evidence("iommu_group", "none", "a group", FactKind::IommuGroup);
                let reason = "in no IOMMU group, and the manifest wants one; `auk doctor` says why";
                Ok(Finding::degraded(reason, Action::Reboot).with(evidence))
            }
            (None, _) => Ok(Finding::not_applicable(
                "in no IOMMU group; the manifest wants none",
            )),
        }
    }
}
