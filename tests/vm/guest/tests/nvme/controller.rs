//! An NVMe controller: bring-up, admin commands, reset.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use auk_driver::bus::{Function, Interrupt};
use auk_driver::mmio::Window;
use auk_driver::{Deadline, DmaBuffer};

use super::queue::{Command, Completion, QueuePair, prp};
use super::registers::*;
use crate::eventfd::Vector;
use crate::function::Opened;

const ADMIN_ENTRIES: u16 = 8;
/// The I/O queue's number, and its depth: a 1 MiB transfer in pieces of 128 KiB fits.
const IO_QUEUE: u16 = 1;
const IO_ENTRIES: u16 = 16;
/// The vector of the I/O queue; that of the admin queue is always 0 (NVM Express 1.0e, section 3.1.9).
const IO_VECTOR: u16 = 1;
/// The only namespace that QEMU has here.
const NAMESPACE: u32 = 1;
/// A controller may take as long as it says to be ready; software emulation on a busy machine gets this on top.
const MARGIN: Duration = Duration::from_secs(10);

/// What IDENTIFY says of a controller (section 5.11).
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) serial: String,
    pub(super) model: String,
    /// Most bytes of a command's data.
    pub(super) most_bytes: usize,
}

/// What IDENTIFY says of a namespace (section 5.11).
#[derive(Clone, Copy, Debug)]
pub(super) struct Namespace {
    pub(super) blocks: u64,
    pub(super) block_bytes: usize,
}

/// A controller that is enabled, with interrupts by MSI-X.
pub(super) struct Controller<'a> {
    function: &'a Opened,
    window: Window,
    capabilities: Capabilities,
    admin: QueuePair,
    admin_vector: Vector,
    io_vector: Vector,
}

impl<'a> Controller<'a> {
    /// Resets it by its own register, and enables it (section 7.6.1).
    pub(super) fn start(function: &'a Opened) -> Result<Self> {
        let window = function.map(MAPPED)?;
        let capabilities = Capabilities(read_u64(&window, CAP)?);
        ensure!(
            capabilities.smallest_page() == PAGE
                && capabilities.most_entries() >= u32::from(IO_ENTRIES),
            "a controller with {capabilities:?} is none that this test knows"
        );
        let mut controller = Self {
            admin: QueuePair::new(&function.space, capabilities, 0, ADMIN_ENTRIES)?,
            function,
            window,
            capabilities,
            admin_vector: Vector::new("interrupt of the admin queue")?,
            io_vector: Vector::new("interrupt of the I/O queue")?,
        };
        controller.enable()?;
        Ok(controller)
    }

    fn enable(&mut self) -> Result<()> {
        self.disable()?;
        let vectors = [self.admin_vector.as_fd(), self.io_vector.as_fd()];
        self.function
            .vfio
            .enable_interrupts(Interrupt::Msix, &vectors)?;
        let size = u32::from(ADMIN_ENTRIES - 1);
        self.window.write_u32(AQA, size << 16 | size)?;
        write_u64(&self.window, ASQ, self.admin.submissions())?;
        write_u64(&self.window, ACQ, self.admin.completions())?;
        self.window.write_u32(CC, CC_ENTRY_SIZES | CC_EN)?;
        self.wait_for("ready", CSTS_RDY, CSTS_RDY)
    }

    /// A controller reset: when it is not ready, its DMA has ended.
    pub(super) fn disable(&self) -> Result<()> {
        self.window.write_u32(CC, 0)?;
        self.wait_for("not ready", CSTS_RDY, 0)
    }

    /// Brings it up again after a reset through the bus, which has ended all commands.
    pub(super) fn start_again(&mut self) -> Result<()> {
        let space = &self.function.space;
        self.admin = QueuePair::new(space, self.capabilities, 0, ADMIN_ENTRIES)?;
        self.enable()
    }

