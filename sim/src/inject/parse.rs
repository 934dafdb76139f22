//! A request as it comes over the socket: checked word for word, because a parameter that is misspelt and ignored
//! would inject something else than was asked for.

use serde_json::{Map, Value};

use super::{InjectError, Injection, MOST_ECHO, Verb};

impl Injection {
    /// The request in a line of JSON. Numbers are not checked against the device: the host does that.
    ///
    /// # Errors
    /// [`InjectError`] when the line is no JSON object, or has a verb or a parameter that does not exist.
    pub fn parse(line: &[u8]) -> Result<Self, InjectError> {
        let mut object: Map<String, Value> =
            serde_json::from_slice(line).map_err(|error| InjectError::NotARequest {
                reason: error.to_string(),
            })?;
        let verb = text(&object, "verb")?;
        let target = text(&object, "target")?;
        if !Verb::NAMES.contains(&verb.as_str()) {
            return Err(InjectError::UnknownVerb {
                suggestion: resembling(&verb),
                found: verb.chars().take(MOST_ECHO).collect(),
            });
        }
        object.remove("target");
        let parameters = Verb::PARAMETERS
            .iter()
            .find(|(name, _)| *name == verb)
            .map_or(&[][..], |(_, parameters)| parameters);
        let is_known = |key: &str| key == "verb" || parameters.contains(&key);
        if let Some(stray) = object.keys().find(|key| !is_known(key)) {
            let stray: String = stray.chars().take(MOST_ECHO).collect();
            return Err(InjectError::BadParameter {
                reason: match parameters {
                    [] => format!("it takes no parameters, and {stray:?} was given"),
                    known => format!("unknown parameter {stray:?}; it takes {}", known.join(", ")),
                },
                verb,
            });
        }
        match serde_json::from_value(Value::Object(object)) {
            Ok(verb) => Ok(Self { target, verb }),
            Err(error) => Err(InjectError::BadParameter {
                verb,
                reason: error.to_string(),
            }),
        }
    }
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
    let nearest = Verb::NAMES
        .iter()
        .map(|name| (distance(found, name), *name));
    let (distance, name) = nearest.min()?;
    (distance <= name.len() / 3).then_some(name)
}

/// Edit distance by insertions, deletions, replacements and swaps of two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let edited = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    edited.min(table[i - 2][j - 2] + 1)
                } else {
                    edited
                }
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn every_verb_reads_back_as_it_is_written() {
        for verb in [
            Verb::EccCe { count: 7 },
            Verb::EccUe,
            Verb::FirmwareHang,
            Verb::LinkWidth { lanes: 4 },
            Verb::CarrierFlap {
                count: 2,
                down_ms: 50,
            },
            Verb::PortSpeed { mbit: 100_000 },
            Verb::PortErrors { count: 9 },
            Verb::PortDrops { count: 9 },
            Verb::RdmaPort { up: true },
            Verb::DriverReload,
        ] {
            assert!(Verb::NAMES.contains(&verb.name()));
            let injection = Injection {
                target: "0000:01:00.0".to_owned(),
                verb,
            };
            let line = serde_json::to_vec(&injection).unwrap();
            assert_eq!(Injection::parse(&line).unwrap(), injection);
        }
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("ecc-ue", "ecc-ue"), 0);
        assert_eq!(distance("linkwidth", "link-width"), 1);
        assert_eq!(distance("ecc-eu", "ecc-ue"), 1);
        assert_eq!(distance("", "abc"), 3);
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
