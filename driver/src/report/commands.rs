//! The last commands of a queue, as its rings hold them.

use std::collections::HashMap;

use auk_asic::admin::AdminOpcode;
use auk_asic::completion::{Completion, Tail};
use auk_asic::io::IoOpcode;
use auk_asic::submission::{FLAG_FENCE, Space, Submission};
use serde::Serialize;
use zerocopy::FromBytes;

use crate::dma::DmaBuffer;

/// Most commands of one queue that a report has.
const MOST: usize = 128;

/// The last commands of one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecentCommands {
    /// Its number; 0 is the admin queue.
    pub queue: u16,
    /// Entries of its rings.
    pub depth: usize,
    /// As far as can be told the oldest first. Those of a queue that is in use may be torn.
    pub commands: Vec<RecentCommand>,
}

/// A command, without anything of what it works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecentCommand {
    /// The identifier that it was submitted under.
    pub id: u16,
    /// The opcode's name, or its code where there is no such opcode.
    pub opcode: String,
    /// It starts after all earlier ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fenced: bool,
    /// Where it writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<String>,
    /// Where it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// Its third operand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<String>,
    /// Bytes, of those that move some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The program's handle, of a launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<u64>,
    /// How it ended; `None` while no completion of it is in the ring.
    pub status: Option<String>,
}

/// Where the rings of a queue are, for whoever does not own it.
#[derive(Debug)]
pub(crate) struct RingView {
    pub(crate) memory: DmaBuffer,
    /// Where in it the completions begin.
    pub(crate) completions: usize,
    pub(crate) depth: usize,
    pub(crate) tag: u16,
}

impl RingView {
    /// The last commands. Both sides may write meanwhile: whatever is found is looked at word by word, and nothing of it is an index.
    pub(crate) fn recent(&self, queue: u16) -> RecentCommands {
        let mut ring = self.read::<Submission>(0);
        let (ended, head) = self.ended(queue);
        // Of two with one identifier the later counts.
        let by_id: HashMap<u16, &Tail> =
            ended.iter().map(|tail| (tail.command_id(), tail)).collect();
        let status = |id: u16| {
            let tail = by_id.get(&id)?;
            Some(match tail.status() {
                Ok(status) => status.name().to_owned(),
                Err(_) => format!("{:#x}", tail.status_code()),
            })
        };
        let empty = Submission::default();
        let runs = |entry: &&Submission| **entry != empty && !by_id.contains_key(&entry.command_id);
        // As many were submitted as have ended and run; the next is written where the oldest lies.
        let tail = head + ring.iter().filter(runs).count();
        if let Some(oldest) = tail.checked_rem(ring.len()) {
            ring.rotate_left(oldest);
        }
        ring.retain(|entry| *entry != empty);
        let skipped = ring.len().saturating_sub(MOST);
        let commands = ring.iter().skip(skipped);
        RecentCommands {
            queue,
            depth: self.depth,
            commands: commands
                .map(|entry| RecentCommand::new(queue, entry, status(entry.command_id)))
                .collect(),
        }
    }

    /// The completions of this life of the queue that are in the ring, oldest first, and the place of the next.
    fn ended(&self, queue: u16) -> (Vec<Tail>, usize) {
        let mut tails: Vec<Tail> = self
            .read::<Completion>(self.completions)
            .iter()
            .map(|entry| Tail::from_bits(entry.tail))
            .collect();
        // The phase changes where the newest end and the oldest begin.
        let newest = tails.first().map(Tail::phase);
        let oldest = tails.iter().position(|tail| Some(tail.phase()) != newest);
        let head = oldest.unwrap_or(0);
        tails.rotate_left(head);
        tails.retain(|tail| {
            tail.into_bits() != 0 && tail.tag() == self.tag && tail.queue() == queue
        });
        (tails, head)
    }

    fn read<T: FromBytes>(&self, offset: usize) -> Vec<T> {
        let bytes = self.memory.to_vec(offset, self.depth * size_of::<T>());
        // Rings that are not whole are none.
        let bytes = bytes.unwrap_or_default();
        bytes
            .chunks_exact(size_of::<T>())
            .filter_map(|chunk| T::read_from_bytes(chunk).ok())
            .collect()
    }
}

