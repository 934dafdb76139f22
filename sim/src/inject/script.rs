//! A file of faults: what, when, how often.
//!
//! ```toml
//! seed = 7
//!
//! [[fault]]
//! target = "0000:01:00.0"
//! verb = "completion-drop"
//! opcode = "copy"
//! skip = 100
//!
//! [[fault]]
//! target = "0000:02:00.0"
//! verb = "ecc-ce"
//! count = 3
//! after_ms = 500
//! every_ms = 1000
//! times = 10
//! ```

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{InjectError, Injection};

/// Faults in the order in which they are given to a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// What is to happen.
    pub faults: Vec<Injection>,
}

/// Why a file is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// It is no TOML, or has something else than `seed` and `[[fault]]`.
    #[error("{0}")]
    Toml(String),
    /// One of its faults is none.
    #[error("fault {number}: {source}")]
    Fault {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        source: InjectError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    fault: Vec<Map<String, Value>>,
}

impl Script {
    /// The script in a text of TOML. Targets and numbers are not checked against a host: that does it when it is given them.
    ///
    /// # Errors
    /// [`ScriptError`] with the line, or the fault that is none.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let file: File =
            toml::from_str(text).map_err(|error| ScriptError::Toml(error.to_string()))?;
        let mut faults = Vec::new();
        for (number, mut fault) in (1..).zip(file.fault) {
            // Each has its own choices, and the same ones in each run.
            let own = file.seed.wrapping_add(number as u64);
            fault.entry("seed").or_insert_with(|| own.into());
            let injection = Injection::from_object(fault)
                .map_err(|source| ScriptError::Fault { number, source })?;
            faults.push(injection);
        }
        Ok(Self { faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::{Opcode, Verb};

    #[test]
    fn a_script_says_what_when_and_how_often() {
        let script = Script::parse(
            r#"
            seed = 7
            [[fault]]
            target = "0000:01:00.0"
            verb = "completion-drop"
            opcode = "copy"
            skip = 100
            [[fault]]
            target = "eth0"
            verb = "carrier-flap"
            count = 3
            after_ms = 500
            "#,
        )
        .unwrap();
        let [drop, flap] = &script.faults[..] else {
            panic!("{script:?}");
        };
        assert_eq!(drop.verb, Verb::CompletionDrop);
        assert_eq!(drop.when.opcode, Some(Opcode::Copy));
        assert_eq!((drop.when.skip, drop.when.seed), (100, 8));
        assert_eq!((flap.when.after_ms, flap.when.seed), (500, 9));
        assert_eq!(
            flap.verb,
            Verb::CarrierFlap {
                count: 3,
                down_ms: 500
            }
        );
    }

    #[test]
    fn a_wrong_fault_is_named_by_its_number() {
        let error =
            Script::parse("[[fault]]\ntarget=\"x\"\nverb=\"ecc-ue\"\n[[fault]]\nverb=\"ecc-ue\"")
                .unwrap_err();
        assert!(error.to_string().starts_with("fault 2: "), "{error}");
        let error = Script::parse("[[falt]]\n").unwrap_err();
        assert!(error.to_string().contains("falt"), "{error}");
    }
}
