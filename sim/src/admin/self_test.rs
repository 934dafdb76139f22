//! SELF_TEST: patterns over the first granule of device memory, and known answers on every kernel,
//! through the same path that LAUNCH takes.

use std::time::Instant;

use auk_asic::admin::MEMORY_GRANULE;
use auk_asic::event::EventCode;
use auk_asic::io::IoOpcode;
use auk_asic::program::{Activation, Gemm, Kernel, Precision, Program, Scale};
use auk_asic::submission::Operand;
use auk_asic::{SelfTest, Status};
use half::bf16;
use zerocopy::IntoBytes;

use crate::context::OWNER;
use crate::fault::Met;
use crate::inject::Occasion;
use crate::io::{self, Flip, Progress};
use crate::machine::Machine;
use crate::resources::Resources;

/// Where in the granule a known answer has its parts.
const SRC: u64 = 0x000;
const PARAMS: u64 = 0x400;
const DST: u64 = 0x800;

/// Classical patterns: all zeros, all ones, both checkerboards.
const PATTERNS: [u8; 4] = [0x00, 0xFF, 0x55, 0xAA];

/// A wrong pattern or answer counts as a memory error.
const WRONG: Status = Status::EccUncorrectable;

/// Runs the self-test: the code of its outcome.
pub(super) fn run(machine: &mut Machine, now: Instant) -> u64 {
    machine.life.self_test = SelfTest::Running;
    let kernels = machine.profile.kernels.clone();
    let resources = &mut machine.resources;
    let passed = test_memory(resources).is_ok()
        && kernels
            .iter()
            .all(|&kernel| test_kernel(resources, kernel).is_ok());
    let outcome = if passed {
        SelfTest::Passed
    } else {
        SelfTest::Failed
    };
    machine.life.self_test = outcome;
    machine.life.self_test_generation = machine.life.generation;
    let code = u32::from(outcome.code());
    machine.event(EventCode::SelfTestEnded, code, now);
    machine.publish(now);
    u64::from(code)
}

fn test_memory(resources: &mut Resources) -> Result<(), Status> {
    let mut seen = vec![0; MEMORY_GRANULE as usize];
    for pattern in PATTERNS {
        let written = vec![pattern; MEMORY_GRANULE as usize];
        resources.memory.write(Operand::local(0), &written)?;
        resources.memory.read(Operand::local(0), &mut seen)?;
        if seen != written {
            return Err(WRONG);
        }
    }
    let zeros = vec![0; MEMORY_GRANULE as usize];
    resources.memory.write(Operand::local(0), &zeros)
}

/// A launch whose answer is known.
struct Case {
    program: Program,
    rows: u32,
    src: Vec<u8>,
    /// Parts of the parameter block: where, and what.
    params: Vec<(u64, Vec<u8>)>,
    answer: Answer,
}

enum Answer {
    Output(Vec<u8>),
    Result(u64),
}

fn test_kernel(resources: &mut Resources, kernel: Kernel) -> Result<(), Status> {
    let case = case(kernel);
    resources.memory.write(Operand::local(SRC), &case.src)?;
    for (offset, part) in &case.params {
        resources
            .memory
            .write(Operand::local(PARAMS + offset), part)?;
    }
    let place = |address| match case.answer {
        Answer::Output(_) => Operand::local(address),
        Answer::Result(_) => Operand::host(0),
    };
    let operands = io::Operands {
        dst: place(DST),
        src: Operand::local(SRC),
        params: place(PARAMS),
        length: case.src.len() as u64,
        rows: case.rows,
    };
    let mut job = io::launch(resources, OWNER, case.program, operands)?;
    let result = loop {
        match job.advance(resources) {
            Progress::More => {}
            Progress::Blocked(_) => return Err(WRONG),
            Progress::Done(outcome) => break outcome?,
        }
    };
    // Silicon that computes wrongly does so whoever asks.
    let launch = Met::of(Occasion::Command).with_opcode(IoOpcode::Launch.code());
    if let (Program::Gemm(gemm), true) = (case.program, resources.plan.watches(Occasion::Command))
        && !resources.plan.meet(launch, Instant::now()).is_empty()
    {
        Flip::within(operands.dst, gemm.output_bytes(case.rows)).make(&mut resources.memory);
    }
    let right = match case.answer {
        Answer::Result(expected) => result == expected,
        Answer::Output(expected) => {
            let mut output = vec![0; expected.len()];
            resources.memory.read(Operand::local(DST), &mut output)?;
            output == expected
        }
    };
    if right { Ok(()) } else { Err(WRONG) }
}

/// The known answer of the float products: `[1 2; -3 4] x [5 6; 7 8] + [100 -100]` is
/// `[119 -78; 113 -86]`, and with Relu `[119 0; 113 0]`. int8 halves that, rounding up.
fn case(kernel: Kernel) -> Case {
    let gemm = |precision| Gemm {
        precision,
        inner: 2,
        columns: 2,
        bias: true,
        activation: Activation::Relu,
    };
    let a = [1.0, 2.0, -3.0, 4.0f32];
    let b = [5.0, 6.0, 7.0, 8.0f32];
    match kernel {
        Kernel::GemmInt8 => {
            let gemm = gemm(Precision::Int8 { requantise: true });
            let layout = gemm.params();
            let half = Scale {
                multiplier: 1,
                shift: 1,
            };
            let bias = [100i32, -100].as_bytes().to_vec();
            let scales = [half, half].as_bytes().to_vec();
            Case {
                program: Program::Gemm(gemm),
                rows: 2,
                src: [1i8, 2, -3, 4].as_bytes().to_vec(),
                params: vec![
                    (0, vec![5, 6, 7, 8]),
                    (layout.bias.unwrap_or_default(), bias),
                    (layout.scales.unwrap_or_default(), scales),
                ],
                answer: Answer::Output(vec![60, 0, 57, 0]),
            }
        }
        Kernel::GemmBf16 => float_case(gemm(Precision::Bf16), to_bf16(&a), to_bf16(&b)),
        Kernel::GemmF32 => {
            let bytes = |values: &[f32]| values.as_bytes().to_vec();
            float_case(gemm(Precision::F32), bytes(&a), bytes(&b))
        }
        Kernel::EmbeddingSum => Case {
            program: Program::EmbeddingSum {
                rows: 3,
                columns: 2,
            },
            rows: 2,
            src: [0u32, 2, 2, 2, 0].as_bytes().to_vec(),
            params: vec![(0, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0f32].as_bytes().to_vec())],
            answer: Answer::Output([6.0, 8.0, 0.0, 0.0f32].as_bytes().to_vec()),
        },
        Kernel::Checksum => Case {
            program: Program::Checksum,
            rows: 0,
            src: b"123456789".to_vec(),
            params: Vec::new(),
            // The check value of CRC-32C.
            answer: Answer::Result(0xE306_9283),
        },
    }
}

fn float_case(gemm: Gemm, a: Vec<u8>, b: Vec<u8>) -> Case {
    let bias = [100.0, -100.0f32].as_bytes().to_vec();
    Case {
        program: Program::Gemm(gemm),
        rows: 2,
        src: a,
        params: vec![(0, b), (gemm.params().bias.unwrap_or_default(), bias)],
        answer: Answer::Output([119.0, 0.0, 113.0, 0.0f32].as_bytes().to_vec()),
    }
}

fn to_bf16(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&value| bf16::from_f32(value).to_le_bytes())
        .collect()
}
