//! Power-on, registers, the admin queue and its information.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use auk_asic::admin::{AdminCommand, Identify};
use auk_asic::bar0::{self, CapDma, CapLimits, CapQueues, Control};
use auk_asic::log::{CrashLog, LogPage};
use auk_asic::register::Access;
use auk_asic::submission::Operand;
use auk_asic::telemetry::Telemetry;
use auk_asic::{SelfTest, State, Status};
use auk_sim::{Chip, ChipProfile, Violation};
use auk_vfio_user::pci::BAR0_REGION;
use common::{IOVA, Rig, eventually, small};

#[test]
fn a_chip_boots_to_running_in_generation_one() {
    let chip = Chip::new(small()).unwrap();
    eventually("Running", || (chip.state() == State::Running).then_some(()));
    assert_eq!(chip.vital_signs().generation, 1);
}

#[test]
fn the_registers_say_what_the_profile_has() {
    for profile in [small(), ChipProfile::fpga(7)] {
        let mut rig = Rig::new(profile.clone());
        let queues = CapQueues::parse(rig.read(bar0::CAP_QUEUES)).unwrap();
        let dma = CapDma::parse(rig.read(bar0::CAP_DMA)).unwrap();
        let limits = CapLimits::parse(rig.read(bar0::CAP_LIMITS)).unwrap();
        assert_eq!(queues.io_queues(), profile.io_queues);
        assert_eq!(dma.address_bits(), profile.address_bits);
        assert_eq!(limits.contexts(), profile.contexts);
        let memory = u64::from(rig.read(bar0::CAP_MEMORY_HI)) << 32
            | u64::from(rig.read(bar0::CAP_MEMORY_LO));
        assert_eq!(memory, profile.memory);
        assert_eq!(rig.read(bar0::SERIAL_LO), profile.serial as u32);
        assert!(rig.chip.strict_violations().is_empty());
    }
}

#[test]
fn a_write_to_any_read_only_register_changes_nothing_and_is_a_violation() {
    let mut rig = Rig::new(small());
    for register in bar0::REGISTERS {
        if register.access == Access::ReadOnly {
            let before = rig.read(*register);
            rig.write(*register, !before);
            assert_eq!(rig.read(*register), before, "{}", register.name);
            let name = register.name;
            let value = !before;
            let violation = Violation::ReadOnlyRegister { name, value };
            assert!(rig.chip.strict_violations().contains(&violation));
        }
    }
}

#[test]
fn an_access_that_is_not_four_aligned_bytes_reads_as_ones_and_is_a_violation() {
    let mut rig = Rig::new(small());
    let scratch = bar0::SCRATCH.offset;
    for (offset, length) in [(scratch, 2), (scratch + 2, 4), (scratch, 8), (scratch, 1)] {
        let mut data = vec![0; length];
        rig.device.read(BAR0_REGION, offset, &mut data);
        assert_eq!(data, vec![0xFF; length]);
        rig.device.write(BAR0_REGION, offset, &vec![1; length]);
    }
    assert_eq!(rig.read(bar0::SCRATCH), 0);
    assert_eq!(rig.chip.strict_violations().len(), 8);
}

#[test]
fn bars_read_as_ones_until_memory_space_is_enabled() {
    let mut rig = Rig::powered(small());
    assert_eq!(rig.read(bar0::IDENT), u32::MAX);
    rig.connect();
    assert_eq!(
        rig.read(bar0::IDENT),
        auk_asic::ident::ident_register(auk_asic::ident::Model::Silicon)
    );
}

#[test]
fn identify_tells_the_serial_number_and_the_firmware() {
    let mut rig = Rig::new(small());
    let at = rig.host_memory(4096);
    let dst = Operand::host(IOVA + at);
    assert_eq!(rig.admin(AdminCommand::Identify { dst }), Ok(0));
    let identify = Identify::parse(&rig.host.read(at, 128)).unwrap();
    assert_eq!(identify.serial, rig.chip.serial());
    assert_eq!(
        identify.firmware_version,
        auk_sim::firmware::FACTORY_VERSION.into_bits()
    );
    assert!(identify.product.starts_with(b"Auk A1"));
}

