//! Contexts, queues that misbehave, and aborts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use auk_asic::Status;
use auk_asic::admin::{AdminCommand, Window};
use auk_asic::bar0;
use auk_asic::event::{Event, EventCode, EventResult};
use auk_asic::io::IoCommand;
use auk_asic::program::Program;
use auk_asic::submission::Operand;
use auk_sim::Violation;
use common::{HOST_BYTES, IOVA, Rig, eventually, small};
use zerocopy::IntoBytes;

fn create_context(rig: &mut Rig, windows: &[Window], memory: u64) -> Result<u32, Status> {
    let list = rig.host_data(windows.as_bytes());
    let context = rig.admin(AdminCommand::CreateContext {
        windows: list,
        count: windows.len() as u32,
        memory,
    });
    context.map(|context| context as u32)
}

/// A context that may touch 8 KiB of host memory and 64 KiB of its own.
fn context(rig: &mut Rig) -> (u32, u64) {
    let base = IOVA + rig.host_memory(8192);
    let window = Window { base, length: 8192 };
    (create_context(rig, &[window], 64 << 10).unwrap(), base)
}

#[test]
fn a_context_reaches_its_windows_and_nothing_beyond() {
    let mut rig = Rig::new(small());
    let (context, base) = context(&mut rig);
    let mut queue = rig.queue_in(1, 4, context);
    let own = Operand::local(rig.allocate(8192, context).unwrap());
    for (address, length, expected) in [
        (base, 8192, Ok(0)),
        (base + 8191, 1, Ok(0)),
        (base + 8191, 2, Err(Status::AccessDenied)),
        (base - 1, 1, Err(Status::AccessDenied)),
        (base - 1, 2, Err(Status::AccessDenied)),
        (u64::MAX, 1, Err(Status::AccessDenied)),
    ] {
        let host = Operand::host(address);
        for (dst, src) in [(own, host), (host, own)] {
            let copy = IoCommand::Copy { dst, src, length };
            assert_eq!(queue.run(&mut rig, copy), expected, "{copy:?}");
        }
    }
}

#[test]
fn a_context_reaches_its_own_device_memory_only() {
    let mut rig = Rig::new(small());
    let (context, base) = context(&mut rig);
    let mut queue = rig.queue_in(1, 4, context);
    let own = rig.allocate(4096, context).unwrap();
    let owners = rig.allocate(4096, 0).unwrap();
    for (address, length, expected) in [
        (own, 4096, Ok(0)),
        (own + 4095, 2, Err(Status::AccessDenied)),
        (owners, 1, Err(Status::AccessDenied)),
        (0, 1, Err(Status::AccessDenied)),
    ] {
        let copy = IoCommand::Copy {
            dst: Operand::host(base),
            src: Operand::local(address),
            length,
        };
        assert_eq!(queue.run(&mut rig, copy), expected, "{copy:?}");
    }
}

#[test]
fn a_context_launches_its_own_programs_only() {
    let mut rig = Rig::new(small());
    let (context, base) = context(&mut rig);
    let mut queue = rig.queue_in(1, 4, context);
    let own = rig.load(Program::Checksum, context).unwrap();
    let owners = rig.load(Program::Checksum, 0).unwrap();
    let launch = |program| IoCommand::Launch {
        program,
        rows: 0,
        dst: Operand::host(0),
        src: Operand::host(base),
        params: Operand::host(0),
        length: 64,
    };
    assert!(queue.run(&mut rig, launch(own)).is_ok());
    assert_eq!(
        queue.run(&mut rig, launch(owners)),
        Err(Status::AccessDenied)
    );
}

#[test]
fn a_context_has_no_more_memory_than_it_was_given() {
    let mut rig = Rig::new(small());
    let (context, _) = context(&mut rig);
    let first = rig.allocate(60 << 10, context).unwrap();
    assert_eq!(rig.allocate(8 << 10, context), Err(Status::OutOfMemory));
    let free = AdminCommand::FreeMemory { address: first };
    assert_eq!(rig.admin(free), Ok(0));
    assert!(rig.allocate(8 << 10, context).is_ok());
    assert_eq!(rig.allocate(4096, 77), Err(Status::InvalidContext));
}

#[test]
fn a_context_with_queues_is_busy_and_takes_everything_along_when_it_ends() {
    let mut rig = Rig::new(small());
    let (context, _) = context(&mut rig);
    rig.queue_in(1, 4, context);
    let memory = rig.allocate(4096, context).unwrap();
    let delete = AdminCommand::DeleteContext { context };
    assert_eq!(rig.admin(delete), Err(Status::Busy));
    assert_eq!(rig.admin(AdminCommand::DeleteQueue { queue: 1 }), Ok(0));
    assert_eq!(rig.admin(delete), Ok(0));
    assert_eq!(rig.admin(delete), Err(Status::InvalidContext));
    let free = AdminCommand::FreeMemory { address: memory };
    assert_eq!(rig.admin(free), Err(Status::OutOfRange));
}

