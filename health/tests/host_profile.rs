//! The host profile against the manifest, through the agent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/tree.rs"]
mod tree;

use std::fs;
use std::path::Path;
use std::time::Duration;

use auk_health::time::Moment;
use auk_health::verdict::{Action, Admit, HealthState, Verdict};
use auk_health::{Agent, AgentHandle, Config, Status};
use tree::{NIC, Tree};

const SOON: Duration = Duration::from_secs(30);

fn write(tree: &Tree, below: &str, contents: &str) {
    let path = tree.root().join(below);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// A host as its manifest in these tests wants it.
fn host() -> Tree {
    let tree = Tree::new();
    write(&tree, "proc/sys/kernel/osrelease", "6.12.43\n");
    write(
        &tree,
        "proc/cmdline",
        "root=/dev/sda1 intel_iommu=on iommu=pt quiet\n",
    );
    write(&tree, "proc/sys/kernel/numa_balancing", "0\n");
    write(
        &tree,
        "proc/self/limits",
        "Max open files            524288               524288               files     \n\
         Max locked memory         unlimited            unlimited            bytes     \n",
    );
    for (file, count) in [("nr_hugepages", "512\n"), ("free_hugepages", "512\n")] {
        write(
            &tree,
            &format!("sys/kernel/mm/hugepages/hugepages-2048kB/{file}"),
            count,
        );
        let node = "sys/devices/system/node/node0/hugepages/hugepages-2048kB";
        write(&tree, &format!("{node}/{file}"), count);
    }
    write(
        &tree,
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    );
    write(
        &tree,
        "sys/devices/system/cpu/cpufreq/policy0/scaling_governor",
        "performance\n",
    );
    write(
        &tree,
        "sys/module/vfio_iommu_type1/parameters/dma_entry_limit",
        "65535\n",
    );
    write(&tree, "sys/kernel/iommu_groups/0/type", "identity\n");
    tree
}

const MANIFEST: &str = r#"
[manifest.host]
kernel_from = "6.12"
kernel_to = "6.18"
command_line = ["iommu=pt", "intel_iommu=on"]
command_line_without = ["nosmt"]
iommu = true
iommu_domains = ["identity"]
huge_pages_2m = 512
memlock_mib = 65536
open_files = 65536
modules = ["vfio_iommu_type1"]
modules_without = ["nouveau"]
module_parameters = ["vfio_iommu_type1.dma_entry_limit=65535"]
clock_source = "tsc"
cpu_governor = "performance"
numa_balancing = false
[manifest.host.node.0]
huge_pages_2m = 256
"#;

/// Each check of the profile, what is done to the host, and what the verdict must then tell.
const HARM: &[(&str, &str, &str, &str)] = &[
    (
        "kernel_version",
        "proc/sys/kernel/osrelease",
        "6.6.9\n",
        "6.6.9, and the manifest wants 6.12 to 6.18",
    ),
    (
        "command_line",
        "proc/cmdline",
        "intel_iommu=on iommu=nopt\n",
        "iommu=pt: iommu=nopt, and the manifest wants iommu=pt",
    ),
    (
        "command_line",
        "proc/cmdline",
        "intel_iommu=on iommu=pt nosmt=force\n",
        "nosmt=force, and the manifest wants no nosmt",
    ),
    (
        "iommu",
        "sys/kernel/iommu_groups/0/type",
        "DMA-FQ\n",
        "1 groups DMA-FQ, and the manifest wants none but identity",
    ),
    (
        "huge_pages",
        "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
        "16\n",
        "huge pages of 2 MiB on node 0: 16, and the manifest wants at least 256",
    ),
    (
        "limits",
        "proc/self/limits",
        "Max open files 1024 4096 files\nMax locked memory 8388608 8388608 bytes\n",
        "locked memory: 8 MiB, and the manifest wants at least 65536 MiB; and 1 more",
    ),
    (
        "modules",
        "sys/module/vfio_iommu_type1/parameters/dma_entry_limit",
        "1024\n",
        "vfio_iommu_type1.dma_entry_limit: 1024, and the manifest wants 65535",
    ),
    (
        "modules",
        "sys/module/nouveau/refcnt",
        "0\n",
        "nouveau: there, and the manifest wants not loaded",
    ),
    (
        "clock_source",
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "hpet\n",
        "hpet, and the manifest wants tsc",
    ),
    (
        "cpu_governor",
        "sys/devices/system/cpu/cpufreq/policy7/scaling_governor",
        "powersave\n",
        "performance on 1, powersave on 1, and the manifest wants performance",
    ),
    (
        "numa_balancing",
        "proc/sys/kernel/numa_balancing",
        "1\n",
        "1, and the manifest wants 0",
    ),
];

fn configured(manifest: &str) -> Config {
    Config::from_text(Path::new("agent.toml"), manifest).unwrap()
}

fn agent(tree: &Tree, manifest: &str) -> AgentHandle {
    Agent::builder(tree.root())
        .config(configured(&format!(
            "[agent]\nhost_interval = \"100 ms\"\n{manifest}"
        )))
        .interval(Duration::from_millis(50))
        .start()
        .unwrap()
}

/// On a host that has just booted.
fn early_agent(tree: &Tree, manifest: &str) -> AgentHandle {
    let mut config = configured(&format!("[agent]\nhost_interval = \"100 ms\"\n{manifest}"));
    config.settings.booted = Some(Moment::now().uptime);
    Agent::builder(tree.root())
        .config(config)
        .interval(Duration::from_millis(50))
        .start()
        .unwrap()
}

fn verdict(status: &Status, check: &str) -> Option<Verdict> {
    status.component("host")?.verdict(check).cloned()
}

fn wait(agent: &AgentHandle, check: &str, state: HealthState) -> Verdict {
    let is_so =
        |status: &Status| verdict(status, check).is_some_and(|verdict| verdict.state == state);
    match agent.wait_until(SOON, is_so) {
        Ok(status) => verdict(&status, check).unwrap(),
        Err(error) => panic!(
            "{check} {state}: {error}: {:#?}",
            agent.status().component("host")
        ),
    }
}

#[test]
fn each_difference_is_degraded_and_told_exactly_and_is_over_when_it_is_mended() {
    let tree = host();
    let agent = agent(&tree, MANIFEST);
    let status = agent
        .wait_until(SOON, |status| {
            status
                .component("host")
                .is_some_and(|host| host.state == HealthState::Healthy)
        })
        .unwrap_or_else(|error| panic!("{error}: {:#?}", agent.status().component("host")));
    assert_eq!(
        status.component("host").unwrap().admission.answer,
        Admit::Yes
    );
    for (check, file, harm, told) in HARM {
        let path = tree.root().join(file);
        let before = fs::read(&path).ok();
        write(&tree, file, harm);
        let found = wait(&agent, check, HealthState::Degraded);
        assert!(found.reason.contains(told), "{check}: {}", found.reason);
        assert!(!found.evidence.is_empty() && found.evidence[0].source.starts_with('/'));
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_dir_all(path.parent().unwrap()).unwrap(),
        }
        wait(&agent, check, HealthState::Healthy);
    }
    let status = agent.status();
    assert_ne!(status.component(NIC).unwrap().admission.answer, Admit::No);
    agent.stop().unwrap();
}

