//! One component's probes, made into one look.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::ConfigSpace;
use super::discover::{self, Found};
use super::vitals::{VitalsProbe, serial_number};
use super::{ProbeError, aer, attributes, lease, link, port, ports, text};
use crate::facts::{Class, Facts, Identity, Kind, Presence};
use crate::time::Moment;

/// What a look brings back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        Self {
            bdf: Arc::from(found.bdf.as_str()),
            root: root.to_owned(),
            function,
            interface,
            upstream: None,
            vitals: VitalsProbe::default(),
            identity: None,
            found,
        }
    }

    /// Takes a look. It may block as long as the kernel does.
    pub fn look(&mut self, class: Class) -> Sample {
        let mut facts = Facts::none(Moment::default());
        let identity = self.answers(&mut facts);
        facts.power_state = Some(attributes::power_state(&self.function));
        if class >= Class::Slow {
            self.attributes(&mut facts);
        }
        facts.holder = lease::holder(&self.root.join("run/auk/lease").join(&self.found.bdf));
        facts.at = Moment::now();
        Sample {
            bdf: Arc::clone(&self.bdf),
            kind: self.found.kind,
            identity,
            facts,
        }
    }

    /// What config space says: whether the function answers, who it is, how it is.
    fn answers(&mut self, facts: &mut Facts) -> Identity {
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
            facts.port_gone = self.upstream.as_deref().map(ports::topmost_gone);
            // Whoever answers next may be another card.
            self.identity = None;
            self.vitals = VitalsProbe::default();
        }
        facts.vitals = (self.found.kind == Kind::Accelerator).then(|| match (&config, answer) {
            (Ok(config), Ok(_)) => self.vitals.read(config),
            (_, Err(error)) => Err(error),
            (Err(error), Ok(_)) => Err(error.clone()),
        });
        let identity = self.identify(config.as_ref().ok(), &presence);
        facts.presence = Some(presence);
        identity
    }

    /// What the kernel keeps in files of text.
    fn attributes(&self, facts: &mut Facts) {
        let above = self.upstream.as_deref();
        facts.link = Some(link::read(&self.function, above));
        facts.link_above = Some(above.map(|port| link::read(port, None)).transpose());
        facts.aer = Some(aer::read(&self.function));
        facts.aer_above = Some(above.map_or(Ok(None), aer::read));
        facts.driver = Some(attributes::driver(&self.function));
        facts.iommu_group = Some(attributes::iommu_group(&self.function));
        facts.numa_node = Some(attributes::numa_node(&self.function));
        facts.port = (self.found.kind == Kind::Nic)
            .then(|| self.interface.as_deref().map_or(Ok(None), port::read));
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