    /// Shuts it down as before power goes (section 7.6.2).
    pub(super) fn shut_down(&self) -> Result<()> {
        let running = self.window.read_u32(CC)?;
        self.window.write_u32(CC, running | CC_SHN_NORMAL)?;
        self.wait_for("shut down", CSTS_SHST, CSTS_SHST_COMPLETE)
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn identify(&mut self) -> Result<Identity> {
        let page = self.identify_page(IDENTIFY_CONTROLLER, 0)?;
        let text = |from, length| -> Result<String> {
            let text = page.to_vec(from, length)?;
            Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
        };
        // MDTS: a power of two in pages, 0 for no limit; a list of one page is enough here.
        let list = 1 + PAGE / 8;
        let most_pages = match page.to_vec(77, 1)?[0] {
            0 => list,
            power => 1usize.checked_shl(power.into()).unwrap_or(list).min(list),
        };
        Ok(Identity {
            serial: text(4, 20)?,
            model: text(24, 40)?,
            most_bytes: most_pages * PAGE,
        })
    }

    pub(super) fn identify_namespace(&mut self) -> Result<Namespace> {
        let page = self.identify_page(IDENTIFY_NAMESPACE, NAMESPACE)?;
        // NSZE, FLBAS, and of the format that it names LBADS.
        let format = usize::from(page.to_vec(26, 1)?[0] & 0xF);
        let power = page.to_vec(128 + 4 * format + 2, 1)?[0];
        ensure!((9..=12).contains(&power), "blocks of 2^{power} bytes");
        Ok(Namespace {
            blocks: page.load(0)?,
            block_bytes: 1 << power,
        })
    }

    fn identify_page(&mut self, kind: u32, namespace: u32) -> Result<DmaBuffer> {
        let page = self.function.space.alloc(PAGE)?;
        let command = Command::new(admin::IDENTIFY)
            .namespace(namespace)
            .data([page.iova(), 0])
            .dword(10, kind);
        self.run("IDENTIFY", command)?;
        Ok(page)
    }

    /// Creates the I/O queue: section 5.3 and 5.4.
    pub(super) fn create_queue(&mut self) -> Result<QueuePair> {
        let queue = QueuePair::new(
            &self.function.space,
            self.capabilities,
            IO_QUEUE,
            IO_ENTRIES,
        )?;
        let numbers = u32::from(queue.entries() - 1) << 16 | u32::from(queue.number());
        let contiguous = 1;
        let interrupts = 1 << 1;
        let create = Command::new(admin::CREATE_COMPLETION_QUEUE)
            .data([queue.completions(), 0])
            .dword(10, numbers)
            .dword(11, u32::from(IO_VECTOR) << 16 | interrupts | contiguous);
        self.run("creating a completion queue", create)?;
        let create = Command::new(admin::CREATE_SUBMISSION_QUEUE)
            .data([queue.submissions(), 0])
            .dword(10, numbers)
            .dword(11, u32::from(queue.number()) << 16 | contiguous);
        self.run("creating a submission queue", create)?;
        Ok(queue)
    }

    /// Deletes the I/O queue, and has the controller say that it knows it no more: sections 5.5 and 5.6.
    pub(super) fn delete_queue(&mut self, queue: &QueuePair) -> Result<()> {
        for (what, opcode) in [
            (
                "deleting a submission queue",
                admin::DELETE_SUBMISSION_QUEUE,
            ),
            (
                "deleting a completion queue",
                admin::DELETE_COMPLETION_QUEUE,
            ),
        ] {
            let delete = Command::new(opcode).dword(10, queue.number().into());
            self.run(what, delete)?;
            let status = self.status_of(delete)?;
            // Invalid Queue Identifier is what the specification has for both; QEMU says Completion Queue Invalid of the second.
            ensure!(
                is_command_specific(status),
                "{what} for the second time: status {status:#x}"
            );
        }
        Ok(())
    }

    /// Submits reads or writes of `pages`, from block 0 on, in pieces of `piece` bytes; the lists must live until they are done.
    pub(super) fn submit(
        &self,
        queue: &mut QueuePair,
        opcode: u8,
        pages: &[u64],
        namespace: Namespace,
        piece: usize,
    ) -> Result<Vec<DmaBuffer>> {
        let mut lists = Vec::new();
        let blocks = piece / namespace.block_bytes;
        for (number, pages) in pages.chunks(piece / PAGE).enumerate() {
            let (entries, list) = prp(&self.function.space, pages)?;
            lists.extend(list);
            // Sections 6.8 and 6.9: the first block, and how many more.
            let command = Command::new(opcode)
                .namespace(NAMESPACE)
                .data(entries)
                .dword(10, u32::try_from(number * blocks)?)
                .dword(12, u32::try_from(blocks - 1)?);
            queue.submit(&self.window, command)?;
        }
        Ok(lists)
    }

    /// Waits until all transfers have completed, with success.
    pub(super) fn finish(&self, queue: &mut QueuePair) -> Result<()> {
        for completion in queue.wait(&self.window, &self.io_vector)? {
            ensure!(
                completion.status == 0,
                "a transfer ended as {completion:x?}"
            );
        }
        Ok(())
    }

    fn run(&mut self, what: &str, command: Command) -> Result<()> {
        let status = self.status_of(command).with_context(|| what.to_owned())?;
        ensure!(status == 0, "{what}: status {status:#x}");
        Ok(())
    }

    fn status_of(&mut self, command: Command) -> Result<u16> {
        let identifier = self.admin.submit(&self.window, command)?;
        match self.admin.wait(&self.window, &self.admin_vector)?[..] {
            [Completion { command, status }] if command == identifier => Ok(status),
            ref others => bail!("command {identifier} is completed by {others:?}"),
        }
    }

    fn wait_for(&self, what: &str, mask: u32, value: u32) -> Result<()> {
        let time = Duration::from_millis(self.capabilities.timeout()) + MARGIN;
        let deadline = Deadline::after(time);
        loop {
            let status = self.window.read_u32(CSTS)?;
            ensure!(status & CSTS_CFS == 0, "it failed, CSTS is {status:#x}");
            if status & mask == value {
                return Ok(());
            }
            ensure!(
                !deadline.is_over(),
                "not {what} after {} s, CSTS is {status:#x}",
                time.as_secs()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Two accesses of 32 bits are as good as one of 64 (section 3.1).
fn read_u64(window: &Window, offset: usize) -> Result<u64> {
    let (low, high) = (window.read_u32(offset)?, window.read_u32(offset + 4)?);
    Ok(u64::from(high) << 32 | u64::from(low))
}

fn write_u64(window: &Window, offset: usize, value: u64) -> Result<()> {
    window.write_u32(offset, value as u32)?;
    window.write_u32(offset + 4, (value >> 32) as u32)?;
    Ok(())
}
