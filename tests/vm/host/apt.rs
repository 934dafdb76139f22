//! Debian's packages, through an apt state of our own: nothing is installed, and the host's apt is only asked which
//! mirror it uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cache::Cache;
use crate::shell;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where a host that uses no mirror of Debian's gets its packages.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// Bookworm for its kernel, trixie for its kernel and compilers, backports for QEMU and the newest kernel.
const SUITES: [&str; 3] = ["bookworm", "trixie", "trixie-backports"];

/// The lists of packages. They are fetched when something is first asked for, so none of it happens once all is
/// cached.
pub(crate) struct Apt<'a> {
    cache: &'a Cache,
    config: std::cell::OnceCell<PathBuf>,
}

impl<'a> Apt<'a> {
    pub(crate) fn new(cache: &'a Cache) -> Self {
        Self {
            cache,
            config: std::cell::OnceCell::new(),
        }
    }

    /// Unpacks packages, with all that they depend on, below `to`.
    pub(crate) fn unpack_closure(&self, suite: &str, packages: &[&str], to: &Path) -> Result<()> {
        let archives = self.cache.scratch("packages")?;
        let fetched = archives.join(suite);
        fs::create_dir_all(fetched.join("partial"))?;
        let option = format!("Dir::Cache::archives={}", fetched.display());
        shell::run(
            self.get()?
                .args(["-y", "--download-only", "-o", &option])
                .args(["install", "-t", suite])
                .args(packages),
        )?;
        unpack_all(&fetched, to)?;
        fs::remove_dir_all(&archives)?;
        Ok(())
    }

    /// Unpacks these packages alone below `to`.
    pub(crate) fn unpack<S: AsRef<str>>(
        &self,
        suite: &str,
        packages: &[S],
        to: &Path,
    ) -> Result<()> {
        let archives = self.cache.scratch("packages")?;
        let named = packages
            .iter()
            .map(|name| format!("{}/{suite}", name.as_ref()));
        shell::run(
            self.get()?
                .arg("download")
                .args(named)
                .current_dir(&archives),
        )?;
        unpack_all(&archives, to)?;
        fs::remove_dir_all(&archives)?;
        Ok(())
    }

    /// The names of what a package depends on, alternatives included.
    pub(crate) fn depends(&self, suite: &str, package: &str) -> Result<Vec<String>> {
        let shown = shell::run(
            Command::new("apt-cache")
                .args(["-c".as_ref(), self.config()?.as_os_str()])
                .args(["show", &format!("{package}/{suite}")]),
        )?;
        let names = shown
            .lines()
            .filter_map(|line| line.strip_prefix("Depends: "))
            .flat_map(|all| all.split([',', '|']))
            .filter_map(|one| one.split_whitespace().next())
            .map(str::to_owned);
        Ok(names.collect())
    }

    fn get(&self) -> Result<Command> {
        let mut command = Command::new("apt-get");
        command.arg("-qq").arg("-c").arg(self.config()?);
        Ok(command)
    }

    fn config(&self) -> Result<&PathBuf> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = self.update().context("fetching the lists of packages")?;
        Ok(self.config.get_or_init(|| config))
    }

    fn update(&self) -> Result<PathBuf> {
        let missing: Vec<_> = ["apt-get", "apt-cache", "dpkg"]
            .into_iter()
            .filter(|tool| !shell::has(tool))
            .collect();
        if !missing.is_empty() {
            bail!(
                "{} missing: kernels and QEMU come from Debian's packages, so this needs a Debian \
                 or one of its kin",
                missing.join(", ")
            );
        }
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: install debian-archive-keyring");
        }
        let root = self.cache.path("apt");
        for directory in [
            "state/lists/partial",
            "cache/archives/partial",
            "etc/parts",
            "etc/preferences.d",
        ] {
            fs::create_dir_all(root.join(directory))?;
        }
        let mirror = mirror()?;
        eprintln!("setup  lists of packages from {mirror} ...");
        fs::write(root.join("state/status"), "")?;
        let sources: String = SUITES
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        fs::write(root.join("etc/sources.list"), sources)?;
        let config = root.join("apt.conf");
        let at = root.display();
        fs::write(
            &config,
            format!(
                r#"Dir::State "{at}/state";
Dir::State::status "{at}/state/status";
Dir::Cache "{at}/cache";
Dir::Etc::SourceList "{at}/etc/sources.list";
Dir::Etc::SourceParts "{at}/etc/parts";
Dir::Etc::Preferences "{at}/etc/preferences";
Dir::Etc::PreferencesParts "{at}/etc/preferences.d";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
"#
            ),
        )?;
        shell::run(
            Command::new("apt-get")
                .arg("-qq")
                .arg("-c")
                .arg(&config)
                .arg("update"),
        )?;
        Ok(config)
    }
}

/// The mirror that this machine's own apt uses.
fn mirror() -> Result<String> {
    let printed =
        shell::run(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))?;
    let found = printed
        .lines()
        .map(|line| line.trim_end_matches('/'))
        .find(|line| line.ends_with("/debian"));
    Ok(found.unwrap_or(DEFAULT_MIRROR).to_owned())
}

/// In the order of their names: `base-files`, which has the links of the file system's root, is before what uses them.
fn unpack_all(packages: &Path, to: &Path) -> Result<()> {
    let mut archives = Vec::new();
    for entry in fs::read_dir(packages)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "deb") {
            archives.push(path);
        }
    }
    ensure!(!archives.is_empty(), "apt brought no packages");
    archives.sort();
    for archive in archives {
        shell::run(Command::new("dpkg").arg("-x").arg(&archive).arg(to))?;
    }
    Ok(())
}
