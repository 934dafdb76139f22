//! Who has a device file open, as far as this process may see.

use std::fs;
use std::path::Path;

/// Process and command that hold one of the files, for messages.
pub(super) fn holder(paths: &[Option<&Path>]) -> String {
    let paths: Vec<&Path> = paths.iter().copied().flatten().collect();
    find(Path::new("/proc"), &paths).unwrap_or_else(|| {
        "a process that this one cannot see (look with root's rights, or on the host of this container)".to_owned()
    })
}

fn find(proc: &Path, paths: &[&Path]) -> Option<String> {
    let me = std::process::id().to_string();
    for process in fs::read_dir(proc).ok()?.filter_map(Result::ok) {
        let pid = process.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // Processes end while one looks, and others' descriptors may not be shown.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = descriptors.filter_map(Result::ok).any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|target| paths.contains(&target.as_path()))
        });
        if holds {
            if pid == me {
                return Some(
                    "this process (functions of one group must share one DmaSpace)".to_owned(),
                );
            }
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", command.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_process_with_the_open_file_is_named() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, command, target) in [
            ("12", "sleep", "/dev/null"),
            ("4711", "train", "/dev/vfio/5"),
        ] {
            let fds = proc.path().join(pid).join("fd");
            fs::create_dir_all(&fds).unwrap();
            fs::write(proc.path().join(pid).join("comm"), format!("{command}\n")).unwrap();
            symlink(target, fds.join("3")).unwrap();
        }
        fs::create_dir(proc.path().join("sys")).unwrap();
        assert_eq!(
            find(
                proc.path(),
                &[Path::new("/dev/vfio/1"), Path::new("/dev/vfio/5")]
            )
            .unwrap(),
            "process 4711 (train)"
        );
        assert_eq!(find(proc.path(), &[Path::new("/dev/vfio/6")]), None);
    }
}
