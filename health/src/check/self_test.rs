//! The last self-test: a failed one stands until another passes.

use auk_asic::SelfTest;
use serde::{Deserialize, Serialize};

use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::Action;

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SelfTestResult {
    failed: bool,
}

impl Check for SelfTestResult {
    fn name(&self) -> &'static str {
        "self_test"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let generation = vitals.self_test_generation;
        match vitals.self_test {
            SelfTest::Passed => {
                self.failed = false;
                Ok(Finding::healthy(format!(
                    "passed in generation {generation}"
                )))
            }
            SelfTest::Failed => {
                self.failed = true;
                let found = format!("Failed in generation {generation}");
                let evidence = view.evidence("self_test", found, SelfTest::Passed, source);
                let reason = "its self-test failed: a pattern or a known answer was wrong";
                Ok(Finding::unhealthy(reason, Action::Replace).with(evidence))
            }
            SelfTest::NotRun | SelfTest::Running if self.failed => {
                Ok(Finding::blind("failed before, and has not passed since"))
            }
            SelfTest::NotRun => Ok(Finding::not_applicable("not run since power-on")),
            SelfTest::Running => Ok(Finding::not_applicable("under way")),
        }
    }
}
