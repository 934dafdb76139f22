//! What the kernel says over netlink and SIOCETHTOOL of interfaces: messages of links, answers of ethtool, a driver's statistics.
#![no_main]

use auk_health::probe::ethtool::{fuzz_ethtool_answer, fuzz_ethtool_statistics};
use auk_health::probe::rtnetlink;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(links) = rtnetlink::parse(bytes) {
        // Each message has a header and a fixed part of 16 bytes each.
        assert!(links.len() <= bytes.len() / 32);
    }
    fuzz_ethtool_answer(bytes);
    fuzz_ethtool_statistics(bytes);
});
