//! Debian builds its kernels without VFIO character devices, iommufd and the no-IOMMU mode. Here its own sources are
//! built once more, with these options, as modules for its own kernel.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::geteuid;

use crate::apt::Apt;
use crate::cache::Cache;
use crate::kernel::Line;
use crate::shell;

/// Runs in the build root.
const BUILD: &str = include_str!("cdev-build.sh");

/// What Kbuild and that script call, beside the compiler.
const TOOLS: [&str; 15] = [
    "base-files",
    "bash",
    "coreutils",
    "diffutils",
    "findutils",
    "gawk",
    "grep",
    "kmod",
    "libc6-dev",
    "make",
    "perl",
    "perl-base",
    "sed",
    "tar",
    "xz-utils",
];

/// The folder with the rebuilt modules of a kernel.
pub(crate) fn modules(line: Line, release: &str, cache: &Cache, apt: &Apt<'_>) -> Result<PathBuf> {
    cache.once(&format!("cdev-{}", line.name), |to| {
        if !geteuid().is_root() {
            bail!(
                "building kernel modules needs root, for chroot; run this once as root, or with \
                 `--mode group`"
            );
        }
        let root = cache.scratch(&format!("build-{}", line.name))?;
        unpack_build_root(line, release, &root, apt)?;
        build(release, &root)?;
        let built = root.join("built");
        for entry in fs::read_dir(&built)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        fs::remove_dir_all(&root)?;
        Ok(())
    })
}

fn unpack_build_root(line: Line, release: &str, root: &Path, apt: &Apt<'_>) -> Result<()> {
    // From `6.12.1+deb13-amd64` to the `linux-source-6.12` that it was built from.
    let mut numbers = release.split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("the kernel's release is {release:?}");
    };
    let headers = format!("linux-headers-{release}");
    let mut packages = vec!["gcc", &headers];
    packages.extend(TOOLS);
    apt.unpack_closure(line.suite, &packages, root)?;
    apt.unpack(
        line.suite,
        &[&format!("linux-source-{major}.{minor}")],
        root,
    )?;
    // What the packages' own scripts would have made. `/bin` is a link to `/usr/bin`, or a folder in older suites.
    for (link, target) in [("bin/sh", "bash"), ("usr/bin/awk", "gawk")] {
        let link = root.join(link);
        if !link.exists() {
            symlink(target, &link).with_context(|| format!("linking {}", link.display()))?;
        }
    }
    for directory in ["dev", "proc", "tmp", "built"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::write(root.join("build.sh"), BUILD)?;
    Ok(())
}

fn build(release: &str, root: &Path) -> Result<()> {
    // In namespaces of its own: nothing stays mounted and no process stays alive, however this ends.
    const INSIDE: &str = r#"
set -e
mount -t proc proc "$1/proc"
: > "$1/dev/null"
mount --bind /dev/null "$1/dev/null"
exec chroot "$1" /bin/bash /build.sh "$2"
"#;
    shell::run(
        shell::tied_to_us("unshare")
            .args(["--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", INSIDE, "sh"])
            .arg(root)
            .arg(release)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env_remove("LD_LIBRARY_PATH")
            .env("LC_ALL", "C"),
    )?;
    for module in [
        "vfio.ko",
        "vfio-pci.ko",
        "vfio_iommu_type1.ko",
        "iommufd.ko",
    ] {
        ensure!(
            root.join("built").join(module).exists(),
            "the build made no {module}"
        );
    }
    Ok(())
}
