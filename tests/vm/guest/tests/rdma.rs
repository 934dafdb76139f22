//! Soft-RDMA over an ordinary interface: a `/sys/class/infiniband` of the kernel's own making.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::pci;
use crate::rdma;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[test(
    "a_link_over_an_interface_has_an_active_port",
    a_link_over_an_interface_has_an_active_port,
)];

fn a_link_over_an_interface_has_an_active_port(guest: &Guest) -> Result<()> {
    let interface = pci::interface(&pci::only(pci::VIRTIO_NET)?)?;
    rdma::bring_up(&interface)?;
    rdma::add_link("rxe0", &interface)?;
    let port = Path::new("/sys/class/infiniband/rxe0/ports/1");
    guest.wait_for("an active port", || {
        Ok(fs::read_to_string(port.join("state"))?.contains("ACTIVE"))
    })?;
    let layer = fs::read_to_string(port.join("link_layer"))?;
    ensure!(layer == "Ethernet\n", "the link layer is {layer:?}");
    Ok(())
}