#[test]
fn a_context_whose_memory_the_owner_s_command_uses_is_busy() {
    let mut rig = Rig::new(small());
    let (context, _) = context(&mut rig);
    let memory = rig.allocate(4096, context).unwrap();
    let mut owners = rig.queue(1);
    let wait = IoCommand::Wait {
        src: Operand::local(memory),
        value: 1,
        timeout_ms: 0,
    };
    let command_id = owners.submit(&mut rig, wait.encode());
    // The chip has seen the doorbell when it answers, and takes its queues before admin commands.
    rig.read(bar0::VERSION);
    let delete = AdminCommand::DeleteContext { context };
    assert_eq!(rig.admin(delete), Err(Status::Busy));
    let abort = AdminCommand::Abort {
        queue: 1,
        command_id,
    };
    assert_eq!(rig.admin(abort), Ok(0));
    assert_eq!(owners.wait(&rig).outcome, Err(Status::Aborted));
    assert_eq!(rig.admin(delete), Ok(0));
}

#[test]
fn windows_that_make_no_sense_are_refused() {
    let mut rig = Rig::new(small());
    for (base, length, status) in [
        (IOVA + 1, 4096, Status::Misaligned),
        (IOVA, 100, Status::Misaligned),
        (IOVA, 0, Status::InvalidField),
        (u64::MAX - 4095, 8192, Status::InvalidField),
    ] {
        let window = Window { base, length };
        assert_eq!(create_context(&mut rig, &[window], 0), Err(status));
    }
    let many = vec![
        Window {
            base: IOVA,
            length: 4096
        };
        17
    ];
    assert_eq!(
        create_context(&mut rig, &many, 0),
        Err(Status::InvalidField)
    );
}

#[test]
fn queues_that_cannot_be_are_refused() {
    let mut rig = Rig::new(small());
    let queue = rig.queue(1);
    let good = rig.create_queue_for(&queue, 0);
    let change = |change: fn(&mut auk_asic::admin::QueueShape, &mut Operand, &mut u32)| {
        let AdminCommand::CreateQueue {
            mut submissions,
            completions,
            park,
            mut shape,
            mut context,
            coalescing,
        } = good
        else {
            unreachable!()
        };
        shape = shape.with_queue(2);
        change(&mut shape, &mut submissions, &mut context);
        AdminCommand::CreateQueue {
            submissions,
            completions,
            park,
            shape,
            context,
            coalescing,
        }
    };
    for (command, status) in [
        (good, Status::InvalidQueue),
        (
            change(|shape, _, _| shape.set_queue(0)),
            Status::InvalidQueue,
        ),
        (
            change(|shape, _, _| shape.set_queue(33)),
            Status::InvalidQueue,
        ),
        (
            change(|shape, _, _| shape.set_depth_log2(13)),
            Status::InvalidField,
        ),
        (
            change(|shape, _, _| shape.set_depth_log2(0)),
            Status::InvalidField,
        ),
        (
            change(|shape, _, _| shape.set_vector(33)),
            Status::InvalidField,
        ),
        (change(|_, ring, _| ring.address += 64), Status::Misaligned),
        (change(|_, ring, _| ring.address = 0x5000), Status::DmaFault),
        (
            change(|_, ring, _| *ring = Operand::local(0x1000)),
            Status::InvalidField,
        ),
        (change(|_, _, context| *context = 9), Status::InvalidContext),
    ] {
        assert_eq!(rig.admin(command), Err(status), "{command:?}");
    }
}

#[test]
fn a_doorbell_beyond_the_ring_stops_its_queue_alone_and_is_a_violation() {
    let mut rig = Rig::new(small());
    let (queue, mut other) = (rig.queue_in(1, 4, 0), rig.queue(2));
    let event = rig.await_event();
    queue.ring_at(&mut rig, 17);
    eventually("the queue to stop", || {
        rig.status().queue_stopped().then_some(())
    });
    assert_eq!(rig.read(bar0::STOPPED_LO), 1 << 1);
    let violation = Violation::DoorbellBeyondRing {
        queue: 1,
        tail: 17,
        completed: 0,
        depth: 16,
    };
    assert_eq!(rig.chip.strict_violations(), [violation]);
    let done = rig.wait_admin();
    assert_eq!(done.id, event);
    let told = Event::parse(EventResult::from_bits(done.outcome.unwrap())).unwrap();
    assert_eq!((told.code, told.argument), (EventCode::QueueStopped, 1));
    assert_eq!(other.run(&mut rig, IoCommand::Nop), Ok(0));
    // The queue's next life is a good one.
    assert_eq!(rig.admin(AdminCommand::DeleteQueue { queue: 1 }), Ok(0));
    assert!(!rig.status().queue_stopped());
    let mut again = rig.queue_in(1, 4, 0);
    assert_eq!(again.run(&mut rig, IoCommand::Nop), Ok(0));
}

