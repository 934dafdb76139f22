//! One component's probes, made into one look.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::ConfigSpace;
use super::discover::{self, Found};
use super::vitals::{VitalsProbe, serial_number};
use super::{ProbeError, aer, lease, link, port, text};
use crate::facts::{Facts, Identity, Kind, PowerState, Presence, Reading};
use crate::time::Moment;

/// What a look brings back.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The component's address.
    pub bdf: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Who it is, as far as could be read.
    pub identity: Identity,
    /// What was seen.
    pub facts: Facts,
}

/// Reads one component.
#[derive(Debug)]
pub struct Target {
    found: Found,
    bdf: Arc<str>,
    root: PathBuf,
    function: PathBuf,
    interface: Option<PathBuf>,
    upstream: Option<PathBuf>,
    vitals: VitalsProbe,
    identity: Option<Identity>,
    sources: Sources,
}

/// Names of the files, made once.
#[derive(Debug)]
struct Sources {
    config: Arc<str>,
    power_state: Arc<str>,
    link: Arc<str>,
    aer: Arc<str>,
    port: Arc<str>,
}

impl Target {
    /// A reader of a component under a root; reads nothing yet.
    #[must_use]
    pub fn new(root: &Path, found: Found) -> Self {
        let function = root.join("sys/bus/pci/devices").join(&found.bdf);
        let interface = found
            .interface
            .as_ref()
            .map(|name| root.join("sys/class/net").join(name));
        let name = |path: PathBuf| Arc::<str>::from(path.display().to_string());
        let sources = Sources {
            config: name(function.join("config")),
            power_state: name(function.join("power_state")),
            link: name(function.join("current_link_*")),
            aer: name(function.join("aer_dev_*")),
            port: name(interface.clone().unwrap_or_else(|| function.join("net"))),
        };
        Self {
            bdf: Arc::from(found.bdf.as_str()),
            root: root.to_owned(),
            function,
            interface,
            upstream: None,
            vitals: VitalsProbe::default(),
            identity: None,
            sources,
            found,
        }
    }

    /// Takes a look. It may block as long as the kernel does.
    pub fn look(&mut self) -> Sample {
        let config = ConfigSpace::open(&self.function);
        let answer = config
            .as_ref()
            .map_err(Clone::clone)
            .and_then(ConfigSpace::answer);
        let presence = match &answer {
            Ok(_) => Ok(Presence::Present),
            Err(ProbeError::AllOnes { .. }) => Ok(Presence::AllOnes),
            Err(error) if error.is_not_found() && !self.function.exists() => Ok(Presence::Absent),
            Err(error) => Err(error.clone()),
        };
        if presence != Ok(Presence::Present) {
            // Whoever answers next may be another card.
            self.identity = None;
            self.vitals = VitalsProbe::default();
        }
        let vitals = (self.found.kind == Kind::Accelerator).then(|| {
            let value = match (&config, answer) {
                (Ok(config), Ok(_)) => self.vitals.read(config),
                (_, Err(error)) => Err(error),
                (Err(error), Ok(_)) => Err(error.clone()),
            };
            Reading::new(Arc::clone(&self.sources.config), value)
        });
        let identity = self.identify(config.as_ref().ok(), &presence);
        Sample {
            bdf: Arc::clone(&self.bdf),
            kind: self.found.kind,
            identity,
            facts: Facts {
                presence: Reading::new(Arc::clone(&self.sources.config), presence),
                vitals,
                power_state: Reading::new(
                    Arc::clone(&self.sources.power_state),
                    power_state(&self.function.join("power_state")),
                ),
                link: Reading::new(
                    Arc::clone(&self.sources.link),
                    link::read(&self.function, self.upstream.as_deref()),
                ),
                aer: Reading::new(Arc::clone(&self.sources.aer), aer::read(&self.function)),
                port: (self.found.kind == Kind::Nic).then(|| {
                    let value = self.interface.as_deref().map_or(Ok(None), port::read);
                    Reading::new(Arc::clone(&self.sources.port), value)
                }),
                holder: lease::holder(&self.root.join("run/auk/lease").join(&self.found.bdf)),
                at: Moment::now(),
            },
        }
    }

    fn identify(
        &mut self,
        config: Option<&ConfigSpace>,
        presence: &Result<Presence, ProbeError>,
    ) -> Identity {
        if let Some(identity) = &self.identity {
            return identity.clone();
        }
        let mut identity = Identity {
            pci_id: self.found.pci_id.clone(),
            interface: self.found.interface.clone(),
            ..Identity::default()
        };
        if *presence != Ok(Presence::Present) {
            return identity;
        }
        self.upstream = discover::upstream(&self.function);
        identity.upstream = self
            .upstream
            .as_deref()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned());
        identity.slot = discover::slot(&self.root, &self.found.bdf);
        // Without the privilege to read it a NIC is still known by its address.
        identity.serial = config.and_then(|config| serial_number(config).ok().flatten());
        if identity.serial.is_none() {
            let address = self.interface.as_ref().map(|path| path.join("address"));
            identity.serial = address.and_then(|path| text::read(&path).ok());
        }
        if identity.serial.is_some() {
            self.identity = Some(identity.clone());
        }
        identity
    }
}

fn power_state(path: &Path) -> Result<PowerState, ProbeError> {
    let contents = text::read(path)?;
    match contents.as_str() {
        "D0" => Ok(PowerState::D0),
        "D1" | "D2" | "D3hot" | "D3cold" => Ok(PowerState::Asleep),
        "unknown" | "error" => Ok(PowerState::Unknown),
        _ => Err(ProbeError::malformed(
            path,
            &contents,
            "D0, D1, D2, D3hot, D3cold or unknown",
        )),
    }
}
