//! What cannot be opened or mapped, and what is said about it.

use std::process::Command;

use anyhow::{Result, ensure};
use auk_driver::DmaSpace;
use auk_driver::bus::{Access, BusError};
use auk_vm::Mode;

use crate::function::Bound;
use crate::guest::Guest;
use crate::pci::{self, EDU};
use crate::registry::{Test, test};
use crate::vfio;

pub(crate) const TESTS: &[Test] = &[
    test("a_function_of_another_driver", a_function_of_another_driver),
    test("a_bridge", a_bridge),
    test("an_address_without_function", an_address_without_function),
    test(
        "a_function_that_another_process_has",
        a_function_that_another_process_has,
    ),
    test(
        "a_function_that_this_process_has",
        a_function_that_this_process_has,
    ),
    test("cdev_on_a_kernel_without", cdev_on_a_kernel_without).only(Mode::Group),
    test(
        "no_iommu_mode_where_there_is_an_iommu",
        no_iommu_mode_where_there_is_an_iommu,
    ),
];

fn refusal(address: &str, access: Access) -> Result<BusError> {
    let Err(error) = vfio::try_open(address, access, &DmaSpace::new()) else {
        anyhow::bail!("{address} could be opened");
    };
    println!("{error}");
    Ok(error)
}

fn a_function_of_another_driver(guest: &Guest) -> Result<()> {
    let address = pci::only(EDU)?;
    let error = refusal(&address, vfio::access(guest))?;
    ensure!(matches!(error, BusError::NotBound { driver: None, .. }));
    ensure!(error.to_string().contains("auk bind"));
    Ok(())
}

fn a_bridge(guest: &Guest) -> Result<()> {
    let port = pci::port_of(&guest.chips()?[0])?;
    let error = refusal(&port, vfio::access(guest))?;
    ensure!(matches!(error, BusError::Bridge { .. }));
    Ok(())
}

fn an_address_without_function(guest: &Guest) -> Result<()> {
    let error = refusal("0000:ff:1f.7", vfio::access(guest))?;
    ensure!(matches!(error, BusError::Pci(_)));
    Ok(())
}

fn a_function_that_another_process_has(guest: &Guest) -> Result<()> {
    let address = pci::only(EDU)?;
    if is_again() {
        let error = refusal(&address, vfio::access(guest))?;
        ensure!(matches!(error, BusError::InUse { .. }));
        return Ok(());
    }
    let _mine = vfio::open(guest, &address, &DmaSpace::new())?;
    let said = run_again("a_function_that_another_process_has")?;
    let expected = format!("in use by process {} (", std::process::id());
    ensure!(said.contains(&expected), "{said}");
    Ok(())
}

fn a_function_that_this_process_has(guest: &Guest) -> Result<()> {
    let address = pci::only(EDU)?;
    let _first = vfio::open(guest, &address, &DmaSpace::new())?;
    let error = refusal(&address, vfio::access(guest))?;
    ensure!(matches!(error, BusError::InUse { .. }));
    ensure!(error.to_string().contains("this process"), "{error}");
    Ok(())
}

fn cdev_on_a_kernel_without(_: &Guest) -> Result<()> {
    let address = pci::only(EDU)?;
    let _bound = Bound::new(address.clone())?;
    let error = refusal(&address, Access::Cdev)?;
    ensure!(matches!(error, BusError::NoInterface { .. }));
    vfio::try_open(&address, Access::Auto, &DmaSpace::new())?;
    Ok(())
}

fn no_iommu_mode_where_there_is_an_iommu(_: &Guest) -> Result<()> {
    let address = pci::only(EDU)?;
    let _bound = Bound::new(address.clone())?;
    let error = refusal(&address, Access::UnsafeNoIommu)?;
    ensure!(matches!(
        error,
        BusError::Unsupported { .. } | BusError::NoInterface { .. }
    ));
    Ok(())
}

/// Runs a test once more in a process of its own, which [`is_again`] tells it; what it printed.
fn run_again(test: &str) -> Result<String> {
    let done = Command::new(std::env::current_exe()?)
        .args(["run", &format!("refused::{test}")])
        .env(AGAIN, "1")
        .output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(done.status.success(), "{said}");
    Ok(said)
}

fn is_again() -> bool {
    std::env::var_os(AGAIN).is_some()
}

const AGAIN: &str = "AUK_VM_AGAIN";
