//! A group of two functions: `edu` and a network card in one slot, which nothing keeps from talking to each other.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use auk_driver::DmaSpace;
use auk_driver::bus::{BusError, Function, Region};

use crate::edu::{Edu, IDENTITY};
use crate::function::Bound;
use crate::guest::Guest;
use crate::pci::{self, E1000E, EDU};
use crate::registry::{Test, test};
use crate::vfio;

pub(crate) const TESTS: &[Test] = &[
    test(
        "a_group_that_the_kernel_uses_is_told_member_by_member",
        a_group_that_the_kernel_uses_is_told_member_by_member,
    ),
    test(
        "functions_of_a_group_open_in_one_space",
        functions_of_a_group_open_in_one_space,
    ),
    test(
        "a_hot_reset_names_and_resets_all_functions",
        a_hot_reset_names_and_resets_all_functions,
    ),
];

fn a_group_that_the_kernel_uses_is_told_member_by_member(guest: &Guest) -> Result<()> {
    let edu = pci::only(EDU)?;
    let card = pci::only(E1000E)?;
    ensure!(pci::link_name(&card, "driver")?.as_deref() == Some("e1000e"));
    let _bound = Bound::new(edu.clone())?;
    let Err(error) = vfio::try_open(&edu, vfio::access(guest), &DmaSpace::new()) else {
        anyhow::bail!("{edu} could be opened beside {card}");
    };
    let BusError::GroupNotViable { members, .. } = &error else {
        anyhow::bail!("{error}");
    };
    ensure!(members.len() == 1 && members[0].name == card, "{error}");
    ensure!(error.to_string().contains("(e1000e)"), "{error}");
    Ok(())
}

fn functions_of_a_group_open_in_one_space(guest: &Guest) -> Result<()> {
    let space = DmaSpace::new();
    let _card = Bound::new(pci::only(E1000E)?)?;
    let edu = vfio::open(guest, &pci::only(EDU)?, &space)?;
    space.attach(edu.dma(), u64::MAX)?;
    let card = vfio::try_open(&pci::only(E1000E)?, vfio::access(guest), &space)?;
    ensure!(Arc::ptr_eq(&edu.dma(), &card.dma()));
    space.detach(&edu.dma());
    Ok(())
}

fn a_hot_reset_names_and_resets_all_functions(guest: &Guest) -> Result<()> {
    let space = DmaSpace::new();
    let _card = Bound::new(pci::only(E1000E)?)?;
    let edu = Edu::new(vfio::open(guest, &pci::only(EDU)?, &space)?)?;
    space.attach(edu.0.dma(), u64::MAX)?;
    let card = vfio::try_open(&pci::only(E1000E)?, vfio::access(guest), &space)?;
    let affected = edu.0.hot_reset_group()?;
    ensure!(
        affected
            .iter()
            .map(|function| function.bdf)
            .eq([card.bdf(), edu.0.bdf()]),
        "{affected:?}"
    );
    vfio::enable(&card)?;
    card.write(Region::Bar0, INTERRUPT_MASK, &LINK_CHANGE)?;
    let mask = || -> Result<_> {
        let mut data = [0; 4];
        card.read(Region::Bar0, INTERRUPT_MASK, &mut data)?;
        Ok(data)
    };
    ensure!(mask()? == LINK_CHANGE);
    edu.0.hot_reset(&[&card], Duration::from_secs(30).into())?;
    vfio::enable(&card)?;
    ensure!(mask()? == [0; 4], "the card was not reset");
    vfio::enable(&edu.0)?;
    ensure!(edu.read(0)? == IDENTITY);
    space.detach(&edu.0.dma());
    Ok(())
}

/// IMS of the 82574L, section 10.2.4.6 of its datasheet: reads what is set by writing.
const INTERRUPT_MASK: u64 = 0xD0;
/// Its LSC.
const LINK_CHANGE: [u8; 4] = [4, 0, 0, 0];
