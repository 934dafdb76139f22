//! The configuration: which files are read in which order, what is wrong with them in words, and what is in force.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use auk_health::Config;
use auk_health::config::{Overrides, Source};
use auk_health::operator::Mode;
use proptest::prelude::*;
use tempfile::TempDir;

/// A root with these files.
fn root(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn load(files: &[(&str, &str)]) -> Config {
    Config::load(root(files).path()).unwrap()
}

fn text(text: &str) -> Config {
    Config::from_text(Path::new("agent.toml"), text).unwrap_or_else(|error| panic!("{error}"))
}

/// What is said of a text that makes no sense.
fn wrong(text: &str) -> String {
    let result = Config::from_text(Path::new("agent.toml"), text);
    result.err().unwrap().to_string()
}

fn value(config: &Config, key: &str) -> String {
    let setting = config.effective.iter().find(|setting| setting.key() == key);
    setting.unwrap().toml.clone().unwrap()
}

#[test]
fn without_files_all_is_default() {
    let config = load(&[]);
    assert_eq!(config.agent.interval, Duration::from_secs(1));
    assert_eq!(config.settings.clear_after, Duration::from_secs(600));
    assert!(config.files.is_empty() && config.warnings.is_empty());
    assert_eq!(config.hash(), Config::default().hash());
}

#[test]
fn every_default_lies_within_its_own_bounds() {
    let config = Config::default();
    let mut all = String::new();
    for setting in &config.effective {
        if let Some(value) = &setting.toml {
            all.push_str(&format!("{} = {value}\n", setting.key()));
        }
    }
    assert_eq!(text(&all).hash(), config.hash());
}

#[test]
fn of_the_main_files_the_first_found_is_read_alone() {
    let usr = (
        "usr/lib/auk/agent.toml",
        "agent.interval = '2 s'\njudgement.clear_after = '1 h'",
    );
    let run = ("run/auk/agent.toml", "agent.interval = '3 s'");
    let etc = ("etc/auk/agent.toml", "agent.interval = '4 s'");
    let interval = |files: &[_]| load(files).agent.interval.as_secs();
    assert_eq!(interval(&[usr]), 2);
    assert_eq!(interval(&[usr, run]), 3);
    assert_eq!(interval(&[usr, run, etc]), 4);
    assert_eq!(
        load(&[usr, etc]).settings.clear_after,
        Duration::from_secs(600)
    );
}

#[test]
fn drop_ins_stand_above_the_main_file_and_go_by_name_wherever_they_lie() {
    let config = load(&[
        ("etc/auk/agent.toml", "[agent]\ninterval = '2 s'"),
        (
            "etc/auk/agent.d/10-a.toml",
            "[agent]\ninterval = '3 s'\nhooks_at_once = 7",
        ),
        ("usr/lib/auk/agent.d/20-b.toml", "[agent]\ninterval = '4 s'"),
    ]);
    assert_eq!(config.agent.interval.as_secs(), 4);
    assert_eq!(config.agent.hooks_at_once, 7);
    assert_eq!(config.files.len(), 3);
}

#[test]
fn of_drop_ins_with_one_name_that_of_etc_is_read_else_that_of_run() {
    let usr = ("usr/lib/auk/agent.d/50-x.toml", "agent.interval = '2 s'");
    let run = ("run/auk/agent.d/50-x.toml", "agent.interval = '3 s'");
    let etc = ("etc/auk/agent.d/50-x.toml", "agent.hooks_at_once = 9");
    assert_eq!(load(&[usr, run]).agent.interval.as_secs(), 3);
    assert_eq!(load(&[usr, run, etc]).agent.interval.as_secs(), 1);
}

#[test]
fn a_link_to_dev_null_masks_a_file_of_its_name() {
    let root = root(&[
        ("usr/lib/auk/agent.toml", "agent.interval = '2 s'"),
        ("usr/lib/auk/agent.d/50-x.toml", "agent.hooks_at_once = 9"),
    ]);
    fs::create_dir_all(root.path().join("etc/auk/agent.d")).unwrap();
    for name in ["etc/auk/agent.toml", "etc/auk/agent.d/50-x.toml"] {
        symlink("/dev/null", root.path().join(name)).unwrap();
    }
    let config = Config::load(root.path()).unwrap();
    assert_eq!(config.hash(), Config::default().hash());
}

#[test]
fn a_drop_in_of_another_suffix_is_not_read_and_that_is_said() {
    let config = load(&[("etc/auk/agent.d/50-x.conf", "nonsense")]);
    assert!(config.warnings[0].ends_with("not read, its name does not end in .toml"));
}

#[test]
fn what_is_no_readable_file_is_an_error_and_holds_nobody_up() {
    let root = root(&[("etc/auk/agent.d/10-x.toml", "")]);
    let path = root.path().join("etc/auk/agent.toml");
    let said = || Config::load(root.path()).err().unwrap().to_string();
    fs::create_dir(&path).unwrap();
    assert!(said().contains("not a regular file"), "{}", said());
    fs::remove_dir(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(said().contains("not a regular file"), "{}", said());
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"[agent]\nlisten = \"\xff\"").unwrap();
    assert!(said().ends_with("agent.toml:2:11: a byte that is not UTF-8, expected TOML text"));
    fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    assert!(said().contains("longer than 1 MiB"), "{}", said());
    fs::remove_file(&path).unwrap();
    symlink("/nonexistent", &path).unwrap();
    assert!(
        said().contains("could not be read: No such file"),
        "{}",
        said()
    );
}

#[test]
fn a_value_out_of_bounds_is_told_with_place_and_bounds() {
    assert_eq!(
        wrong("[check.ecc_ce]\ndegraded_per_hour = 0\n"),
        "agent.toml:2:21: check.ecc_ce.degraded_per_hour is 0, expected a whole number from 1 to 1000000"
    );
    assert_eq!(
        wrong("agent.interval = '1 ms'"),
        "agent.toml:1:18: agent.interval is \"1 ms\", expected a duration with its unit, such as \"10 min\" \
         from \"50 ms\" to \"1 h\""
    );
}

#[test]
fn a_value_of_another_type_is_told_with_what_was_found() {
    assert_eq!(
        wrong("[judgement]\nclear_after = 600"),
        "agent.toml:2:15: judgement.clear_after is the number 600, expected a duration with its unit, such as \
         \"10 min\" from \"1 s\" to \"1 d\""
    );
    assert_eq!(
        wrong("check.link.enabled = 'no'"),
        "agent.toml:1:22: check.link.enabled is the text \"no\", expected true or false"
    );
}

#[test]
fn an_unknown_key_is_told_with_the_one_that_was_meant() {
    assert_eq!(
        wrong("[check.ecc_ce]\ndegraded_per_huor = 5"),
        "agent.toml:2:21: unknown key check.ecc_ce.degraded_per_huor; did you mean check.ecc_ce.degraded_per_hour?"
    );
    assert_eq!(
        wrong("[chek.ecc_ce]\ndegraded_per_hour = 5\nunhealthy_per_hour = 50"),
        "agent.toml:1:2: unknown table chek; did you mean check?"
    );
    assert_eq!(
        wrong("interval = '2 s'"),
        "agent.toml:1:12: unknown key interval; did you mean agent.interval?"
    );
    assert_eq!(
        wrong("[nothing_like_it]"),
        "agent.toml:1:2: unknown table nothing_like_it"
    );
}

#[test]
fn limits_that_contradict_each_other_are_told() {
    assert_eq!(
        wrong("[check.ecc_ce]\nunhealthy_per_hour = 50"),
        "agent.toml:2:22: check.ecc_ce.unhealthy_per_hour: expected more than degraded_per_hour, which is 100"
    );
    assert_eq!(
        wrong("check.link.bad_samples = 4\ncheck.link.of_samples = 3"),
        "agent.toml:1:26: check.link.bad_samples: expected at most of_samples, which is 3"
    );
}

#[test]
fn a_value_in_place_of_a_table_is_told() {
    assert_eq!(
        wrong("check = 5"),
        "agent.toml:1:9: check is the number 5, expected a table, [check]"
    );
    assert_eq!(
        wrong("[[hook]]\ncommand = ['/bin/true']"),
        "agent.toml:1:1: hook is a list, expected tables with a name, [hook.NAME]"
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let said = wrong("[agent]\ninterval = \n");
    assert!(said.starts_with("agent.toml:2:"), "{said}");
    assert!(said.contains("this is no TOML: "), "{said}");
    let said = wrong("[agent]\ninterval = '1 s'\ninterval = '2 s'\n");
    assert!(
        said.starts_with("agent.toml:3:1: this is no TOML: duplicate key"),
        "{said}"
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_lines() {
    let said =
        wrong("[agent]\nintervall = '1 s'\nread_deadline = 5\n\n[hook.page]\non = ['sick']\n");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert!(lines[0].starts_with("agent.toml:2:13: unknown key agent.intervall"));
    assert!(lines[1].starts_with("agent.toml:3:17: agent.read_deadline is the number 5"));
    assert!(
        lines[2].starts_with("agent.toml:5:7: hook.page.command: expected a program"),
        "{said}"
    );
    assert!(
        lines[3].starts_with("agent.toml:6:6: hook.page.on: expected one or more of"),
        "{said}"
    );
}

#[test]
fn a_problem_of_a_drop_in_names_the_drop_in() {
    let root = root(&[
        ("etc/auk/agent.toml", "agent.interval = '1 s'"),
        ("run/auk/agent.d/60-y.toml", "agent.read_deadline = '2 s'"),
    ]);
    let said = Config::load(root.path()).err().unwrap().to_string();
    let path = root.path().join("run/auk/agent.d/60-y.toml");
    let expected = format!(
        "{}:1:23: agent.read_deadline: expected at most interval, which is 1 s",
        path.display()
    );
    assert_eq!(said, expected);
}

#[test]
fn a_check_is_switched_off_or_put_in_the_shadow() {
    let config = text("check.link.enabled = false\ncheck.throttle.shadow = true");
    assert_eq!(config.settings.modes.get("link"), Some(&Mode::Off));
    assert_eq!(config.settings.modes.get("throttle"), Some(&Mode::Shadow));
    assert_eq!(config.settings.modes.len(), 2);
}

#[test]
fn every_rule_can_be_switched() {
    let config = Config::default();
    for rule in auk_health::rules() {
        assert_eq!(value(&config, &format!("check.{rule}.enabled")), "true");
        assert_eq!(value(&config, &format!("check.{rule}.shadow")), "false");
    }
}

#[test]
fn the_hash_is_that_of_the_values_and_not_of_their_writing() {
    let one = text("[agent]\ninterval = '2 s' # slow\n[check.link]\nshadow = true");
    let two = text("check.link.shadow = true\nagent = { interval = '2000 ms' }");
    assert_eq!(one.hash(), two.hash());
    assert_ne!(one.hash(), Config::default().hash());
    // A default that is written out changes nothing.
    assert_eq!(
        text("agent.interval = '1 s'").hash(),
        Config::default().hash()
    );
}

#[test]
fn what_is_printed_is_the_same_configuration_with_the_source_of_each_value() {
    let config = text(
        "[agent]\ninterval = '2 s'\n[manifest.accelerator.\"left one\"]\nslot = '3'\nfirmware_from = '1.2.0'\n\
         [hook.page]\ncommand = ['/bin/page', 'a \"b\" \\\\']\n",
    );
    let printed = config.to_toml();
    assert!(
        printed.contains("\ninterval = \"2 s\"  # agent.toml:2, default \"1 s\": "),
        "{printed}"
    );
    assert!(
        printed.contains("\nread_deadline = \"500 ms\"  # default: "),
        "{printed}"
    );
    assert!(
        printed.contains("\n[manifest.accelerator.\"left one\"]\nslot = \"3\"  # agent.toml:4: "),
        "{printed}"
    );
    assert_eq!(text(&printed).hash(), config.hash());
    let json = config.to_json();
    let settings = json["settings"].as_array().unwrap();
    let interval = &settings[0];
    assert_eq!(interval["key"], "agent.interval");
    assert_eq!(interval["value"], "2 s");
    assert_eq!(interval["source"]["line"], 2);
    assert_eq!(json["hash"], config.hash());
}

#[test]
fn what_stands_above_the_files_is_in_force_and_told_as_such() {
    let overrides = Overrides {
        interval: Some(Duration::from_secs(3)),
        listen: Some("127.0.0.1:9400".parse().unwrap()),
        ..Overrides::default()
    };
    let config = text("agent.interval = '2 s'").overridden(&overrides);
    assert_eq!(config.agent.interval, Duration::from_secs(3));
    assert_eq!(value(&config, "agent.listen"), "\"127.0.0.1:9400\"");
    assert_eq!(config.effective[0].source, Source::CommandLine);
    assert_eq!(config.to_json()["settings"][0]["source"], "command line");
    assert_eq!(text(&config.to_toml()).hash(), config.hash());
    assert_ne!(config.hash(), text("agent.interval = '2 s'").hash());
}

#[test]
fn slow_looks_are_ten_times_as_rare_unless_something_else_is_said() {
    let slow = |toml| text(toml).agent.slow_interval();
    assert_eq!(slow(""), Duration::from_secs(10));
    assert_eq!(slow("agent.interval = '2 s'"), Duration::from_secs(20));
    assert_eq!(slow("agent.slow_interval = '5 s'"), Duration::from_secs(5));
}

#[test]
fn who_looks_more_often_than_a_look_may_take_by_default_gives_each_less() {
    let config = text("agent.interval = '100 ms'");
    assert_eq!(config.agent.read_deadline, Duration::from_millis(100));
}

#[test]
fn a_manifest_is_read_and_what_it_cannot_mean_is_refused() {
    let config = text(
        "[manifest.every_accelerator]\nlink_width = 8\nfirmware_from = '1.0.0'\n\
         [manifest.accelerator.a]\naddress = '0000:01:00.0'\n[manifest.nic.b]\nmac = '02:A1:00:00:00:00'",
    );
    let manifest = &config.settings.manifest;
    assert_eq!(manifest.every_accelerator.link_width, Some(8));
    assert_eq!(manifest.accelerators.len() + manifest.nics.len(), 2);
    assert_eq!(
        wrong("[manifest.accelerator.a]\nlink_width = 3\n[manifest.nic.b]\naddress = '1:0.0'"),
        "agent.toml:1:23: manifest.accelerator.a.slot: expected a slot, an address or a serial number, to know it by\n\
         agent.toml:2:14: manifest.accelerator.a.link_width is 3, expected 1, 2, 4, 8 or 16 lanes\n\
         agent.toml:4:11: manifest.nic.b.address is \"1:0.0\", expected a PCI address, such as \"0000:01:00.0\""
    );
    assert_eq!(
        wrong("[manifest.every_accelerator]\nfirmware_from = '2.0.0'\nfirmware_to = '1.0.0'"),
        "agent.toml:3:15: manifest.every_accelerator.firmware_to: expected at least firmware_from"
    );
}

/// Keys that exist, with values that may not fit.
fn plausible() -> impl Strategy<Value = String> {
    let keys: Vec<String> = Config::default()
        .effective
        .iter()
        .map(|setting| setting.key())
        .collect();
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}").to_lowercase()),
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("['/a', 'b']".to_owned()),
        Just("{ a = 1 }".to_owned()),
        Just("1979-05-27".to_owned()),
        "'[0-9]{1,30} (ms|s|min|h|d|w)'",
        "'[^'\n\r\u{0}-\u{1f}\u{7f}]*'",
    ];
    let line = (proptest::sample::select(keys), value)
        .prop_map(|(key, value)| format!("{key} = {value}\n"));
    proptest::collection::vec(line, 0..8).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".*") {
        let _ = Config::from_text(Path::new("x"), &text);
    }

    #[test]
    fn no_value_makes_it_panic_and_what_is_accepted_prints_as_itself(text in plausible()) {
        match Config::from_text(Path::new("x"), &text) {
            Ok(config) => {
                let printed = Config::from_text(Path::new("x"), &config.to_toml());
                prop_assert_eq!(printed.map(|printed| printed.hash()), Ok(config.hash()));
            }
            Err(error) => prop_assert!(!error.problems.is_empty()),
        }
    }
}
