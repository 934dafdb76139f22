"""Evaluates the .params files in whole numbers, without numpy, from the tables of README.md.

    python3 check.py

Shares no code with train.py, so the two agree only if both read the file format and the chip's
arithmetic the same way. Prints the accuracy on either side of the split.
"""

import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
HELD_OUT = 1287
LAYERS = [
    # file, inputs, outputs, bias at, requantisation at (None: the sums are the output), size
    ("layer1.params", 64, 128, 8192, 8704, 9728),
    ("layer2.params", 128, 64, 8192, 8448, 8960),
    ("layer3.params", 64, 10, 640, None, 704),
]


def read(name, inputs, outputs, bias_at, requantise_at, size):
    block = (HERE / name).read_bytes()
    if len(block) != size:
        raise SystemExit(f"{name}: {len(block)} bytes, expected {size}")
    cells = struct.unpack_from(f"<{inputs * outputs}b", block, 0)
    columns = [cells[n::outputs] for n in range(outputs)]
    bias = struct.unpack_from(f"<{outputs}i", block, bias_at)
    scales = None
    if requantise_at is not None:
        scales = [struct.unpack_from("<iI", block, requantise_at + 8 * n) for n in range(outputs)]
        if not all(multiplier >= 0 and 1 <= shift <= 62 for multiplier, shift in scales):
            raise SystemExit(f"{name}: a multiplier below 0 or a shift outside 1..=62")
    return columns, bias, scales


def run(layers, values):
    for columns, bias, scales in layers:
        sums = [sum(map(int.__mul__, values, column)) + start for column, start in zip(columns, bias)]
        if not all(-(2**31) <= total < 2**31 for total in sums):
            raise SystemExit("a sum leaves 32 bits")
        if scales is None:
            return sums
        # Round half up written as floor(2x + 1, over 2), not as the add-and-shift of the chip.
        rounded = [
            (2 * max(total, 0) * multiplier + 2**shift) // 2 ** (shift + 1)
            for total, (multiplier, shift) in zip(sums, scales)
        ]
        values = [min(max(value, -128), 127) for value in rounded]
    raise ValueError("the last layer requantises, so there are no logits")


def main():
    layers = [read(*layer) for layer in LAYERS]
    pixels = (HERE / "images.u8").read_bytes()
    labels = (HERE / "labels.u8").read_bytes()
    right = []
    for index, label in enumerate(labels):
        logits = run(layers, list(pixels[64 * index : 64 * index + 64]))
        right.append(logits.index(max(logits)) == label)
    for name, part in (("training", right[:HELD_OUT]), ("held out", right[HELD_OUT:])):
        print(f"{name}: {sum(part)} of {len(part)} right, {100 * sum(part) / len(part):.2f} %")


if __name__ == "__main__":
    main()
