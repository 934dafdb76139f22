//! Queues whose completion rings hold anything: an I/O queue never panics, every command ends once, and a buffer is let go by the
//! completion of its command alone; what an admin command results in is a value or an error.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a fake that panics fails its test"
)]

mod hostile_chip;

use std::time::Duration;

use auk_asic::PAGE;
use auk_asic::log::LogPage;
use auk_asic::program::Program;
use auk_driver::{Command, ContextOptions, DmaSpace, QueueOptions};
use hostile_chip::HostileChip;
use hostile_chip::model::{self, Script};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_queue_does_as_the_model_whatever_its_completion_ring_holds(
        script in proptest::collection::vec(any::<u8>(), 2..400).prop_map(|bytes| Script::decode(&bytes)),
    ) {
        model::run(&script);
    }

    #[test]
    fn whatever_admin_commands_result_in_is_a_value_or_an_error_and_the_device_goes_on(
        result in prop_oneof![any::<u64>(), any::<u64>().prop_map(|bits| bits >> (bits & 63))],
        status in prop_oneof![Just(0), 0u16..0x8000],
    ) {
        let chip = HostileChip::new();
        let space = DmaSpace::new();
        let device = chip.open(&space);
        let before = space.usage().used;
        chip.behaves(|manners| manners.ends = Some((status, result)));
        let memory = device.alloc(PAGE as u64);
        let context = device.create_context(&ContextOptions::default().memory(1 << 20));
        let program = device.load(&Program::Checksum);
        let log = device.log(LogPage::Events, PAGE).map(|log| log.len());
        prop_assert!(log.as_ref().is_ok_and(|length| *length <= PAGE) || log.is_err());
        for page in [device.crash_log().err(), device.firmware_slots().err(), device.event_log().err()] {
            prop_assert!(page.is_none_or(|error| !error.to_string().is_empty()));
        }
        if let Ok(memory) = &memory {
            prop_assert!(memory.address() <= device.capabilities().memory() - PAGE as u64);
        }
        if status != 0 {
            prop_assert!(memory.is_err() && context.is_err() && program.is_err() && log.is_err());
        }
        chip.behaves(|manners| manners.ends = None);
        drop((memory, context, program));
        prop_assert_eq!(space.usage().used, before);
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        let ticket = queue.submit(&Command::nop()).unwrap();
        let entries = chip.begin(queue.number());
        chip.complete(queue.number(), &entries[0], auk_asic::Status::Success, 0);
        queue.wait(ticket, Duration::from_secs(10)).unwrap();
    }
}
