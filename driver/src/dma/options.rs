//! How a space is to get its memory.

use super::{HugePages, NumaPlacement};

/// How a space is to get its memory.
///
/// ```
/// use auk_driver::dma::{DmaSpace, HugePages, NumaPlacement, SpaceOptions};
///
/// let options = SpaceOptions::default().huge_pages(HugePages::Never).numa(NumaPlacement::Node(0));
/// let space = DmaSpace::with(&options);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SpaceOptions {
    pub(super) huge: HugePages,
    pub(super) numa: NumaPlacement,
}

impl SpaceOptions {
    /// Whether its memory is to be of huge pages; where the host has some free unless told.
    #[must_use]
    pub const fn huge_pages(mut self, huge: HugePages) -> Self {
        self.huge = huge;
        self
    }

    /// Which NUMA node its memory is to be taken from; those of the attached chips unless told.
    #[must_use]
    pub const fn numa(mut self, numa: NumaPlacement) -> Self {
        self.numa = numa;
        self
    }
}
