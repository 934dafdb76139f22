//! The files of the host profile: whatever is in one, the profile is read and held against a manifest that asks for all.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use auk_health::Config;
use auk_health::host::{Profile, TOPICS};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// The files, by what is right in them; the first byte of an input chooses one.
const FILES: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.12.43\n"),
    ("proc/cmdline", "iommu=pt quiet\n"),
    ("proc/self/limits", "Max open files 1024 4096 files\nMax locked memory 8388608 8388608 bytes\n"),
    ("proc/sys/kernel/numa_balancing", "0\n"),
    ("proc/sys/vm/max_map_count", "65530\n"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "4\n"),
    ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "4\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "performance\n"),
    ("sys/kernel/iommu_groups/0/type", "identity\n"),
    ("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n"),
];

const MANIFEST: &str = "[manifest.host]\nkernel_from = \"6.1\"\nkernel_to = \"6.18\"\ncommand_line = [\"iommu=pt\"]\n\
    command_line_without = [\"nosmt\"]\niommu = true\niommu_domains = [\"identity\"]\nhuge_pages_2m = 4\nmemlock_mib = 8\n\
    open_files = 1024\nmax_map_count = 65530\nmodules = [\"vfio\"]\nmodule_parameters = \
    [\"vfio.enable_unsafe_noiommu_mode=N\"]\nclock_source = \"tsc\"\ncpu_governor = \"performance\"\nnuma_balancing = false\n";

static ROOT: LazyLock<TempDir> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("a directory for the host");
    for (file, text) in FILES {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("its directory");
        fs::write(path, text).expect("a file");
    }
    root
});

static CONFIG: LazyLock<Config> =
    LazyLock::new(|| Config::from_text(Path::new("manifest"), MANIFEST).expect("a manifest"));

fuzz_target!(|bytes: &[u8]| {
    let Some((chosen, bytes)) = bytes.split_first() else {
        return;
    };
    let (file, right) = FILES[usize::from(*chosen) % FILES.len()];
    let path = ROOT.path().join(file);
    fs::write(&path, bytes).expect("the file");
    let wanted = &CONFIG.settings.manifest.host;
    let profile = Profile::read(ROOT.path(), &wanted.asked());
    for topic in TOPICS {
        assert!((topic.compare)(&profile, wanted).is_asked());
    }
    fs::write(path, right).expect("the file");
});