impl RecentCommand {
    fn new(queue: u16, entry: &Submission, status: Option<String>) -> Self {
        let operand = |space: u8, address: u64| {
            let space = match Space::parse(space) {
                Ok(Space::Host) if address == 0 => return None,
                Ok(space) => space.name().to_lowercase(),
                Err(_) => format!("space {space}"),
            };
            Some(format!("{space} {address:#x}"))
        };
        let io = IoOpcode::parse(entry.opcode).ok().filter(|_| queue != 0);
        let name = match queue {
            0 => AdminOpcode::parse(entry.opcode).ok().map(AdminOpcode::name),
            _ => io.map(IoOpcode::name),
        };
        let [bytes, program, ..] = entry.args;
        let moves = matches!(io, Some(IoOpcode::Copy | IoOpcode::Fill | IoOpcode::Launch));
        Self {
            id: entry.command_id,
            opcode: name.map_or_else(|| format!("{:#x}", entry.opcode), str::to_owned),
            fenced: entry.flags & FLAG_FENCE != 0,
            dst: operand(entry.dst_space, entry.dst),
            src: operand(entry.src_space, entry.src),
            aux: operand(entry.aux_space, entry.aux),
            bytes: moves.then_some(bytes),
            program: (io == Some(IoOpcode::Launch)).then_some(program),
            status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dma::DmaSpace;
    use auk_asic::Status;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    const DEPTH: usize = 4;
    const COMPLETIONS: usize = 4096;
    const TAG: u16 = 7;

    fn view() -> RingView {
        RingView {
            memory: DmaSpace::new().alloc(8192).unwrap(),
            completions: COMPLETIONS,
            depth: DEPTH,
            tag: TAG,
        }
    }

    /// Submits commands 0 to `count`, each once that four before it has ended; all but the last `running` have.
    fn run(view: &RingView, count: u16, running: u16) {
        for n in 0..count {
            let entry = Submission {
                opcode: IoOpcode::Fill.code(),
                command_id: 100 + n,
                dst: 0x10_0000,
                args: [64, 0xDEAD_BEEF, 0, 0],
                ..Submission::default()
            };
            let place = usize::from(n) % DEPTH;
            view.memory
                .write(place * size_of::<Submission>(), entry.as_bytes())
                .unwrap();
        }
        for n in 0..count - running {
            let tail = Tail::new()
                .with_phase((n / DEPTH as u16).is_multiple_of(2))
                .with_tag(TAG)
                .with_queue(1)
                .with_command_id(100 + n)
                .with_status_code(Status::Success.code());
            let place = usize::from(n) % DEPTH;
            let at = COMPLETIONS + place * size_of::<Completion>();
            view.memory
                .write(at + 8, &tail.into_bits().to_le_bytes())
                .unwrap();
        }
    }

    #[test]
    fn the_last_commands_come_in_their_order_and_those_that_run_have_no_status() {
        for (count, running) in [
            (0, 0),
            (1, 1),
            (1, 0),
            (3, 1),
            (4, 4),
            (6, 2),
            (8, 0),
            (11, 3),
            (11, 4),
        ] {
            let view = view();
            run(&view, count, running);
            let found = view.recent(1).commands;
            let ids: Vec<u16> = found.iter().map(|command| command.id).collect();
            let first = count.saturating_sub(DEPTH as u16);
            let expected: Vec<u16> = (first..count).map(|n| 100 + n).collect();
            assert_eq!(ids, expected, "{count} commands, {running} run");
            let open = found.iter().filter(|command| command.status.is_none());
            assert_eq!(open.count(), usize::from(running), "{count}, {running}");
        }
    }

    #[test]
    fn a_command_is_told_by_its_operands_and_not_by_what_it_fills_them_with() {
        let view = view();
        run(&view, 1, 0);
        let text = serde_json::to_string(&view.recent(1)).unwrap();
        assert!(
            text.contains(r#""opcode":"Fill","dst":"host 0x100000","bytes":64,"status":"Success""#),
            "{text}"
        );
        assert!(!text.contains("3735928559"), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_lies_in_the_rings_is_a_report(bytes in proptest::collection::vec(any::<u8>(), 8192), queue in 0u16..2) {
            let view = view();
            view.memory.write(0, &bytes).unwrap();
            let found = view.recent(queue).commands;
            prop_assert!(found.len() <= DEPTH);
        }
    }
}
