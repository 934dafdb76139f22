//! Many functions in one DMA space.

use std::sync::Arc;

use anyhow::{Result, ensure};
use auk_driver::DmaSpace;
use auk_driver::bus::Function;

use crate::guest::Guest;
use crate::registry::{Test, test};
use crate::vfio::{self, Held};

pub(crate) const TESTS: &[Test] = &[
    test(
        "functions_of_a_space_share_their_mappings",
        functions_of_a_space_share_their_mappings,
    )
    .within(240),
    test(
        "a_space_outlives_any_of_its_functions",
        a_space_outlives_any_of_its_functions,
    )
    .within(240),
];

fn join(guest: &Guest, address: &str, space: &DmaSpace) -> Result<Held> {
    let chip = vfio::open(guest, address, space)?;
    space.attach(chip.dma(), u64::MAX)?;
    Ok(chip)
}

fn functions_of_a_space_share_their_mappings(guest: &Guest) -> Result<()> {
    let space = DmaSpace::new();
    let chips = guest.chips()?;
    let first = join(guest, &chips[0], &space)?;
    let buffer = space.alloc(1 << 20)?;
    let mut opened = vec![first];
    for chip in &chips[1..] {
        opened.push(join(guest, chip, &space)?);
    }
    let target = opened[0].dma();
    ensure!(opened.iter().all(|chip| Arc::ptr_eq(&chip.dma(), &target)));
    ensure!(space.usage().mappings == 1, "{:?}", space.usage());
    // Another space has mappings of its own.
    drop(opened.pop());
    let apart = vfio::open(guest, &chips[chips.len() - 1], &DmaSpace::new())?;
    ensure!(!Arc::ptr_eq(&apart.dma(), &target));
    drop(buffer);
    for chip in &opened {
        space.detach(&chip.dma());
    }
    ensure!(space.usage().leaked == 0);
    Ok(())
}

fn a_space_outlives_any_of_its_functions(guest: &Guest) -> Result<()> {
    let space = DmaSpace::new();
    let chips = guest.chips()?;
    let buffer = space.alloc(4096)?;
    // Always one open, never the same; in the end all were closed once, and the container was empty once.
    let mut before = join(guest, &chips[0], &space)?;
    for chip in chips[1..].iter().chain(&chips[..1]) {
        let next = join(guest, chip, &space)?;
        space.detach(&before.dma());
        before = next;
    }
    space.detach(&before.dma());
    drop(before);
    let again = join(guest, &chips[0], &space)?;
    ensure!(space.usage().mappings == 1 && space.usage().leaked == 0);
    space.detach(&again.dma());
    drop(buffer);
    Ok(())
}
