//! What the README promises.
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod cli_support;

use std::path::Path;
use std::process::{Command, Stdio};

use cli_support::{SimHost, run};

const README: &str = include_str!("../README.md");
const EXAMPLE: &str = include_str!("../examples/first_program.rs");

#[test]
fn the_first_program_is_the_one_that_is_compiled() {
    let (_, rest) = README.split_once("```rust\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    assert!(
        EXAMPLE.ends_with(shown),
        "README.md and examples/first_program.rs differ"
    );
}

#[test]
fn the_check_that_the_operators_guide_shows_is_whole_and_short() {
    let check = include_str!("../health/src/check/self_test.rs");
    let guide = include_str!("../docs/health.md");
    assert!(
        guide.contains(&format!("```rust,ignore\n{check}```")),
        "docs/health.md and health/src/check/self_test.rs differ"
    );
    assert!(check.lines().count() < 60);
}

#[test]
fn the_first_program_computes_on_a_simulated_chip() {
    let bin = Path::new(env!("CARGO_BIN_EXE_auk")).parent().unwrap();
    // Of the whole workspace, as the tests are as a rule: then it is built already, with the same features. Without the flags that the
    // tests may be built with: sanitizers' are not for procedural macros.
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--workspace"])
        .args(["--example", "first_program", "--target-dir"])
        .arg(bin.parent().unwrap())
        .env_remove("RUSTFLAGS");
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success());
    let host = SimHost::start(1, 0);
    let mut program = Command::new(bin.join("examples/first_program"));
    program
        .arg(&host.root)
        .arg("0000:01:00.0")
        .stdin(Stdio::null());
    let outcome = run(&mut program).expect_code(0);
    assert!(
        outcome.stdout.contains("the product is [1, 2, 9, 12]"),
        "{outcome:?}"
    );
}

#[test]
fn every_file_that_the_documents_link_to_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md")];
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        documents.push(entry.unwrap().path());
    }
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            let is_file = !target.is_empty() && !target.contains("://");
            let path = document.parent().unwrap().join(target);
            assert!(
                !is_file || path.exists(),
                "{}: {target}",
                document.display()
            );
        }
    }
}
