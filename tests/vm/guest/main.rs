//! What runs inside the virtual machines: as process 1 it brings the guest up and does what the host asks, as
//! `auk-vm-guest run TEST` it is one test, in a process of its own.

mod bare;
mod chip;
mod edu;
mod eventfd;
mod function;
mod guest;
mod init;
mod pci;
mod port;
mod rdma;
mod record;
mod registry;
mod tests;
mod vfio;

use std::process::ExitCode;

use anyhow::Context;
use auk_vm::to_line;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return init::main();
    }
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        // Also on the host, which learns so what there is.
        ["list"] => {
            registry::all().for_each(|test| print!("{}", to_line(&test)));
            Ok(())
        }
        ["run", name] => run(name),
        _ => Err(anyhow::anyhow!("usage: auk-vm-guest list | run TEST")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<guest::Skip>() {
            Some(guest::Skip(reason)) => {
                print!("{}{reason}", init::LAST_WORD);
                init::SKIPPED.into()
            }
            None => {
                print!("{}{error:#}", init::LAST_WORD);
                ExitCode::FAILURE
            }
        },
    }
}

fn run(name: &str) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stdout)
        .with_max_level(tracing::Level::DEBUG)
        .init();
    let test = registry::find(name).with_context(|| format!("there is no test {name}"))?;
    test(&guest::Guest::new()?)
}
