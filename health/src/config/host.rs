//! `[manifest.host]`: how the host should be set up.

use std::collections::BTreeMap;
use std::fmt;

use super::keys::{Keys, Section};
use super::value::{Value, quote};
use crate::host::TOPICS;

/// How a host should be set up. What it does not say is not held against it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpectedHost {
    /// The oldest kernel.
    pub kernel_from: Option<KernelVersion>,
    /// The newest kernel.
    pub kernel_to: Option<KernelVersion>,
    /// Words that the kernel's command line has.
    pub command_line: Vec<String>,
    /// Parameters that it does not have.
    pub command_line_without: Vec<String>,
    /// Whether there is an IOMMU in use.
    pub iommu: Option<bool>,
    /// The types that the default domains of its groups have.
    pub iommu_domains: Vec<String>,
    /// Huge pages of 2 MiB, at least.
    pub huge_pages_2m: Option<u64>,
    /// Huge pages of 1 GiB, at least.
    pub huge_pages_1g: Option<u64>,
    /// The same by NUMA node.
    pub nodes: BTreeMap<String, ExpectedNode>,
    /// Memory that a process may lock, at least.
    pub memlock_mib: Option<u64>,
    /// Files that it may have open, at least.
    pub open_files: Option<u64>,
    /// Mappings that it may have, at least.
    pub max_map_count: Option<u64>,
    /// Modules that are loaded.
    pub modules: Vec<String>,
    /// Modules that are not.
    pub modules_without: Vec<String>,
    /// `MODULE.PARAMETER=VALUE`.
    pub module_parameters: Vec<String>,
    /// The clock source.
    pub clock_source: Option<String>,
    /// The governor of all CPUs.
    pub cpu_governor: Option<String>,
    /// Whether the kernel moves pages between nodes by itself.
    pub numa_balancing: Option<bool>,
    /// Checks without which no job can start.
    pub required: Vec<String>,
}

/// What a NUMA node should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectedNode {
    /// Huge pages of 2 MiB, at least.
    pub huge_pages_2m: Option<u64>,
    /// Huge pages of 1 GiB, at least.
    pub huge_pages_1g: Option<u64>,
}

/// Major and minor number of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Value for KernelVersion {
    const EXPECTED: &str = "major and minor number of a kernel, such as \"6.12\"";

    fn read(raw: &super::tree::Raw) -> Option<Self> {
        let text = String::read(raw)?;
        let (major, minor) = text.split_once('.')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }

    fn to_toml(&self) -> String {
        quote(&self.to_string())
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self.to_string())
    }
}

