//! What it costs to allocate and free memory for DMA, after as many operations as a job makes in weeks.
//!
//! `cargo bench --bench dma` prints a table: nanoseconds of an allocation and a free together, zeroing included, as a ratio to the first
//! thousand of the same run, and in how many pieces the free memory is by then. `--short` stops earlier.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot go on has nothing to report"
)]
#![allow(
    unsafe_code,
    reason = "memory is registered, which nothing else touches"
)]

#[path = "../results/mod.rs"]
mod results;

use std::ptr::NonNull;

use auk_driver::dma::{DmaBuffer, DmaSpace, HugePages, SpaceOptions};
use results::Results;

/// Operations that the others are compared with.
const ROUND: u64 = 1000;
/// Buffers that live at a time.
const LIVING: usize = 10_000;
const PAGE: usize = 4096;

fn main() {
    let short = std::env::args().any(|argument| argument == "--short");
    let most: u64 = if short { 100_000 } else { 10_000_000 };
    let mut results = Results::new("dma");

    results.table(
        "one buffer taken and one dropped, ns, by operations before; sizes mixed, 10,000 live",
    );
    for (name, sizes) in [
        ("64 B to 2 KiB", Sizes { least: 6, most: 11 }),
        (
            "4 KiB to 64 KiB",
            Sizes {
                least: 12,
                most: 16,
            },
        ),
        ("64 B to 64 KiB", Sizes { least: 6, most: 16 }),
    ] {
        wear(&mut results, name, &mut Buffers::new(sizes, LIVING), most);
    }

    results.table("one buffer taken and one dropped, ns, by how many live; 4 KiB to 64 KiB");
    let first = "with 100 buffers";
    for living in [100, 1_000, 10_000, 100_000] {
        let name = format!("with {living} buffers");
        let sizes = Sizes {
            least: 12,
            most: 16,
        };
        let mut buffers = Buffers::new(sizes, living);
        for _ in 0..2 * living {
            buffers.step();
        }
        let operations = if short { 20_000 } else { 500_000 };
        let cost = time(|| buffers.step(), operations);
        match living {
            100 => results.count(&name, cost, "ns"),
            _ => results.compared(&name, cost, "ns", first),
        }
        let zeroing = time(|| buffers.zero_one(), operations);
        results.count(format!("{name}: of that zeroing"), zeroing, "ns");
        results.count(format!("{name}: free pieces"), buffers.pieces() as f64, "");
    }

    results.table("memory of the job's own registered and dropped, ns, by operations before; 1 to 16 pages, 10,000 live");
    let mut places = Registrations::new(LIVING);
    wear(&mut results, "registered", &mut places, most.min(1_000_000));
    results.write();
}

/// Something that is allocated and freed at random.
trait Churn {
    /// Frees one and takes another.
    fn step(&mut self);
    /// In how many pieces what is free is.
    fn pieces(&self) -> u64;
}

/// The curve, in decades of operations.
fn wear(results: &mut Results, name: &str, churn: &mut impl Churn, most: u64) {
    // Memory that nobody had before is zero already, and comes cheaper: not what is compared with.
    for _ in 0..2 * LIVING {
        churn.step();
    }
    let first = format!("{name}, the first 10^3");
    results.count(&first, time(|| churn.step(), ROUND), "ns");
    let (mut done, mut decade) = (ROUND, 10 * ROUND);
    while decade <= most {
        // The last tenth of each decade is timed; all of it is done.
        let timed = decade / 10;
        for _ in done..decade - timed {
            churn.step();
        }
        let cost = time(|| churn.step(), timed);
        done = decade;
        let what = format!("{name}, up to 10^{}", decade.ilog10());
        results.compared(what, cost, "ns", &first);
        decade *= 10;
    }
    results.count(
        format!("{name}: free pieces then"),
        churn.pieces() as f64,
        "",
    );
}

/// Nanoseconds of this thread a step: the median of parts, so that other work on the machine counts for little.
fn time(mut step: impl FnMut(), steps: u64) -> f64 {
    let part = (steps / 20).max(50);
    let parts = (0..steps.div_ceil(part)).map(|_| {
        let start = results::thread_time();
        for _ in 0..part {
            step();
        }
        (results::thread_time() - start) / part as f64
    });
    results::median(parts.collect())
}

/// Marsaglia's xorshift: the same order in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Powers of two between which sizes are, each as often as the others.
#[derive(Clone, Copy)]
struct Sizes {
    least: u32,
    most: u32,
}

impl Sizes {
    fn pick(self, random: &mut Random) -> usize {
        let octaves = self.most - self.least;
        let octave = self.least + (random.next() >> 32) as u32 % octaves;
        (1 << octave) + 1 + (random.next() >> 32) as usize % (1 << octave)
    }
}

fn space() -> DmaSpace {
    DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never))
}

/// Buffers of a space, of which one at random is replaced in each step.
struct Buffers {
    space: DmaSpace,
    sizes: Sizes,
    living: Vec<Option<DmaBuffer>>,
    random: Random,
}

impl Buffers {
    fn new(sizes: Sizes, living: usize) -> Self {
        let (space, mut random) = (space(), Random(0x9E37_79B9_7F4A_7C15));
        let mut take = || Some(space.alloc(sizes.pick(&mut random)).expect("memory"));
        let living = (0..living).map(|_| take()).collect();
        Self {
            space,
            sizes,
            living,
            random,
        }
    }
}

impl Buffers {
    /// The part of a step that has nothing to do with where memory is.
    fn zero_one(&mut self) {
        let at = (self.random.next() >> 20) as usize % self.living.len();
        if let Some(buffer) = &self.living[at] {
            buffer.zero();
        }
    }
}

impl Churn for Buffers {
    fn step(&mut self) {
        let at = (self.random.next() >> 20) as usize % self.living.len();
        let length = self.sizes.pick(&mut self.random);
        self.living[at] = None;
        self.living[at] = Some(self.space.alloc(length).expect("memory"));
    }

    fn pieces(&self) -> u64 {
        self.space.usage().free_pieces
    }
}

/// Memory of which a slot at random is registered anew in each step, with a length at random: an IOVA range taken and one given
/// back, without new memory.
struct Registrations {
    living: Vec<Option<DmaBuffer>>,
    space: DmaSpace,
    memory: Box<[u8]>,
    random: Random,
}

/// Most pages of a registration, and of its slot.
const SLOT: usize = 16;

impl Registrations {
    fn new(count: usize) -> Self {
        let memory = vec![0; (count * SLOT + 1) * PAGE].into_boxed_slice();
        let mut new = Self {
            living: (0..count).map(|_| None).collect(),
            space: space(),
            memory,
            random: Random(0x9E37_79B9_7F4A_7C15),
        };
        for at in 0..count {
            new.register(at);
        }
        new
    }

    fn register(&mut self, at: usize) {
        let pages = 1 + (self.random.next() >> 40) as usize % SLOT;
        let start = self.memory.as_ptr().align_offset(PAGE) + at * SLOT * PAGE;
        let start = NonNull::from(&mut self.memory[start]);
        // SAFETY: the memory is dropped after the buffers, and nothing else uses it.
        let buffer = unsafe { self.space.register(start, pages * PAGE, ()) };
        self.living[at] = Some(buffer.expect("memory that is registered"));
    }
}

impl Churn for Registrations {
    fn step(&mut self) {
        let at = (self.random.next() >> 20) as usize % self.living.len();
        self.living[at] = None;
        self.register(at);
    }

    fn pieces(&self) -> u64 {
        self.space.usage().free_iova_pieces
    }
}
