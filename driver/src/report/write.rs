//! Reports that the driver writes by itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Report;

/// Where reports go, and of which life of the device there was one already: a fault is met by many, and told once.
#[derive(Debug)]
pub(crate) struct Reports {
    directory: Option<PathBuf>,
    last: AtomicU32,
}

impl Reports {
    pub(crate) const fn to(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            // No life that has begun.
            last: AtomicU32::new(u32::MAX),
        }
    }

    /// Whether a report is to be made of that life. True once.
    pub(crate) fn begin(&self, life: u32) -> bool {
        self.directory.is_some() && self.last.swap(life, Ordering::AcqRel) != life
    }

    /// Writes a report. That it could not be written is told in the log: the error that is reported comes first.
    pub(crate) fn write(&self, report: &Report) {
        let Some(directory) = &self.directory else {
            return;
        };
        match report.write_to(directory) {
            Ok(path) => {
                tracing::warn!(device = report.device, report = %path.display(), "a report was written");
            }
            Err(error) => {
                tracing::error!(device = report.device, directory = %directory.display(), %error, "no report could be written");
            }
        }
    }
}

impl Report {
    /// Writes the report as JSON to a file of its own in `directory`, which appears there whole.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write_to(&self, directory: &Path) -> io::Result<PathBuf> {
        let device: String = self
            .device
            .chars()
            .map(|c| match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | ':' => c,
                _ => '-',
            })
            .collect();
        let path = directory.join(format!("auk-report-{device}-{}.json", self.unix_ms));
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let unfinished = path.with_extension("json.new");
        fs::write(&unfinished, text)?;
        fs::rename(&unfinished, &path).inspect_err(|_| {
            // Half a report is none; that it stays is said by the error.
            let _ = fs::remove_file(&unfinished);
        })?;
        Ok(path)
    }
}
