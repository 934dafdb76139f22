//! A chip whose results are wrong now and then, and says nothing: how many known answers find it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod driver_support;

use std::time::{Duration, Instant};

use auk_asic::SelfTest;
use auk_asic::program::{Activation, Gemm, Precision, Program};
use auk_driver::{Command, Device, DeviceMemory, DmaBuffer, IoQueue, LoadedProgram, QueueOptions};
use auk_sim::inject::{Injection, Trigger, Verb};
use driver_support::{SOON, chip, open};

/// One of so many results is wrong.
const ONE_IN: u64 = 1000;
/// Seeds that are tried.
const SEEDS: u64 = 100;
/// Results after which a chip that was not found counts as good: what finds 99 of 100.
const MOST: u64 = 4603;
/// Results that are under way at a time.
const BATCH: usize = 64;
/// Rows, inner length and columns of the product.
const SIDE: usize = 4;
const BYTES: usize = SIDE * SIDE * 4;

/// How many independent results find with this probability a chip that has one in so many wrong.
fn results_for(probability: f64, one_in: u64) -> f64 {
    (1.0 - probability).ln() / (-1.0 / one_in as f64).ln_1p()
}

/// A product whose answer is known, to be computed over and over.
struct KnownAnswer<'a> {
    queue: IoQueue,
    program: LoadedProgram,
    input: DmaBuffer,
    outputs: DmaBuffer,
    params: DeviceMemory,
    answer: Vec<u8>,
    _device: &'a Device,
}

impl<'a> KnownAnswer<'a> {
    fn new(device: &'a Device) -> Self {
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        let gemm = Gemm {
            precision: Precision::F32,
            inner: SIDE as u32,
            columns: SIDE as u32,
            bias: false,
            activation: Activation::None,
        };
        // Whole numbers, so that the answer is exact whatever the order of the sums.
        let left: Vec<f32> = (0..16).map(|n| (n * 7 % 11) as f32 - 5.0).collect();
        let right: Vec<f32> = (0..16).map(|n| (n * 5 % 13) as f32 - 6.0).collect();
        let answer = (0..SIDE * SIDE).map(|at| {
            let (row, column) = (at / SIDE, at % SIDE);
            let terms = (0..SIDE).map(|k| left[row * SIDE + k] * right[k * SIDE + column]);
            terms.sum::<f32>()
        });
        let answer = answer.flat_map(f32::to_le_bytes).collect();
        let program = device.load(&Program::Gemm(gemm)).unwrap();
        let params = device.alloc(gemm.params().length).unwrap();
        let weights: Vec<u8> = right.into_iter().flat_map(f32::to_le_bytes).collect();
        queue.upload(&params, 0, &weights, SOON).unwrap();
        let input = device.buffer(BYTES).unwrap();
        input.write_value(0, left.as_slice()).unwrap();
        Self {
            queue,
            program,
            input,
            outputs: device.buffer(BATCH * BYTES).unwrap(),
            params,
            answer,
            _device: device,
        }
    }

    /// Computes a batch; which of it is the first that is wrong.
    fn batch(&mut self) -> Option<usize> {
        let outputs = &self.outputs;
        outputs.zero();
        let tickets: Vec<_> = (0..BATCH)
            .map(|at| {
                let to = (outputs, (at * BYTES) as u64);
                let rows = SIDE as u32;
                let command = Command::gemm(&self.program, rows, to, &self.input, &self.params);
                self.queue.submit(&command).unwrap()
            })
            .collect();
        for ticket in tickets {
            self.queue.wait(ticket, SOON).unwrap();
        }
        let found = outputs.to_vec(0, BATCH * BYTES).unwrap();
        let mut results = found.chunks(BYTES);
        results.position(|result| result != self.answer)
    }

    /// How many results it took to find a wrong one, if [`MOST`] were enough.
    fn results_until_wrong(&mut self) -> Option<u64> {
        (0..MOST.div_ceil(BATCH as u64))
            .find_map(|batch| Some(batch * BATCH as u64 + self.batch()? as u64 + 1))
            .filter(|results| *results <= MOST)
    }
}

