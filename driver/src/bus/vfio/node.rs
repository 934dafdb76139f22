//! Opening the files in `/dev`.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::errno::Call;
use crate::bus::BusError;

/// Opens a file of VFIO's or iommufd's for reading and writing; `busy` says who has it if it can be open only once.
pub(super) fn open(
    call: Call,
    path: &Path,
    busy: impl FnOnce() -> BusError,
) -> Result<OwnedFd, BusError> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map(OwnedFd::from).map_err(|error| {
        match error.raw_os_error().map(Errno::from_raw) {
            // A node without its module answers ENODEV or ENXIO.
            Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => call.missing(path.to_owned()),
            Some(Errno::EBUSY) => busy(),
            Some(errno) => call.error(errno),
            None => BusError::System {
                what: call.name(),
                source: error,
            },
        }
    })
}

/// As [`open`], for files that any number of processes may have open.
pub(super) fn open_shared(call: Call, path: &Path) -> Result<OwnedFd, BusError> {
    open(call, path, || call.error(Errno::EBUSY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_there_is_told_by_its_path_and_how_to_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev/vfio/vfio");
        let error = open_shared(Call::OpenContainer, &path).unwrap_err();
        assert!(matches!(error, BusError::NoInterface { .. }));
        let text = error.to_string();
        assert!(
            text.contains("vfio_iommu_type1") && text.contains("dev/vfio/vfio"),
            "{text}"
        );
    }
}
