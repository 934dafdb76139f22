//! The one list of keys: each section names its own to a [`Keys`], which reads, checks and records them in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::problem::{Origin, Problem, Source};
use super::tree::{Entry, Key, Raw, Tree, show};
use super::value::Value;

/// A table of the configuration. It begins as its `Default`, and names its keys.
pub trait Section {
    /// Names each key, with the field that it sets.
    fn keys(&mut self, keys: &mut Keys<'_>);
}

/// One key with its value in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The table that it is in.
    pub table: String,
    /// Its name there.
    pub name: String,
    /// The value, as TOML; `None` for one that is not set and needs not be.
    pub toml: Option<String>,
    /// The value, as JSON.
    pub json: serde_json::Value,
    /// The default, as TOML.
    pub default: Option<String>,
    /// What may stand there.
    pub expected: String,
    /// Why the default is what it is, or what the key does.
    pub why: &'static str,
    /// Where it was set.
    pub source: Source,
}

impl Setting {
    /// The whole key.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }
}

/// Reads the keys of sections out of what the files say.
pub struct Keys<'a> {
    tree: &'a Tree,
    table: Key,
    known: BTreeSet<Key>,
    /// Tables in which people choose the names.
    named: BTreeSet<Key>,
    failed: BTreeSet<Key>,
    settings: Vec<Setting>,
    problems: Vec<Problem>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            table: Vec::new(),
            known: BTreeSet::new(),
            named: BTreeSet::new(),
            failed: BTreeSet::new(),
            settings: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Keys in a table below this one.
    pub fn table(&mut self, name: &str, keys: impl FnOnce(&mut Self)) {
        self.table.push(name.to_owned());
        self.known.insert(self.table.clone());
        keys(self);
        self.table.pop();
    }

    /// Tables whose names people choose, below one of this name.
    pub fn named<T: Section + Default>(&mut self, name: &str, sections: &mut BTreeMap<String, T>) {
        self.table(name, |keys| {
            keys.named.insert(keys.table.clone());
            for name in keys.tree.tables_below(&keys.table) {
                sections.entry(name).or_default();
            }
            for (name, section) in sections {
                keys.table(name, |keys| section.keys(keys));
            }
        });
    }

    /// A key with any value of its type.
    pub fn set<T: Value>(&mut self, name: &str, field: &mut T, why: &'static str) {
        let default = field.to_toml();
        let entry = self.take(name, T::EXPECTED, |value: T| {
            *field = value;
            Ok(())
        });
        let shown = Some((field.to_toml(), field.to_json()));
        self.record(
            name,
            entry,
            shown,
            Some(default),
            T::EXPECTED.to_owned(),
            why,
        );
    }

    /// A key whose value lies between two.
    pub fn within<T: Value + PartialOrd>(
        &mut self,
        name: &str,
        field: &mut T,
        bounds: RangeInclusive<T>,
        why: &'static str,
    ) {
        let default = field.to_toml();
        let (low, high) = (bounds.start().to_toml(), bounds.end().to_toml());
        let expected = format!("{} from {low} to {high}", T::EXPECTED);
        let entry = self.take(name, &expected, |value: T| {
            if !bounds.contains(&value) {
                return Err(value.to_toml());
            }
            *field = value;
            Ok(())
        });
        let shown = Some((field.to_toml(), field.to_json()));
        self.record(name, entry, shown, Some(default), expected, why);
    }

    /// A key that need not be set, and whose value has a form that `valid` knows.
    pub fn optional<T: Value>(
        &mut self,
        name: &str,
        field: &mut Option<T>,
        expected: &str,
        valid: impl Fn(&T) -> bool,
        why: &'static str,
    ) {
        let entry = self.take(name, expected, |value: T| {
            if !valid(&value) {
                return Err(value.to_toml());
            }
            *field = Some(value);
            Ok(())
        });
        let shown = field
            .as_ref()
            .map(|value| (value.to_toml(), value.to_json()));
        self.record(name, entry, shown, None, expected.to_owned(), why);
    }

    /// What must hold between keys of this table. `names` begins with the one to blame.
    pub fn require(&mut self, holds: bool, names: &[&str], expected: impl FnOnce() -> String) {
        let keys: Vec<Key> = names.iter().map(|name| self.key(name)).collect();
        // Of a value that was not understood its default is left, which proves nothing.
        if holds || keys.iter().any(|key| self.failed.contains(key)) {
            return;
        }
        let blamed = keys
            .iter()
            .find_map(|key| Some((key, self.tree.entries.get(key)?)));
        let (key, origin) = match blamed {
            Some((key, entry)) => (key.clone(), Some(entry.origin.clone())),
            None => {
                let table = self.tree.entries.get(&self.table);
                (
                    keys.first().cloned().unwrap_or_default(),
                    table.map(|entry| entry.origin.clone()),
                )
            }
        };
        let text = format!("{}: expected {}", show(&key), expected());
        self.problems.push(Problem { origin, text });
    }

    fn key(&self, name: &str) -> Key {
        let mut key = self.table.clone();
        key.push(name.to_owned());
        key
    }

    /// Looks a key up and gives its value to `set`, which gives a value back that is out of bounds.
    fn take<T: Value>(
        &mut self,
        name: &str,
        expected: &str,
        set: impl FnOnce(T) -> Result<(), String>,
    ) -> Option<Origin> {
        let key = self.key(name);
        self.known.insert(key.clone());
        let Entry { raw, origin } = self.tree.entries.get(&key)?;
        let found = match T::read(raw).map(set) {
            Some(Ok(())) => return Some(origin.clone()),
            Some(Err(found)) => found,
            None => raw.to_string(),
        };
        self.problems.push(Problem {
            origin: Some(origin.clone()),
            text: format!("{} is {found}, expected {expected}", show(&key)),
        });
        self.failed.insert(key);
        None
    }

    fn record(
        &mut self,
        name: &str,
        origin: Option<Origin>,
        shown: Option<(String, serde_json::Value)>,
        default: Option<String>,
        expected: String,
        why: &'static str,
    ) {
        let (toml, json) = match shown {
            Some((toml, json)) => (Some(toml), json),
            None => (None, serde_json::Value::Null),
        };
        self.settings.push(Setting {
            table: show(&self.table),
            name: name.to_owned(),
            toml,
            json,
            default,
            expected,
            why,
            source: origin.map_or(Source::Default, Source::File),
        });
    }

    /// The settings, once all sections have named their keys, and what is wrong.
    pub(super) fn finish(mut self) -> (Vec<Setting>, Vec<Problem>) {
        self.find_strangers();
        (self.settings, self.problems)
    }

    /// Keys that no section knows. Of a table that is not known only the table is told.
    fn find_strangers(&mut self) {
        let tree = self.tree;
        let mut told: Option<&Key> = None;
        for (key, entry) in &tree.entries {
            if self.known.contains(key) {
                let is_leaf = entry.raw != Raw::Table;
                let holds_keys = self
                    .known
                    .range(key.clone()..)
                    .nth(1)
                    .is_some_and(|next| next.starts_with(key));
                if is_leaf && (holds_keys || self.named.contains(key)) {
                    let example = match self.named.contains(key) {
                        true => format!("tables with a name, [{}.NAME]", show(key)),
                        false => format!("a table, [{}]", show(key)),
                    };
                    self.problems.push(Problem {
                        origin: Some(entry.origin.clone()),
                        text: format!("{} is {}, expected {example}", show(key), entry.raw),
                    });
                }
                continue;
            }
            if told.is_some_and(|told| key.starts_with(told)) {
                continue;
            }
            told = Some(key);
            let what = if entry.raw == Raw::Table {
                "table"
            } else {
                "key"
            };
            let mut text = format!("unknown {what} {}", show(key));
            if let Some(meant) = self.meant(key) {
                text.push_str(&format!("; did you mean {meant}?"));
            }
            self.problems.push(Problem {
                origin: Some(entry.origin.clone()),
                text,
            });
        }
        self.problems.sort_by_key(|problem| {
            let origin = problem.origin.as_ref();
            origin.map(|origin| (origin.file.clone(), origin.line, origin.column))
        });
    }

    /// The known key that is nearest to one that is not known: beside it, or of the same name elsewhere.
    fn meant(&self, key: &Key) -> Option<String> {
        let (name, table) = key.split_last()?;
        let beside = self
            .known
            .iter()
            .filter(|known| known.len() == key.len() && known.starts_with(table))
            .filter_map(|known| {
                let distance = strsim::damerau_levenshtein(name, known.last()?);
                Some((distance, known))
            })
            .min();
        // A third of the letters may be wrong.
        if let Some((distance, known)) = beside
            && distance <= 1.max(name.chars().count() / 3)
        {
            return Some(show(known));
        }
        let elsewhere = self.known.iter().find(|known| known.last() == Some(name))?;
        Some(show(elsewhere))
    }
}