#[test]
fn as_many_results_are_needed_as_the_page_says() {
    let page = include_str!("../data/faults/silent.md");
    for (one_in, probability, said) in [
        (1_000_000, 0.99, "4,605,168"),
        (1000, 0.99, "4,603"),
        (1000, 0.9, "2,302"),
        (1000, 0.5, "693"),
    ] {
        let results = results_for(probability, one_in).ceil() as u64;
        assert_eq!(results.to_string(), said.replace(',', ""));
        assert!(
            page.contains(said),
            "{said} is not in data/faults/silent.md"
        );
    }
}

/// The chance of the simulator is made of the seed, and the commands are the same: so are the numbers, in each run.
#[test]
fn known_answers_find_a_chip_that_is_wrong_once_in_a_thousand_as_often_as_was_computed() {
    let chip = chip();
    let device = open(&chip);
    let mut known = KnownAnswer::new(&device);
    assert_eq!(known.batch(), None, "a good chip");
    let begun = Instant::now();
    let mut computed = 0;
    let found: Vec<Option<u64>> = (1..=SEEDS)
        .map(|seed| {
            let when = Trigger {
                one_in: ONE_IN,
                times: 0,
                seed,
                ..Trigger::default()
            };
            let flips = Injection::new("", Verb::ResultFlip).when(when);
            chip.inject_when(&flips).unwrap();
            let found = known.results_until_wrong();
            chip.inject(Verb::Heal).unwrap();
            computed += found.unwrap_or(MOST);
            found
        })
        .collect();
    rate("with faults", computed, begun.elapsed());
    let mut rows = String::new();
    for (results, predicted) in [(693, 50), (2302, 90), (MOST, 99)] {
        let hits = found
            .iter()
            .flatten()
            .filter(|took| **took <= results)
            .count();
        let row = format!("| {results} | {predicted} | {hits} |\n");
        rows += &row;
        // Four standard deviations of so many trials: what no honest chance leaves.
        let share = f64::from(predicted) / 100.0;
        let deviation = (share * (1.0 - share) * SEEDS as f64).sqrt();
        let distance = (hits as f64 - share * SEEDS as f64).abs();
        assert!(distance <= 4.0 * deviation, "{row}");
    }
    let page = include_str!("../data/faults/silent.md");
    assert!(
        page.contains(&rows),
        "data/faults/silent.md has not:\n{rows}"
    );
    assert_eq!(chip.strict_violations(), []);
}

#[test]
fn the_chips_own_counters_say_nothing_of_it_and_a_self_test_only_when_each_result_is_wrong() {
    let chip = chip();
    let device = open(&chip);
    let mut known = KnownAnswer::new(&device);
    let always = Trigger {
        times: 0,
        ..Trigger::default()
    };
    let flips = Injection::new("", Verb::ResultFlip).when(always);
    chip.inject_when(&flips).unwrap();
    let before = device.vitals().unwrap();
    assert_eq!(known.batch(), Some(0));
    let after = device.vitals().unwrap();
    assert_eq!(
        (after.ecc_ce, after.ecc_ue, after.last_fault),
        (before.ecc_ce, before.ecc_ue, before.last_fault)
    );
    device.check().unwrap();
    drop(known);
    assert_eq!(device.self_test(SOON).unwrap(), SelfTest::Failed);
    chip.inject(Verb::Heal).unwrap();
    let seldom = Trigger {
        one_in: 1_000,
        times: 0,
        seed: 1,
        ..Trigger::default()
    };
    let flips = Injection::new("", Verb::ResultFlip).when(seldom);
    chip.inject_when(&flips).unwrap();
    assert_eq!(device.self_test(SOON).unwrap(), SelfTest::Passed);
}

fn rate(what: &str, results: u64, took: Duration) {
    let each = results as f64 / took.as_secs_f64();
    eprintln!("{what}: {results} results in {took:?}, {each:.0} a second");
}