#[test]
fn what_a_job_cannot_start_without_is_unhealthy_and_lets_none_start() {
    let tree = host();
    write(
        &tree,
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "0\n",
    );
    let required = "[manifest.host]\nrequired = [\"huge_pages\"]";
    let agent = agent(&tree, &MANIFEST.replacen("[manifest.host]", required, 1));
    let found = wait(&agent, "huge_pages", HealthState::Unhealthy);
    assert_eq!(found.action, Action::Drain);
    let status = agent
        .wait_until(SOON, |status| {
            status
                .component(NIC)
                .is_some_and(|nic| nic.admission.answer == Admit::No)
        })
        .unwrap();
    let nic = status.component(NIC).unwrap();
    assert!(
        nic.admission.reason.contains("huge_pages"),
        "{}",
        nic.admission.reason
    );
    agent.stop().unwrap();
}

#[test]
fn without_a_manifest_nothing_of_the_host_is_judged() {
    let tree = Tree::new();
    let agent = agent(&tree, "");
    let status = agent
        .wait_until(SOON, |status| status.agent.rounds > 3)
        .unwrap();
    assert!(status.component("host").is_none());
    agent.stop().unwrap();
}

#[test]
fn a_file_of_nonsense_is_unobservable_and_no_difference() {
    let tree = host();
    write(&tree, "proc/sys/kernel/numa_balancing", "perhaps\n");
    let agent = agent(&tree, MANIFEST);
    wait(&agent, "clock_source", HealthState::Healthy);
    let found = wait(&agent, "numa_balancing", HealthState::Unobservable);
    assert!(
        found.counts && found.reason.contains("numa_balancing"),
        "{found:#?}"
    );
    agent.stop().unwrap();
}

#[test]
fn what_makes_no_sense_in_the_manifest_is_told_with_its_line() {
    for (text, told) in [
        (
            "[manifest.host]\nhugepages_2m = 4\n",
            "did you mean manifest.host.huge_pages_2m?",
        ),
        (
            "[manifest.host]\nkernel_from = \"6.18\"\nkernel_to = \"6.12\"\n",
            "at least kernel_from",
        ),
        (
            "[manifest.host]\nkernel_from = \"six\"\n",
            "such as \"6.12\"",
        ),
        (
            "[manifest.host]\nrequired = [\"hugepages\"]\n",
            "huge_pages",
        ),
        (
            "[manifest.host]\nmodule_parameters = [\"vfio.x\"]\n",
            "module.parameter=value",
        ),
        (
            "[manifest.host]\nmodules = [\"../etc\"]\n",
            "names of modules",
        ),
        (
            "[manifest.host.node.left]\nhuge_pages_2m = 1\n",
            "the number of a node",
        ),
    ] {
        let wrong = Config::from_text(Path::new("agent.toml"), text)
            .unwrap_err()
            .to_string();
        assert!(
            wrong.contains(told) && wrong.contains("agent.toml"),
            "{text}: {wrong}"
        );
    }
    let again = configured(MANIFEST).settings.to_toml();
    assert_eq!(
        configured(&again).settings.manifest,
        configured(MANIFEST).settings.manifest
    );
}

#[test]
fn what_services_have_not_set_up_yet_is_pending_after_the_boot_and_the_kernel_is_as_it_is() {
    let tree = host();
    write(&tree, "proc/cmdline", "root=/dev/sda1\n");
    write(&tree, "proc/sys/kernel/numa_balancing", "1\n");
    let required = "[manifest.host]\nrequired = [\"numa_balancing\"]";
    let manifest = MANIFEST.replacen("[manifest.host]", required, 1);
    let agent = early_agent(&tree, &manifest);
    wait(&agent, "command_line", HealthState::Degraded);
    let early = verdict(&agent.status(), "numa_balancing").unwrap();
    assert_eq!(early.state, HealthState::Unobservable, "{early:#?}");
    assert!(early.reason.contains("just booted"), "{}", early.reason);
    wait(&agent, "huge_pages", HealthState::Healthy);
    agent.stop().unwrap();
}
