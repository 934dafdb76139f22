//! Opening the files in `/dev`.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::errno::Call;
use super::holder::holder;
use crate::bus::BusError;

/// Opens a file of VFIO's or iommufd's for reading and writing; `also` is another that the same users may hold.
pub(super) fn open(call: Call, path: &Path, also: Option<&Path>) -> Result<OwnedFd, BusError> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map(OwnedFd::from).map_err(|error| {
        match error.raw_os_error().map(Errno::from_raw) {
            // A node without its module answers ENODEV or ENXIO.
            Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => call.missing(path.to_owned()),
            Some(Errno::EBUSY) => BusError::InUse {
                what: call.name().to_owned(),
                holder: holder(&[Some(path), also]),
            },
            Some(errno) => call.error(errno),
            None => BusError::System {
                what: call.name(),
                source: error,
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_there_is_told_by_its_path_and_how_to_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev/vfio/vfio");
        let error = open(Call::OpenContainer, &path, None).unwrap_err();
        assert!(matches!(error, BusError::NoInterface { .. }));
        assert!(error.to_string().contains("vfio_iommu_type1"), "{error}");
    }
}
