//! The network on the CPU, as plainly as it can be written: what the chip's outputs are held against.
//! It shares no arithmetic with the simulator.

use auk_asic::program::{Activation, Gemm, Precision};

use super::digits::{CLASSES, LAYERS, Layer};

/// The outputs of all layers for `rows` images, each as the chip lays it out.
pub(super) fn outputs(pixels: &[u8], rows: usize) -> Vec<Vec<u8>> {
    let mut outputs: Vec<Vec<u8>> = Vec::new();
    for layer in &LAYERS {
        let output = run(layer, outputs.last().map_or(pixels, Vec::as_slice), rows);
        outputs.push(output);
    }
    outputs
}

/// The digits that the logits of the last layer stand for: the largest, the first among equals.
pub(super) fn classes(logits: &[u8]) -> Vec<u8> {
    let (words, _) = logits.as_chunks::<4>();
    words
        .chunks(CLASSES)
        .map(|image| {
            let logit = |class: usize| i32::from_le_bytes(image[class]);
            (1..image.len()).fold(0, |best, class| {
                if logit(class) > logit(best) {
                    class
                } else {
                    best
                }
            }) as u8
        })
        .collect()
}

fn run(layer: &Layer, input: &[u8], rows: usize) -> Vec<u8> {
    let Gemm {
        inner,
        columns,
        activation,
        precision,
        ..
    } = layer.gemm;
    let (inner, columns) = (inner as usize, columns as usize);
    let layout = layer.gemm.params();
    let word = |part: Option<u64>, index: usize| {
        let at = part.unwrap_or(0) as usize + 4 * index;
        i32::from_le_bytes([0, 1, 2, 3].map(|byte| layer.params[at + byte]))
    };
    let mut output = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let mut sum = word(layout.bias, column);
            for k in 0..inner {
                let a = input[row * inner + k] as i8;
                let b = layer.params[k * columns + column] as i8;
                sum += i32::from(a) * i32::from(b);
            }
            if activation == Activation::Relu {
                sum = sum.max(0);
            }
            match precision {
                Precision::Int8 { requantise: true } => {
                    let multiplier = i64::from(word(layout.scales, 2 * column));
                    let shift = word(layout.scales, 2 * column + 1);
                    let half = 1_i64 << (shift - 1);
                    let scaled = (i64::from(sum) * multiplier + half) >> shift;
                    output.push(scaled.clamp(-128, 127) as i8 as u8);
                }
                _ => output.extend_from_slice(&sum.to_le_bytes()),
            }
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::super::digits::{COUNT, HELD_OUT, label, pixels};
    use super::*;

    #[test]
    fn the_network_reads_at_least_95_percent_of_the_images_it_never_saw() {
        let count = COUNT - HELD_OUT;
        let outputs = outputs(pixels(HELD_OUT, count), count);
        let classes = classes(&outputs[2]);
        let right = (0..count)
            .filter(|&image| classes[image] == label(HELD_OUT + image))
            .count();
        assert!(right * 100 >= count * 95, "{right} of {count}");
    }
}