#[test]
fn a_full_ring_is_no_overrun() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue_in(1, 4, 0);
    for _ in 0..20 {
        for _ in 0..16 {
            queue.push(&rig, IoCommand::Nop.encode());
        }
        queue.ring(&mut rig);
        for _ in 0..16 {
            assert_eq!(queue.wait(&rig).outcome, Ok(0));
        }
    }
    assert!(rig.chip.strict_violations().is_empty());
}

#[test]
fn a_queue_made_anew_completes_with_its_new_tag() {
    let mut rig = Rig::new(small());
    let mut old = rig.queue(1);
    old.submit(&mut rig, IoCommand::Nop.encode());
    old.wait(&rig);
    assert_eq!(rig.admin(AdminCommand::DeleteQueue { queue: 1 }), Ok(0));
    let mut new = rig.queue(1);
    assert_ne!(old.tag, new.tag);
    assert_eq!(new.run(&mut rig, IoCommand::Nop), Ok(0));
    assert_eq!(old.poll(&rig), None, "nothing more for the old life");
}

#[test]
fn an_abort_ends_a_wait_and_what_is_queued_behind_it_goes_on() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    let wait = IoCommand::Wait {
        src: Operand::local(0x1000),
        value: 1,
        timeout_ms: 0,
    };
    let stuck = queue.submit(&mut rig, wait.encode());
    let behind = queue.submit(&mut rig, IoCommand::Nop.encode());
    let last = queue.submit(&mut rig, IoCommand::Nop.encode());
    let abort = |command_id| AdminCommand::Abort {
        queue: 1,
        command_id,
    };
    assert_eq!(rig.admin(abort(behind)), Ok(0));
    let done = queue.poll(&rig).expect("posted before ABORT completes");
    assert_eq!((done.id, done.outcome), (behind, Err(Status::Aborted)));
    assert_eq!(rig.admin(abort(stuck)), Ok(0));
    let done = queue.poll(&rig).expect("posted before ABORT completes");
    assert_eq!((done.id, done.outcome), (stuck, Err(Status::Aborted)));
    assert_eq!(queue.wait(&rig).id, last);
    assert_eq!(rig.admin(abort(stuck)), Ok(1), "it had completed already");
    assert_eq!(rig.admin(abort(999)), Ok(1), "it is not known");
}

#[test]
fn a_wait_holds_up_no_other_queue_and_no_delete() {
    let mut rig = Rig::new(small());
    let (mut waiting, mut working) = (rig.queue(1), rig.queue(2));
    let wait = IoCommand::Wait {
        src: Operand::local(0x1000),
        value: 1,
        timeout_ms: 0,
    };
    waiting.submit(&mut rig, wait.encode());
    for _ in 0..100 {
        assert_eq!(working.run(&mut rig, IoCommand::Nop), Ok(0));
    }
    assert_eq!(rig.admin(AdminCommand::DeleteQueue { queue: 1 }), Ok(0));
    assert_eq!(
        waiting.poll(&rig),
        None,
        "an unfinished command is just gone"
    );
}

#[test]
fn memory_under_a_running_command_is_busy() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    let address = rig.allocate(4096, 0).unwrap();
    let wait = IoCommand::Wait {
        src: Operand::local(address + 64),
        value: 1,
        timeout_ms: 0,
    };
    let id = queue.submit(&mut rig, wait.encode());
    let free = AdminCommand::FreeMemory { address };
    eventually("the wait to run", || {
        (rig.admin(free) == Err(Status::Busy)).then_some(())
    });
    let abort = AdminCommand::Abort {
        queue: 1,
        command_id: id,
    };
    assert_eq!(rig.admin(abort), Ok(0));
    assert_eq!(rig.admin(free), Ok(0));
}

#[test]
fn a_register_read_does_not_wait_for_a_long_copy() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    for _ in 0..16 {
        let copy = IoCommand::Copy {
            dst: Operand::local(0),
            src: Operand::host(IOVA),
            length: HOST_BYTES,
        };
        queue.push(&rig, copy.encode());
    }
    queue.ring(&mut rig);
    let mut reads = 0;
    let mut done = 0;
    while done < 16 {
        assert_eq!(rig.read(bar0::VERSION), 0x0001_0000);
        reads += 1;
        while queue.poll(&rig).is_some() {
            done += 1;
        }
    }
    assert!(reads > 16, "{reads} reads during sixteen long copies");
}
