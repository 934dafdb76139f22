"""Makes images.u8 and labels.u8 from scikit-learn's copy of the digits (digits.csv.gz).

    python3 -m pip download --no-deps scikit-learn
    unzip -j scikit_learn-*.whl sklearn/datasets/data/digits.csv.gz
    python3 convert.py digits.csv.gz

Needs the standard library only. README.md describes the files.
"""

import csv
import gzip
import hashlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
IMAGES, PIXELS, BRIGHTEST, CLASSES = 1797, 64, 16, 10


def whole(field, largest):
    """A CSV field such as `0.000000000000000000e+00` as the whole number it stands for."""
    value = float(field)
    if value != int(value) or not 0 <= value <= largest:
        raise SystemExit(f"{field!r} is not a whole number of 0..={largest}")
    return int(value)


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: convert.py digits.csv.gz")
    packed = Path(sys.argv[1]).read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != SOURCE_SHA256:
        raise SystemExit(f"{sys.argv[1]}: SHA-256 is {found}, expected {SOURCE_SHA256}")

    images, labels = bytearray(), bytearray()
    for row in csv.reader(gzip.decompress(packed).decode("ascii").splitlines()):
        *pixels, label = row
        if len(pixels) != PIXELS:
            raise SystemExit(f"image {len(labels)}: {len(pixels)} pixels, expected {PIXELS}")
        images.extend(whole(pixel, BRIGHTEST) for pixel in pixels)
        labels.append(whole(label, CLASSES - 1))
    if len(labels) != IMAGES:
        raise SystemExit(f"{len(labels)} images, expected {IMAGES}")

    (HERE / "images.u8").write_bytes(images)
    (HERE / "labels.u8").write_bytes(labels)


if __name__ == "__main__":
    main()
