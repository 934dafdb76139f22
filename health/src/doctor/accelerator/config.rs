//! Whether the vital signs of an accelerator can be read.

use super::super::{Finding, Level};
use super::Accelerator;
use crate::probe::ProbeError;
use crate::probe::config::ConfigSpace;

const CHECK: &str = "config-space";
const EXPECTED: &str = "all 4096 bytes: vital signs and error reports are beyond byte 255";
/// The last dword of the space that conventional PCI has, and the first of the extended one, PCI Express Base Specification 6.0,
/// sections 7.5.1 and 7.6.
const LAST: u16 = 0xFC;
const EXTENDED: u16 = 0x100;

pub(super) fn examine(of: &Accelerator<'_>) -> Finding {
    let config = match ConfigSpace::open(of.function.path()) {
        Ok(config) => config,
        Err(error) => return Finding::unread(CHECK, &error, EXPECTED),
    };
    // First a dword that only privilege shows, then one that only PCI Express has.
    let read = config
        .answer()
        .and_then(|_| config.read::<1>(LAST))
        .and_then(|_| config.read::<1>(EXTENDED));
    match read {
        Ok(_) => Finding::new(CHECK, Level::Ok, "readable beyond byte 255", EXPECTED),
        Err(error @ ProbeError::AllOnes { .. }) => {
            Finding::new(CHECK, Level::Fail, error.to_string(), EXPECTED)
                .mend("look at the slot and its link; echo 1 > /sys/bus/pci/rescan")
        }
        Err(ProbeError::Short { needed, .. }) if needed > u64::from(EXTENDED) => Finding::new(
            CHECK,
            Level::Fail,
            "256 bytes, to everybody: the host does not reach extended config space",
            EXPECTED,
        )
        .mend("the firmware leaves out the ACPI table MCFG, or the kernel was told pci=nommconf"),
        // The kernel shows so much to those without privilege.
        Err(error @ ProbeError::Short { .. }) => {
            Finding::new(CHECK, Level::Warn, error.to_string(), EXPECTED)
                .mend("run as root to see it all; the agent has its own way")
        }
        Err(error) => Finding::unread(CHECK, &error, EXPECTED),
    }
}

#[cfg(test)]
mod tests {
    use super::super::examine;
    use super::*;
    use crate::doctor::tree::Tree;

    #[test]
    fn how_much_of_config_space_is_shown_says_what_is_amiss() {
        let tree = Tree::with_chip();
        let found = || {
            let found = examine(&tree.ground());
            found.into_iter().find(|f| f.check == CHECK).unwrap()
        };
        assert_eq!(found().level, Level::Ok);
        tree.write_device("config", [0; 64]);
        assert_eq!(found().level, Level::Warn);
        tree.write_device("config", [0; 256]);
        assert_eq!(found().level, Level::Fail);
        tree.write_device("config", [0xFF; 4096]);
        assert!(found().found.contains("all ones"));
    }
}
