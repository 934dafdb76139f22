//! A first program that links the driver: opens a chip, computes on it, checks the answer.
//!
//! ```text
//! cargo run --release -- sim host --chips 1 --root /tmp/host      # in another terminal
//! cargo run --release --example first_program -- /tmp/host 0000:01:00.0
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use auk_asic::program::{Activation, Gemm, Precision, Program};
use auk_driver::{Command, Device, OpenOptions, QueueOptions, pci::Host};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().unwrap_or_else(|| "/".to_owned());
    let bdf = arguments
        .next()
        .unwrap_or_else(|| "0000:01:00.0".to_owned())
        .parse()?;

    // Open the chip and make a queue; this thread owns it.
    let device = Device::open(&Host::at(root), bdf, &OpenOptions::default())?;
    let mut queue = device.create_queue(&QueueOptions::default())?;

    // Two rows of three int8 values, times a 3 x 2 matrix, gives two rows of two int32 values.
    let gemm = Gemm {
        precision: Precision::Int8 { requantise: false },
        inner: 3,
        columns: 2,
        bias: false,
        activation: Activation::None,
    };
    let program = device.load(&Program::Gemm(gemm))?;
    let matrix = device.alloc(gemm.params().length)?;
    let input = device.buffer(6)?;
    let output = device.buffer(16)?;

    queue.upload(&matrix, 0, &[1, 2, 3, 4, 5, 6], Duration::from_secs(1))?;
    input.write(0, &[1, 0, 0, 1, 1, 1])?;
    queue
        .run(
            &Command::gemm(&program, 2, &output, &input, &matrix),
            Duration::from_secs(1),
        )
        .context("the product")?;
    let product: [i32; 4] = output.read_value(0)?;
    ensure!(product == [1, 2, 9, 12], "the chip says {product:?}");

    // The checksum of the input is a command's result.
    let checksum = device.load(&Program::Checksum)?;
    let crc = queue.run(
        &Command::checksum(&checksum, &input, 6),
        Duration::from_secs(1),
    )?;
    println!(
        "{}: the product is {product:?}, the input's CRC-32C {crc:#010x}",
        device.name()
    );
    Ok(())
}
