//! Program images: what LOAD_PROGRAM reads and LAUNCH runs.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Malformed;

codes! {
    /// What a program computes; bit n of CAP_KERNELS says that the chip has kernel n.
    pub enum Kernel: u8 {
        /// `out = requantise(activation(A x B + bias))`, int8 with int32 accumulators.
        GemmInt8 = 0,
        /// `out = activation(A x B + bias)`, bf16 operands, f32 accumulators, bias and output.
        GemmBf16 = 1,
        /// `out = activation(A x B + bias)`, all f32.
        GemmF32 = 2,
        /// Sums of rows of an f32 table, one per bag.
        EmbeddingSum = 3,
        /// CRC-32C of the input; the result is the checksum.
        Checksum = 4,
    }
}

codes! {
    /// Applied to each accumulator after the bias.
    pub enum Activation: u8 {
        /// Nothing.
        None = 0,
        /// `max(x, 0)`.
        Relu = 1,
    }
}

/// Magic of a program image, "AUKP" as bytes.
pub const MAGIC: u32 = u32::from_le_bytes(*b"AUKP");
/// Greatest `inner` and `columns`.
pub const MAX_DIMENSION: u32 = 65_536;
/// Alignment of the parts of a parameter block, in bytes.
pub const PARAMS_ALIGN: u64 = 64;

/// A program image; it is nothing but this header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProgramImage {
    /// [`MAGIC`].
    pub magic: u32,
    /// Layout of this header: 1.
    pub version: u16,
    /// [`Kernel`].
    pub kernel: u8,
    /// [`Activation`]; 0 unless the kernel is a GEMM.
    pub activation: u8,
    /// 1: the parameter block holds a bias. GEMM only.
    pub bias: u8,
    /// 1: int8 output through the scales of the parameter block; 0: int32 output. GemmInt8 only.
    pub requantise: u8,
    /// 0.
    pub reserved0: u16,
    /// Columns of B and of the output; columns of the table for EmbeddingSum; 0 for Checksum.
    pub columns: u32,
    /// Columns of A and rows of B; rows of the table for EmbeddingSum; 0 for Checksum.
    pub inner: u32,
    /// 0.
    pub reserved1: [u32; 3],
}

fields!(ProgramImage, size = 32, {
0x00 => magic,
0x04 => version,
0x06 => kernel,
0x07 => activation,
0x08 => bias,
0x09 => requantise,
0x0A => reserved0,
0x0C => columns,
0x10 => inner,
0x14 => reserved1,
});

/// One output column's requantisation: `clamp((acc * multiplier + (1 << (shift - 1))) >> shift)`
/// in 64-bit arithmetic with an arithmetic shift, clamped to int8.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Scale {
    /// 0 to 2^31 - 1.
    pub multiplier: i32,
    /// 1 to 62.
    pub shift: u32,
}

fields!(Scale, size = 8, { 0x00 => multiplier, 0x04 => shift, });

impl Scale {
    /// Whether both fields are in range.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.multiplier >= 0 && self.shift >= 1 && self.shift <= 62
    }

    /// The int8 for an accumulator. The scale must be valid.
    #[must_use]
    pub const fn apply(self, accumulator: i32) -> i8 {
        let product = accumulator as i64 * self.multiplier as i64;
        let rounded = (product + (1 << (self.shift - 1))) >> self.shift;
        if rounded < i8::MIN as i64 {
            i8::MIN
        } else if rounded > i8::MAX as i64 {
            i8::MAX
        } else {
            rounded as i8
        }
    }
}

/// A program whose image was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A matrix product.
    Gemm(Gemm),
    /// An embedding-bag sum.
    EmbeddingSum {
        /// Rows of the table.
        rows: u32,
        /// Columns of the table.
        columns: u32,
    },
    /// A CRC-32C.
    Checksum,
}

/// The shape of a matrix product: `A` is rows x inner, `B` is inner x columns, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// The operands' type.
    pub precision: Precision,
    /// Columns of A, rows of B.
    pub inner: u32,
    /// Columns of B and of the output.
    pub columns: u32,
    /// The parameter block holds a bias after B.
    pub bias: bool,
    /// Applied after the bias.
    pub activation: Activation,
}

/// Types of a GEMM's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// int8 operands, int32 bias and accumulators.
    Int8 {
        /// int8 output by the scales after the bias; else int32 output.
        requantise: bool,
    },
    /// bf16 operands; f32 bias, accumulators and output.
    Bf16,
    /// f32 throughout.
    F32,
}

impl Precision {
    /// Bytes of an element of A and B.
    #[must_use]
    pub const fn operand_bytes(self) -> u64 {
        match self {
            Self::Int8 { .. } => 1,
            Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }

    /// Bytes of an element of the output.
    #[must_use]
    pub const fn output_bytes(self) -> u64 {
        match self {
            Self::Int8 { requantise: true } => 1,
            _ => 4,
        }
    }
}

/// Where the parts of a parameter block are, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamsLayout {
    /// The bias, `columns` elements of 4 bytes, if the program has one.
    pub bias: Option<u64>,
    /// The [`Scale`]s, one per column, if the program requantises.
    pub scales: Option<u64>,
    /// Bytes of the whole block.
    pub length: u64,
}

