//! The fault, and the way back from it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use auk_asic::firmware::FirmwareVersion;
use auk_asic::ident::Model;
use auk_asic::{Fault, SelfTest, Status};
use auk_driver::{Device, Error};
use auk_health::status::Status as HealthStatus;
use auk_health::verdict::HealthState;
use auk_sim::inject::{self, Injection, Verb};

use super::job::{BATCH, Network, batch_pixels};
use super::reference;
use super::show::time;
use super::stage::{AGENT_PATIENCE, Stage, generation, state, verdict, wait_for};

/// How long the chip may take for what firmware does.
const FIRMWARE_PATIENCE: Duration = Duration::from_secs(30);
/// How long the simulated host may take to answer.
const HOST_PATIENCE: Duration = Duration::from_secs(5);

/// What the fault and the recovery showed.
pub(super) struct Recovery {
    pub(super) fault: String,
    pub(super) evidence: String,
    pub(super) detect: Duration,
    pub(super) recover: Duration,
    pub(super) healthy_again: Duration,
    pub(super) unhealthy_in_new_life: bool,
    pub(super) counter_in_evidence: bool,
    /// When the self-test that proves the cure began, in Unix milliseconds.
    pub(super) tested_at: u64,
    pub(super) cured_by_proof: bool,
}

/// Has the chip fail under the job, and brings it back. The batch that met the fault is not counted: it runs again.
pub(super) fn fail_and_recover(
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
        &Injection::new(target.clone(), Verb::EccUe),
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

fn now_unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}
