//! What comes from the wire is either understood whole or refused; nothing panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use auk_asic::admin::AdminCommand;
use auk_asic::bar0::{CapDma, CapLimits, CapQueues};
use auk_asic::completion::Tail;
use auk_asic::event::{Event, EventResult};
use auk_asic::firmware::{FirmwareVersion, Image, ImageHeader};
use auk_asic::io::IoCommand;
use auk_asic::log::CrashLog;
use auk_asic::program::{Activation, Gemm, Precision, Program, Scale};
use auk_asic::submission::{Operand, Space, Submission};
use auk_asic::telemetry::Telemetry;
use auk_asic::vitals::{VitalSigns, Vitals};
use auk_asic::{Status, admin};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

fn entry() -> impl Strategy<Value = Submission> {
    let arg = prop_oneof![Just(0_u64), 0..20_u64, any::<u64>()];
    let small = || prop_oneof![4 => 0..4_u8, 1 => any::<u8>()];
    (
        (0..0x20_u8, small(), any::<u16>(), small(), small(), small()),
        (arg.clone(), arg.clone(), arg.clone()),
        [arg.clone(), arg.clone(), arg.clone(), arg],
    )
        .prop_map(
            |((opcode, flags, command_id, d, s, a), (dst, src, aux), args)| Submission {
                opcode,
                flags,
                command_id,
                dst_space: d,
                src_space: s,
                aux_space: a,
                reserved: 0,
                dst,
                src,
                aux,
                args,
            },
        )
}

proptest! {
    #[test]
    fn an_entry_that_decodes_encodes_to_itself(entry in entry()) {
        let plain = Submission { flags: 0, command_id: 0, ..entry };
        if let Ok(command) = IoCommand::decode(&entry) {
            prop_assert_eq!(command.encode(), plain);
        }
        if let Ok(command) = AdminCommand::decode(&entry) {
            prop_assert_eq!(command.encode(), plain);
        }
    }

    #[test]
    fn arbitrary_bytes_panic_no_parser(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = admin::Identify::parse(&bytes);
        let _ = Program::parse(&bytes);
        let _ = Image::parse(&bytes).map(|image| image.version());
        let _ = CrashLog::parse(&bytes);
        let _ = Telemetry::parse(&bytes);
        if let Ok((raw, _)) = VitalSigns::read_from_prefix(&bytes) {
            let _ = Vitals::parse(&raw);
        }
    }

    #[test]
    fn arbitrary_words_panic_no_parser(word in any::<u64>()) {
        let _ = CapQueues::parse(word as u32);
        let _ = CapDma::parse(word as u32).map(CapDma::last_address);
        let _ = CapLimits::parse(word as u32).map(CapLimits::max_transfer);
        let _ = Tail::from_bits(word).status();
        let _ = Event::parse(EventResult::from_bits(word));
    }

    #[test]
    fn a_gemm_program_survives_its_image(
        inner in 1..=65_536_u32,
        columns in 1..=65_536_u32,
        bias: bool,
        relu: bool,
        precision in prop_oneof![
            Just(Precision::Int8 { requantise: true }),
            Just(Precision::Int8 { requantise: false }),
            Just(Precision::Bf16),
            Just(Precision::F32),
        ],
    ) {
        let activation = if relu { Activation::Relu } else { Activation::None };
        let program = Program::Gemm(Gemm { precision, inner, columns, bias, activation });
        prop_assert_eq!(Program::parse(program.image().as_bytes()), Ok(program));
    }

    #[test]
    fn a_scale_rounds_half_up_and_saturates(acc: i32, multiplier in 0..=i32::MAX, shift in 1..=62_u32) {
        let exact = i128::from(acc) * i128::from(multiplier);
        let half_up = (exact + (1_i128 << (shift - 1))).div_euclid(1_i128 << shift);
        let expected = half_up.clamp(-128, 127) as i8;
        prop_assert_eq!(Scale { multiplier, shift }.apply(acc), expected);
    }
}

