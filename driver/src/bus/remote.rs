//! vfio-user over a socket: the bus of a simulated chip.

use std::ops::RangeInclusive;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use auk_vfio_user::Errno;
use auk_vfio_user::client::{Client, ClientMap, Error, Options};
use auk_vfio_user::model::Protection;

use super::{BusError, DmaRange, DmaTarget, Function, Interrupt, IrqInfo, Region, RegionInfo};
use crate::deadline::Deadline;

/// How long any one request may take. A server answers in microseconds; one that is stopped in a debugger, or on a
/// machine that is short of processors, gets this long before it counts as gone.
const REQUEST: Duration = Duration::from_secs(10);

/// A PCI function behind a vfio-user socket.
#[derive(Debug)]
pub struct Remote {
    name: String,
    connection: Arc<Connection>,
}

/// The socket; what its server reaches of our memory is its own, so each is a [`DmaTarget`].
#[derive(Debug)]
struct Connection {
    client: Client,
    /// Mappings that the server has of ours.
    mappings: AtomicU64,
}

impl Remote {
    /// Connects to the server that listens at `path`; messages call the function `name`.
    ///
    /// # Errors
    /// [`BusError::Connect`], or what can go wrong while the two ends get to know each other.
    pub fn connect(name: &str, path: &Path, deadline: Deadline) -> Result<Self, BusError> {
        let client =
            Client::connect(path, Options::default(), deadline.instant()).map_err(|error| {
                BusError::Connect {
                    path: path.to_owned(),
                    source: Box::new(error),
                }
            })?;
        Self::over(name, client, deadline)
    }

    /// Takes a socket that is connected to a server.
    ///
    /// # Errors
    /// As [`Remote::connect`].
    pub fn from_socket(name: &str, socket: OwnedFd, deadline: Deadline) -> Result<Self, BusError> {
        let client = Client::from_fd(socket, Options::default(), deadline.instant())
            .map_err(|error| bus_error("connecting", error))?;
        Self::over(name, client, deadline)
    }

    fn over(name: &str, client: Client, deadline: Deadline) -> Result<Self, BusError> {
        let info = client
            .device_info(deadline.instant())
            .map_err(|error| bus_error("asking what the device is", error))?;
        if !info.pci || !info.resettable {
            return Err(BusError::NoRegion {
                index: Region::Config.index(),
                problem: "the device is no PCI function that can be reset",
            });
        }
        let remote = Self {
            name: name.to_owned(),
            connection: Arc::new(Connection {
                client,
                mappings: AtomicU64::new(0),
            }),
        };
        // As vfio-pci does: whatever a former owner left is gone before anything is looked at.
        remote.reset(deadline)?;
        Ok(remote)
    }

    fn client(&self) -> &Client {
        &self.connection.client
    }
}

impl Drop for Remote {
    /// As vfio-pci does at close: the next owner finds nothing of this one's.
    fn drop(&mut self) {
        if let Err(error) = self.reset(Deadline::after(REQUEST)) {
            tracing::debug!(function = self.name, %error, "the reset at close");
        }
    }
}

impl Function for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn region(&self, region: Region) -> Result<RegionInfo, BusError> {
        let info = self
            .client()
            .region_info(region.index(), request())
            .map_err(|error| bus_error("asking for a region", error))?;
        if info.size == 0 {
            return Err(BusError::NoRegion {
                index: region.index(),
                problem: "it does not exist",
            });
        }
        Ok(info)
    }

    fn read(&self, region: Region, offset: u64, data: &mut [u8]) -> Result<(), BusError> {
        self.client()
            .region_read(region.index(), offset, data, request())
            .map_err(|error| bus_error("reading a region", error))
    }

    fn write(&self, region: Region, offset: u64, data: &[u8]) -> Result<(), BusError> {
        self.client()
            .region_write(region.index(), offset, data, request())
            .map_err(|error| bus_error("writing a region", error))
    }

    fn interrupts(&self, kind: Interrupt) -> Result<IrqInfo, BusError> {
        self.client()
            .irq_info(kind.index(), request())
            .map_err(|error| bus_error("asking for interrupts", error))
    }

    fn enable_interrupts(
        &self,
        kind: Interrupt,
        eventfds: &[BorrowedFd<'_>],
    ) -> Result<(), BusError> {
        let result = self
            .client()
            .set_irq_eventfds(kind.index(), 0, eventfds, request())
            .map_err(|error| bus_error("enabling interrupts", error));
        if result.is_err() {
            // Some of the vectors may have been set; the error that the caller gets is the first one.
            let _ = self.disable_interrupts(kind);
        }
        result
    }

    fn disable_interrupts(&self, kind: Interrupt) -> Result<(), BusError> {
        self.client()
            .disable_irqs(kind.index(), request())
            .map_err(|error| bus_error("disabling interrupts", error))
    }

    fn reset(&self, deadline: Deadline) -> Result<(), BusError> {
        self.client()
            .reset(deadline.instant())
            .map_err(|error| match error {
                Error::TimedOut { .. } => timed_out("resetting", deadline.elapsed()),
                other => bus_error("resetting", other),
            })
    }

    fn dma(&self) -> Arc<dyn DmaTarget> {
        let target: Arc<dyn DmaTarget> = self.connection.clone();
        target
    }
}

