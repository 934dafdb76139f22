//! Where in config space the vital signs are, and which of it their sequence counter guards.

use auk_asic::config::{self, dvsec, extended};
use auk_asic::ident::VENDOR;
use auk_asic::vitals::{BODY, DVSEC_ID, VitalSigns};

use super::config_view::ConfigView;

/// The body of the DVSEC.
pub(crate) struct VitalWindow {
    start: usize,
}

impl VitalWindow {
    /// The vital signs in a chip's config space; `None` for any other function.
    pub(crate) fn find(image: &[u8; config::SIZE]) -> Option<Self> {
        let view = ConfigView(image);
        let at = view.extended(extended::DVSEC)?;
        let ours =
            view.u16(at + dvsec::HEADER1) == VENDOR && view.u16(at + dvsec::HEADER2) == DVSEC_ID;
        let start = usize::from(at + BODY);
        (ours && start + VitalSigns::SIZE <= config::SIZE).then_some(Self { start })
    }

    /// Offset of the sequence counter.
    pub(crate) const fn start(&self) -> usize {
        self.start
    }

    /// The sequence counter in an image.
    pub(crate) fn sequence(&self, image: &[u8; config::SIZE]) -> u32 {
        ConfigView(image).u32(self.start as u16)
    }

    /// Whether the dword at `at` changes under the counter: all of the block but the counter and the heartbeat.
    pub(crate) fn guards(&self, at: usize) -> bool {
        let inside = at > self.start && at < self.start + VitalSigns::SIZE;
        inside && at != self.start + core::mem::offset_of!(VitalSigns, heartbeat)
    }
}
