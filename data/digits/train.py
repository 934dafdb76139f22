"""Trains, quantises and evaluates the int8 network that reads the digits of this folder.

    python3 train.py               writes layer1.params, layer2.params, layer3.params
    python3 train.py --validate    measures the settings below; writes nothing

Needs numpy, nothing else, and is built to write the same bytes everywhere: floating-point sums
depend on the order in which a library adds, so the operands of each matrix product are first
rounded to a grid on which the sums are exact, and everything else is built from operations that
IEEE 754 rounds correctly (+, -, *, /, square root). That is why the loss is a squared hinge and
not a cross entropy, whose exponential differs between libraries.
"""

import argparse
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PIXELS, BRIGHTEST, CLASSES = 64, 16, 10

# The set is fourteen copies of one text of 130 digits, a few of them missing; each copy starts
# with 0123456789 three times. A copy is one form filled in by one person, so a split between
# forms asks for handwriting that the network never saw, which a split between images does not.
FORM_STARTS = [0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667]
HELD_OUT = FORM_STARTS[10]  # images from here on, four forms, are never trained on

# Chosen by `--validate`, which looks at the ten training forms only.
SEED = 1998
HIDDEN = (128, 64)
EPOCHS = 300
BATCH = 39
RATE = 0.004
DECAY = 0.02
WARP = 0.3
SHIFT = 0.75

ALIGNMENT = 64  # bytes, of each part of a parameter block


# --- Exact arithmetic -------------------------------------------------------------------------

GRID = 2.0**16
EXACT = 2.0**53  # whole numbers below this have an exact f64


def on_grid(values):
    """`values` rounded to multiples of 1/GRID, in units of 1/GRID."""
    return np.rint(values * GRID)


def product(a, b):
    """The matrix product of `a` and `b` rounded to the grid; exact, whatever the order of its sums."""
    a, b = on_grid(a), on_grid(b)
    if np.abs(a).max() * np.abs(b).max() * a.shape[1] >= EXACT:
        raise ArithmeticError("operands too large for exact sums: training has diverged")
    return (a @ b) / (GRID * GRID)


def column_sums(values):
    """Sums over the rows of `values` rounded to the grid; exact, whatever their order."""
    return on_grid(values).sum(axis=0) / GRID


# --- Training in floating point ---------------------------------------------------------------


def warped(images, random):
    """Each image stretched, slanted, turned and shifted a little, at random; pixels stay whole."""
    side = 8
    centre = (side - 1) / 2
    count = len(images)
    across, down = np.meshgrid(np.arange(side) - centre, np.arange(side) - centre)

    def draw(reach):
        return (random.random_sample((count, 1, 1)) * 2 - 1) * reach

    x = across + draw(WARP) * across + draw(WARP) * down + draw(SHIFT) + centre
    y = down + draw(WARP) * across + draw(WARP) * down + draw(SHIFT) + centre

    # Bilinear, on an image with a border of zeros: no coordinate is more than `side` outside it.
    border = side
    padded = np.pad(images.reshape(count, side, side), ((0, 0), (border, border), (border, border)))
    left, top = np.floor(x), np.floor(y)
    right_share, bottom_share = x - left, y - top
    column, row = left.astype(int) + border, top.astype(int) + border
    image = np.arange(count)[:, None, None]

    def between_columns(row):
        return (1 - right_share) * padded[image, row, column] + right_share * padded[image, row, column + 1]

    mixed = (1 - bottom_share) * between_columns(row) + bottom_share * between_columns(row + 1)
    return np.rint(mixed).reshape(count, PIXELS)


def forward(layers, images):
    """The input of each layer, then the logits."""
    values = [images / BRIGHTEST]
    for index, (weights, bias) in enumerate(layers):
        sums = product(values[-1], weights) + bias
        values.append(sums if index == len(layers) - 1 else np.maximum(sums, 0))
    return values


def gradients(layers, images, labels):
    """Of the mean squared hinge loss, one class against the rest, for each (weights, bias)."""
    values = forward(layers, images)
    target = np.where(np.arange(CLASSES) == labels[:, None], 1.0, -1.0)
    slope = -target * np.maximum(1 - target * values[-1], 0)
    result = []
    for index in reversed(range(len(layers))):
        weights = layers[index][0]
        result.append((product(values[index].T, slope) / len(images), column_sums(slope) / len(images)))
        if index > 0:
            slope = np.where(values[index] > 0, product(slope, weights.T), 0)
    return result[::-1]


