//! The NUMA node, against the manifest: jobs place memory and threads by it.

use serde::{Deserialize, Serialize};

use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::Action;

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct NumaNode {}

impl Check for NumaNode {
    fn name(&self) -> &'static str {
        "numa_node"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::NumaNode]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        // The firmware says it at boot, so one look is enough.
        let node = *super::known(&view.facts.numa_node)?;
        let found = node.map_or_else(|| "none".to_owned(), |node| node.to_string());
        let Some(wanted) = view.wanted().numa_node else {
            return Ok(Finding::not_applicable(format!(
                "node {found}; the manifest names none"
            )));
        };
        if node == Some(wanted) {
            return Ok(Finding::healthy(format!("node {found}")));
        }
        let reason = format!("NUMA node {found}, and the manifest has {wanted}");
        let evidence = view.evidence("numa_node", found, wanted, FactKind::NumaNode);
        Ok(Finding::degraded(reason, Action::Watch).with(evidence))
    }
}
