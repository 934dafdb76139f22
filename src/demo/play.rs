//! The course of the demo: work, fault, recovery, the rest of the work.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use auk_asic::firmware::FirmwareVersion;
use auk_asic::ident::Model;
use auk_asic::{Fault, SelfTest, Status};
use auk_driver::{Device, Error, OpenOptions, pci};
use auk_health::AgentHandle;
use auk_health::status::Status as HealthStatus;
use auk_health::verdict::{HealthState, Transition, Verdict};
use auk_sim::inject::{self, Injection, Verb};

use super::digits::{COUNT, HELD_OUT, label, pixels};
use super::job::{BATCH, COMMANDS, Network};
use super::reference;
use super::show::{Show, time};
use super::summary::{Summary, percentile};
use crate::signals::Stop;

/// The agent's promise for an uncorrectable error.
const DETECT_WITHIN: Duration = Duration::from_secs(2);
/// How long the demo waits for the agent before it gives up, so that a broken promise is measured and told.
const AGENT_PATIENCE: Duration = Duration::from_secs(15);
/// How long the chip may take for what firmware does.
const FIRMWARE_PATIENCE: Duration = Duration::from_secs(30);
/// How long the simulated host may take to answer.
const HOST_PATIENCE: Duration = Duration::from_secs(5);
/// The share of the held-out images that must be read right.
const LEAST_ACCURACY: f64 = 0.95;
/// The batch after which the memory error comes.
const FAULT_AFTER: usize = COUNT / BATCH / 2;

/// Who is there, and how it is shown.
pub(super) struct Stage<'a> {
    pub(super) root: &'a Path,
    /// The chip that the job runs on.
    pub(super) chip: pci::Bdf,
    /// Everything else that the agent watches; the fault must not touch its verdicts.
    pub(super) bystanders: &'a [String],
    pub(super) agent: &'a AgentHandle,
    pub(super) stop: &'a Stop,
    pub(super) pace: Duration,
    pub(super) show: &'a Show,
}

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

