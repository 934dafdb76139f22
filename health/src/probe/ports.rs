//! The ports above a function: looked at only when the function does not answer.

use std::path::Path;

use super::ProbeError;
use super::config::ConfigSpace;
use super::discover::is_bdf;
use crate::facts::{PortGone, Presence};

/// The port nearest to the root, from `port` upwards, that does not answer.
pub(super) fn topmost_gone(port: &Path) -> Result<Option<PortGone>, ProbeError> {
    let mut topmost = None;
    for directory in port.ancestors() {
        let Some(bdf) = directory
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| is_bdf(name))
        else {
            break;
        };
        let answer = ConfigSpace::open(directory).and_then(|config| config.answer());
        let presence = match answer {
            Ok(_) => break,
            Err(ProbeError::AllOnes { .. }) => Presence::AllOnes,
            Err(error) if error.is_not_found() && !directory.exists() => Presence::Absent,
            Err(error) => return Err(error),
        };
        topmost = Some(PortGone {
            bdf: bdf.to_owned(),
            presence,
        });
    }
    Ok(topmost)
}
