//! The configuration in force, for people and for programs.

use serde_json::{Value, json};

use super::{Config, Setting, Source};

impl Config {
    /// As TOML that gives the same configuration, with the source of each value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = format!("# configuration {}\n", self.hash());
        if self.files.is_empty() {
            text.push_str("# no file: all is default\n");
        }
        for file in &self.files {
            text.push_str(&format!("# {}\n", file.display()));
        }
        let mut table = "";
        for setting in &self.effective {
            if setting.table != table {
                table = &setting.table;
                text.push_str(&format!("\n[{table}]\n"));
            }
            text.push_str(&line(setting));
        }
        text
    }

    /// As JSON, with the source of each value.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let files: Vec<String> = self
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let settings: Vec<Value> = self
            .effective
            .iter()
            .map(|setting| {
                json!({
                    "key": setting.key(),
                    "value": setting.json,
                    "default": setting.default,
                    "expected": setting.expected,
                    "why": setting.why,
                    "source": source(&setting.source),
                })
            })
            .collect();
        json!({ "schema": 1, "hash": self.hash(), "files": files, "settings": settings })
    }
}

fn line(setting: &Setting) -> String {
    let (name, why) = (&setting.name, setting.why);
    let Some(value) = &setting.toml else {
        return format!("# {name} is not set: {why}\n");
    };
    let default = match (&setting.source, &setting.default) {
        (Source::Default, _) | (_, None) => String::new(),
        (_, Some(default)) => format!(", default {default}"),
    };
    let source = &setting.source;
    format!("{name} = {value}  # {source}{default}: {why}\n")
}

fn source(source: &Source) -> Value {
    match source {
        Source::Default => Value::Null,
        Source::CommandLine => json!("command line"),
        Source::File(origin) => json!({
            "file": origin.file.display().to_string(),
            "line": origin.line,
            "column": origin.column,
        }),
    }
}
