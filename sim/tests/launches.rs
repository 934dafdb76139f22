//! The programs compute what docs/hardware.md, section 8, says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use auk_asic::Status;
use auk_asic::io::IoCommand;
use auk_asic::program::{Activation, Gemm, Precision, Program, Scale};
use auk_asic::submission::Operand;
use auk_sim::ChipProfile;
use common::{IOVA, Queue, Rig, noise, small};
use half::bf16;
use zerocopy::IntoBytes;

fn rig() -> (Rig, Queue) {
    let mut rig = Rig::new(small());
    let queue = rig.queue(1);
    (rig, queue)
}

/// Everything that a GEMM test needs: operands, and the answer that plain loops give.
struct Product {
    gemm: Gemm,
    rows: u32,
    a: Vec<u8>,
    params: Vec<u8>,
}

impl Product {
    fn launch(&self, rig: &mut Rig, queue: &mut Queue) -> Result<Vec<u8>, Status> {
        let program = rig.load(Program::Gemm(self.gemm), 0)?;
        let src = rig.host_data(&self.a);
        let params = rig.host_data(&self.params);
        let bytes = self.gemm.output_bytes(self.rows);
        let dst = Operand::host(IOVA + rig.host_memory(bytes));
        let launch = IoCommand::Launch {
            program,
            rows: self.rows,
            dst,
            src,
            params,
            length: self.a.len() as u64,
        };
        queue.run(rig, launch)?;
        Ok(rig.host_bytes(dst, bytes as usize))
    }
}

fn int8(rows: u32, inner: u32, columns: u32, requantise: bool) -> Product {
    let gemm = Gemm {
        precision: Precision::Int8 { requantise },
        inner,
        columns,
        bias: true,
        activation: Activation::Relu,
    };
    let layout = gemm.params();
    let mut params = noise(u64::from(inner), layout.length as usize);
    if let Some(at) = layout.bias {
        for column in 0..columns as usize {
            let bias = column as i32 * 31 - 900;
            let at = at as usize + column * 4;
            params[at..at + 4].copy_from_slice(&bias.to_le_bytes());
        }
    }
    if let Some(at) = layout.scales {
        for column in 0..columns as usize {
            let scale = Scale {
                multiplier: 1 << (8 + column % 4),
                shift: 20,
            };
            let at = at as usize + column * 8;
            params[at..at + 8].copy_from_slice(scale.as_bytes());
        }
    }
    Product {
        gemm,
        rows,
        a: noise(7, (rows * inner) as usize),
        params,
    }
}

/// The int32 sums after bias and activation, by plain loops.
fn int8_sums(product: &Product) -> Vec<i32> {
    let gemm = &product.gemm;
    let (inner, columns) = (gemm.inner as usize, gemm.columns as usize);
    let bias_at = gemm.params().bias.unwrap() as usize;
    let mut sums = Vec::new();
    for row in product.a.chunks_exact(inner) {
        for column in 0..columns {
            let at = bias_at + column * 4;
            let mut sum = i32::from_le_bytes(product.params[at..at + 4].try_into().unwrap());
            for (k, &a) in row.iter().enumerate() {
                let b = product.params[k * columns + column] as i8;
                sum = sum.wrapping_add(i32::from(a as i8) * i32::from(b));
            }
            sums.push(sum.max(0));
        }
    }
    sums
}

#[test]
fn an_int8_product_is_exact_whatever_its_shape() {
    let (mut rig, mut queue) = rig();
    for (rows, inner, columns) in [
        (1, 1, 1),
        (3, 5, 7),
        (33, 513, 129),
        (70, 64, 10),
        (1, 1100, 300),
    ] {
        let product = int8(rows, inner, columns, false);
        let output = product.launch(&mut rig, &mut queue).unwrap();
        let expected = int8_sums(&product);
        assert!(
            output == expected.as_bytes(),
            "{rows} x {inner} x {columns} differs"
        );
    }
}

#[test]
fn a_requantised_product_is_exact() {
    let (mut rig, mut queue) = rig();
    let product = int8(40, 64, 150, true);
    let output = product.launch(&mut rig, &mut queue).unwrap();
    let expected: Vec<u8> = int8_sums(&product)
        .iter()
        .enumerate()
        .map(|(index, &sum)| {
            let multiplier = 1i64 << (8 + (index % 150) % 4);
            let rounded = (i64::from(sum) * multiplier + (1 << 19)) >> 20;
            rounded.clamp(-128, 127) as i8 as u8
        })
        .collect();
    assert!(output == expected);
}

