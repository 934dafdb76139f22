//! What the files say, before anybody asks whether it makes sense: values by key, each with the place that it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};

/// A key with its tables.
pub(super) type Key = Vec<String>;

/// A value, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a point.
    Float(f64),
    /// A boolean.
    Flag(bool),
    /// An array.
    List(Vec<Raw>),
    /// A table; what it holds has entries of its own.
    Table,
    /// What no key here takes.
    Other(String),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Whoever reads the message has the rest of a long text in the file.
            Self::Text(text) if text.chars().count() > 40 => {
                let start: String = text.chars().take(40).collect();
                write!(f, "the text {start:?} and more")
            }
            Self::Text(text) => write!(f, "the text {text:?}"),
            Self::Integer(number) => write!(f, "the number {number}"),
            Self::Float(number) => write!(f, "the number {number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(_) => f.write_str("a list"),
            Self::Table => f.write_str("a table"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// All that the files say together.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Values, and tables, by key.
    pub(super) entries: BTreeMap<Key, Entry>,
}

impl Tree {
    /// Takes a file into account; what it says stands above what was said before.
    pub(super) fn merge(&mut self, file: &Path, text: &str) -> Vec<Problem> {
        let file: Arc<Path> = file.into();
        let (table, errors) = DeTable::parse_recoverable(text);
        let problem = |error: &toml::de::Error| Problem {
            origin: Some(Origin::of(
                &file,
                text,
                error.span().map_or(0, |span| span.start),
            )),
            text: format!(
                "this is no TOML: {}",
                error.message().trim().replace('\n', ", ")
            ),
        };
        let problems: Vec<Problem> = errors.iter().map(problem).collect();
        if problems.is_empty() {
            let place = |byte| Origin::of(&file, text, byte);
            self.table(&mut Vec::new(), table.get_ref(), &place);
        }
        problems
    }

    fn table(&mut self, path: &mut Key, table: &DeTable<'_>, place: &impl Fn(usize) -> Origin) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            // A value that replaces a table, or a table a value, replaces all of it.
            self.forget_other_kind(path, value);
            let at = match value.get_ref() {
                DeValue::Table(_) => key.span().start,
                _ => value.span().start,
            };
            let entry = Entry {
                raw: raw(value),
                origin: place(at),
            };
            self.entries.insert(path.clone(), entry);
            if let DeValue::Table(table) = value.get_ref() {
                self.table(path, table, place);
            }
            path.pop();
        }
    }

    fn forget_other_kind(&mut self, path: &Key, value: &Spanned<DeValue<'_>>) {
        let is_table = matches!(value.get_ref(), DeValue::Table(_));
        let was_table = self
            .entries
            .get(path)
            .is_some_and(|entry| entry.raw == Raw::Table);
        if was_table && !is_table {
            self.entries.retain(|key, _| !key.starts_with(path));
        }
    }

    /// Names of the tables right below a key.
    pub(super) fn tables_below(&self, path: &[String]) -> Vec<String> {
        let below = |(key, entry): (&Key, &Entry)| {
            let (name, parents) = key.split_last()?;
            (parents == path && entry.raw == Raw::Table).then(|| name.clone())
        };
        self.entries.iter().filter_map(below).collect()
    }
}

fn raw(value: &Spanned<DeValue<'_>>) -> Raw {
    match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Raw::Other(format!("the number {number}")), Raw::Integer),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map_or_else(|_| Raw::Other(format!("the number {number}")), Raw::Float),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Datetime(time) => Raw::Other(format!("the time {time}")),
        DeValue::Array(values) => Raw::List(values.iter().map(raw).collect()),
        DeValue::Table(_) => Raw::Table,
    }
}

/// A key as it is written in a file.
pub(super) fn show(key: &[String]) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let quoted = key.iter().map(|part| {
        if !part.is_empty() && part.chars().all(bare) {
            part.clone()
        } else {
            super::value::quote(part)
        }
    });
    quoted.collect::<Vec<_>>().join(".")
}
