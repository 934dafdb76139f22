//! The host profile against the manifest, as the agent's checks of these names hold it.

use super::ground::Ground;
use super::{Finding, Level};
use crate::config::ExpectedHost;
use crate::host::{Difference, TOPICS};

/// A finding for each topic that the manifest says something of.
pub(super) fn examine(ground: &Ground, wanted: &ExpectedHost) -> Vec<Finding> {
    const EXPECTED: &str = "as the manifest has it";
    let mut findings = Vec::new();
    for topic in TOPICS {
        let compared = (topic.compare)(ground.profile(), wanted);
        if !compared.is_asked() {
            continue;
        }
        let (level, found) = match (compared.differences.as_slice(), compared.unread) {
            ([], Some(error)) => (Level::Warn, error),
            ([], None) => (Level::Ok, compared.met.join("; ")),
            (differences, _) => {
                let required = wanted.required.iter().any(|name| name == topic.name);
                let level = if required { Level::Fail } else { Level::Warn };
                (level, told(differences))
            }
        };
        let finding = Finding::new(topic.name, level, found, EXPECTED);
        let mends = compared
            .differences
            .into_iter()
            .map(|difference| difference.mend);
        let mut mends: Vec<String> = mends.collect();
        mends.dedup();
        findings.push(match mends.is_empty() {
            true => finding,
            false => finding.mend(mends.join("; ")),
        });
    }
    findings
}

fn told(differences: &[Difference]) -> String {
    let told = differences.iter().map(|difference| {
        let Difference {
            what,
            found,
            expected,
            ..
        } = difference;
        format!("{what}: {found}, and the manifest wants {expected}")
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;

    #[test]
    fn what_the_manifest_wants_is_held_against_the_host_and_nothing_else() {
        let tree = Tree::new();
        tree.write("proc/cmdline", "quiet iommu=off\n");
        let mut wanted = ExpectedHost::default();
        assert!(examine(&tree.ground(), &wanted).is_empty());
        wanted.command_line = vec!["iommu=pt".to_owned(), "quiet".to_owned()];
        let found = examine(&tree.ground(), &wanted);
        assert_eq!((found.len(), found[0].level), (1, Level::Warn));
        assert_eq!(
            found[0].found,
            "iommu=pt: iommu=off, and the manifest wants iommu=pt"
        );
        assert!(found[0].mend.as_deref().unwrap().contains("reboot"));
        wanted.required = vec!["command_line".to_owned()];
        assert_eq!(examine(&tree.ground(), &wanted)[0].level, Level::Fail);
        tree.write("proc/cmdline", "quiet iommu=pt\n");
        assert_eq!(examine(&tree.ground(), &wanted)[0].level, Level::Ok);
    }
}
