//! Debian's kernels, unpacked, and the modules in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::apt::Apt;
use crate::cache::Cache;
use crate::cdev;

/// A kernel line that tests run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// As it is written on the command line and in tables.
    pub(crate) name: &'static str,
    /// The suite that has it.
    pub(crate) suite: &'static str,
    /// Whether its sources have VFIO character devices; they came with 6.6.
    pub(crate) has_cdev: bool,
}

/// Oldest first.
pub(crate) const LINES: [Line; 3] = [
    Line {
        name: "6.1",
        suite: "bookworm",
        has_cdev: false,
    },
    Line {
        name: "6.12",
        suite: "trixie",
        has_cdev: true,
    },
    Line {
        name: "newest",
        suite: "trixie-backports",
        has_cdev: true,
    },
];

/// An unpacked kernel.
pub(crate) struct Kernel {
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    modules: Modules,
}

impl Kernel {
    /// The stock kernel of a line.
    pub(crate) fn stock(line: Line, cache: &Cache, apt: &Apt<'_>) -> Result<Self> {
        let root = cache.once(&format!("kernel-{}", line.name), |to| {
            apt.unpack(line.suite, &packages(line, apt)?, to)
        })?;
        let modules = [root.join("usr/lib/modules"), root.join("lib/modules")]
            .into_iter()
            .find(|directory| directory.exists())
            .with_context(|| format!("no modules in {}", root.display()))?;
        let release = only_entry(&modules)?;
        let image = [
            root.join(format!("boot/vmlinuz-{release}")),
            modules.join(&release).join("vmlinuz"),
        ]
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("no kernel image in {}", root.display()))?;
        Ok(Self {
            image,
            modules: Modules::index(&modules.join(&release))?,
            release,
        })
    }

    /// The same kernel with VFIO character devices, iommufd and the no-IOMMU mode, which Debian leaves out.
    pub(crate) fn with_cdev(mut self, line: Line, cache: &Cache, apt: &Apt<'_>) -> Result<Self> {
        let rebuilt = cdev::modules(line, &self.release, cache, apt)?;
        for entry in fs::read_dir(&rebuilt)? {
            self.modules.add(entry?.path());
        }
        Ok(self)
    }

    /// Names and contents of these modules and of all that they need, in an order in which they load. One with a `?`
    /// before its name may be missing.
    pub(crate) fn load_order(&self, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut order = Vec::new();
        for name in wanted {
            match name.strip_prefix('?') {
                Some(name) if !self.modules.files.contains_key(name) => {}
                Some(name) => self.modules.need(name, &mut order)?,
                None => self.modules.need(name, &mut order)?,
            }
        }
        Ok(order)
    }
}

/// The packages of a line's newest kernel. Since 7.x the one with its name is empty, and has the image, the modules and
/// their lists from others of the same release.
fn packages(line: Line, apt: &Apt<'_>) -> Result<Vec<String>> {
    const NEWEST: &str = "linux-image-amd64";
    const PREFIX: &str = "linux-image-";
    let newest = apt.depends(line.suite, NEWEST)?;
    let (image, release) = newest
        .iter()
        .find_map(|name| Some((name, name.strip_prefix(PREFIX)?)))
        .with_context(|| format!("{NEWEST} of {} depends on {newest:?}", line.suite))?;
    let mut parts = apt.depends(line.suite, image)?;
    parts.retain(|name| name.ends_with(release));
    parts.push(image.clone());
    Ok(parts)
}

struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    fn index(directory: &Path) -> Result<Self> {
        let list = directory.join("modules.builtin");
        let builtin = fs::read_to_string(&list)
            .with_context(|| format!("reading {}", list.display()))?
            .lines()
            .filter_map(|line| name_of(Path::new(line)))
            .collect();
        let mut modules = Self {
            files: BTreeMap::new(),
            builtin,
        };
        let mut directories = vec![directory.join("kernel")];
        while let Some(next) = directories.pop() {
            for entry in
                fs::read_dir(&next).with_context(|| format!("listing {}", next.display()))?
            {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    directories.push(entry.path());
                } else {
                    modules.add(entry.path());
                }
            }
        }
        Ok(modules)
    }

    fn add(&mut self, path: PathBuf) {
        if let Some(name) = name_of(&path) {
            self.files.insert(name, path);
        }
    }

    fn need(&self, name: &str, order: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
        let name = name.replace('-', "_");
        if self.builtin.contains(&name) || order.iter().any(|(there, _)| *there == name) {
            return Ok(());
        }
        let path = self
            .files
            .get(&name)
            .with_context(|| format!("this kernel has no module {name}"))?;
        let bytes = read(path)?;
        for dependency in dependencies(&bytes) {
            self.need(&dependency, order)
                .with_context(|| format!("which {name} needs"))?;
        }
        order.push((name, bytes));
        Ok(())
    }
}

/// The name of the module in a file such as `vfio-pci.ko.xz`: modules are named with `_` in the kernel.
fn name_of(path: &Path) -> Option<String> {
    let (name, _) = path.file_name()?.to_str()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

/// A module without its compression.
fn read(path: &Path) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(|ending| ending.to_str()) {
        Some("ko") => {
            return fs::read(path).with_context(|| format!("reading {}", path.display()));
        }
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("{}: a module of no known compression", path.display()),
    };
    let done = Command::new(tool)
        .arg("-dc")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {tool}; is it installed?"))?;
    if !done.status.success() {
        bail!("{tool} cannot unpack {}", path.display());
    }
    Ok(done.stdout)
}

/// What a module says it needs: the field `depends` of its `.modinfo`, as `kernel/module` writes it.
fn dependencies(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(at) = module
        .windows(FIELD.len())
        .position(|window| window == FIELD)
    else {
        return Vec::new();
    };
    let value = &module[at + FIELD.len()..];
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(0);
    String::from_utf8_lossy(&value[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn only_entry(directory: &Path) -> Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    match &names[..] {
        [one] => Ok(one.clone()),
        _ => bail!("{} has {names:?}, one was expected", directory.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_needs() {
        let module = b"\x7fELF\0license=GPL\0depends=vfio,irqbypass\0name=vfio_pci_core\0";
        assert_eq!(dependencies(module), ["vfio", "irqbypass"]);
        assert_eq!(dependencies(b"\0depends=\0"), [""; 0]);
        assert_eq!(dependencies(b"no field"), [""; 0]);
    }

    #[test]
    fn a_file_names_its_module() {
        assert_eq!(
            name_of(Path::new("a/vfio-pci.ko.xz")).as_deref(),
            Some("vfio_pci")
        );
        assert_eq!(name_of(Path::new("modules.order")), None);
    }
}
