//! What the kernel tells the agent of devices over netlink, and of processes in `/proc/PID/stat`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| auk_health::fuzz_kernel_messages(bytes));
