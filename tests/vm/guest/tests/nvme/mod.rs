//! QEMU's NVMe controller, driven through the bus and the DMA memory of this workspace by code that knows NVMe alone.

mod controller;
mod queue;
mod registers;

use std::hash::{BuildHasher, Hasher, RandomState};

use anyhow::{Result, bail, ensure};
use auk_driver::DmaBuffer;
use auk_vm::NVME_SERIAL;

use self::controller::{Controller, Namespace};
use self::queue::QueuePair;
use self::registers::{CAP, CC, CSTS, PAGE, VS, nvm};
use crate::function::Opened;
use crate::guest::Guest;
use crate::pci::NVME;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test(
        "registers_are_the_same_mapped_and_trapped",
        registers_are_the_same_mapped_and_trapped,
    ),
    test(
        "it_identifies_itself_as_the_command_line_says",
        it_identifies_itself_as_the_command_line_says,
    ),
    test(
        "a_mebibyte_comes_back_as_it_was_written",
        a_mebibyte_comes_back_as_it_was_written,
    ),
    test(
        "a_deleted_queue_is_unknown_and_can_be_created_again",
        a_deleted_queue_is_unknown_and_can_be_created_again,
    ),
    test(
        "an_flr_under_load_ends_all_dma_and_it_comes_back",
        an_flr_under_load_ends_all_dma_and_it_comes_back,
    ),
];

/// What is written and read back.
const BYTES: usize = 1 << 20;
/// Of one command: with 4 KiB pages this takes a PRP list.
const PIECE: usize = 128 << 10;

fn registers_are_the_same_mapped_and_trapped(guest: &Guest) -> Result<()> {
    let function = Opened::only(guest, NVME)?;
    let controller = Controller::start(&function)?;
    for offset in [CAP, CAP + 4, VS, CC, CSTS] {
        let (mapped, trapped) = (
            controller.window().read_u32(offset)?,
            function.read(offset)?,
        );
        ensure!(
            mapped == trapped,
            "the register at {offset:#x} is {mapped:#x} mapped and {trapped:#x} trapped"
        );
    }
    Ok(())
}

fn it_identifies_itself_as_the_command_line_says(guest: &Guest) -> Result<()> {
    let function = Opened::only(guest, NVME)?;
    let mut controller = Controller::start(&function)?;
    let identity = controller.identify()?;
    ensure!(
        identity.serial == NVME_SERIAL && identity.model == "QEMU NVMe Ctrl",
        "{identity:?}"
    );
    let namespace = controller.identify_namespace()?;
    ensure!(
        namespace.blocks * namespace.block_bytes as u64 >= BYTES as u64,
        "{namespace:?}"
    );
    controller.shut_down()
}

fn a_mebibyte_comes_back_as_it_was_written(guest: &Guest) -> Result<()> {
    let function = Opened::only(guest, NVME)?;
    let mut work = Work::start(&function)?;
    work.write_and_read_back(seed())?;
    work.controller.shut_down()
}

fn a_deleted_queue_is_unknown_and_can_be_created_again(guest: &Guest) -> Result<()> {
    let function = Opened::only(guest, NVME)?;
    let mut work = Work::start(&function)?;
    work.controller.delete_queue(&work.queue)?;
    work.queue = work.controller.create_queue()?;
    work.write_and_read_back(seed())
}

fn an_flr_under_load_ends_all_dma_and_it_comes_back(guest: &Guest) -> Result<()> {
    let function = Opened::only(guest, NVME)?;
    let mut work = Work::start(&function)?;
    work.write_and_read_back(seed())?;

    let target = function.space.alloc(BYTES)?;
    let lists = work.submit(nvm::READ, &pages(&target))?;
    function.reset()?;
    let (configuration, status) = (function.read(CC)?, function.read(CSTS)?);
    ensure!(
        configuration == 0 && status == 0,
        "after the reset CC is {configuration:#x} and CSTS {status:#x}"
    );
    let mark = vec![0xA5; BYTES];
    target.write(0, &mark)?;
    drop(lists);

    work.start_again()?;
    work.write_and_read_back(seed())?;
    ensure!(
        target.to_vec(0, BYTES)? == mark,
        "a read from before the reset has written memory after it"
    );
    Ok(())
}

/// A controller with an I/O queue.
struct Work<'a> {
    function: &'a Opened,
    controller: Controller<'a>,
    queue: QueuePair,
    namespace: Namespace,
    /// Of one command.
    piece: usize,
}

impl<'a> Work<'a> {
    fn start(function: &'a Opened) -> Result<Self> {
        let mut controller = Controller::start(function)?;
        let piece = PIECE.min(controller.identify()?.most_bytes);
        Ok(Self {
            namespace: controller.identify_namespace()?,
            queue: controller.create_queue()?,
            function,
            controller,
            piece,
        })
    }

    fn start_again(&mut self) -> Result<()> {
        self.controller.start_again()?;
        self.queue = self.controller.create_queue()?;
        Ok(())
    }

    /// Writes pseudo-random bytes, and reads them back into other pages, the last one first, so that nothing but the lists can
    /// tell where they go.
    fn write_and_read_back(&mut self, seed: u64) -> Result<()> {
        let space = &self.function.space;
        let (source, target) = (space.alloc(BYTES)?, space.alloc(BYTES)?);
        let data = noise(seed, BYTES);
        source.write(0, &data)?;
        self.transfer(nvm::WRITE, &pages(&source))?;
        let mut backwards = pages(&target);
        backwards.reverse();
        self.transfer(nvm::READ, &backwards)?;

        let read = target.to_vec(0, BYTES)?;
        let read = read.rchunks(PAGE);
        let differs = data
            .chunks(PAGE)
            .zip(read)
            .position(|(wrote, read)| wrote != read);
        if let Some(page) = differs {
            bail!("page {page} came back changed; the seed was {seed:#x}");
        }
        Ok(())
    }

    fn transfer(&mut self, opcode: u8, pages: &[u64]) -> Result<()> {
        let _lists = self.submit(opcode, pages)?;
        self.controller.finish(&mut self.queue)
    }

    fn submit(&mut self, opcode: u8, pages: &[u64]) -> Result<Vec<DmaBuffer>> {
        self.controller
            .submit(&mut self.queue, opcode, pages, self.namespace, self.piece)
    }
}

/// Where the function sees each page of a buffer.
fn pages(buffer: &DmaBuffer) -> Vec<u64> {
    (0..buffer.len() as u64)
        .step_by(PAGE)
        .map(|offset| buffer.iova() + offset)
        .collect()
}

/// A seed that no other run has.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Pseudo-random bytes: Marsaglia, "Xorshift RNGs", 2003.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}
