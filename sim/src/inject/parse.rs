//! A request as it comes over the socket: checked word for word, because a parameter that is misspelt and ignored
//! would inject something else than was asked for.

use serde_json::{Map, Value};

use super::{Entry, InjectError, Injection, MOST_ECHO, Trigger, Verb};

impl Injection {
    /// The request in a line of JSON. Numbers are not checked against the device: the host does that.
    ///
    /// # Errors
    /// [`InjectError`] when the line is no JSON object, or has a fault or a parameter that does not exist.
    pub fn parse(line: &[u8]) -> Result<Self, InjectError> {
        let object = serde_json::from_slice(line).map_err(|error| InjectError::NotARequest {
            reason: error.to_string(),
        })?;
        Self::from_object(object)
    }

    /// The same, from an object that was read from something else.
    ///
    /// # Errors
    /// As [`Injection::parse`].
    pub fn from_object(mut object: Map<String, Value>) -> Result<Self, InjectError> {
        let verb = text(&object, "verb")?;
        let target = text(&object, "target")?;
        object.remove("target");
        let Some(entry) = Verb::CATALOGUE.iter().find(|entry| entry.name == verb) else {
            return Err(InjectError::UnknownVerb {
                suggestion: resembling(&verb),
                found: verb.chars().take(MOST_ECHO).collect(),
            });
        };
        let mut when = Map::new();
        for (key, _) in Trigger::KEYS {
            if let Some(value) = object.remove(*key) {
                when.insert((*key).to_owned(), value);
            }
        }
        check_names(entry, &object)?;
        for parameter in entry.parameters {
            if let Some(default) = parameter.default
                && !object.contains_key(parameter.name)
            {
                let default = serde_json::from_str(default).unwrap_or_default();
                object.insert(parameter.name.to_owned(), default);
            }
        }
        let wrong = |error: serde_json::Error| InjectError::BadParameter {
            verb: verb.clone(),
            reason: error.to_string(),
        };
        let verb = serde_json::from_value(Value::Object(object)).map_err(wrong)?;
        let when: Trigger = serde_json::from_value(Value::Object(when)).map_err(wrong)?;
        when.check(&verb)?;
        Ok(Self { target, verb, when })
    }
}

fn check_names(entry: &Entry, object: &Map<String, Value>) -> Result<(), InjectError> {
    let is_known = |key: &str| {
        key == "verb"
            || entry
                .parameters
                .iter()
                .any(|parameter| parameter.name == key)
    };
    let Some(stray) = object.keys().find(|key| !is_known(key)) else {
        return Ok(());
    };
    let stray: String = stray.chars().take(MOST_ECHO).collect();
    let known: Vec<_> = entry
        .parameters
        .iter()
        .map(|parameter| parameter.name)
        .collect();
    let times: Vec<_> = Trigger::KEYS.iter().map(|(key, _)| *key).collect();
    let times = times.join(", ");
    Err(InjectError::BadParameter {
        verb: entry.name.to_owned(),
        reason: match &known[..] {
            [] => format!("unknown parameter {stray:?}; it takes none but for when: {times}"),
            known => format!(
                "unknown parameter {stray:?}; it takes {}, and for when: {times}",
                known.join(", ")
            ),
        },
    })
}

fn text(object: &Map<String, Value>, key: &str) -> Result<String, InjectError> {
    match object.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(InjectError::NotARequest {
            reason: format!(
                "{key:?} is {}, not a text",
                other
                    .to_string()
                    .chars()
                    .take(MOST_ECHO)
                    .collect::<String>()
            ),
        }),
        None => Err(InjectError::NotARequest {
            reason: format!("it has no {key:?}"),
        }),
    }
}

/// The verb that is at most a third of its length away.
fn resembling(found: &str) -> Option<&'static str> {
    if found.len() > MOST_ECHO {
        return None;
    }
    let nearest = Verb::CATALOGUE
        .iter()
        .map(|entry| (strsim::osa_distance(found, entry.name), entry.name));
    let (distance, name) = nearest.min()?;
    (distance <= name.len() / 3).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::Form;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_said_has_its_default() {
        let parse = |line: &str| Injection::parse(line.as_bytes()).unwrap().verb;
        assert_eq!(
            parse(r#"{"verb":"ecc-ce","target":"01:00.0"}"#),
            Verb::EccCe { count: 1 }
        );
        assert_eq!(
            parse(r#"{"target":"eth0","verb":"carrier-flap","count":3}"#),
            Verb::CarrierFlap {
                count: 3,
                down_ms: 500
            }
        );
    }

    #[test]
    fn every_fault_reads_back_as_it_is_written() {
        for entry in Verb::CATALOGUE {
            let mut object =
                serde_json::json!({"verb": entry.name, "target": "0000:01:00.0", "seed": 3});
            for parameter in entry.parameters {
                if parameter.default.is_none() {
                    object[parameter.name] = match parameter.form {
                        Form::Number => 1.into(),
                        Form::Switch => true.into(),
                        Form::Text => "eth7".into(),
                    };
                }
            }
            let injection = Injection::parse(object.to_string().as_bytes()).unwrap();
            assert_eq!(injection.verb.name(), entry.name);
            assert_eq!(injection.when.seed, 3);
            let line = serde_json::to_vec(&injection).unwrap();
            assert_eq!(Injection::parse(&line).unwrap(), injection);
        }
    }

    #[test]
    fn no_two_faults_share_a_name_and_no_parameter_is_named_as_what_says_when() {
        let mut names: Vec<_> = Verb::CATALOGUE.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Verb::CATALOGUE.len());
        for entry in Verb::CATALOGUE {
            for parameter in entry.parameters {
                assert!(
                    Trigger::KEYS.iter().all(|(key, _)| *key != parameter.name),
                    "{}: {}",
                    entry.name,
                    parameter.name
                );
            }
        }
    }

    #[test]
    fn what_a_fault_cannot_wait_for_is_refused() {
        for (line, word) in [
            (
                r#"{"verb":"reset-hang","target":"x","queue":1}"#,
                "no queue",
            ),
            (
                r#"{"verb":"completion-drop","target":"x","every_ms":5}"#,
                "every_ms",
            ),
            (
                r#"{"verb":"completion-drop","target":"x","register":4}"#,
                "register",
            ),
            (r#"{"verb":"ecc-ue","target":"x","times":2}"#, "every_ms"),
            (r#"{"verb":"ecc-ue","target":"x","one_in":0}"#, "one_in"),
            (
                r#"{"verb":"doorbell-ignored","target":"x","opcode":"nop"}"#,
                "opcode",
            ),
        ] {
            let error = Injection::parse(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Injection::parse(&line);
        }

        #[test]
        fn no_names_make_the_parser_panic(verb in ".{0,100}", key in ".{0,100}", value: i64) {
            let line = serde_json::json!({"verb": verb, "target": "x", key: value});
            let _ = Injection::parse(line.to_string().as_bytes());
        }
    }
}
