//! The health agent and network interfaces of a real kernel: a carrier that the machine takes away, and RDMA over it.

use anyhow::{Context, Result, ensure};
use auk_vm::Request;
use serde_json::Value;

use crate::guest::Guest;
use crate::pci;
use crate::rdma;
use crate::registry::{Test, test};
use crate::tests::agent::{Agent, DEFAULT, agent_log, component, first, see};
use crate::tests::agent_log::events;

pub(crate) const TESTS: &[Test] = &[
    test(
        "a_carrier_that_is_taken_away_is_told_and_judged_until_it_is_back",
        a_carrier_that_is_taken_away_is_told_and_judged_until_it_is_back,
    )
    .within(240),
    test(
        "a_soft_rdma_port_goes_down_with_its_carrier_and_counts_that",
        a_soft_rdma_port_goes_down_with_its_carrier_and_counts_that,
    )
    .within(240),
];

/// What the soft-RDMA driver counts when its port goes down: `rxe_port_down` of drivers/infiniband/sw/rxe/rxe_net.c.
const DOWNS: &str = "hw_counters/link_downed";

/// Has QEMU set a link, by the name of its device or of what that is connected to.
fn set_link(guest: &Guest, name: &str, state: &str) -> Result<()> {
    guest
        .ask(Request::Monitor(format!("set_link {name} {state}")))
        .map(drop)
}

/// Waits until the agent's events of the carriers of a function are these.
fn tells(guest: &Guest, address: &str, carriers: &[bool]) -> Result<()> {
    let told = || -> Result<Vec<Value>> {
        let mut events = events(guest, "carrier")?;
        events.retain(|event| event["component"] == address);
        let told = events
            .iter()
            .map(|event| event["details"]["carrier"].clone());
        Ok(told.collect())
    };
    let told_all = || {
        Ok(told()?
            .iter()
            .filter_map(Value::as_bool)
            .eq(carriers.iter().copied()))
    };
    guest
        .wait_for(&format!("the carrier to be told as {carriers:?}"), told_all)
        .with_context(|| format!("told was {:?}\n{}", told(), agent_log()))
}

fn a_carrier_that_is_taken_away_is_told_and_judged_until_it_is_back(guest: &Guest) -> Result<()> {
    let address = pci::only(pci::E1000E)?;
    rdma::bring_up(&pci::interface(&address)?)?;
    set_link(guest, "e1000e", "on")?;
    let _agent = Agent::start_with(guest, DEFAULT)?;
    see(guest, &address, "carrier", &["healthy"])?;
    set_link(guest, "e1000e", "off")?;
    see(guest, &address, "carrier", &["unhealthy"])?;
    tells(guest, &address, &[false])?;
    let chip = component(guest, &first(guest)?)?;
    ensure!(chip["state"] == "healthy", "the chip is blamed: {chip:#}");
    set_link(guest, "e1000e", "on")?;
    tells(guest, &address, &[false, true])?;
    see(guest, &address, "carrier", &["healthy"])?;
    Ok(())
}

fn a_soft_rdma_port_goes_down_with_its_carrier_and_counts_that(guest: &Guest) -> Result<()> {
    let address = pci::only(pci::VIRTIO_NET)?;
    let interface = pci::interface(&address)?;
    rdma::bring_up(&interface)?;
    rdma::add_link("rxe1", &interface)?;
    let _agent = Agent::start_with(guest, DEFAULT)?;
    see(guest, &address, "rdma_port", &["healthy"])?;
    let port = || -> Result<Value> { Ok(component(guest, &address)?["rdma"][0].clone()) };
    let before = port()?;
    let downs = before["counters"][DOWNS]
        .as_u64()
        .with_context(|| format!("{DOWNS} is not among {before:#}"))?;
    set_link(guest, "net", "off")?;
    see(guest, &address, "carrier", &["unhealthy"])?;
    guest
        .wait_for("the port to be down", || {
            let now = port()?;
            Ok(now["state"] == "down" && now["counters"][DOWNS].as_u64() == Some(downs + 1))
        })
        .with_context(|| format!("{:#}", port().unwrap_or_default()))?;
    let verdicts = component(guest, &address)?["verdicts"].clone();
    let mut verdicts = verdicts.as_array().into_iter().flatten();
    let of_port = verdicts.find(|verdict| verdict["check"] == "rdma_port");
    let reason = of_port.and_then(|verdict| verdict["reason"].as_str());
    ensure!(
        reason.is_some_and(|reason| reason.contains("which carrier judges")),
        "one cause is two findings: {of_port:#?}"
    );
    set_link(guest, "net", "on")?;
    see(guest, &address, "rdma_port", &["healthy"])?;
    see(guest, &address, "carrier", &["healthy"])?;
    Ok(())
}
