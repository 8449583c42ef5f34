"""1,797 real handwritten digits of 8 x 8 pixels, which come with the package.

`digits.npz` is the test part of "Optical Recognition of Handwritten Digits" (UCI), taken once from
scikit-learn's `load_digits` by `tools/make_digits.py`: `pixels` uint8 [1797, 8, 8] with values 0 to 16 (the
inked pixels of a 4 x 4 block of the 32 x 32 scan), `labels` uint8 [1797], `split` uint8 [1797] (0 train,
1 validation, 2 test).
"""

from importlib.resources import files
from pathlib import Path

import numpy as np

from picojoule.data.dataset import Dataset, Split, split_from_arrays
from picojoule.data.find import places


def load(name: str = "digits", data_dir: str | Path | None = None) -> Dataset:
    """The digits, images `[N, 1, 8, 8]`, scale 16; `data_dir` is not used, but has to exist if given."""
    places(data_dir)
    with files("picojoule.data").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        pixels, labels, part = arrays["pixels"], arrays["labels"], arrays["split"]

    def split(number: int) -> Split:
        return split_from_arrays(pixels[part == number, None], labels[part == number])

    return Dataset(
        name=name,
        train=split(0),
        validation=split(1),
        test=split(2),
        classes=10,
        scale=16,
        split_note="1,797 images split at random within each class by a fixed seed into 1,257 train, 180"
        " validation and 360 test images, so that writers are shared between the splits.",
        source="https://archive.ics.uci.edu/dataset/80 (its test part, as in scikit-learn's load_digits)",
        licence="CC BY 4.0",
        citation="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning"
        " Repository, doi:10.24432/C50P49",
    )
