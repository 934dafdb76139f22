//! What tests of the kernel's VFIO share.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use auk_driver::DmaSpace;
use auk_driver::bus::{Access, BusError, Function, FunctionConfig, Region, Vfio};
use auk_driver::pci::{ConfigSpace, Host};
use auk_vm::Mode;

use crate::function::Bound;
use crate::guest::Guest;

/// The way to open a function that this boot is about.
pub(crate) fn access(guest: &Guest) -> Access {
    match guest.mode() {
        Mode::Group => Access::Group,
        Mode::Cdev => Access::Cdev,
    }
}

/// An open function; closed before vfio-pci is made to let go of it, which would wait for that.
pub(crate) struct Held {
    function: Vfio,
    _bound: Bound,
}

impl Deref for Held {
    type Target = Vfio;

    fn deref(&self) -> &Vfio {
        &self.function
    }
}

/// Binds a function to vfio-pci and opens it in the boot's mode.
pub(crate) fn open(guest: &Guest, address: &str, space: &DmaSpace) -> Result<Held> {
    let bound = Bound::new(address.to_owned())?;
    let function =
        try_open(address, access(guest), space).with_context(|| format!("opening {address}"))?;
    Ok(Held {
        function,
        _bound: bound,
    })
}

/// Opens a function that is bound already, or not.
pub(crate) fn try_open(address: &str, access: Access, space: &DmaSpace) -> Result<Vfio, BusError> {
    let bdf = address
        .parse()
        .map_err(auk_driver::pci::PciError::Address)?;
    Vfio::open(&Host::at("/"), bdf, access, space)
}

/// COMMAND, PCI Express Base Specification 6.0, section 7.5.1.1.3.
const COMMAND: u16 = 4;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;

/// Sets memory and Bus Master enable: without the latter neither DMA nor MSI leave a function.
pub(crate) fn enable(function: &Vfio) -> Result<()> {
    let old = FunctionConfig(function).read_u16(COMMAND)?;
    let new = old | COMMAND_MEMORY | COMMAND_MASTER;
    function.write(Region::Config, u64::from(COMMAND), &new.to_le_bytes())?;
    let found = FunctionConfig(function).read_u16(COMMAND)?;
    if found & new != new {
        bail!("COMMAND was set to {new:#x} and reads {found:#x}");
    }
    Ok(())
}

/// What the kernel logs from now on.
pub(crate) struct KernelLog(File);

impl KernelLog {
    pub(crate) fn from_now() -> Result<Self> {
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// Waits for a line that is so.
    pub(crate) fn line(&mut self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(length) => {
                    let line = String::from_utf8_lossy(&record[..length]).into_owned();
                    if is_so(&line) {
                        return Ok(line);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() > deadline {
                        bail!("the kernel has not logged {what}");
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                // Records were lost; the next read goes on after them.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
