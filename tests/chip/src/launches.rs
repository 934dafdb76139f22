//! What the chip computes.

use std::time::Duration;

use auk_asic::SelfTest;
use auk_asic::program::{Activation, Gemm, Precision, Program, Scale};
use auk_driver::{Command, Device, QueueOptions};

use crate::{SOON, pattern};

/// The plain answer that the chip's must equal, bit for bit.
fn gemm_reference(gemm: &Gemm, a: &[i8], b: &[i8], bias: &[i32], scales: &[Scale]) -> Vec<i8> {
    let (inner, columns) = (gemm.inner as usize, gemm.columns as usize);
    let mut out = Vec::new();
    for row in a.chunks(inner) {
        for n in 0..columns {
            let sum: i32 = (0..inner)
                .map(|k| i32::from(row[k]) * i32::from(b[k * columns + n]))
                .sum();
            out.push(scales[n].apply((sum + bias[n]).max(0)));
        }
    }
    out
}

pub fn an_int8_product_equals_the_plain_one(device: &Device) {
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let gemm = Gemm {
        precision: Precision::Int8 { requantise: true },
        inner: 67,
        columns: 33,
        bias: true,
        activation: Activation::Relu,
    };
    let rows = 19;
    let signed =
        |seed, length| -> Vec<i8> { pattern(seed, length).iter().map(|b| *b as i8).collect() };
    let a = signed(3, rows * 67);
    let b = signed(4, 67 * 33);
    let bias: Vec<i32> = (0..33).map(|n| n * 1000 - 16_000).collect();
    let scales: Vec<Scale> = (0..33)
        .map(|n| Scale {
            multiplier: 1 << 20 | n,
            shift: 30,
        })
        .collect();

    let program = device.load(&Program::Gemm(gemm)).unwrap();
    let layout = gemm.params();
    let params = device.buffer(layout.length as usize).unwrap();
    params.write_value(0, b.as_slice()).unwrap();
    params
        .write_value(layout.bias.unwrap() as usize, bias.as_slice())
        .unwrap();
    params
        .write_value(layout.scales.unwrap() as usize, scales.as_slice())
        .unwrap();
    let weights = device.alloc(layout.length).unwrap();
    let input = device.buffer(a.len()).unwrap();
    input.write_value(0, a.as_slice()).unwrap();
    let output = device.buffer(rows * 33).unwrap();

    queue
        .run(&Command::copy(&weights, &params, layout.length), SOON)
        .unwrap();
    queue
        .run(
            &Command::gemm(&program, rows as u32, &output, &input, &weights),
            SOON,
        )
        .unwrap();
    let found: Vec<i8> = output
        .to_vec(0, rows * 33)
        .unwrap()
        .iter()
        .map(|byte| *byte as i8)
        .collect();
    let expected = gemm_reference(&gemm, &a, &b, &bias, &scales);
    assert_eq!(found, expected);
    assert!(expected.iter().any(|value| *value != 0 && *value != 127));
}

pub fn a_checksum_is_the_result_of_its_command(device: &Device) {
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let program = device.load(&Program::Checksum).unwrap();
    let host = device.buffer(9).unwrap();
    host.write(0, b"123456789").unwrap();
    let found = queue
        .run(&Command::checksum(&program, &host, 9), SOON)
        .unwrap();
    // The check value of CRC-32C (RFC 3720, appendix B.4, and every catalogue of CRCs).
    assert_eq!(found, 0xE306_9283);
}

pub fn an_embedding_sum_adds_the_rows_it_names(device: &Device) {
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let program = device
        .load(&Program::EmbeddingSum {
            rows: 4,
            columns: 2,
        })
        .unwrap();
    let table = device.buffer(32).unwrap();
    table
        .write_value(0, &[1f32, 2., 3., 4., 5., 6., 7., 8.])
        .unwrap();
    let src = device.buffer(64).unwrap();
    // Two bags: rows 0 and 3, and row 1.
    src.write_value(0, &[0u32, 2, 3, 0, 3, 1]).unwrap();
    let dst = device.buffer(16).unwrap();
    queue
        .run(
            &Command::embedding_sum(&program, 2, 3, &dst, &src, &table),
            SOON,
        )
        .unwrap();
    assert_eq!(dst.read_value::<[f32; 4]>(0).unwrap(), [8., 10., 3., 4.]);
}

pub fn the_self_test_passes_and_the_vital_signs_say_so(device: &Device) {
    assert_eq!(device.self_test(SOON).unwrap(), SelfTest::Passed);
    std::thread::sleep(Duration::from_millis(200));
    let vitals = device.vitals().unwrap();
    assert!(vitals.self_test_passed(), "{vitals:?}");
}