impl DmaTarget for Connection {
    /// All of them: no IOMMU of a host is between. The chip's own address width is not the connection's business.
    fn ranges(&self) -> Result<Vec<RangeInclusive<u64>>, BusError> {
        Ok(vec![0..=u64::MAX])
    }

    /// Of as many as the server has said that it takes. It may still refuse one for want of something else.
    fn mappings_left(&self) -> Result<Option<u64>, BusError> {
        let most = self.client.server_capabilities().max_dma_maps;
        Ok(Some(
            most.saturating_sub(self.mappings.load(Ordering::Relaxed)),
        ))
    }

    /// The server maps the memory's descriptor: no IOMMU is between.
    fn pins(&self) -> bool {
        false
    }

    fn map(&self, range: &DmaRange<'_>) -> Result<(), BusError> {
        let fd = range.fd().ok_or(BusError::NoDescriptor)?;
        let map = ClientMap {
            iova: range.iova(),
            size: range.size(),
            protection: Protection::READ_WRITE,
            memory: Some((fd, range.fd_offset())),
        };
        self.client
            .dma_map(&map, request())
            .map_err(|error| bus_error(mapping(&error), error))?;
        self.mappings.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The reply repeats the range, or is empty as some servers leave it; the client refuses any other range. So success is
    /// all of it, by the server's word.
    fn unmap(&self, iova: u64, size: u64) -> Result<u64, BusError> {
        self.client
            .dma_unmap(iova, size, request())
            .map_err(|error| bus_error("unmapping memory", error))?;
        self.mappings.fetch_sub(1, Ordering::Relaxed);
        Ok(size)
    }
}

fn request() -> Instant {
    Instant::now() + REQUEST
}

/// What was being done, with what to do where the error number does not say it.
fn mapping(error: &Error) -> &'static str {
    match error {
        Error::Refused {
            errno: Errno::ENOMEM,
            ..
        } => {
            "mapping memory (the server's memory or its vm.max_map_count, 65530 unless changed, is spent; map fewer, larger pieces)"
        }
        _ => "mapping memory",
    }
}

fn refused(what: &'static str, errno: Errno) -> BusError {
    BusError::Refused {
        what: what.to_owned(),
        errno: errno.into(),
    }
}

fn timed_out(what: &'static str, waited: Duration) -> BusError {
    BusError::TimedOut {
        what: what.to_owned(),
        milliseconds: waited.as_millis(),
    }
}

fn bus_error(what: &'static str, error: Error) -> BusError {
    match error {
        Error::Disconnected { .. } | Error::Poisoned { .. } | Error::Io { .. } => {
            BusError::Disconnected {
                reason: error.to_string(),
            }
        }
        Error::TimedOut { .. } => timed_out(what, REQUEST),
        // Nothing was sent, and the connection is as good as before.
        Error::Contended { .. } => refused(what, Errno::EAGAIN),
        Error::InUse => refused(what, Errno::EBUSY),
        Error::Refused { errno, .. } => refused(what, errno),
        other => BusError::Protocol {
            what: what.to_owned(),
            reason: other.to_string(),
        },
    }
}