#[test]
fn a_scale_out_of_its_range_is_refused() {
    let (mut rig, mut queue) = rig();
    for (multiplier, shift) in [(-1, 1), (1, 0), (1, 63), (i32::MIN, 62)] {
        let mut product = int8(2, 4, 3, true);
        let at = product.gemm.params().scales.unwrap() as usize;
        let scale = Scale { multiplier, shift };
        product.params[at..at + 8].copy_from_slice(scale.as_bytes());
        let outcome = product.launch(&mut rig, &mut queue);
        assert_eq!(outcome, Err(Status::InvalidField));
    }
}

fn floats(seed: u64, count: usize) -> Vec<f32> {
    noise(seed, count)
        .into_iter()
        .map(|byte| f32::from(byte as i8) / 64.0)
        .collect()
}

fn float_product(precision: Precision, rows: u32, inner: u32, columns: u32) -> (Product, Vec<f64>) {
    let gemm = Gemm {
        precision,
        inner,
        columns,
        bias: true,
        activation: Activation::None,
    };
    let a = floats(1, (rows * inner) as usize);
    let b = floats(2, (inner * columns) as usize);
    let bias = floats(3, columns as usize);
    let bytes = |values: &[f32]| -> Vec<u8> {
        match precision {
            Precision::Bf16 => values
                .iter()
                .flat_map(|&value| bf16::from_f32(value).to_le_bytes())
                .collect(),
            _ => values.as_bytes().to_vec(),
        }
    };
    let layout = gemm.params();
    let mut params = bytes(&b);
    params.resize(layout.bias.unwrap() as usize, 0);
    params.extend_from_slice(bias.as_bytes());
    params.resize(layout.length as usize, 0);
    let mut expected = Vec::new();
    for row in a.chunks_exact(inner as usize) {
        for column in 0..columns as usize {
            let products = row
                .iter()
                .enumerate()
                .map(|(k, &a)| f64::from(a) * f64::from(b[k * columns as usize + column]));
            expected.push(products.sum::<f64>() + f64::from(bias[column]));
        }
    }
    let product = Product {
        gemm,
        rows,
        a: bytes(&a),
        params,
    };
    (product, expected)
}

#[test]
fn float_products_are_within_rounding_of_the_exact_ones() {
    let (mut rig, mut queue) = rig();
    for precision in [Precision::F32, Precision::Bf16] {
        for (rows, inner, columns) in [(1, 1, 1), (5, 17, 3), (34, 600, 140)] {
            let (product, expected) = float_product(precision, rows, inner, columns);
            let output = product.launch(&mut rig, &mut queue).unwrap();
            for (bytes, expected) in output.chunks_exact(4).zip(expected) {
                let value = f64::from(f32::from_le_bytes(bytes.try_into().unwrap()));
                // The operands are exact in bf16 too, so only the sums round.
                let bound = 1e-6 * f64::from(inner) * 4.0 + 1e-6;
                assert!(
                    (value - expected).abs() <= bound,
                    "{precision:?}: {value} is not {expected}"
                );
            }
        }
    }
}

#[test]
fn launches_whose_operands_do_not_fit_are_refused() {
    let (mut rig, mut queue) = rig();
    let product = int8(4, 8, 6, false);
    let program = rig.load(Program::Gemm(product.gemm), 0).unwrap();
    let src = rig.host_data(&product.a);
    let params = rig.host_data(&product.params);
    let dst = Operand::host(IOVA + rig.host_memory(4096));
    let good = (program, 4, dst, src, params, 32);
    let mut launch = |(program, rows, dst, src, params, length): (u32, u32, _, _, _, u64)| {
        let launch = IoCommand::Launch {
            program,
            rows,
            dst,
            src,
            params,
            length,
        };
        queue.run(&mut rig, launch)
    };
    let off = |operand: Operand, bytes| Operand {
        address: operand.address + bytes,
        ..operand
    };
    assert_eq!(launch(good), Ok(0));
    assert_eq!(
        launch((program + 1, 4, dst, src, params, 32)),
        Err(Status::InvalidProgram)
    );
    assert_eq!(
        launch((program, 5, dst, src, params, 32)),
        Err(Status::InvalidField)
    );
    assert_eq!(
        launch((program, 0, dst, src, params, 0)),
        Err(Status::InvalidField)
    );
    assert_eq!(
        launch((program, 4, off(dst, 2), src, params, 32)),
        Err(Status::Misaligned)
    );
    assert_eq!(
        launch((program, 4, dst, src, off(params, 32), 32)),
        Err(Status::Misaligned)
    );
    assert_eq!(
        launch((program, 4, src, src, params, 32)),
        Err(Status::InvalidField)
    );
    assert_eq!(
        launch((program, 4, dst, src, Operand::local(1 << 40), 32)),
        Err(Status::OutOfRange)
    );
    let rows = u32::MAX;
    let length = u64::from(rows) * 8;
    let far = Operand::local(0);
    assert_eq!(
        launch((program, rows, far, src, params, length)),
        Err(Status::DmaFault)
    );
}

