//! Memory for DMA through the kernel's VFIO: one space for many chips, and its limits.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use auk_driver::dma::DmaError;
use auk_driver::{Command, Device, DmaSpace, Error, QueueOptions};
use auk_vm::Mode;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, chown, setgid, setuid};

use crate::chip;
use crate::guest::Guest;
use crate::pci;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test(
        "all_chips_reach_one_space_by_one_mapping",
        all_chips_reach_one_space_by_one_mapping,
    )
    .within(120),
    test(
        "a_chip_that_is_closed_leaves_the_space_to_the_others",
        a_chip_that_is_closed_leaves_the_space_to_the_others,
    ),
    test(
        "the_limit_of_mappings_is_an_error_with_words",
        the_limit_of_mappings_is_an_error_with_words,
    )
    .only(Mode::Group),
    test(
        "memlock_too_low_is_an_error_with_the_number_needed",
        memlock_too_low_is_an_error_with_the_number_needed,
    ),
    test(
        "a_user_without_permission_is_told_which_file",
        a_user_without_permission_is_told_which_file,
    ),
];

const SOON: Duration = Duration::from_secs(20);

/// All chips, open on one space.
fn open_all(guest: &Guest, space: &DmaSpace) -> Result<Vec<Device>> {
    let options = chip::options(guest).space(space);
    (0..guest.setup().chips)
        .map(|number| {
            let bdf = chip::bound(guest, number)?;
            Ok(Device::open(&chip::host(), bdf, &options)?)
        })
        .collect()
}

fn all_chips_reach_one_space_by_one_mapping(guest: &Guest) -> Result<()> {
    let space = DmaSpace::new();
    let devices = open_all(guest, &space)?;
    let ring = space.alloc(4096)?;
    ring.write(0, b"from the first chip to the last")?;
    // From chip to chip through one buffer: each fetches what the one before it wrote.
    for (device, next) in devices.iter().zip(1..) {
        let mut queue = device.create_queue(&QueueOptions::default())?;
        let memory = device.alloc(4096)?;
        queue.run(&Command::copy(&memory, &ring, 4096), SOON)?;
        ring.write(0, &[0; 4096])?;
        queue.run(&Command::copy(&ring, &memory, 4096), SOON)?;
        ensure!(
            ring.to_vec(0, 31)? == b"from the first chip to the last",
            "chip {next} lost it"
        );
    }
    let usage = space.usage();
    let arenas = usage.mapped >> 21;
    ensure!(
        usage.mappings <= arenas,
        "{} chips have {} mappings of {arenas} arenas: they do not share them",
        devices.len(),
        usage.mappings
    );
    Ok(())
}

fn a_chip_that_is_closed_leaves_the_space_to_the_others(guest: &Guest) -> Result<()> {
    let space = DmaSpace::new();
    let mut devices = open_all(guest, &space)?;
    let buffer = space.alloc(4096)?;
    while let Some(device) = devices.pop() {
        device
            .create_queue(&QueueOptions::default())?
            .run(&Command::fill(&buffer, 1, 4096), SOON)?;
        drop(device);
    }
    ensure!(
        space.usage().mappings == 0,
        "nobody is attached, and {:?}",
        space.usage()
    );
    // The space outlives its chips, and takes new ones.
    let devices = open_all(guest, &space)?;
    for device in &devices {
        device
            .create_queue(&QueueOptions::default())?
            .run(&Command::fill(&buffer, 2, 4096), SOON)?;
    }
    Ok(())
}

fn the_limit_of_mappings_is_an_error_with_words(guest: &Guest) -> Result<()> {
    const LIMIT: &str = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";
    let before = fs::read_to_string(LIMIT).with_context(|| format!("reading {LIMIT}"))?;
    fs::write(LIMIT, "6").with_context(|| format!("writing {LIMIT}"))?;
    let outcome = fill_until_refused(guest);
    fs::write(LIMIT, before.trim()).with_context(|| format!("writing {LIMIT}"))?;
    let (made, error) = outcome?;
    println!("after {made} arenas: {error}");
    ensure!(
        matches!(error, DmaError::NoMappings { .. }),
        "it is {error:?}"
    );
    ensure!((3..=6).contains(&made), "{made} arenas were mapped of 6");
    Ok(())
}

/// Allocates until the space refuses: how many more arenas there were, and the refusal.
fn fill_until_refused(guest: &Guest) -> Result<(usize, DmaError)> {
    let device = chip::open(guest)?;
    let mut kept = Vec::new();
    for _ in 0..64 {
        match device.space().alloc(2 << 20) {
            Ok(buffer) => kept.push(buffer),
            Err(error) => {
                // What was mapped before still is.
                let last = kept.last().context("nothing could be mapped")?;
                device
                    .create_queue(&QueueOptions::default())?
                    .run(&Command::fill(last, 7, 4096), SOON)?;
                return Ok((kept.len(), error));
            }
        }
    }
    bail!("64 arenas were mapped, and no limit met")
}

/// Lets this process be an ordinary user, to whom the chip's VFIO files belong if `owner`.
fn become_user(guest: &Guest, owner: bool) -> Result<()> {
    let user = if owner { 1000 } else { 2000 };
    let bdf = chip::bound(guest, 0)?.to_string();
    let group = pci::link_name(&bdf, "iommu_group")?.context("no IOMMU group")?;
    fs::create_dir_all("/run/auk/lease")?;
    let mut files = vec!["/run/auk/lease".to_owned()];
    let lease = format!("/run/auk/lease/{bdf}");
    if Path::new(&lease).exists() {
        files.push(lease);
    }
    if owner {
        files.push(format!("/dev/vfio/{group}"));
        files.push("/dev/vfio/vfio".to_owned());
        if guest.mode() == Mode::Cdev {
            files.push("/dev/iommu".to_owned());
            for entry in fs::read_dir("/dev/vfio/devices")? {
                files.push(entry?.path().display().to_string());
            }
        }
    }
    for file in files {
        chown(Path::new(&file), Some(Uid::from_raw(user)), None)
            .with_context(|| format!("giving away {file}"))?;
    }
    setgid(Gid::from_raw(user))?;
    setuid(Uid::from_raw(user))?;
    Ok(())
}

fn memlock_too_low_is_an_error_with_the_number_needed(guest: &Guest) -> Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, 12 << 20, 12 << 20)?;
    become_user(guest, true)?;
    let (made, error) = fill_until_refused(guest)?;
    let text = error.to_string();
    println!("after {made} arenas: {text}");
    ensure!(
        (1..6).contains(&made),
        "{made} arenas of 2 MiB were pinned within 12 MiB"
    );
    ensure!(
        text.contains("memlock") || text.contains("MEMLOCK"),
        "the user is told: {text}"
    );
    ensure!(text.contains("12582912"), "the limit is not in: {text}");
    Ok(())
}

fn a_user_without_permission_is_told_which_file(guest: &Guest) -> Result<()> {
    become_user(guest, false)?;
    match chip::open(guest) {
        Ok(_) => bail!("a user without permission has the chip"),
        Err(error) => {
            let text = format!("{error:#}");
            println!("{text}");
            ensure!(
                matches!(error.downcast_ref(), Some(Error::Bus { .. })),
                "it is {error:?}"
            );
            ensure!(
                text.contains("/dev/vfio") || text.contains("/dev/iommu"),
                "no file in: {text}"
            );
        }
    }
    Ok(())
}