#[test]
fn admin_rings_that_are_not_mapped_fault_the_chip() {
    let mut rig = Rig::new(small());
    rig.write(bar0::CONTROL, 0);
    rig.write(bar0::ADMIN_SQ_HI, 0x7777);
    rig.write(bar0::CONTROL, Control::new().with_enable(true).into_bits());
    assert!(rig.status().faulted());
    assert_eq!(
        rig.read(bar0::FAULT),
        u32::from(auk_asic::Fault::DmaFault.code())
    );
}

#[test]
fn clearing_enable_deletes_everything_and_a_new_enable_starts_afresh() {
    let mut rig = Rig::new(small());
    let queue = rig.queue(1);
    rig.allocate(4096, 0).unwrap();
    rig.write(bar0::CONTROL, 0);
    assert!(!rig.status().ready());
    rig.enable();
    assert!(rig.status().ready());
    let command = rig.create_queue_for(&queue, 0);
    assert_eq!(rig.admin(command), Ok(0), "queue 1 is free again");
    assert_eq!(rig.allocate(4096, 0), Ok(4096), "so is its memory");
}

#[test]
fn an_admin_command_to_unmapped_memory_fails_alone() {
    let mut rig = Rig::new(small());
    let dst = Operand::host(0x5000);
    assert_eq!(
        rig.admin(AdminCommand::Identify { dst }),
        Err(Status::DmaFault)
    );
    let dst = rig.host_data(&[0; 128]);
    assert_eq!(rig.admin(AdminCommand::Identify { dst }), Ok(0));
}

#[test]
fn telemetry_is_the_same_table_in_the_bar_and_in_its_log_page() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    for _ in 0..3 {
        queue.run(&mut rig, auk_asic::io::IoCommand::Nop).unwrap();
    }
    let mut page = [0; 128];
    rig.device.read(BAR0_REGION, bar0::TELEMETRY, &mut page);
    let table = Telemetry::parse(&page).unwrap();
    assert_eq!((table.commands_ok, table.queues), (3, 1));
    assert_eq!(table.memory_total, rig.chip.profile().memory);
    let at = rig.host_memory(4096);
    let length = rig.admin(AdminCommand::GetLog {
        dst: Operand::host(IOVA + at),
        page: LogPage::Telemetry,
        offset: 0,
        length: 4096,
    });
    assert_eq!(length, Ok(128));
    let log = Telemetry::parse(&rig.host.read(at, 128)).unwrap();
    assert_eq!(log.commands_ok, 3);
}

#[test]
fn a_log_page_is_cut_at_what_was_asked_for() {
    let mut rig = Rig::new(small());
    let at = rig.host_memory(4096);
    let length = rig.admin(AdminCommand::GetLog {
        dst: Operand::host(IOVA + at),
        page: LogPage::Crash,
        offset: 0,
        length: 2,
    });
    assert_eq!(length, Ok(128), "the result is the whole page's length");
    assert_eq!(CrashLog::parse(&rig.host.read(at, 128)), Ok(None));
    let beyond = rig.admin(AdminCommand::GetLog {
        dst: Operand::host(IOVA + at),
        page: LogPage::Crash,
        offset: u32::MAX,
        length: 64,
    });
    assert_eq!(beyond, Ok(128));
}

#[test]
fn the_self_test_passes_and_counts_for_this_generation() {
    for profile in [small(), ChipProfile::fpga(7)] {
        let mut rig = Rig::new(profile);
        assert_eq!(rig.vitals().self_test, SelfTest::NotRun);
        let passed = u64::from(SelfTest::Passed.code());
        assert_eq!(rig.admin(AdminCommand::SelfTest), Ok(passed));
        eventually("the vital signs", || {
            rig.vitals().self_test_passed().then_some(())
        });
    }
}

#[test]
fn a_chip_that_is_dropped_leaves_no_thread_and_no_descriptor() {
    let count = |what: &str| std::fs::read_dir(what).unwrap().count();
    // Other tests of this process come and go; this one only bounds what its own chips leave.
    for _ in 0..50 {
        drop(Rig::new(small()));
    }
    eventually("the threads and descriptors of 50 chips to go", || {
        (count("/proc/self/task") < 50 && count("/proc/self/fd") < 150).then_some(())
    });
}
