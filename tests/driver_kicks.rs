//! A chip that sleeps, behind a bus that cannot always wake it.
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod driver_support;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use auk_asic::bar0;
use auk_driver::bus::remote::Remote;
use auk_driver::bus::{BusError, DmaTarget, Function, Interrupt, IrqInfo, Region, RegionInfo};
use auk_driver::{Command, Deadline, Device, Error, OpenOptions, QueueOptions};
use driver_support::*;

/// A function that refuses to write KICK when told to.
struct Refusing {
    remote: Remote,
    refuses: AtomicBool,
    refused: AtomicU32,
}

impl Function for Refusing {
    fn name(&self) -> &str {
        self.remote.name()
    }

    fn region(&self, region: Region) -> Result<RegionInfo, BusError> {
        self.remote.region(region)
    }

    fn read(&self, region: Region, offset: u64, data: &mut [u8]) -> Result<(), BusError> {
        self.remote.read(region, offset, data)
    }

    fn write(&self, region: Region, offset: u64, data: &[u8]) -> Result<(), BusError> {
        let kick = region == Region::Bar0 && offset == bar0::KICK.offset;
        if kick && self.refuses.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(BusError::Refused {
                what: "writing a region".to_owned(),
                errno: std::io::ErrorKind::WouldBlock.into(),
            });
        }
        self.remote.write(region, offset, data)
    }

    fn interrupts(&self, kind: Interrupt) -> Result<IrqInfo, BusError> {
        self.remote.interrupts(kind)
    }

    fn enable_interrupts(
        &self,
        kind: Interrupt,
        eventfds: &[BorrowedFd<'_>],
    ) -> Result<(), BusError> {
        self.remote.enable_interrupts(kind, eventfds)
    }

    fn disable_interrupts(&self, kind: Interrupt) -> Result<(), BusError> {
        self.remote.disable_interrupts(kind)
    }

    fn reset(&self, deadline: Deadline) -> Result<(), BusError> {
        self.remote.reset(deadline)
    }

    fn dma(&self) -> Arc<dyn DmaTarget> {
        self.remote.dma()
    }
}

/// A device on `socket` whose chip is asked for things through a [`Refusing`].
fn refusing(socket: impl Into<std::os::fd::OwnedFd>) -> (Arc<Refusing>, Device) {
    let remote = Remote::from_socket("a sleeper", socket.into(), SOON.into()).unwrap();
    let function = Arc::new(Refusing {
        remote,
        refuses: AtomicBool::new(false),
        refused: AtomicU32::new(0),
    });
    let device = Device::from_function(function.clone(), &OpenOptions::default()).unwrap();
    (function, device)
}

/// Does `work` on a chip that had nothing to do for a while, until a kick was refused.
fn until_refused(function: &Refusing, mut work: impl FnMut()) {
    let end = Instant::now() + SOON;
    while function.refused.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < end, "the chip never sleeps");
        std::thread::sleep(Duration::from_millis(20));
        function.refuses.store(true, Ordering::SeqCst);
        work();
    }
}

#[test]
fn a_command_whose_kick_failed_keeps_its_ticket_and_is_kicked_again() {
    let chip = chip();
    let (_serving, socket) = chip.connect().unwrap();
    let (function, device) = refusing(socket);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let mut tickets = Vec::new();
    until_refused(&function, || {
        tickets.push(queue.submit(&Command::nop()).unwrap());
    });

    let last = tickets.pop().unwrap();
    let error = queue.wait(last, SOON).unwrap_err();
    assert!(matches!(error, Error::Bus { .. }), "{error}");

    function.refuses.store(false, Ordering::SeqCst);
    queue.wait(last, SOON).unwrap();
    for ticket in tickets {
        queue.wait(ticket, SOON).unwrap();
    }
}

#[test]
fn an_admin_command_whose_kick_failed_takes_no_slot_for_ever() {
    let chip = chip();
    let (_serving, socket) = chip.connect().unwrap();
    let (function, device) = refusing(socket);
    // More often than the admin queue is deep.
    for _ in 0..70 {
        function.refused.store(0, Ordering::SeqCst);
        until_refused(&function, || drop(device.event_log()));
        function.refuses.store(false, Ordering::SeqCst);
        device.event_log().unwrap();
    }
}