#[test]
fn an_embedding_sum_is_exact() {
    let (mut rig, mut queue) = rig();
    let (rows, columns) = (50u32, 24u32);
    let table = floats(9, (rows * columns) as usize);
    let bags: [&[u32]; 4] = [&[3, 3, 49], &[], &[0], &[7, 8, 9, 10, 11, 12]];
    let mut offsets = vec![0u32];
    let mut indices = Vec::new();
    let mut expected = Vec::new();
    for bag in bags {
        indices.extend_from_slice(bag);
        offsets.push(indices.len() as u32);
        for column in 0..columns {
            let mut sum = 0.0f32;
            for row in bag {
                sum += table[(row * columns + column) as usize];
            }
            expected.push(sum);
        }
    }
    let input = [offsets, indices].concat();
    let program = rig
        .load(Program::EmbeddingSum { rows, columns }, 0)
        .unwrap();
    let launch = IoCommand::Launch {
        program,
        rows: bags.len() as u32,
        dst: Operand::host(IOVA + rig.host_memory(4096)),
        src: rig.host_data(input.as_bytes()),
        params: rig.host_data(table.as_bytes()),
        length: input.as_bytes().len() as u64,
    };
    assert_eq!(queue.run(&mut rig, launch), Ok(0));
    let IoCommand::Launch { dst, .. } = launch else {
        unreachable!()
    };
    let output = rig.host_bytes(dst, expected.as_bytes().len());
    assert_eq!(output, expected.as_bytes());
}

#[test]
fn an_embedding_input_that_leaves_its_table_is_refused() {
    let (mut rig, mut queue) = rig();
    let shape = Program::EmbeddingSum {
        rows: 4,
        columns: 2,
    };
    let program = rig.load(shape, 0).unwrap();
    let params = rig.host_data(&[0; 4096]);
    let dst = Operand::host(IOVA + rig.host_memory(4096));
    for (input, status) in [
        (vec![0u32, 1, 4], Status::IndexOutOfRange),
        (vec![1, 1, 0], Status::IndexOutOfRange),
        (vec![0, 2, 1], Status::InvalidField),
        (vec![0], Status::InvalidField),
    ] {
        let launch = IoCommand::Launch {
            program,
            rows: 1,
            dst,
            src: rig.host_data(input.as_bytes()),
            params,
            length: input.as_bytes().len() as u64,
        };
        assert_eq!(queue.run(&mut rig, launch), Err(status), "{input:?}");
    }
    let input = [0u32, 2, 1, 0];
    let launch = IoCommand::Launch {
        program,
        rows: 2,
        dst,
        src: rig.host_data(input.as_bytes()),
        params,
        length: 16,
    };
    assert_eq!(
        queue.run(&mut rig, launch),
        Err(Status::IndexOutOfRange),
        "offsets that fall"
    );
}

#[test]
fn a_checksum_is_the_result_of_its_launch() {
    let (mut rig, mut queue) = rig();
    let program = rig.load(Program::Checksum, 0).unwrap();
    let checksum = |src, length| IoCommand::Launch {
        program,
        rows: 0,
        dst: Operand::host(0),
        src,
        params: Operand::host(0),
        length,
    };
    let src = rig.host_data(b"123456789");
    assert_eq!(queue.run(&mut rig, checksum(src, 9)), Ok(0xE306_9283));
    let zeros = Operand::local(0x1000);
    // 32 bytes of zeros, RFC 3720, appendix B.4.
    assert_eq!(queue.run(&mut rig, checksum(zeros, 32)), Ok(0x8A91_36AA));
    let long = queue.run(&mut rig, checksum(zeros, 3 << 20));
    assert!(long.is_ok());
}

#[test]
fn a_prototype_refuses_the_kernels_it_does_not_have() {
    let mut rig = Rig::new(ChipProfile::fpga(1));
    let shape = Program::EmbeddingSum {
        rows: 4,
        columns: 2,
    };
    assert_eq!(rig.load(shape, 0), Err(Status::Unsupported));
    assert!(rig.load(Program::Checksum, 0).is_ok());
}
