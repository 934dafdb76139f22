//! The manual's table of faults is the catalogue.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::Path;

use auk_sim::inject::{Occasion, Trigger, Verb};

const BEGINS: &str = "<!-- faults -->\n";
const ENDS: &str = "<!-- end of faults -->";

fn catalogue() -> String {
    let mut table = "| fault | of | waits for | parameters | what happens | what it looks like |\n\
         | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for entry in Verb::CATALOGUE {
        let parameters: Vec<_> = entry
            .parameters
            .iter()
            .map(|parameter| match parameter.default {
                Some(default) => format!("`{}` ({default})", parameter.name),
                None => format!("`{}`", parameter.name),
            })
            .collect();
        let waits = match entry.occasion {
            Occasion::Now => "",
            occasion => occasion.next(),
        };
        let (what, looks) = (entry.what.trim(), entry.looks);
        let of = entry.target.plural();
        let parameters = parameters.join(", ");
        let row = format!(
            "`{}` | {of} | {waits} | {parameters} | {what} | {looks}",
            entry.name
        );
        writeln!(table, "| {row} |").unwrap();
    }
    table.push_str("\n| when | what it says |\n| --- | --- |\n");
    for (key, what) in Trigger::KEYS {
        writeln!(table, "| `{key}` | {what} |").unwrap();
    }
    table
}

/// Run with `AUK_WRITE=1` to write the table.
#[test]
fn the_manual_s_table_of_faults_is_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulator.md");
    let manual = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = manual.split_once(BEGINS).unwrap();
    let (table, after) = rest.split_once(ENDS).unwrap();
    if std::env::var_os("AUK_WRITE").is_some() {
        let text = format!("{before}{BEGINS}{}{ENDS}{after}", catalogue());
        return std::fs::write(path, text).unwrap();
    }
    assert_eq!(
        table,
        catalogue(),
        "`AUK_WRITE=1 cargo test -p auk-sim --test manual` writes it anew"
    );
}
