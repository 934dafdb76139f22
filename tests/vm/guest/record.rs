//! Recording a subtree of sysfs; the form is that of [`auk_vm::recording`].

use std::fmt::Write;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// An attribute is a page at most.
const MOST_TEXT: u64 = 4096;
/// The part of config space that everybody may read; the rest of it changes.
const CONFIG: u64 = 64;

/// Everything below a directory, which may be a link to one; links in it are not followed.
pub(crate) fn subtree(top: &Path) -> Result<String> {
    let top = fs::canonicalize(top).with_context(|| format!("finding {}", top.display()))?;
    let mut text = String::new();
    directory(&top, "", &mut text)?;
    Ok(text)
}

fn directory(directory_path: &Path, below: &str, text: &mut String) -> Result<()> {
    let listing = || format!("listing {}", directory_path.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory_path).with_context(listing)? {
        names.push(entry.with_context(listing)?.file_name());
    }
    names.sort();
    names.retain(|name| !is_one_of_many(&name.to_string_lossy()));
    for name in names {
        let path = directory_path.join(&name);
        let shown = format!("{below}{}", name.to_string_lossy());
        let found = fs::symlink_metadata(&path)
            .with_context(|| format!("looking at {}", path.display()))?;
        let mode = found.permissions().mode() & 0o7777;
        let (kind, contents) = if found.is_symlink() {
            let target = fs::read_link(&path)?;
            ("link", serde_json::to_string(&target.to_string_lossy())?)
        } else if found.is_dir() {
            ("dir", "-".to_owned())
        } else {
            ("file", contents(&path, mode))
        };
        let size = found.len();
        writeln!(text, "{shown}\t{mode:o}\t{kind}\t{size}\t{contents}")?;
        // Interrupts have the numbers that were free.
        if found.is_dir() && name != "msi_irqs" {
            directory(&path, &format!("{shown}/"), text)?;
        }
    }
    Ok(())
}

/// An RDMA port has a thousand addresses, all alike: the first few will do.
fn is_one_of_many(name: &str) -> bool {
    name.parse::<u32>().is_ok_and(|number| number >= 4)
}

fn contents(path: &Path, mode: u32) -> String {
    if mode & 0o444 == 0 {
        return "-".to_owned();
    }
    let most = if path.ends_with("config") {
        CONFIG
    } else {
        MOST_TEXT
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    if let Err(error) = read {
        return format!("!{}", error.raw_os_error().unwrap_or_default());
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if !text.contains('\0') => serde_json::to_string(text).unwrap_or_default(),
        _ => bytes
            .iter()
            .fold("hex".to_owned(), |all, byte| format!("{all}{byte:02x}")),
    }
}
