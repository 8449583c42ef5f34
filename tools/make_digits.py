"""Writes src/picojoule/data/digits.npz from scikit-learn's copy of the UCI digits (CC BY 4.0).

    pip install scikit-learn
    python tools/make_digits.py

The result is the same at every run. The data: Alpaydin and Kaynak 1998, Optical Recognition of
Handwritten Digits, doi:10.24432/C50P49, test part.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TARGET = Path(__file__).resolve().parent.parent / "src" / "picojoule" / "data" / "digits.npz"
TEST, VALIDATION = 360, 180


def stratified_split(labels: np.ndarray) -> np.ndarray:
    """0 train, 1 validation, 2 test for each sample, uint8 `[N]`.

    Each class is shuffled and its samples spread evenly over [0, 1); test is the first 360 of all samples
    along that line and validation the next 180, so every class has its share to within one sample.
    """
    random = np.random.RandomState(0)  # its numbers are frozen for all versions of numpy, unlike Generator's
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    order = np.argsort(place, kind="stable")
    split = np.zeros(len(labels), np.uint8)
    split[order[:TEST]] = 2
    split[order[TEST : TEST + VALIDATION]] = 1
    return split


def main() -> None:
    values, classes = load_digits(return_X_y=True)
    pixels = np.asarray(values, np.uint8).reshape(-1, 8, 8)
    if not np.array_equal(pixels.reshape(-1, 64), values):
        raise ValueError("expected whole pixel values, got fractions")
    labels = np.asarray(classes, np.uint8)
    np.savez_compressed(TARGET, pixels=pixels, labels=labels, split=stratified_split(labels))
    print(f"wrote {TARGET.name}, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
