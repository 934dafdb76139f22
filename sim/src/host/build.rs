//! Making the devices of a simulated host, each with the port above it.

use auk_asic::config::{SIZE, header};

use super::config_image::Bar;
use super::config_view::{ConfigView, LinkState};
use super::devices::{SimulatedChip, SimulatedNic};
use super::error::HostError;
use super::files::{Files, READ_ONLY, WRITE_ONLY};
use super::function::Function;
use super::nic::{self, Nic};
use super::port::{Port, Spot};
use super::shown_chip::ShownChip;
use super::{Bdf, SOCKETS};
use crate::{Chip, ChipProfile};

/// Bus of the first chip and of the first NIC.
const CHIP_BUS: u8 = 0x01;
const NIC_BUS: u8 = 0x41;
/// Device number on bus 0 of the first port above a chip and above a NIC.
const CHIP_PORT: u8 = 1;
const NIC_PORT: u8 = 0x10;
/// Where the host's firmware puts BARs, and how far from device to device.
const MMIO: u64 = 0x40_0000_0000;
const MMIO_STRIDE: u64 = 0x10_0000_0000;
/// The drivers that chips, NICs and ports are bound to.
const DRIVERS: [&str; 3] = ["vfio-pci", "mlx5_core", "pcieport"];

/// Makes what is there whatever the devices are.
pub(crate) fn lay_ground(files: &Files) -> Result<(), HostError> {
    for directory in [
        "sys/bus/pci/devices",
        "sys/bus/pci/slots",
        "sys/class/net",
        "sys/class/infiniband",
        SOCKETS,
        "run/auk/lease",
    ] {
        files.directory(directory)?;
    }
    files.create("sys/bus/pci/rescan", WRITE_ONLY, b"")?;
    for driver in DRIVERS {
        let directory = format!("sys/bus/pci/drivers/{driver}");
        files.directory(&directory)?;
        for file in ["bind", "unbind", "new_id", "remove_id"] {
            files.create(&format!("{directory}/{file}"), WRITE_ONLY, b"")?;
        }
    }
    Ok(())
}

/// The physical slot of a device: numbered as its bus is.
fn slot(files: &Files, bdf: Bdf) -> Result<(), HostError> {
    let directory = format!("sys/bus/pci/slots/{}", bdf.bus);
    files.directory(&directory)?;
    let Bdf {
        domain,
        bus,
        device,
        ..
    } = bdf;
    let address = format!("{domain:04x}:{bus:02x}:{device:02x}\n");
    files.create(
        &format!("{directory}/address"),
        READ_ONLY,
        address.as_bytes(),
    )
}

/// Powers a chip on and serves it: the chip of an index, of so many.
pub(crate) fn chip(
    files: &Files,
    index: usize,
    count: usize,
    profile: ChipProfile,
) -> Result<(SimulatedChip, ShownChip), HostError> {
    let bus = CHIP_BUS + index as u8;
    let bdf = Bdf::endpoint(bus);
    let chip = Chip::new(profile).map_err(|source| HostError::Chip { bdf, source })?;
    let link = chip.profile().link;
    let link = LinkState {
        speed: link.speed,
        width: link.width,
    };
    let spot = Spot {
        first: CHIP_PORT,
        index,
        count,
        bus,
    };
    let port = Port::create(files, spot, link)?;
    let config = chip.config();
    let sizes = chip.bar_sizes();
    let mut start = MMIO + u64::from(bus) * MMIO_STRIDE;
    let mut bars = Vec::new();
    // The largest first, so that each is aligned to its size.
    for bar in [4, 0, 2] {
        let size = sizes[usize::from(bar)];
        bars.push(Bar {
            index: bar,
            start,
            size,
            prefetchable: is_prefetchable(&config, bar),
        });
        start += size;
    }
    let function = Function::create(files, port.below(bus, "vfio-pci"), &config, bars)?;
    slot(files, bdf)?;
    let socket = files.path(&format!("{SOCKETS}/{bdf}.sock"));
    // Last, because who finds the socket looks at the rest of the tree next.
    let serving = chip
        .serve(&socket)
        .map_err(|source| HostError::Serve { bdf, source })?;
    let shown = ShownChip {
        chip: chip.clone(),
        function,
        port,
        socket: socket.clone(),
        serving: Some(serving),
    };
    let chip = SimulatedChip { bdf, socket, chip };
    Ok((chip, shown))
}

/// Bit 3 of a memory BAR, PCI Express Base Specification 6.0, section 7.5.1.2.1.
fn is_prefetchable(config: &[u8; SIZE], bar: u16) -> bool {
    ConfigView(config).u8(header::BAR0 + 4 * bar) & 1 << 3 != 0
}

/// Makes the NIC of an index, of so many.
pub(crate) fn nic(
    files: &Files,
    index: usize,
    count: usize,
) -> Result<(SimulatedNic, Nic), HostError> {
    let bus = NIC_BUS + index as u8;
    let spot = Spot {
        first: NIC_PORT,
        index,
        count,
        bus,
    };
    let port = Port::create(files, spot, nic::SLOT)?;
    let placement = port.below(bus, "mlx5_core");
    let bdf = placement.bdf;
    let mmio = MMIO + u64::from(bus) * MMIO_STRIDE;
    let nic = Nic::create(files, port, placement, index, mmio)?;
    slot(files, bdf)?;
    let interface = nic.interface();
    Ok((SimulatedNic { bdf, interface }, nic))
}
