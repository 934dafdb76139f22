//! The 1,797 images, and the network that reads them; `data/digits/README.md` says where they come from.

use auk_asic::program::{Activation, Gemm, Precision};

/// Images.
pub(super) const COUNT: usize = 1797;
/// The network never saw the images from here on.
pub(super) const HELD_OUT: usize = 1287;
/// Pixels of an image, one byte each.
pub(super) const PIXELS: usize = 64;
/// Digits.
pub(super) const CLASSES: usize = 10;

static IMAGES: &[u8; COUNT * PIXELS] = include_bytes!("../../data/digits/images.u8");
static LABELS: &[u8; COUNT] = include_bytes!("../../data/digits/labels.u8");

/// A layer: its shape, and its parameter block as the chip reads it.
pub(super) struct Layer {
    pub(super) gemm: Gemm,
    pub(super) params: &'static [u8],
}

/// The network, from the pixels to the logits.
pub(super) const LAYERS: [Layer; 3] = [
    Layer {
        gemm: hidden(64, 128),
        params: include_bytes!("../../data/digits/layer1.params"),
    },
    Layer {
        gemm: hidden(128, 64),
        params: include_bytes!("../../data/digits/layer2.params"),
    },
    Layer {
        gemm: Gemm {
            precision: Precision::Int8 { requantise: false },
            inner: 64,
            columns: CLASSES as u32,
            bias: true,
            activation: Activation::None,
        },
        params: include_bytes!("../../data/digits/layer3.params"),
    },
];

const fn hidden(inner: u32, columns: u32) -> Gemm {
    Gemm {
        precision: Precision::Int8 { requantise: true },
        inner,
        columns,
        bias: true,
        activation: Activation::Relu,
    }
}

// The files are as long as the shapes say.
const _: () = {
    let mut layer = 0;
    while layer < LAYERS.len() {
        assert!(LAYERS[layer].gemm.params().length == LAYERS[layer].params.len() as u64);
        layer += 1;
    }
};

/// The pixels of images `first..first + count`, one image after the other.
pub(super) fn pixels(first: usize, count: usize) -> &'static [u8] {
    &IMAGES[first * PIXELS..(first + count) * PIXELS]
}

/// The digit that an image shows.
pub(super) fn label(image: usize) -> u8 {
    LABELS[image]
}