/// What the fault and the recovery showed.
struct Recovery {
    fault: String,
    evidence: String,
    detect: Duration,
    recover: Duration,
    healthy_again: Duration,
    unhealthy_in_new_life: bool,
    counter_in_evidence: bool,
    /// When the self-test that proves the cure began, in Unix milliseconds.
    tested_at: u64,
    cured_by_proof: bool,
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

/// Has the chip fail under the job, and brings it back. The batch that met the fault is not counted: it runs again.
fn fail_and_recover(
    stage: &Stage<'_>,
    device: &Device,
    mut network: Network,
    batch: usize,
    firmware: FirmwareVersion,
) -> anyhow::Result<Option<(Network, Recovery)>> {
    let target = stage.chip.to_string();
    let life = device.vitals()?.generation;
    let injected_at = now_unix_ms();
    inject::send(
        stage.root,
        &Injection {
            target: target.clone(),
            verb: Verb::EccUe,
        },
        HOST_PATIENCE,
    )?;
    stage.show.say(
        "fault",
        &format!("an uncorrectable memory error befalls {target}"),
    )?;

    let error = match network.run(batch_pixels(batch)) {
        Ok(_) => bail!("the chip gave an answer after an uncorrectable memory error"),
        Err(error) => error,
    };
    ensure!(
        is_memory_error(&error),
        "the job was told of something else: {error}"
    );
    stage.show.say("job", &format!("stopped: {error}"))?;

    // At once, before the agent has looked again: counters and last fault survive.
    let seen = Instant::now();
    device.restart_firmware()?;
    drop(network);
    let restarted = seen.elapsed();
    stage.show.say(
        "driver",
        &format!("firmware restarted in {}", time(restarted)),
    )?;

    let blamed = |status: &HealthStatus| {
        let verdict =
            verdict(status, &target).filter(|verdict| verdict.state == HealthState::Unhealthy);
        verdict.is_some() && state(status, &target) == Some(HealthState::Unhealthy)
    };
    let Some(status) = wait_for(stage, AGENT_PATIENCE, "the memory error", blamed)? else {
        return Ok(None);
    };
    let verdict = verdict(&status, &target).context("the verdict has gone")?;
    let detect = Duration::from_millis(verdict.since_unix_ms.saturating_sub(injected_at));
    let change = verdict.evidence.iter().find(|item| item.what == "ecc_ue");
    let evidence = change.map(ToString::to_string).unwrap_or_default();
    let counter_in_evidence = change.is_some_and(|item| item.found.contains("->"));
    // A look that saw the new life, in which nothing but counters and last fault tells of the error.
    let in_new_life = |status: &HealthStatus| generation(status, &target) > Some(life);
    let Some(after) = wait_for(stage, AGENT_PATIENCE, "the restart", in_new_life)? else {
        return Ok(None);
    };
    let unhealthy_in_new_life = blamed(&after);
    stage.show.say(
        "agent",
        &format!(
            "{target} is unhealthy after {}: {}",
            time(detect),
            verdict.reason
        ),
    )?;
    stage.show.say("agent", &format!("evidence: {evidence}"))?;

    let repaired = Instant::now();
    let patch = firmware.patch().wrapping_add(1);
    let version = FirmwareVersion::of(firmware.major(), firmware.minor(), patch);
    let image = auk_sim::firmware::build_image(Model::Silicon, version, 1, FIRMWARE_PAYLOAD)?;
    device.install_firmware(&image, 1, true, FIRMWARE_PATIENCE)?;
    device.restart_firmware()?;
    let mut network = Network::load(device)?;
    let tested_at = now_unix_ms();
    let self_test = device.self_test(FIRMWARE_PATIENCE)?;
    ensure!(
        self_test == SelfTest::Passed,
        "the chip's self-test: {self_test}"
    );
    let known = reference::outputs(batch_pixels(0), BATCH);
    ensure!(
        network.run(batch_pixels(0))? == known,
        "the known-answer test failed"
    );
    let recover = restarted + repaired.elapsed();
    stage.show.say(
        "driver",
        &format!(
            "firmware {version} and network loaded, self-test and known answers passed: {} in all",
            time(recover)
        ),
    )?;

    let is_healthy = |status: &HealthStatus| state(status, &target) == Some(HealthState::Healthy);
    let Some(status) = wait_for(stage, AGENT_PATIENCE, "the recovered chip", is_healthy)? else {
        return Ok(None);
    };
    let chip = status.component(&target).context("the chip has gone")?;
    let proof = chip.vitals.as_ref().is_some_and(|vitals| {
        vitals.generation > life
            && vitals.self_test == SelfTest::Passed.name()
            && vitals.self_test_generation == vitals.generation
    });
    let healthy_since = chip.since_unix_ms;
    let healthy_again = Duration::from_millis(healthy_since.saturating_sub(tested_at));
    stage.show.say(
        "agent",
        &format!("{target} is healthy again: a new life, and a passed self-test"),
    )?;
    let recovery = Recovery {
        fault: error.to_string(),
        evidence,
        detect,
        recover,
        healthy_again,
        unhealthy_in_new_life,
        counter_in_evidence,
        tested_at,
        cured_by_proof: proof && healthy_since >= tested_at,
    };
    Ok(Some((network, recovery)))
}

/// What the simulated chip takes for its firmware: it runs none of it.
const FIRMWARE_PAYLOAD: &[u8] = b"runtime of the simulated A1";

fn is_memory_error(error: &Error) -> bool {
    matches!(
        error,
        Error::Faulted {
            fault: Some(Fault::EccUncorrectable),
            ..
        } | Error::Command {
            status: Status::EccUncorrectable | Status::DeviceFaulted,
            ..
        }
    )
}

fn batch_pixels(batch: usize) -> &'static [u8] {
    let first = batch * BATCH;
    pixels(first, BATCH.min(COUNT - first))
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

/// Waits for the agent to say something; `None` when the user wants to end.
fn wait_for(
    stage: &Stage<'_>,
    patience: Duration,
    what: &str,
    mut is_so: impl FnMut(&HealthStatus) -> bool,
) -> anyhow::Result<Option<HealthStatus>> {
    let status = stage
        .agent
        .wait_until(patience, |status| stage.stop.is_raised() || is_so(status))
        .with_context(|| format!("waiting for the agent to see {what}"))?;
    Ok((!stage.stop.is_raised()).then_some(status))
}

fn all_healthy(stage: &Stage<'_>, status: &HealthStatus) -> bool {
    let is_healthy = |bdf: &str| state(status, bdf) == Some(HealthState::Healthy);
    is_healthy(&stage.chip.to_string()) && stage.bystanders.iter().all(|bdf| is_healthy(bdf))
}

fn state(status: &HealthStatus, bdf: &str) -> Option<HealthState> {
    status.component(bdf).map(|component| component.state)
}

fn verdict<'a>(status: &'a HealthStatus, bdf: &str) -> Option<&'a Verdict> {
    status.component(bdf)?.verdict("ecc_ue")
}

/// The life of the chip's firmware that the agent has seen.
fn generation(status: &HealthStatus, bdf: &str) -> Option<u32> {
    Some(status.component(bdf)?.vitals.as_ref()?.generation)
}

fn now_unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}
