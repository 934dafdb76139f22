//! A chip of the host, with the function and the port that follow it, and the socket at which it is served.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use super::aer::Errors;
use super::bdf::Bdf;
use super::config_view::ConfigView;
use super::error::HostError;
use super::function::Function;
use super::kernel_log::{KernelLog, Level};
use super::port::Port;
use crate::inject::Verb;
use crate::{Chip, Serving};

/// A chip, and what follows it.
pub(crate) struct ShownChip {
    pub(crate) chip: Chip,
    pub(crate) function: Function,
    pub(crate) port: Port,
    pub(crate) socket: PathBuf,
    /// Nothing while the chip is pulled out.
    pub(crate) serving: Option<Serving>,
}

impl ShownChip {
    fn bdf(&self) -> Bdf {
        self.function.placement().bdf
    }

    /// Does the host's part of what happened to the chip, and has the files follow.
    pub(crate) fn refresh(&mut self, log: &mut KernelLog) -> Result<(), HostError> {
        let mut result = self.follow();
        for verb in self.chip.for_the_host() {
            result = self.happen(&verb, log).and(result);
            result = self.follow().and(result);
        }
        result
    }

    fn follow(&mut self) -> Result<(), HostError> {
        let space = self.chip.config();
        self.function.refresh(&space)?;
        let link = ConfigView(&space).link();
        self.port.follow(link.map(|link| link.now))
    }

    fn happen(&mut self, verb: &Verb, log: &mut KernelLog) -> Result<(), HostError> {
        if let Some(errors) = Errors::of(verb) {
            if self.function.is_shown() {
                self.port.hear(errors)?;
                self.function.err(errors, self.port.bdf(), log)?;
            }
            return Ok(());
        }
        match verb {
            Verb::Remove => self.pull_out(log),
            Verb::Return => self.put_back(log),
            Verb::DmaUnmapped => self.fault(log),
            Verb::ProcessKill => {
                kill_this_process();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn pull_out(&mut self, log: &mut KernelLog) -> Result<(), HostError> {
        if self.serving.take().is_some() {
            self.function.vanish()?;
            self.port
                .slot_says(&["Link Down", "Card not present"], log)?;
        }
        Ok(())
    }

    fn put_back(&mut self, log: &mut KernelLog) -> Result<(), HostError> {
        if self.serving.is_none() {
            self.port.slot_says(&["Card present", "Link Up"], log)?;
            // Who finds the function looks for its socket next.
            let bdf = self.bdf();
            let serving = self.chip.serve(&self.socket);
            self.serving = Some(serving.map_err(|source| HostError::Serve { bdf, source })?);
            self.function.appear(&self.chip.config())?;
        }
        Ok(())
    }

    /// The IOMMU refused an access of the chip (`drivers/iommu/intel/dmar.c`).
    fn fault(&self, log: &mut KernelLog) -> Result<(), HostError> {
        let Bdf {
            bus,
            device,
            function,
            ..
        } = self.bdf();
        log.say(Level::Error, "DMAR: DRHD: handling fault status reg 2")?;
        let text = format!(
            "DMAR: [DMA Write NO_PASID] Request device [{bus:02x}:{device:02x}.{function:x}] fault addr 0xdead0000 \
             [fault reason 0x05] PTE Write access is not set"
        );
        log.say(Level::Error, &text)
    }
}

/// The host dies as by the OOM killer: nothing is cleaned up.
pub(crate) fn kill_this_process() {
    if let Err(error) = kill(getpid(), Signal::SIGKILL) {
        tracing::error!(%error, "this process cannot kill itself");
    }
}
