//! One component's probes, made into one look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::attributes::{POWER_STATE, parse_power_state};
use super::config::ConfigSpace;
use super::directory::Directory;
use super::discover::{self, Found};
use super::ethtool::Asker;
use super::kept::Kept;
use super::lease::Locks;
use super::link_status::LinkStatus;
use super::vitals::{VitalsProbe, serial_number};
use super::{ProbeError, aer, attributes, link, port, ports, rdma, text};
use crate::facts::{Class, FactKind, Facts, Identity, Kind, Presence};
use crate::host::Profile;
use crate::opener;
use crate::time::Moment;

/// An opener that was no help is not asked again for this long: it may start later than the agent.
const OPENER_AGAIN: Duration = Duration::from_secs(10);

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

/// How a function's config space beyond the first 64 bytes is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigAccess {
    /// By a descriptor of its own, for which the kernel wants CAP_SYS_ADMIN.
    Direct,
    /// By a descriptor from the opener.
    Opener,
    /// Not at all.
    None,
}

/// Reads one component. It holds its descriptors from look to look.
#[derive(Debug)]
pub struct Target {
    found: Found,
    /// The vendor and device ID that it was listed with, as the first dword of config space has them.
    ids: Option<u32>,
    bdf: Arc<str>,
    root: PathBuf,
    function: PathBuf,
    interface: Option<PathBuf>,
    /// The list of the host's devices.
    list: Option<Directory>,
    directory: Option<Directory>,
    power_state: Kept,
    /// Asks the interface's driver; none where the host is a tree of files.
    asker: Option<Asker>,
    config: Option<ConfigSpace>,
    /// Dwords of it that were told already, and those of the last look.
    told: u32,
    dwords: u32,
    /// The port above, which is of interest most when nothing below it answers.
    upstream: Option<PathBuf>,
    above: Option<Directory>,
    access: ConfigAccess,
    opener_asked: Option<Instant>,
    vitals: VitalsProbe,
    link_status: LinkStatus,
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
            ids: found.ids(),
            bdf: Arc::from(found.bdf.as_str()),
            root: root.to_owned(),
            function,
            interface,
            list: None,
            directory: None,
            power_state: Kept::default(),
            asker: root
                .canonicalize()
                .is_ok_and(|root| root == Path::new("/"))
                .then(Asker::default),
            config: None,
            told: 0,
            dwords: 0,
            upstream: None,
            above: None,
            access: ConfigAccess::None,
            opener_asked: None,
            vitals: VitalsProbe::default(),
            link_status: LinkStatus::default(),
            identity: None,
            found,
        }
    }

    /// Takes a look, and a slow one where the link has trained to something else since the last. It may block as long as
    /// the kernel does.
    pub fn look(&mut self, class: Class) -> Sample {
        self.look_with(class, &mut Locks::default())
    }

    /// How config space is read, as of the last look.
    #[must_use]
    pub fn access(&self) -> ConfigAccess {
        self.access
    }

    /// Dwords of config space that the last look asked for.
    #[must_use]
    pub fn dwords(&self) -> u32 {
        self.dwords
    }

    /// As [`look`](Self::look), with a list of locks that other looks share.
    pub(crate) fn look_with(&mut self, class: Class, locks: &mut Locks) -> Sample {
        if self.found.kind == Kind::Host {
            return self.look_at_host(class);
        }
        let presence = self.presence();
        let here = presence == Ok(Presence::Present);
        if !here {
            // Whoever answers next may be another card.
            self.identity = None;
            self.vitals = VitalsProbe::default();
            self.link_status = LinkStatus::default();
        }
        let class = match here && self.link_has_changed(class) {
            true => Class::Slow,
            false => class,
        };
        let identity = self.identify(here, class);
        let mut power_state = std::mem::take(&mut self.power_state);
        let mut facts = match &self.directory {
            Some(directory) => self.attributes(directory, class, &mut power_state),
            None => {
                let kinds = FactKind::read_by(class, self.found.kind);
                Facts::blind(Moment::default(), &kinds, &self.gone())
            }
        };
        self.power_state = power_state;
        if class >= Class::Rare && self.found.kind == Kind::Nic {
            let interface = self.found.interface.as_deref();
            facts.ethtool = Some(match self.asker.as_mut().zip(interface) {
                Some((asker, interface)) => asker.ask(interface),
                None => Ok(None),
            });
        }
        if self.found.kind == Kind::Accelerator {
            facts.vitals = Some(match &presence {
                Ok(Presence::Present) => self.vitals(),
                Ok(Presence::AllOnes) => Err(ProbeError::AllOnes {
                    path: self.function.join("config").display().to_string(),
                }),
                Ok(Presence::Absent) => Err(self.gone()),
                Err(error) => Err(error.clone()),
            });
        }
        if !here {
            facts.port_gone = self.upstream.as_deref().map(ports::topmost_gone);
        }
        facts.presence = Some(presence);
        facts.holder = locks.holder(&self.root, &self.found.bdf);
        facts.at = Moment::now();
        let asked = self.config.as_ref().map_or(0, ConfigSpace::dwords_read);
        self.dwords = asked.saturating_sub(self.told);
        self.told = asked;
        Sample {
            bdf: Arc::clone(&self.bdf),
            kind: self.found.kind,
            identity,
            facts,
        }
    }

    /// Reads how the host is set up.
    fn look_at_host(&self, class: Class) -> Sample {
        let profile = (class >= Class::Slow).then(|| Profile::read(&self.root, &self.found.asked));
        Sample {
            bdf: Arc::clone(&self.bdf),
            kind: self.found.kind,
            identity: Identity::default(),
            facts: Facts {
                profile: profile.map(|profile| Ok(Box::new(profile))),
                ..Facts::none(Moment::now())
            },
        }
    }

    /// Reads the vendor and device IDs; a descriptor that outlived its device is replaced once.
    fn presence(&mut self) -> Result<Presence, ProbeError> {
        if self.is_left_over() {
            self.close();
        }
        let was_open = self.directory.is_some();
        let mut answer = self.answer();
        if was_open && answer.as_ref().is_err_and(ProbeError::is_not_found) {
            self.close();
            answer = self.answer();
        }
        match answer {
            Ok(ids) => self.known_by(ids),
            Err(ProbeError::AllOnes { .. }) => Ok(Presence::AllOnes),
            Err(error) if error.is_not_found() && !self.function.is_dir() => Ok(Presence::Absent),
            Err(error) => Err(error),
        }
    }

    /// Whether it answers with the IDs that it was listed with: what a card in a reset or in recovery answers may be
    /// others, and so may be what is no config space.
    fn known_by(&self, ids: u32) -> Result<Presence, ProbeError> {
        if self.ids == Some(ids) {
            return Ok(Presence::Present);
        }
        let (vendor, device) = (ids & 0xFFFF, ids >> 16);
        let found = format!("{vendor:04x}:{device:04x}");
        let expected = "the vendor and device ID that the function was listed with";
        Err(ProbeError::malformed(
            &self.function.join("config"),
            &found,
            expected,
        ))
    }

    /// Whether plain files are read that the list of devices does not lead to any more. Asked in each look, so by as
    /// short a path as can be.
    fn is_left_over(&mut self) -> bool {
        let Some(config) = self.config.as_ref().filter(|config| config.is_plain()) else {
            return false;
        };
        if config.is_unlinked() {
            return true;
        }
        if self.list.is_none() {
            self.list = self
                .function
                .parent()
                .and_then(|list| Directory::open(list).ok());
        }
        let listed = self.list.as_ref().map(|list| list.lists(&self.found.bdf));
        listed == Some(false)
    }

    fn answer(&mut self) -> Result<u32, ProbeError> {
        let directory = match &mut self.directory {
            Some(directory) => directory,
            None => self.directory.insert(Directory::open(&self.function)?),
        };
        if self.config.is_none() {
            self.config = match ConfigSpace::open_in(directory) {
                Err(ProbeError::Denied { path }) => {
                    let passed = self.ask_opener();
                    Some(passed.ok_or(ProbeError::Denied { path })?)
                }
                opened => Some(opened?),
            };
        }
        self.config
            .as_ref()
            .ok_or_else(|| self.gone())
            .and_then(ConfigSpace::answer)
    }

    /// Lets go of everything that belongs to the device that was here.
    fn close(&mut self) {
        self.list = None;
        self.power_state = Kept::default();
        self.directory = None;
        self.config = None;
        self.told = 0;
        self.above = None;
        self.access = ConfigAccess::None;
        self.opener_asked = None;
        self.identity = None;
        self.vitals = VitalsProbe::default();
        self.link_status = LinkStatus::default();
    }

    /// Whether the link is another than at the last look, as far as can be told: the slow look tells why not.
    fn link_has_changed(&mut self, class: Class) -> bool {
        let mut status = std::mem::take(&mut self.link_status);
        let changed = self.beyond_header(|config| {
            if class >= Class::Slow {
                status.find(config)?;
            }
            status.has_changed(config)
        });
        self.link_status = status;
        changed.unwrap_or(false)
    }

    fn vitals(&mut self) -> Result<auk_asic::vitals::Vitals, ProbeError> {
        let mut probe = std::mem::take(&mut self.vitals);
        let read = self.beyond_header(|config| probe.read(config));
        self.vitals = probe;
        read
    }

    /// Reads what the kernel shows to an opener with the privilege only: with a descriptor of
    /// one's own if that is enough, else with one from the opener.
    fn beyond_header<T>(
        &mut self,
        mut read: impl FnMut(&ConfigSpace) -> Result<T, ProbeError>,
    ) -> Result<T, ProbeError> {
        let Some(config) = &self.config else {
            return Err(self.gone());
        };
        let value = read(config);
        if !matches!(value, Err(ProbeError::Short { .. })) {
            if self.access == ConfigAccess::None {
                self.access = ConfigAccess::Direct;
            }
            return value;
        }
        if self.access == ConfigAccess::Opener {
            return value;
        }
        match self.ask_opener() {
            Some(config) => {
                self.told = 0;
                read(self.config.insert(config))
            }
            None => value,
        }
    }

    /// Config space by a descriptor from the opener, if there is one and it was not asked lately.
    fn ask_opener(&mut self) -> Option<ConfigSpace> {
        let asked = self.opener_asked.map(|asked| asked.elapsed());
        if asked.is_some_and(|asked| asked < OPENER_AGAIN) {
            return None;
        }
        self.opener_asked = Some(Instant::now());
        match opener::ask(&self.root, &self.found.bdf) {
            Ok(file) => {
                self.access = ConfigAccess::Opener;
                Some(ConfigSpace::new(file, self.function.join("config")))
            }
            Err(error) => {
                tracing::debug!(bdf = self.found.bdf, %error, "the opener was no help");
                None
            }
        }
    }

    /// What the kernel keeps in files of text.
    fn attributes(&self, function: &Directory, class: Class, power_state: &mut Kept) -> Facts {
        let mut facts = Facts::none(Moment::default());
        let plain = self.config.as_ref().is_none_or(ConfigSpace::is_plain);
        let contents = power_state.text(function, POWER_STATE, plain);
        facts.power_state =
            Some(contents.and_then(|contents| parse_power_state(function, &contents)));
        if class < Class::Slow {
            return facts;
        }
        let above = self.above.as_ref();
        let port = above.map(link::read).transpose();
        let bound = match (&port, above) {
            (Ok(port), _) => Ok(port.and_then(|port| port.max)),
            // It may still say what it could do, and need not.
            (Err(_), Some(port)) => text::optional(link::most(port)).map(Option::flatten),
            (Err(_), None) => Ok(None),
        };
        let own = link::read(function);
        facts.link = Some(own.and_then(|link| Ok(link::bounded(link, bound?))));
        facts.link_above = Some(port);
        facts.aer = Some(aer::read(function));
        facts.aer_above = Some(above.map_or(Ok(None), aer::read));
        facts.driver = Some(attributes::driver(function));
        facts.iommu_group = Some(attributes::iommu_group(function));
        facts.numa_node = Some(attributes::numa_node(function));
        facts.port = (self.found.kind == Kind::Nic)
            .then(|| self.interface.as_deref().map_or(Ok(None), port::read));
        if class >= Class::Rare && self.found.kind == Kind::Nic {
            let interface = self.found.interface.as_deref();
            facts.rdma = Some(rdma::read(&self.root, function, interface));
        }
        facts
    }

    /// Who it is: found out when it is first seen, and again in slow looks while that has no end.
    fn identify(&mut self, here: bool, class: Class) -> Identity {
        let known = self.identity.clone();
        match known {
            Some(identity) if identity.serial.is_some() || class < Class::Slow => return identity,
            _ => {}
        }
        let mut identity = Identity {
            pci_id: self.found.pci_id.clone(),
            interface: self.found.interface.clone(),
            ..Identity::default()
        };
        if !here {
            return identity;
        }
        self.upstream = discover::upstream(&self.function);
        let above = self.upstream.as_deref();
        identity.upstream = above
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned());
        self.above = above.and_then(|path| Directory::open(path).ok());
        identity.slot = discover::slot(&self.root, &self.found.bdf);
        // Without the privilege to read it a NIC is still known by its address.
        identity.serial = self.beyond_header(serial_number).ok().flatten();
        if identity.serial.is_none() {
            let address = self.interface.as_ref().map(|path| path.join("address"));
            let address = address.and_then(|path| text::read(&path).ok());
            identity.serial = address.filter(|address| port::is_address(address));
        }
        self.identity = Some(identity.clone());
        identity
    }

    fn gone(&self) -> ProbeError {
        ProbeError::NotFound {
            path: self.function.display().to_string(),
        }
    }
}
