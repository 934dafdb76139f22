//! What submitting, polling and waiting can call, as read from the machine code of an optimised build.
//!
//! `cargo bench -p auk-driver --bench hot_path` disassembles this very program, and follows every call from the functions below. It fails
//! if one leads to what a panic, an allocation, a lock or a system call needs of another library, or to nobody knows where. What the
//! driver calls only when something is wrong, or when nobody is in a hurry, is named in [`EXITS`] and not followed.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a check that cannot go on has nothing to report"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env;
use std::hint::black_box;
use std::process::{Command as Process, ExitCode};

use auk_driver::{Command, Completion, Deadline, Error, IoQueue, Ticket};

#[inline(never)]
fn hot_submit(queue: &mut IoQueue, command: &Command<'_>) -> Result<Ticket, Error> {
    queue.submit(command)
}

#[inline(never)]
fn hot_submit_batch(
    queue: &mut IoQueue,
    commands: &[Command<'_>],
    tickets: &mut Vec<Ticket>,
) -> Result<(), Error> {
    queue.submit_batch(commands, tickets)
}

#[inline(never)]
fn hot_poll(queue: &mut IoQueue) -> Option<Completion> {
    queue.poll()
}

#[inline(never)]
fn hot_wait(queue: &mut IoQueue, ticket: Ticket, deadline: Deadline) -> Result<u64, Error> {
    queue.wait(ticket, deadline)
}

const HOT: [&str; 4] = ["hot_submit", "hot_submit_batch", "hot_poll", "hot_wait"];

/// Where the hot path may be left, and when that happens. A name is a part of a function's.
const EXITS: [(&str, &str); 14] = [
    ("IoQueue::kick", "the chip sleeps and must be woken"),
    (
        "wait_slowly",
        "nothing has come yet: a wait looks at the clock and at the chip",
    ),
    (
        "drop_slow",
        "the last handle of what a command held is dropped",
    ),
    ("grow_one", "the caller's list of tickets has no room"),
    ("IoQueue::die", "the queue has ended"),
    ("IoQueue::error_of", "the queue has ended"),
    ("IoQueue::failure", "a command has failed"),
    ("waited_in_vain", "a command that is waited for has failed"),
    ("Command::refusal", "a command is refused"),
    ("another_devices", "a command is refused"),
    ("out_of_reach", "a command is refused"),
    (
        "auk_driver::error::Error",
        "an error is made, moved or dropped",
    ),
    ("_Unwind_Resume", "what an exit calls has panicked"),
    ("panic_in_cleanup", "what an exit calls has panicked"),
];

/// What other libraries have and the hot path may call.
const PLAIN: [&str; 3] = ["memcpy", "memset", "memmove"];

fn main() -> ExitCode {
    // Kept in the program by this alone.
    black_box((
        hot_submit as fn(_, &_) -> _,
        hot_submit_batch as fn(_, &[_], _) -> _,
        hot_poll as fn(_) -> _,
        hot_wait as fn(_, _, _) -> _,
    ));
    let program = Program::read();
    let mut sound = true;
    for name in HOT {
        let found = program.follow(name);
        println!("{name}: {} functions", found.followed);
        for exit in &found.exits {
            println!("    may leave by {exit}");
        }
        for chain in &found.leads_out {
            println!("    LEADS OUT: {chain}");
            sound = false;
        }
    }
    match sound {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The functions of a program by address.
struct Program {
    functions: BTreeMap<u64, Function>,
    /// The function that a slot of the global offset table leads to; calls from one part of the program to another are by way of
    /// these. Those of other libraries have a name alone.
    slots: BTreeMap<u64, Place>,
}

#[derive(Default)]
struct Function {
    name: String,
    calls: BTreeSet<Place>,
}

/// Where a call leads.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Here(u64),
    Elsewhere(String),
}

/// What can be reached from a function.
#[derive(Default)]
struct Found {
    followed: usize,
    exits: BTreeSet<String>,
    leads_out: BTreeSet<String>,
}

fn objdump(options: &[&str]) -> String {
    let done = Process::new("objdump")
        .args(options)
        .arg(env::current_exe().expect("the path of this program"))
        .output()
        .expect("objdump; on Debian: apt-get install binutils");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

impl Program {
    /// This program, disassembled.
    fn read() -> Self {
        assert_eq!(
            env::consts::ARCH,
            "x86_64",
            "its instructions are read here"
        );
        let mut program = Self {
            functions: BTreeMap::new(),
            slots: objdump(&["--dynamic-reloc"])
                .lines()
                .filter_map(slot)
                .collect(),
        };
        let text = objdump(&["--disassemble", "--demangle", "--no-show-raw-insn"]);
        let mut function = Function::default();
        let mut start = 0;
        // What each register was last loaded with, of the slots.
        let mut loaded = BTreeMap::new();
        for line in text.lines() {
            if let Some((address, name)) = heading(line) {
                program
                    .functions
                    .insert(start, std::mem::take(&mut function));
                (start, function.name) = (address, name.to_owned());
                loaded.clear();
            } else if let Some((_, instruction)) = line.split_once('\t') {
                function
                    .calls
                    .extend(program.target(instruction.trim(), &mut loaded));
            }
        }
        program.functions.insert(start, function);
        program
    }

    /// Where an instruction leads, if it may leave its function.
    fn target(&self, instruction: &str, loaded: &mut BTreeMap<String, Place>) -> Option<Place> {
        let (operation, operand) = instruction.split_once(' ')?;
        let operand = operand.trim();
        let slot = || {
            let (_, comment) = operand.split_once('#')?;
            self.slots.get(&hex(comment.split_whitespace().next()?)?)
        };
        let jumps = operation.starts_with('j');
        if operation != "call" && !jumps {
            if operation == "mov"
                && let Some(place) = slot()
            {
                let register = operand.split_once(",%")?.1.split_whitespace().next()?;
                loaded.insert(format!("*%{register}"), place.clone());
            }
            return None;
        }
        let unknown = || Some(Place::Elsewhere(format!("what `{instruction}` finds")));
        if operand.starts_with("*%") {
            return match loaded.get(operand) {
                Some(place) => Some(place.clone()),
                // A `match` by a table.
                None if jumps => None,
                None => unknown(),
            };
        }
        if operand.starts_with('*') {
            return slot().cloned().or_else(unknown);
        }
        hex(operand.split_whitespace().next()?).map(Place::Here)
    }

    /// The function that an address is in.
    fn function(&self, address: u64) -> (u64, &Function) {
        let (start, function) = self
            .functions
            .range(..=address)
            .next_back()
            .expect("a function");
        (*start, function)
    }

    fn follow(&self, name: &str) -> Found {
        let path = format!("hot_path::{name}");
        let hashed = format!("{path}::h");
        let mut functions = self.functions.iter();
        let (root, _) = functions
            .find(|(_, function)| function.name == path || function.name.starts_with(&hashed))
            .expect("the function is in the program");
        let mut found = Found::default();
        let mut seen = BTreeSet::from([*root]);
        let mut next = VecDeque::from([(*root, path)]);
        while let Some((function, chain)) = next.pop_front() {
            found.followed += 1;
            for place in &self.functions[&function].calls {
                let (start, name) = match place {
                    Place::Here(address) => {
                        let (start, function) = self.function(*address);
                        (Some(start), &function.name)
                    }
                    Place::Elsewhere(name) => (None, name),
                };
                if start.is_some_and(|start| !seen.insert(start)) {
                    continue;
                }
                let chain = format!("{chain} -> {name}");
                if let Some((_, when)) = EXITS.iter().find(|(exit, _)| name.contains(exit)) {
                    found.exits.insert(format!("{name}: {when}"));
                } else if let Some(start) = start {
                    next.push_back((start, chain));
                } else if !PLAIN.iter().any(|plain| name.starts_with(plain)) {
                    found.leads_out.insert(chain);
                }
            }
        }
        found
    }
}

/// `0000000000012340 <name>:`
fn heading(line: &str) -> Option<(u64, &str)> {
    let (address, name) = line.strip_suffix(">:")?.split_once(" <")?;
    Some((hex(address)?, name))
}

/// `000000000005f2a8 R_X86_64_RELATIVE  *ABS*+0x0000000000012340`, or with a name of another library's.
fn slot(line: &str) -> Option<(u64, Place)> {
    let mut words = line.split_whitespace();
    let (at, _, value) = (hex(words.next()?)?, words.next()?, words.next()?);
    let place = match value.strip_prefix("*ABS*+") {
        Some(address) => Place::Here(hex(address)?),
        None => Place::Elsewhere(value.to_owned()),
    };
    Some((at, place))
}
