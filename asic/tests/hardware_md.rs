//! `docs/hardware.md` and the crate say the same: every register, field and code is in both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use auk_asic::register::Register;
use auk_asic::{
    admin, bar0, completion, doorbell, event, fault, firmware, ident, io, log, program,
};
use auk_asic::{state, status, submission, telemetry, vitals};

const PAGE: &str = include_str!("../../docs/hardware.md");

/// The rows of the table behind `<!-- table: NAME -->`, cells trimmed.
fn rows(table: &str) -> Vec<Vec<String>> {
    let marker = format!("<!-- table: {table} -->\n");
    let (_, rest) = PAGE
        .split_once(&marker)
        .unwrap_or_else(|| panic!("docs/hardware.md has no table {table}"));
    rest.lines()
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let line = line.replace("\\|", "/");
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

fn number(cell: &str) -> u64 {
    let parsed = match cell.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => cell.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("{cell:?} is not a number"))
}

fn assert_same(table: &str, page: BTreeSet<(u64, String)>, code: BTreeSet<(u64, String)>) {
    let only_page: Vec<_> = page.difference(&code).collect();
    let only_code: Vec<_> = code.difference(&page).collect();
    assert!(
        only_page.is_empty() && only_code.is_empty(),
        "{table}: only in docs/hardware.md {only_page:x?}, only in the crate {only_code:x?}"
    );
}

fn assert_named(table: &str, code: impl IntoIterator<Item = (u64, &'static str)>) {
    let page = rows(table)
        .iter()
        .map(|row| (number(&row[0]), row[1].clone()))
        .collect();
    assert_same(
        table,
        page,
        code.into_iter()
            .map(|(n, name)| (n, name.to_owned()))
            .collect(),
    );
}

fn assert_registers(table: &str, registers: &[Register]) {
    let page = rows(table)
        .iter()
        .map(|row| (number(&row[0]), format!("{} {}", row[1], row[2])))
        .collect();
    let code = registers
        .iter()
        .map(|register| {
            (
                register.offset,
                format!("{} {}", register.name, register.access.name()),
            )
        })
        .collect();
    assert_same(table, page, code);
}

/// Asserts the table named like the type of codes.
macro_rules! assert_codes {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        $( assert_named(
            stringify!($name),
            $module::$name::ALL.iter().map(|code| (u64::from(code.code()), code.name())),
        ); )+
    };
}

/// Asserts the table named like the structure, and that the page's sizes add up to it.
macro_rules! assert_fields {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        $( assert_named(
            stringify!($name),
            $module::$name::FIELDS.iter().map(|(offset, name)| (*offset as u64, *name)),
        ); )+
    };
}

#[test]
fn every_register_is_in_the_page_and_in_the_crate() {
    assert_registers("bar0", bar0::REGISTERS);
    assert_registers("doorbell", doorbell::REGISTERS);
}

#[test]
fn every_code_is_in_the_page_and_in_the_crate() {
    assert_codes!(
        ident::Model,
        state::State,
        state::SelfTest,
        fault::Fault,
        status::Status,
        submission::Space,
        admin::AdminOpcode,
        admin::PowerState,
        io::IoOpcode,
        program::Kernel,
        program::Activation,
        event::EventCode,
        log::LogPage,
    );
}

#[test]
fn every_field_is_in_the_page_and_in_the_crate() {
    assert_fields!(
        vitals::VitalSigns,
        submission::Submission,
        completion::Completion,
        admin::Window,
        admin::Identify,
        program::ProgramImage,
        program::Scale,
        firmware::ImageHeader,
        telemetry::Telemetry,
        event::EventRecord,
        log::CrashLog,
        log::SlotInfo,
    );
}

#[test]
fn the_sizes_in_the_page_lead_from_field_to_field() {
    for table in [
        "VitalSigns",
        "Submission",
        "Identify",
        "ProgramImage",
        "ImageHeader",
        "Telemetry",
    ] {
        for pair in rows(table).windows(2) {
            let (here, next) = (&pair[0], &pair[1]);
            assert_eq!(
                number(&here[0]) + number(&here[2]),
                number(&next[0]),
                "{table}: {} does not end where {} begins",
                here[1],
                next[1]
            );
        }
    }
}

#[test]
fn each_status_has_the_scope_that_the_page_names() {
    for (row, status) in rows("Status").iter().zip(status::Status::ALL) {
        let scope = match status.scope() {
            None => "-",
            Some(status::Scope::Command) => "command",
            Some(status::Scope::Device) => "device",
        };
        assert_eq!(row[2], scope, "{status}");
    }
}

#[test]
fn no_table_of_the_page_is_left_unchecked() {
    let checked: BTreeSet<&str> = [
        "bar0",
        "doorbell",
        "Model",
        "State",
        "SelfTest",
        "Fault",
        "Status",
        "Space",
        "AdminOpcode",
        "PowerState",
        "IoOpcode",
        "Kernel",
        "Activation",
        "EventCode",
        "LogPage",
        "VitalSigns",
        "Submission",
        "Completion",
        "Window",
        "Identify",
        "ProgramImage",
        "Scale",
        "ImageHeader",
        "Telemetry",
        "EventRecord",
        "CrashLog",
        "SlotInfo",
    ]
    .into();
    let marked: BTreeSet<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("<!-- table: ")?.strip_suffix(" -->"))
        .collect();
    assert_eq!(marked, checked);
}
