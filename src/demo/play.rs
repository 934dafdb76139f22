//! The course of the demo: work, fault, recovery, the rest of the work.

use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use auk_driver::{Device, OpenOptions, pci};
use auk_health::verdict::{HealthState, Transition};

use super::digits::{COUNT, HELD_OUT, label};
use super::job::{BATCH, COMMANDS, Network, batch_pixels};
use super::recovery::{Recovery, fail_and_recover};
use super::reference;
use super::show::time;
use super::stage::{AGENT_PATIENCE, Stage, all_healthy, wait_for};
use super::summary::{Summary, percentile};

/// The agent's promise for an uncorrectable error.
const DETECT_WITHIN: Duration = Duration::from_secs(2);
/// The share of the held-out images that must be read right.
const LEAST_ACCURACY: f64 = 0.95;
/// The batch after which the memory error comes.
const FAULT_AFTER: usize = COUNT / BATCH / 2;

/// How it ended.
pub(super) enum Ending {
    /// To the end.
    Played(Box<Summary>),
    /// The user wanted it to end.
    Interrupted,
}

/// What the job has so far.
#[derive(Default)]
struct Progress {
    /// How often each image was classified, and as what.
    classes: Vec<Vec<u8>>,
    mismatches: usize,
    compared_bytes: usize,
    latencies: Vec<Duration>,
    commands: usize,
}

/// Plays the demo.
pub(super) fn play(stage: &Stage<'_>) -> anyhow::Result<Ending> {
    let transitions = stage.agent.subscribe();
    let watched = Instant::now();
    let Some(_) = wait_for(stage, AGENT_PATIENCE, "that all is well", |status| {
        all_healthy(stage, status)
    })?
    else {
        return Ok(Ending::Interrupted);
    };
    // What led to this is of no interest; what changes from here on is.
    transitions.try_iter().for_each(drop);
    let components = stage.bystanders.len() + 1;
    stage.show.say(
        "agent",
        &format!(
            "{components} components healthy, {} after it began to look",
            time(watched.elapsed())
        ),
    )?;

    let opened = Instant::now();
    let device = Device::open(
        &pci::Host::at(stage.root),
        stage.chip,
        &OpenOptions::default(),
    )?;
    let mut network = Network::load(&device)?;
    let firmware = device
        .firmware_version()?
        .context("the chip is in its loader")?;
    stage.show.say(
        "job",
        &format!(
            "{} open, firmware {firmware}, network loaded in {}",
            stage.chip,
            time(opened.elapsed())
        ),
    )?;

    let mut progress = Progress {
        classes: vec![Vec::new(); COUNT],
        ..Progress::default()
    };
    let mut recovery = None;
    let mut batch = 0;
    while batch * BATCH < COUNT {
        if stage.stop.is_raised() {
            return Ok(Ending::Interrupted);
        }
        if batch == FAULT_AFTER && recovery.is_none() {
            let Some(recovered) = fail_and_recover(stage, &device, network, batch, firmware)?
            else {
                return Ok(Ending::Interrupted);
            };
            network = recovered.0;
            recovery = Some(recovered.1);
        }
        run_batch(&mut network, batch, &mut progress)?;
        batch += 1;
        stage.show.advance((batch * BATCH).min(COUNT));
        if !stage.pace.is_zero() {
            thread::sleep(stage.pace);
        }
    }
    drop(network);
    drop(device);
    let recovery = recovery.context("the job ended before the fault")?;
    Ok(Ending::Played(Box::new(summarise(
        stage,
        progress,
        recovery,
        &transitions,
    ))))
}

fn run_batch(network: &mut Network, batch: usize, progress: &mut Progress) -> anyhow::Result<()> {
    let pixels = batch_pixels(batch);
    let start = Instant::now();
    let outputs = network
        .run(pixels)
        .with_context(|| format!("batch {batch} of the job"))?;
    progress.latencies.push(start.elapsed());
    progress.commands += COMMANDS;
    let first = batch * BATCH;
    let rows = BATCH.min(COUNT - first);
    for (output, expected) in outputs.iter().zip(reference::outputs(pixels, rows)) {
        progress.compared_bytes += expected.len();
        progress.mismatches += usize::from(*output != expected);
    }
    let logits = outputs.last().map_or(&[][..], Vec::as_slice);
    for (image, class) in (first..).zip(reference::classes(logits)) {
        progress.classes[image].push(class);
    }
    Ok(())
}

fn summarise(
    stage: &Stage<'_>,
    mut progress: Progress,
    recovery: Recovery,
    transitions: &Receiver<Transition>,
) -> Summary {
    let once = progress
        .classes
        .iter()
        .filter(|classes| classes.len() == 1)
        .count();
    let right = (HELD_OUT..COUNT)
        .filter(|&image| progress.classes[image].first() == Some(&label(image)))
        .count();
    let accuracy = right as f64 / (COUNT - HELD_OUT) as f64;
    let busy: Duration = progress.latencies.iter().sum();
    let transitions: Vec<Transition> = transitions.try_iter().collect();
    let harmed = transitions.iter().any(|transition| {
        transition.check.is_none() && stage.bystanders.contains(&transition.component)
    });
    let target = stage.chip.to_string();
    let too_early = transitions.iter().any(|transition| {
        transition.check.is_none()
            && transition.component == target
            && transition.to == HealthState::Healthy
            && transition.at_unix_ms < recovery.tested_at
    });
    let mut summary = Summary {
        ok: true,
        images: once,
        accuracy,
        held_out: COUNT - HELD_OUT,
        compared_bytes: progress.compared_bytes,
        mismatches: progress.mismatches,
        batch_p50_us: percentile(&mut progress.latencies, 0.50),
        batch_p99_us: percentile(&mut progress.latencies, 0.99),
        batch: BATCH,
        commands_per_second: progress.commands as f64 / busy.as_secs_f64(),
        fault: recovery.fault,
        evidence: recovery.evidence,
        detect_ms: recovery.detect.as_millis() as u64,
        recover_ms: recovery.recover.as_secs_f64() * 1e3,
        healthy_again_ms: recovery.healthy_again.as_millis() as u64,
        claims: Vec::new(),
    };
    summary.claim("every image was classified, and none twice", once == COUNT);
    summary.claim(
        "every output of the chip equals the CPU's, bit for bit",
        progress.mismatches == 0,
    );
    summary.claim(
        "at least 95 % of the held-out images were read right",
        accuracy >= LEAST_ACCURACY,
    );
    summary.claim(
        "the agent saw the memory error within 2 s",
        recovery.detect <= DETECT_WITHIN,
    );
    summary.claim(
        "its evidence names the counter",
        recovery.counter_in_evidence,
    );
    summary.claim(
        "it said so although the driver had reset the chip",
        recovery.unhealthy_in_new_life,
    );
    summary.claim(
        "it called the chip healthy only after a new life and a passed self-test",
        recovery.cured_by_proof && !too_early,
    );
    summary.claim("no other device's verdict changed for it", !harmed);
    summary
}