impl Gemm {
    /// Where B, bias and scales lie: B at 0, each part padded to [`PARAMS_ALIGN`].
    #[must_use]
    pub const fn params(&self) -> ParamsLayout {
        let mut end = pad(self.inner as u64 * self.columns as u64 * self.precision.operand_bytes());
        let mut layout = ParamsLayout {
            bias: None,
            scales: None,
            length: 0,
        };
        if self.bias {
            layout.bias = Some(end);
            end += pad(self.columns as u64 * 4);
        }
        if let Precision::Int8 { requantise: true } = self.precision {
            layout.scales = Some(end);
            end += pad(self.columns as u64 * Scale::SIZE as u64);
        }
        layout.length = end;
        layout
    }

    /// Bytes of A for `rows` rows.
    #[must_use]
    pub const fn input_bytes(&self, rows: u32) -> u64 {
        rows as u64 * self.inner as u64 * self.precision.operand_bytes()
    }

    /// Bytes of the output for `rows` rows.
    #[must_use]
    pub const fn output_bytes(&self, rows: u32) -> u64 {
        rows as u64 * self.columns as u64 * self.precision.output_bytes()
    }
}

const fn pad(bytes: u64) -> u64 {
    bytes.div_ceil(PARAMS_ALIGN) * PARAMS_ALIGN
}

impl Program {
    /// The kernel that runs it.
    #[must_use]
    pub const fn kernel(&self) -> Kernel {
        match self {
            Self::Gemm(gemm) => match gemm.precision {
                Precision::Int8 { .. } => Kernel::GemmInt8,
                Precision::Bf16 => Kernel::GemmBf16,
                Precision::F32 => Kernel::GemmF32,
            },
            Self::EmbeddingSum { .. } => Kernel::EmbeddingSum,
            Self::Checksum => Kernel::Checksum,
        }
    }

    /// The image that LOAD_PROGRAM reads.
    #[must_use]
    pub const fn image(&self) -> ProgramImage {
        let mut image = ProgramImage {
            magic: MAGIC,
            version: 1,
            kernel: self.kernel().code(),
            activation: 0,
            bias: 0,
            requantise: 0,
            reserved0: 0,
            columns: 0,
            inner: 0,
            reserved1: [0; 3],
        };
        match *self {
            Self::Gemm(gemm) => {
                image.activation = gemm.activation.code();
                image.bias = gemm.bias as u8;
                image.requantise =
                    matches!(gemm.precision, Precision::Int8 { requantise: true }) as u8;
                image.columns = gemm.columns;
                image.inner = gemm.inner;
            }
            Self::EmbeddingSum { rows, columns } => {
                image.columns = columns;
                image.inner = rows;
            }
            Self::Checksum => {}
        }
        image
    }

    /// The program in an image.
    ///
    /// # Errors
    /// [`Malformed`] with the first field that is wrong; the chip then completes LOAD_PROGRAM with
    /// [`Status::InvalidProgram`](crate::Status::InvalidProgram).
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let image = ProgramImage::read_from_bytes(bytes).map_err(|_| Malformed {
            what: "bytes of a program image",
            found: bytes.len() as u64,
            expected: "32",
        })?;
        let wrong = |what, found: u64, expected| {
            Err(Malformed {
                what,
                found,
                expected,
            })
        };
        if image.magic != MAGIC {
            return wrong("program magic", u64::from(image.magic), "\"AUKP\"");
        }
        if image.version != 1 {
            return wrong("program version", u64::from(image.version), "1");
        }
        let kernel = Kernel::parse(image.kernel)?;
        let precision = match (kernel, image.requantise) {
            (Kernel::GemmInt8, 0 | 1) => Some(Precision::Int8 {
                requantise: image.requantise == 1,
            }),
            (Kernel::GemmBf16, 0) => Some(Precision::Bf16),
            (Kernel::GemmF32, 0) => Some(Precision::F32),
            _ => None,
        };
        let has_shape = kernel != Kernel::Checksum;
        for (what, dimension) in [("columns", image.columns), ("inner", image.inner)] {
            if has_shape && !(1..=MAX_DIMENSION).contains(&dimension) {
                return wrong(what, u64::from(dimension), "1 to 65536");
            }
        }
        if image.bias > 1 {
            return wrong("bias", u64::from(image.bias), "0 or 1");
        }
        let program = match (kernel, precision) {
            (_, Some(precision)) => Self::Gemm(Gemm {
                precision,
                inner: image.inner,
                columns: image.columns,
                bias: image.bias == 1,
                activation: Activation::parse(image.activation)?,
            }),
            (Kernel::EmbeddingSum, None) => Self::EmbeddingSum {
                rows: image.inner,
                columns: image.columns,
            },
            (Kernel::Checksum, None) => Self::Checksum,
            _ => {
                return wrong(
                    "requantise",
                    u64::from(image.requantise),
                    "0, or 1 for GemmInt8",
                );
            }
        };
        if program.image() != image {
            return wrong("unused program fields", u64::from(image.kernel), "all 0");
        }
        Ok(program)
    }
}
