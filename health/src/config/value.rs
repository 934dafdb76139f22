//! Types of values: how each is read, and how it is written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::duration;
use super::tree::Raw;

/// What a key may hold.
pub trait Value: Clone {
    /// What is expected, in words.
    const EXPECTED: &str;

    /// Reads it; `None` when it is something else.
    #[doc(hidden)]
    fn read(raw: &Raw) -> Option<Self>;

    /// As it is written in a file.
    fn to_toml(&self) -> String;

    /// As it is written in JSON.
    fn to_json(&self) -> serde_json::Value;
}

impl Value for u64 {
    const EXPECTED: &str = "a whole number";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Integer(number) => Self::try_from(*number).ok(),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self)
    }
}

impl Value for u32 {
    const EXPECTED: &str = u64::EXPECTED;

    fn read(raw: &Raw) -> Option<Self> {
        u64::read(raw).and_then(|number| Self::try_from(number).ok())
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self)
    }
}

impl Value for f64 {
    const EXPECTED: &str = "a number";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            // Numbers in a configuration are far below 2^53.
            Raw::Integer(number) => Some(*number as Self),
            Raw::Float(number) => number.is_finite().then_some(*number),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        format!("{self:?}")
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self)
    }
}

impl Value for bool {
    const EXPECTED: &str = "true or false";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self)
    }
}

impl Value for String {
    const EXPECTED: &str = "a text";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        quote(self)
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self)
    }
}

impl Value for Vec<String> {
    const EXPECTED: &str = "a list of texts";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::List(parts) => parts.iter().map(String::read).collect(),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        let parts: Vec<String> = self.iter().map(|part| quote(part)).collect();
        format!("[{}]", parts.join(", "))
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self)
    }
}

impl Value for Duration {
    const EXPECTED: &str = "a duration with its unit, such as \"10 min\"";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => duration::parse(text),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        quote(&duration::show(*self))
    }

    fn to_json(&self) -> serde_json::Value {
        json!(duration::show(*self))
    }
}

impl Value for SocketAddr {
    const EXPECTED: &str = "an address with a port, such as \"127.0.0.1:9400\"";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        quote(&self.to_string())
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self.to_string())
    }
}

impl Value for PathBuf {
    const EXPECTED: &str = "an absolute path";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) if text.contains('\0') => None,
            Raw::Text(text) => Some(Self::from(text)).filter(|path| path.is_absolute()),
            _ => None,
        }
    }

    fn to_toml(&self) -> String {
        quote(&self.display().to_string())
    }

    fn to_json(&self) -> serde_json::Value {
        json!(self.display().to_string())
    }
}

/// A TOML basic string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
