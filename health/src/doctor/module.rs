//! Whether a part of the kernel is there: loaded, built in, or to be loaded.

use super::ground::Ground;

/// What is known of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Module {
    /// Loaded, or built in.
    There,
    /// Not loaded; `modprobe` finds it.
    Loadable,
    /// This kernel was built without.
    Absent,
    /// Not loaded, and this tree has no list of modules.
    NotLoaded,
}

impl Module {
    /// What is known of a module; its name with underscores, as sysfs has it.
    pub(super) fn look(ground: &Ground, name: &str) -> Self {
        if ground.has(&format!("sys/module/{name}")) {
            return Self::There;
        }
        let Ok(Some((.., release))) = ground.kernel() else {
            return Self::NotLoaded;
        };
        // Where it is a bare name no release leads out of the directory.
        if release.contains('/') {
            return Self::NotLoaded;
        }
        let listed = |list: &str| {
            let text = ground.long_text(&format!("lib/modules/{release}/{list}"))?;
            let mut paths = text
                .lines()
                .map(|line| line.split(':').next().unwrap_or(line));
            Some(paths.any(|path| is_of(path, name)))
        };
        match (listed("modules.builtin"), listed("modules.dep")) {
            (Some(true), _) => Self::There,
            (_, Some(true)) => Self::Loadable,
            (_, Some(false)) => Self::Absent,
            _ => Self::NotLoaded,
        }
    }
}

/// Whether a path is the module's, compressed or not: `kernel/drivers/vfio/pci/vfio-pci.ko.xz`.
fn is_of(path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split(".ko").next().unwrap_or(file);
    stem.replace('-', "_") == name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;

    #[test]
    fn a_module_is_loaded_built_in_loadable_or_absent() {
        let tree = Tree::new();
        let look = |name| Module::look(&tree.ground(), name);
        assert_eq!(look("vfio_pci"), Module::NotLoaded);
        tree.write("proc/sys/kernel/osrelease", "6.12.43\n");
        assert_eq!(look("vfio_pci"), Module::NotLoaded);
        tree.write(
            "lib/modules/6.12.43/modules.dep",
            "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz\n",
        );
        tree.write(
            "lib/modules/6.12.43/modules.builtin",
            "kernel/drivers/iommu/iommufd/iommufd.ko\n",
        );
        assert_eq!(look("vfio_pci"), Module::Loadable);
        assert_eq!(look("iommufd"), Module::There);
        assert_eq!(look("vfio_iommu_type1"), Module::Absent);
        tree.write("sys/module/vfio_pci/refcnt", "0");
        assert_eq!(look("vfio_pci"), Module::There);
    }
}