impl ExpectedHost {
    /// Whether it asks for anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The module parameters that it names, with their values.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let parameters = self.module_parameters.iter();
        parameters.filter_map(|parameter| parameter.split_once('='))
    }

    /// What has to be read for it beyond what is always read: `MODULE` and `MODULE.PARAMETER`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let modules = self.modules.iter().chain(&self.modules_without);
        let parameters = self.parameters().map(|(name, _)| name.to_owned());
        modules.cloned().chain(parameters).collect()
    }

    fn memory(&mut self, keys: &mut Keys<'_>) {
        let any = |_: &u64| true;
        let expected = u64::EXPECTED;
        let why = "huge pages of 2 MiB on the whole host, at least";
        keys.optional("huge_pages_2m", &mut self.huge_pages_2m, expected, any, why);
        let why = "huge pages of 1 GiB on the whole host, at least";
        keys.optional("huge_pages_1g", &mut self.huge_pages_1g, expected, any, why);
        keys.named("node", &mut self.nodes);
        let numbered = self.nodes.keys().all(|name| name.parse::<u32>().is_ok());
        keys.require(numbered, &["node"], || {
            "tables by the number of a node, such as [manifest.host.node.0]".to_owned()
        });
        let why = "memory in MiB that a unit without a limit of its own may lock, at least: DMA memory is locked";
        keys.optional("memlock_mib", &mut self.memlock_mib, expected, any, why);
        let why = "files that such a unit may have open, at least";
        keys.optional("open_files", &mut self.open_files, expected, any, why);
        let why = "mappings that a process may have, at least";
        keys.optional("max_map_count", &mut self.max_map_count, expected, any, why);
    }

    fn kernel(&mut self, keys: &mut Keys<'_>) {
        let any = |_: &KernelVersion| true;
        let expected = KernelVersion::EXPECTED;
        let why = "the oldest kernel that is good";
        keys.optional("kernel_from", &mut self.kernel_from, expected, any, why);
        let why = "the newest kernel that is known to be good";
        keys.optional("kernel_to", &mut self.kernel_to, expected, any, why);
        let in_order = match (self.kernel_from, self.kernel_to) {
            (Some(from), Some(to)) => from <= to,
            _ => true,
        };
        keys.require(in_order, &["kernel_to", "kernel_from"], || {
            "at least kernel_from".to_owned()
        });
        let why = "words that the kernel's command line has, as they stand there";
        keys.set("command_line", &mut self.command_line, why);
        let why = "parameters that it does not have, by their names";
        keys.set("command_line_without", &mut self.command_line_without, why);
        let why = "modules that are loaded, by their names in sys/module";
        keys.set("modules", &mut self.modules, why);
        let why = "modules that are not loaded";
        keys.set("modules_without", &mut self.modules_without, why);
        let why =
            "values of module parameters, each \"module.parameter=value\" as sys/module shows it";
        keys.set("module_parameters", &mut self.module_parameters, why);
        let mut names = self.modules.iter().chain(&self.modules_without);
        let sound = names.all(|name| is_plain(name));
        keys.require(sound, &["modules", "modules_without"], || {
            "names of modules".to_owned()
        });
        let sound = self.module_parameters.iter().all(|text| is_parameter(text));
        keys.require(sound, &["module_parameters"], || {
            "\"module.parameter=value\" each".to_owned()
        });
    }
}

impl Section for ExpectedHost {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        self.kernel(keys);
        let any = |_: &bool| true;
        let why = "true: an IOMMU is in use, without which VFIO can isolate nothing";
        keys.optional("iommu", &mut self.iommu, bool::EXPECTED, any, why);
        let why = "types that the default domains of all groups have: identity, DMA, DMA-FQ";
        keys.set("iommu_domains", &mut self.iommu_domains, why);
        self.memory(keys);
        let some = |text: &String| !text.is_empty();
        let why = "the clock source in use";
        let expected = "the name of a clock source, such as \"tsc\"";
        keys.optional("clock_source", &mut self.clock_source, expected, some, why);
        let why = "the frequency governor of all CPUs";
        let expected = "the name of a governor, such as \"performance\"";
        keys.optional("cpu_governor", &mut self.cpu_governor, expected, some, why);
        let why = "whether the kernel moves pages between nodes by itself";
        keys.optional(
            "numa_balancing",
            &mut self.numa_balancing,
            bool::EXPECTED,
            any,
            why,
        );
        let why = "checks of the host without which no job can start: what differs is then unhealthy, not degraded";
        keys.set("required", &mut self.required, why);
        let known = |name: &String| TOPICS.iter().any(|topic| topic.name == name);
        let sound = self.required.iter().all(known);
        keys.require(sound, &["required"], || {
            let names: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
            format!("names of {}", names.join(", "))
        });
    }
}

impl Section for ExpectedNode {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let any = |_: &u64| true;
        let why = "huge pages of 2 MiB on this node, at least";
        keys.optional(
            "huge_pages_2m",
            &mut self.huge_pages_2m,
            u64::EXPECTED,
            any,
            why,
        );
        let why = "huge pages of 1 GiB on this node, at least";
        keys.optional(
            "huge_pages_1g",
            &mut self.huge_pages_1g,
            u64::EXPECTED,
            any,
            why,
        );
    }
}

/// A name that can be a file's in `sys/module`.
fn is_plain(name: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.chars().all(of_name)
}

fn is_parameter(text: &str) -> bool {
    let name = text.split_once('=').map(|(name, _)| name);
    let parts = name.and_then(|name| name.split_once('.'));
    parts.is_some_and(|(module, parameter)| is_plain(module) && is_plain(parameter))
}
