//! A submission queue and its completion queue, in memory that the controller reaches through the IOMMU.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use auk_driver::mmio::Window;
use auk_driver::{DmaBuffer, DmaSpace};

use super::registers::{COMMAND_BYTES, COMPLETION_BYTES, Capabilities, PAGE};
use crate::eventfd::Vector;

/// A submission queue entry. NVM Express 1.0e, section 4.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command([u32; COMMAND_BYTES / 4]);

impl Command {
    pub(super) fn new(opcode: u8) -> Self {
        let mut words = [0; COMMAND_BYTES / 4];
        words[0] = u32::from(opcode);
        Self(words)
    }

    /// For a namespace (NSID).
    pub(super) fn namespace(mut self, number: u32) -> Self {
        self.0[1] = number;
        self
    }

    /// Its data (PRP Entry 1 and 2).
    pub(super) fn data(mut self, prp: [u64; 2]) -> Self {
        for (words, entry) in self.0[6..10].chunks_exact_mut(2).zip(prp) {
            words[0] = entry as u32;
            words[1] = (entry >> 32) as u32;
        }
        self
    }

    /// A Dword whose meaning depends on the opcode: 10 to 15.
    pub(super) fn dword(mut self, number: usize, value: u32) -> Self {
        self.0[number] = value;
        self
    }
}

/// A completion queue entry. NVM Express 1.0e, section 4.5.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    /// The command's identifier.
    pub(super) command: u16,
    /// Status code type and status code; 0 is success.
    pub(super) status: u16,
}

/// One queue pair; completion and submission queue have the same number and the same depth.
pub(super) struct QueuePair {
    number: u16,
    entries: u16,
    submissions: DmaBuffer,
    completions: DmaBuffer,
    tail_doorbell: usize,
    head_doorbell: usize,
    tail: u16,
    head: u16,
    /// What the phase tag is in entries that are new.
    phase: bool,
    next_command: u16,
    in_flight: BTreeSet<u16>,
}

impl QueuePair {
    pub(super) fn new(
        space: &DmaSpace,
        capabilities: Capabilities,
        number: u16,
        entries: u16,
    ) -> Result<Self> {
        // A queue begins at a page.
        let queue =
            |bytes: usize| space.alloc((usize::from(entries) * bytes).next_multiple_of(PAGE));
        Ok(Self {
            number,
            entries,
            submissions: queue(COMMAND_BYTES)?,
            completions: queue(COMPLETION_BYTES)?,
            tail_doorbell: capabilities.submission_tail(number),
            head_doorbell: capabilities.completion_head(number),
            tail: 0,
            head: 0,
            phase: true,
            next_command: 0,
            in_flight: BTreeSet::new(),
        })
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    pub(super) fn entries(&self) -> u16 {
        self.entries
    }

    pub(super) fn submissions(&self) -> u64 {
        self.submissions.iova()
    }

    pub(super) fn completions(&self) -> u64 {
        self.completions.iova()
    }

    /// Writes a command into the queue and rings its doorbell; the command's identifier.
    pub(super) fn submit(&mut self, window: &Window, mut command: Command) -> Result<u16> {
        // A queue is full with one entry less than it has (section 4.1.2).
        ensure!(
            self.in_flight.len() + 1 < usize::from(self.entries),
            "queue {} is full",
            self.number
        );
        let identifier = self.next_command;
        self.next_command = identifier.wrapping_add(1);
        self.in_flight.insert(identifier);
        command.0[0] |= u32::from(identifier) << 16;
        let bytes: Vec<u8> = command
            .0
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let entry = usize::from(self.tail) * COMMAND_BYTES;
        self.submissions.write(entry, &bytes)?;
        self.tail = (self.tail + 1) % self.entries;
        window.write_u32(self.tail_doorbell, u32::from(self.tail))?;
        Ok(identifier)
    }

    /// Waits until all commands have completed. It looks only when the interrupt says so.
    pub(super) fn wait(&mut self, window: &Window, interrupt: &Vector) -> Result<Vec<Completion>> {
        let mut done = Vec::new();
        while !self.in_flight.is_empty() {
            interrupt.wait().with_context(|| {
                format!(
                    "queue {}: {done:?} have completed, {:?} have not",
                    self.number, self.in_flight
                )
            })?;
            let before = done.len();
            while let Some(completion) = self.next()? {
                done.push(completion);
            }
            if done.len() > before {
                window.write_u32(self.head_doorbell, u32::from(self.head))?;
            }
        }
        Ok(done)
    }

    fn next(&mut self) -> Result<Option<Completion>> {
        let entry = usize::from(self.head) * COMPLETION_BYTES;
        // Dwords 2 and 3, with the phase tag, at once.
        let word = self.completions.load(entry + 8)?;
        if (word >> 48 & 1 == 1) != self.phase {
            return Ok(None);
        }
        let (queue, command, status) = (
            (word >> 16) as u16,
            (word >> 32) as u16,
            (word >> 49) as u16,
        );
        ensure!(
            queue == self.number && self.in_flight.remove(&command),
            "queue {} has a completion of command {command} of queue {queue}, which is not in flight",
            self.number
        );
        self.head = (self.head + 1) % self.entries;
        if self.head == 0 {
            self.phase = !self.phase;
        }
        // Without the bits More and Do Not Retry.
        let status = status & 0x7FF;
        Ok(Some(Completion { command, status }))
    }
}

/// The PRP entries of a transfer from or to whole pages (section 4.3), and the list that must live as long as the command.
pub(super) fn prp(space: &DmaSpace, pages: &[u64]) -> Result<([u64; 2], Option<DmaBuffer>)> {
    ensure!(
        !pages.is_empty() && pages.len() <= 1 + PAGE / 8,
        "{} pages are no transfer with one list",
        pages.len()
    );
    Ok(match *pages {
        [first] => ([first, 0], None),
        [first, second] => ([first, second], None),
        [first, ref rest @ ..] => {
            let list = space.alloc(PAGE)?;
            let bytes: Vec<u8> = rest.iter().flat_map(|page| page.to_le_bytes()).collect();
            list.write(0, &bytes)?;
            ([first, list.iova()], Some(list))
        }
        [] => ([0, 0], None),
    })
}
