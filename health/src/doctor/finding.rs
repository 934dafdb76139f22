//! What one look at one thing says.

use std::borrow::Cow;

use serde::Serialize;

use crate::probe::ProbeError;

/// The subject of what concerns no device in particular.
pub const HOST: &str = "host";

/// How well it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// There is nothing of the kind to look at here.
    NotApplicable,
    /// As it should be.
    Ok,
    /// It will do, for some; or it could not be seen.
    Warn,
    /// Accelerators cannot be used like this.
    Fail,
}

impl Level {
    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotApplicable => "not-applicable",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What was found, what is expected, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The device's address, or [`HOST`].
    pub subject: String,
    /// What was looked at.
    pub check: &'static str,
    /// How well it is.
    pub level: Level,
    /// What there is.
    pub found: String,
    /// What there should be.
    pub expected: Cow<'static, str>,
    /// What to do about it; may be advice where all is well.
    pub mend: Option<String>,
}

impl Finding {
    pub(super) fn new(
        check: &'static str,
        level: Level,
        found: impl Into<String>,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            subject: HOST.to_owned(),
            check,
            level,
            found: found.into(),
            expected: expected.into(),
            mend: None,
        }
    }

    pub(super) fn not_applicable(check: &'static str, why: &str) -> Self {
        Self::new(check, Level::NotApplicable, why, "nothing here")
    }

    /// What cannot be seen is not well.
    pub(super) fn unread(check: &'static str, error: &ProbeError, expected: &'static str) -> Self {
        Self::new(check, Level::Warn, error.to_string(), expected)
    }

    pub(super) fn mend(mut self, advice: impl Into<String>) -> Self {
        self.mend = Some(advice.into());
        self
    }

    pub(super) fn of(mut self, device: &str) -> Self {
        device.clone_into(&mut self.subject);
        self
    }
}
