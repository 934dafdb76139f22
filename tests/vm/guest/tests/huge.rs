//! A gibibyte of huge pages, mapped for DMA.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use auk_driver::DmaSpace;
use auk_driver::bus::{Function, Vfio};
use auk_driver::dma::{HugePages, SpaceOptions};
use auk_vm::Mode;

use crate::guest::Guest;
use crate::registry::{Test, test};
use crate::{bare, chip, pci};

pub(crate) const TESTS: &[Test] = &[
    test("a_gibibyte_is_one_mapping", a_gibibyte_is_one_mapping).within(180),
    test(
        "mapping_costs_what_the_bare_call_costs",
        mapping_costs_what_the_bare_call_costs,
    )
    .only(Mode::Group)
    .within(300),
];

const GIBIBYTE: usize = 1 << 30;
const ROUNDS: usize = 15;

fn a_gibibyte_is_one_mapping(guest: &Guest) -> Result<()> {
    let space = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Require));
    let bdf = chip::bound(guest, 0)?;
    let function = Vfio::open(&chip::host(), bdf, chip::access(guest), &space)?;
    space.attach(function.dma(), u64::MAX)?;
    let left = function.dma().mappings_left()?;
    let buffer = space.alloc(GIBIBYTE)?;
    let usage = space.usage();
    ensure!(
        usage.mappings == 1 && usage.huge == GIBIBYTE as u64,
        "{usage:?}"
    );
    if let (Some(before), Some(after)) = (left, function.dma().mappings_left()?) {
        ensure!(
            before - after == 1,
            "the kernel counts {} mappings",
            before - after
        );
    }
    drop(buffer);
    space.detach(&function.dma());
    Ok(())
}

/// The ratio is a measurement and no verdict: these machines are emulated.
fn mapping_costs_what_the_bare_call_costs(guest: &Guest) -> Result<()> {
    let space = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Require));
    let buffer = space.alloc(GIBIBYTE)?;
    let bdf = chip::bound(guest, 0)?;
    let group = pci::link_name(&bdf.to_string(), "iommu_group")?.context("no IOMMU group")?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        {
            let container = bare::Container::of(&bdf.to_string(), &group)?;
            theirs.push(container.time_map(&buffer)?);
        }
        let own = DmaSpace::new();
        let function = Vfio::open(&chip::host(), bdf, chip::access(guest), &own)?;
        let target = function.dma();
        let started = Instant::now();
        space.attach(target.clone(), u64::MAX)?;
        ours.push(started.elapsed());
        space.detach(&target);
    }
    for (what, nth) in [("median", ROUNDS / 2), ("least", 0)] {
        let (ours, theirs) = (sorted(&mut ours)[nth], sorted(&mut theirs)[nth]);
        println!(
            "measured: 1 GiB of huge pages mapped in {ours:.1?} by the driver, in {theirs:.1?} by the bare ioctl: {:.3} x ({what} of {ROUNDS})",
            ours.as_secs_f64() / theirs.as_secs_f64()
        );
    }
    Ok(())
}

fn sorted(times: &mut [Duration]) -> &[Duration] {
    times.sort_unstable();
    times
}