#[test]
fn a_field_that_a_command_does_not_use_must_be_zero() {
    let nop = Submission {
        aux: 1,
        ..IoCommand::Nop.encode()
    };
    assert_eq!(IoCommand::decode(&nop), Err(Status::InvalidField));
    let flagged = Submission {
        flags: 2,
        ..IoCommand::Nop.encode()
    };
    assert_eq!(IoCommand::decode(&flagged), Err(Status::InvalidField));
    let fenced = IoCommand::Nop.encode().fenced().with_id(9);
    assert_eq!(IoCommand::decode(&fenced), Ok(IoCommand::Nop));
}

#[test]
fn an_unknown_opcode_or_space_has_its_own_status() {
    let unknown = Submission {
        opcode: 0x7F,
        ..Submission::default()
    };
    assert_eq!(IoCommand::decode(&unknown), Err(Status::InvalidOpcode));
    assert_eq!(AdminCommand::decode(&unknown), Err(Status::InvalidOpcode));
    let copy = IoCommand::Copy {
        dst: Operand::local(0),
        src: Operand::host(0),
        length: 1,
    };
    let elsewhere = Submission {
        dst_space: 3,
        ..copy.encode()
    };
    assert_eq!(IoCommand::decode(&elsewhere), Err(Status::InvalidField));
    assert_eq!(Space::parse(2), Ok(Space::Peer));
}

#[test]
fn capabilities_that_no_driver_could_use_are_refused() {
    let good = CapQueues::new()
        .with_io_queues(32)
        .with_max_depth_log2(12)
        .with_submission_log2(6)
        .with_completion_log2(4)
        .with_doorbell_stride_log2(12);
    assert_eq!(CapQueues::parse(good.into_bits()), Ok(good));
    for bad in [
        good.with_io_queues(0),
        good.with_io_queues(33),
        good.with_max_depth_log2(13),
        good.with_submission_log2(7),
        good.with_completion_log2(5),
        good.with_doorbell_stride_log2(13),
    ] {
        assert!(CapQueues::parse(bad.into_bits()).is_err(), "{bad:?}");
    }
    assert!(CapDma::parse(31).is_err());
    assert_eq!(CapDma::parse(40).unwrap().last_address(), (1 << 40) - 1);
    assert_eq!(CapDma::parse(64).unwrap().last_address(), u64::MAX);
    assert!(
        CapQueues::parse(u32::MAX).is_err(),
        "all ones is no capability"
    );
}

fn header(payload: &[u8]) -> ImageHeader {
    ImageHeader {
        magic: auk_asic::firmware::MAGIC,
        header_version: 1,
        device: 0xA100,
        version: FirmwareVersion::of(1, 2, 3).into_bits(),
        security_version: 1,
        payload_length: payload.len() as u32,
        payload_crc: 0,
        key_id: 1,
        reserved: [0; 9],
        signature: [0; 64],
    }
}

#[test]
fn a_firmware_image_of_the_wrong_length_is_refused() {
    let payload = [7; 100];
    let whole = [header(&payload).as_bytes(), &payload].concat();
    assert_eq!(Image::parse(&whole).unwrap().version().to_string(), "1.2.3");
    for length in 0..whole.len() {
        assert!(
            Image::parse(&whole[..length]).is_err(),
            "cut to {length} bytes"
        );
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(Image::parse(&longer).is_err());
}

#[test]
fn a_torn_block_of_vital_signs_is_refused() {
    let raw = VitalSigns {
        sequence: 3,
        state: 4,
        ..VitalSigns::default()
    };
    assert!(Vitals::parse(&raw).is_err());
    let even = VitalSigns { sequence: 4, ..raw };
    assert!(Vitals::parse(&even).is_ok());
}

#[test]
fn a_parameter_block_is_laid_out_in_padded_parts() {
    let gemm = Gemm {
        precision: Precision::Int8 { requantise: true },
        inner: 3,
        columns: 5,
        bias: true,
        activation: Activation::Relu,
    };
    let layout = gemm.params();
    assert_eq!(
        (layout.bias, layout.scales, layout.length),
        (Some(64), Some(128), 192)
    );
}
