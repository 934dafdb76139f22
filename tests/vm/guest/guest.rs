//! What a test has at hand.

use std::cell::{Cell, RefCell};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use auk_vm::{Fault, FromGuest, FromHost, Mode, Request, SETUP_FILE, Setup};

use crate::pci;
use crate::port::Port;

/// The reason why a test cannot run here, as an error.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skip {}

/// How long [`Guest::wait_for`] waits: as long as any test may take, about.
const PATIENCE: Duration = Duration::from_secs(30);

/// The virtual machine that a test runs in, and the host outside of it.
pub(crate) struct Guest {
    setup: Setup,
    /// Opened by the first question to the host.
    port: RefCell<Option<Port>>,
    questions: Cell<u32>,
}

impl Guest {
    pub(crate) fn new() -> Result<Self> {
        let text = fs::read_to_string(SETUP_FILE).with_context(|| {
            format!("reading {SETUP_FILE}; tests run in the machines that `auk-vm` starts")
        })?;
        Ok(Self {
            setup: serde_json::from_str(&text).with_context(|| format!("reading {SETUP_FILE}"))?,
            port: RefCell::new(None),
            questions: Cell::new(0),
        })
    }

    /// What this boot has.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The VFIO interface that this boot is about.
    pub(crate) fn mode(&self) -> Mode {
        self.setup.mode
    }

    /// An error that says that this test cannot run here.
    #[allow(dead_code, reason = "for tests to come")]
    pub(crate) fn skip(&self, reason: &str) -> anyhow::Error {
        Skip(reason.to_owned()).into()
    }

    /// Our chips, by address.
    pub(crate) fn chips(&self) -> Result<Vec<String>> {
        pci::find(pci::CHIP)
    }

    /// Runs the `auk` command, and gives what it printed; it must succeed.
    pub(crate) fn auk(&self, arguments: &[&str]) -> Result<String> {
        let done = Command::new("/bin/auk")
            .args(arguments)
            .output()
            .with_context(|| format!("starting auk {}", arguments.join(" ")))?;
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        if !done.status.success() {
            let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
            bail!(
                "auk {} ended with {}: {printed}{complaint}",
                arguments.join(" "),
                done.status
            );
        }
        Ok(printed)
    }

    /// Runs the `auk` command, which must fail; what it printed and complained of.
    pub(crate) fn auk_fails(&self, arguments: &[&str]) -> Result<String> {
        let done = Command::new("/bin/auk").args(arguments).output();
        let done = done.with_context(|| format!("starting auk {}", arguments.join(" ")))?;
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if done.status.code().is_none_or(|code| code == 0) {
            bail!(
                "auk {} ended with {}: {said}",
                arguments.join(" "),
                done.status
            );
        }
        Ok(said)
    }

    /// Runs the `auk` command, and gives what it printed however it ended.
    pub(crate) fn auk_whatever(&self, arguments: &[&str]) -> Result<String> {
        let done = Command::new("/bin/auk").args(arguments).output();
        let done = done.with_context(|| format!("starting auk {}", arguments.join(" ")))?;
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Looks until something is so.
    pub(crate) fn wait_for(
        &self,
        what: &str,
        mut is_so: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so()? {
            if Instant::now() > deadline {
                bail!("waited {} s for {what}", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Does something to the chip of this number: the chips are in the order of their addresses.
    pub(crate) fn inject(&self, chip: usize, fault: Fault) -> Result<()> {
        self.ask(Request::Inject { chip, fault }).map(drop)
    }

    /// Has the host do something; its answer.
    pub(crate) fn ask(&self, request: Request) -> Result<String> {
        let asked = format!("{request:?}");
        let mut port = self.port.borrow_mut();
        let port = match &mut *port {
            Some(port) => port,
            none => none.insert(Port::open()?),
        };
        let number = self.questions.get() + 1;
        self.questions.set(number);
        port.send(&FromGuest::Ask { number, request })?;
        match port.receive()? {
            FromHost::Answer {
                number: answered,
                result,
            } if answered == number => {
                result.map_err(|error| anyhow::anyhow!("the host cannot do {asked}: {error}"))
            }
            other => bail!("asked for {asked}, the host says {other:?}"),
        }
    }
}
