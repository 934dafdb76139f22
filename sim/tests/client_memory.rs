//! The client's memory: what the chip holds of it, and that it lets go of what is taken back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use auk_asic::admin::AdminCommand;
use auk_asic::bar0;
use auk_asic::io::IoCommand;
use auk_asic::submission::Operand;
use auk_asic::{Fault, Status};
use auk_sim::Violation;
use auk_vfio_user::model::{DmaMap, DmaMemory, Protection};
use common::{HOST_BYTES, IOVA, Rig, eventually, small};

#[test]
fn an_unmap_in_the_middle_of_a_long_copy_ends_it_at_once() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    // A second view of the host's memory, at another address.
    let mut second = rig.host_map();
    second.iova = 0x10_0000_0000;
    rig.device.map(&second).unwrap();
    for _ in 0..20 {
        let copy = IoCommand::Copy {
            dst: Operand::local(0),
            src: Operand::host(0x10_0000_0000),
            length: HOST_BYTES,
        };
        let id = queue.submit(&mut rig, copy.encode());
        rig.device.unmap(0x10_0000_0000, HOST_BYTES);
        let done = queue.wait(&rig);
        assert_eq!(done.id, id);
        assert!(matches!(done.outcome, Ok(0) | Err(Status::DmaFault)));
        let mut second = rig.host_map();
        second.iova = 0x10_0000_0000;
        rig.device.map(&second).unwrap();
    }
}

#[test]
fn rings_that_are_unmapped_stop_their_queue() {
    let mut rig = Rig::new(small());
    let queue = rig.queue(1);
    // The admin rings are in the same range, so the device faults as well.
    rig.device.unmap(IOVA, HOST_BYTES);
    queue.ring_at(&mut rig, 1);
    eventually("the queue to stop", || {
        (rig.read(bar0::STOPPED_LO) & 2 != 0).then_some(())
    });
    assert!(
        rig.chip
            .strict_violations()
            .contains(&Violation::RingNotMapped { queue: 1 })
    );
    assert!(!rig.status().faulted(), "nobody used the admin queue");
}

#[test]
fn rings_may_lie_in_a_mapping_a_page_and_stop_when_one_of_them_goes() {
    const PAGE: u64 = 4096;
    let mut rig = Rig::new(small());
    let mut queue = rig.queue_in(1, 9, 0);
    assert_eq!(rig.admin(AdminCommand::DeleteQueue { queue: 1 }), Ok(0));
    // The same memory, a page at a time, where nothing else is mapped.
    let pages = (queue.submissions..queue.park + PAGE).step_by(PAGE as usize);
    assert!(pages.clone().count() > 8, "rings of several pages");
    for page in pages {
        let map = DmaMap {
            iova: IOVA + HOST_BYTES + page,
            size: PAGE,
            protection: Protection::READ_WRITE,
            memory: Some(DmaMemory {
                fd: rig.host.fd(),
                offset: page,
            }),
        };
        rig.device.map(&map).unwrap();
    }
    let mut command = rig.create_queue_for(&queue, 0);
    if let AdminCommand::CreateQueue {
        submissions,
        completions,
        park,
        ..
    } = &mut command
    {
        for operand in [submissions, completions, park] {
            operand.address += HOST_BYTES;
        }
    }
    assert_eq!(rig.admin(command), Ok(0));
    // Two laps and a half, a NOP and a command with data in turns.
    let fill = |pattern| IoCommand::Fill {
        dst: Operand::host(IOVA),
        pattern,
        length: 8,
    };
    for round in 0..640 {
        assert_eq!(queue.run(&mut rig, IoCommand::Nop), Ok(0));
        assert_eq!(queue.run(&mut rig, fill(round)), Ok(0));
        assert_eq!(rig.host.load64(0), round);
    }
    rig.device
        .unmap(IOVA + HOST_BYTES + queue.submissions + PAGE, PAGE);
    queue.submit(&mut rig, IoCommand::Nop.encode());
    eventually("a violation", || {
        let found = rig.chip.strict_violations();
        found
            .contains(&Violation::RingNotMapped { queue: 1 })
            .then_some(())
    });
}

#[test]
fn admin_rings_that_are_unmapped_fault_the_chip() {
    let mut rig = Rig::new(small());
    rig.device.unmap(IOVA, HOST_BYTES);
    rig.submit_admin(AdminCommand::SelfTest);
    eventually("the fault", || rig.status().faulted().then_some(()));
    assert_eq!(rig.read(bar0::FAULT), u32::from(Fault::DmaFault.code()));
}

#[test]
fn memory_that_its_owner_could_shrink_is_sealed_and_what_is_too_short_is_refused() {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    let rig = Rig::new(small());
    let seals = fcntl(rig.host.fd(), FcntlArg::F_GET_SEALS).unwrap();
    assert!(SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK));
    let mut map = rig.host_map();
    map.iova = 0x10_0000_0000;
    map.size = HOST_BYTES + 4096;
    assert!(rig.device.map(&map).is_err());
}
