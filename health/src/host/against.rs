//! A profile against the manifest: what is as it should be, what differs, and what could not be read.

use crate::facts::Reading;

/// One thing that is not as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is.
    pub what: String,
    /// What there is.
    pub found: String,
    /// What there should be.
    pub expected: String,
    /// The file that says so.
    pub source: String,
    /// How to mend it.
    pub mend: String,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// What is as it should be, in words.
    pub met: Vec<String>,
    /// What is not.
    pub differences: Vec<Difference>,
    /// Why something could not be seen.
    pub unread: Option<String>,
}

impl Compared {
    /// Whether the manifest asks for anything of this.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.met.is_empty() || !self.differences.is_empty() || self.unread.is_some()
    }

    /// Takes one comparison: `holds` says whether what was read is as it should be.
    pub(super) fn take<T>(
        &mut self,
        of: Of<'_>,
        read: &Reading<Option<T>>,
        shown: impl Fn(&T) -> String,
        holds: impl Fn(&T) -> bool,
    ) {
        let found = match read {
            Ok(Some(found)) if holds(found) => {
                self.met.push(format!("{} {}", of.what, shown(found)));
                return;
            }
            Ok(Some(found)) => shown(found),
            Ok(None) => "nothing: this kernel does not show it".to_owned(),
            Err(error) => {
                self.unread.get_or_insert_with(|| error.to_string());
                return;
            }
        };
        self.differences.push(Difference {
            what: of.what.to_owned(),
            found,
            expected: of.expected,
            source: format!("/{}", of.source),
            mend: of.mend,
        });
    }
}

/// What is compared.
pub(super) struct Of<'a> {
    pub(super) what: &'a str,
    pub(super) expected: String,
    /// Below the root.
    pub(super) source: &'a str,
    pub(super) mend: String,
}