def train(images, labels):
    """Float (weights, bias) a layer, by Adam with decoupled weight decay and a falling rate."""
    random = np.random.RandomState(SEED)  # the generator whose stream numpy promises never to change
    sizes = (PIXELS, *HIDDEN, CLASSES)
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        reach = np.sqrt(6 / inputs)
        layers.append([(random.random_sample((inputs, outputs)) * 2 - 1) * reach, np.zeros(outputs)])

    keep_mean, keep_square, tiny = 0.9, 0.999, 1e-8
    mean = [[np.zeros_like(part) for part in layer] for layer in layers]
    square = [[np.zeros_like(part) for part in layer] for layer in layers]
    mean_left = square_left = 1.0
    steps = EPOCHS * (len(images) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = random.permutation(len(images))
        for first in range(0, len(images) - BATCH + 1, BATCH):
            batch = order[first : first + BATCH]
            rate = RATE * (1 - step / steps)
            step += 1
            mean_left *= keep_mean
            square_left *= keep_square
            slopes = gradients(layers, warped(images[batch], random), labels[batch])
            for layer, layer_slopes, layer_mean, layer_square in zip(layers, slopes, mean, square):
                layer[0] -= rate * DECAY * layer[0]
                for part, slope, m, s in zip(layer, layer_slopes, layer_mean, layer_square):
                    m += (1 - keep_mean) * (slope - m)
                    s += (1 - keep_square) * (slope * slope - s)
                    part -= rate * (m / (1 - mean_left)) / (np.sqrt(s / (1 - square_left)) + tiny)
    return layers


# --- Quantising -------------------------------------------------------------------------------


def fixed_point(ratio):
    """(multiplier, shift) with multiplier / 2**shift nearest to `ratio`, multiplier of 31 bits."""
    fraction, exponent = np.frexp(ratio)  # ratio = fraction * 2**exponent, fraction in 0.5..1
    multiplier = np.rint(fraction * 2.0**31)
    carried = multiplier == 2.0**31
    multiplier = np.where(carried, multiplier / 2, multiplier).astype(np.int64)
    shift = 31 - exponent - carried
    if shift.min() < 1 or shift.max() > 62:
        raise ArithmeticError(f"shift {shift.min()}..{shift.max()} leaves 1..=62")
    return multiplier, shift


def quantise(layers, images):
    """Integer layers: dicts of `weights` and `bias`, and of `multiplier` and `shift` but for the last.

    A weight's unit is its column's own where the layer requantises, so that a column of small
    weights loses nothing; it is the layer's where logits must stay comparable. `images` set the
    unit of the hidden values: the largest seen becomes 127.
    """
    values = forward(layers, images)
    unit_in = 1 / BRIGHTEST
    result = []
    for index, (weights, bias) in enumerate(layers):
        last = index == len(layers) - 1
        largest = np.full(len(bias), np.abs(weights).max()) if last else np.abs(weights).max(axis=0)
        unit = np.where(largest > 0, largest, 1) / 127
        layer = {
            "weights": np.rint(weights / unit).astype(np.int8),
            "bias": np.rint(bias / (unit_in * unit)).astype(np.int32),
        }
        if not last:
            unit_out = values[index + 1].max() / 127
            layer["multiplier"], layer["shift"] = fixed_point(unit_in * unit / unit_out)
            unit_in = unit_out
        result.append(layer)
    return result


def classify(quantised, images):
    """The class of each image by the chip's own integer arithmetic."""
    values = images.astype(np.int64)
    for layer in quantised:
        values = values @ layer["weights"].astype(np.int64) + layer["bias"]
        if "multiplier" in layer:
            values = np.maximum(values, 0)
            half = np.int64(1) << (layer["shift"] - 1)
            values = np.clip((values * layer["multiplier"] + half) >> layer["shift"], -128, 127)
    return values.argmax(axis=1)


def parameter_block(layer):
    """The bytes of a layer as the chip's GEMM program reads them; README.md has the table."""

    def aligned(part):
        return part + bytes(-len(part) % ALIGNMENT)

    block = aligned(layer["weights"].tobytes()) + aligned(layer["bias"].astype("<i4").tobytes())
    if "multiplier" in layer:
        entries = np.stack([layer["multiplier"], layer["shift"]], axis=1)  # both are below 2**31
        block += aligned(entries.astype("<i4").tobytes())
    return block


# --- Measuring --------------------------------------------------------------------------------


def tell(name, right):
    print(f"{name}: {np.count_nonzero(right)} of {len(right)} right, {100 * right.mean():.2f} %")


def measure(layers, quantised, images, labels, name):
    tell(f"{name}, float", forward(layers, images)[-1].argmax(axis=1) == labels)
    right = classify(quantised, images) == labels
    tell(f"{name}, int8 ", right)
    return right


def validate(images, labels):
    """Five-fold validation over the training forms, two forms a fold, quantised as in the real run."""
    right = []
    for fold in range(5):
        begin, end = FORM_STARTS[2 * fold], FORM_STARTS[2 * fold + 2]
        rest = np.r_[0:begin, end:HELD_OUT]
        layers = train(images[rest], labels[rest])
        quantised = quantise(layers, images[rest])
        right.append(measure(layers, quantised, images[begin:end], labels[begin:end], f"validation on {begin}..{end}"))
    tell("validation, int8, all folds", np.concatenate(right))


def main():
    parser = argparse.ArgumentParser(description="Trains the int8 network of this folder.")
    parser.add_argument(
        "--validate", action="store_true", help="measure the settings on the training forms; write nothing"
    )
    arguments = parser.parse_args()

    images = np.fromfile(HERE / "images.u8", np.uint8).reshape(-1, PIXELS).astype(np.float64)
    labels = np.fromfile(HERE / "labels.u8", np.uint8).astype(int)
    if arguments.validate:
        validate(images, labels)
        return

    layers = train(images[:HELD_OUT], labels[:HELD_OUT])
    quantised = quantise(layers, images[:HELD_OUT])
    measure(layers, quantised, images[:HELD_OUT], labels[:HELD_OUT], "training")
    measure(layers, quantised, images[HELD_OUT:], labels[HELD_OUT:], "held out")
    for number, layer in enumerate(quantised, start=1):
        (HERE / f"layer{number}.params").write_bytes(parameter_block(layer))


if __name__ == "__main__":
    main()
