//! The course of the demo: work, fault, recovery, the rest of the work.

use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use auk_driver::{Device, OpenOptions, pci};
use auk_health::verdict::{HealthState, Transition};

use super::digits::COUNT;
use super::job::{BATCH, Network};
use super::recovery::{Recovery, fail_and_recover};
use super::show::time;
use super::stage::{AGENT_PATIENCE, Stage, all_healthy, wait_for};
use super::summary::{Incident, Summary};
use super::work::{BATCHES, Progress};

/// The agent's promise for an uncorrectable error.
const DETECT_WITHIN: Duration = Duration::from_secs(2);
/// The batch after which the memory error comes.
const FAULT_AFTER: usize = BATCHES / 2;

/// How it ended.
pub(super) enum Ending {
    /// To the end.
    Played(Box<Summary>),
    /// The user wanted it to end.
    Interrupted,
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

    let mut progress = Progress::new();
    let mut recovery = None;
    for batch in 0..BATCHES {
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
        progress.run_batch(&mut network, batch)?;
        stage.show.advance(((batch + 1) * BATCH).min(COUNT));
        thread::sleep(stage.pace);
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

fn summarise(
    stage: &Stage<'_>,
    progress: Progress,
    recovery: Recovery,
    transitions: &Receiver<Transition>,
) -> Summary {
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
    let mut summary = progress.summarise();
    summary.incident = Some(Incident {
        fault: recovery.fault,
        evidence: recovery.evidence,
        detect_ms: recovery.detect.as_millis() as u64,
        recover_ms: recovery.recover.as_secs_f64() * 1e3,
        healthy_again_ms: recovery.healthy_again.as_millis() as u64,
    });
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
