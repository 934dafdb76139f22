//! `auk doctor`: on a simulated host, and on trees made by hand. What real kernels make of it is tested in `tests/vm`.

mod cli_support;

use cli_support::tree::Tree;
use cli_support::{SimHost, auk_at, command, run};
use serde_json::Value;

/// The findings on a subject, as check and level.
fn levels<'a>(document: &'a Value, subject: &str) -> Vec<(&'a str, &'a str)> {
    let text = |value: &'a Value| value.as_str().unwrap_or_default();
    let findings = document["findings"].as_array().into_iter().flatten();
    findings
        .filter(|found| found["subject"] == subject)
        .map(|found| (text(&found["check"]), text(&found["level"])))
        .collect()
}

#[test]
fn a_simulated_host_is_well_and_what_it_has_not_does_not_apply() {
    let host = SimHost::start(2, 1);
    let outcome = host.auk(&["doctor", "--json"]).expect_code(0);
    let document = outcome.json();
    let of_host = levels(&document, "host");
    let (last, others) = of_host.split_last().unwrap();
    assert_eq!(*last, ("accelerators", "ok"));
    assert!(
        others.iter().all(|(_, level)| *level == "not-applicable"),
        "{others:?}"
    );
    for chip in ["0000:01:00.0", "0000:02:00.0"] {
        let found = levels(&document, chip);
        assert!(found.len() > 6, "{found:?}");
        assert!(found.iter().all(|(_, level)| *level == "ok"), "{found:?}");
    }
    let text = host.auk(&["doctor"]).expect_code(0).stdout;
    assert!(text.contains("a simulated host"), "{text}");
    assert!(text.contains("0 failed"), "{text}");
}

#[test]
fn a_chip_whose_simulator_is_gone_has_no_way_in() {
    let host = SimHost::start(1, 0);
    std::fs::remove_file(host.root.join("run/auk/sim/0000:01:00.0.sock")).unwrap();
    let document = host.auk(&["doctor", "--json"]).expect_code(1).json();
    assert!(levels(&document, "0000:01:00.0").contains(&("permission", "fail")));
}

#[test]
fn a_tree_of_a_host_without_an_iommu_says_how_to_get_one() {
    let tree = Tree::new();
    tree.write("proc/cmdline", "quiet\n");
    let text = auk_at(tree.root(), &["doctor"]).expect_code(1).stdout;
    for part in [
        "FAIL",
        "intel_iommu=on",
        "modprobe",
        "no proc/self/limits in this tree",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn a_group_that_is_not_viable_is_told_member_by_member() {
    let tree = Tree::new();
    tree.function("0000:01:00.0", "0x120000", "vfio-pci", 7);
    tree.function("0000:01:00.1", "0x040300", "snd_hda_intel", 7);
    let document = auk_at(tree.root(), &["doctor", "--json"])
        .expect_code(1)
        .json();
    let group = document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|found| found["check"] == "iommu-group" && found["subject"] == "0000:01:00.0")
        .unwrap();
    assert_eq!(group["level"], "fail");
    assert_eq!(group["found"], "7, with 0000:01:00.1 (snd_hda_intel)");
    assert!(
        group["mend"]
            .as_str()
            .unwrap()
            .contains("auk bind 0000:01:00.1")
    );
}

#[test]
fn this_machine_is_examined_whatever_it_is() {
    let outcome = run(&mut command(&["doctor", "--json"]));
    assert!(matches!(outcome.code, Some(0 | 1)), "{outcome:?}");
    let document = outcome.json();
    let checks = levels(&document, "host");
    for check in [
        "iommu",
        "vfio-pci",
        "memlock",
        "kernel-version",
        "accelerators",
    ] {
        assert!(
            checks.iter().any(|(name, _)| *name == check),
            "no {check} in {checks:?}"
        );
    }
    // This process has a limit and a kernel, at least.
    for (check, level) in checks {
        assert!(
            !["memlock", "kernel-version"].contains(&check) || level != "not-applicable",
            "{check}"
        );
    }
}

#[test]
fn a_narrow_terminal_is_enough() {
    let host = SimHost::start(1, 0);
    for columns in ["20", "80"] {
        let outcome = run(command(&["doctor"])
            .arg("--root")
            .arg(&host.root)
            .env("COLUMNS", columns));
        assert!(outcome.expect_code(0).stdout.contains("memlock"));
    }
}
