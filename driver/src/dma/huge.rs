//! Huge pages (`Documentation/admin-guide/mm/hugetlbpage.rst`): an IOMMU needs an entry for each, and pinning is a matter of a few
//! pages instead of hundreds of thousands.

use std::fmt::Write as _;
use std::path::Path;

use auk_asic::PAGE;

/// Whether memory for DMA is to be of huge pages: of 1 GiB where it is made in multiples of that, else of 2 MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Where the host has some free; ordinary pages otherwise.
    #[default]
    Prefer,
    /// Or else it is an error.
    Require,
    /// Not, even if there are some: they are for somebody else.
    Never,
}

/// Sizes of huge pages on x86-64, the largest first.
const SIZES: [u64; 2] = [1 << 30, 2 << 20];

impl HugePages {
    /// The sizes of pages that `bytes` may be of, the best first.
    pub(super) fn sizes(self, bytes: u64) -> impl Iterator<Item = u64> {
        let huge = (self != Self::Never).then_some(SIZES).into_iter().flatten();
        let ordinary = (self != Self::Require).then_some(PAGE as u64);
        huge.filter(move |size| bytes.is_multiple_of(*size))
            .chain(ordinary)
    }
}

/// What the host has of huge pages, and how to have more.
pub(super) fn remedy() -> String {
    describe(Path::new("/sys/kernel/mm/hugepages"))
}

fn describe(hugepages: &Path) -> String {
    let mut text = String::from("free huge pages:");
    for (size, name) in [(2 << 10, "2 MiB"), (1 << 20, "1 GiB")] {
        let count = |file: &str| {
            let path = hugepages.join(format!("hugepages-{size}kB/{file}"));
            let text = std::fs::read_to_string(path).ok()?;
            text.trim().parse::<u64>().ok()
        };
        let _ = match (count("free_hugepages"), count("nr_hugepages")) {
            (Some(free), Some(all)) => write!(text, " {free} of {all} of {name},"),
            _ => write!(text, " none of {name}, which this kernel does not have,"),
        };
    }
    text.push_str(
        " and root reserves more: with vm.nr_hugepages=N, on one NUMA node by \
         /sys/devices/system/node/nodeN/hugepages/hugepages-2048kB/nr_hugepages, those of 1 GiB best at boot \
         (hugepagesz=1G hugepages=N)",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gibibyte_may_be_one_page_and_less_may_not() {
        let sizes = |huge: HugePages, bytes| huge.sizes(bytes).collect::<Vec<_>>();
        assert_eq!(
            sizes(HugePages::Prefer, 2 << 30),
            [1 << 30, 2 << 20, 1 << 12]
        );
        assert!(sizes(HugePages::Require, 3 << 20).is_empty());
        assert_eq!(sizes(HugePages::Require, 4 << 20), [2 << 20]);
        assert_eq!(sizes(HugePages::Never, 1 << 30), [1 << 12]);
    }

    #[test]
    fn what_is_free_and_how_to_have_more_is_told() {
        let tree = tempfile::tempdir().unwrap();
        let size = tree.path().join("hugepages-2048kB");
        std::fs::create_dir(&size).unwrap();
        std::fs::write(size.join("free_hugepages"), "3\n").unwrap();
        std::fs::write(size.join("nr_hugepages"), "64\n").unwrap();
        let text = describe(tree.path());
        assert!(text.contains("3 of 64 of 2 MiB"), "{text}");
        assert!(text.contains("none of 1 GiB"), "{text}");
        assert!(text.contains("vm.nr_hugepages"), "{text}");
    }
}
