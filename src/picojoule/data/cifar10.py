"""CIFAR-10: 60,000 colour images of 32 x 32 pixels in ten classes.

Two layouts are read. `cifar-10-batches-bin` is the official binary version. `cifar10` holds the same
images in the same order as WebP sheets of 100 x 100 tiles, `data_batch_1..5.webp` and `test_batch.webp`,
with `labels.npz` (`train` uint8 [50000], `test` uint8 [10000], `test_fair` bool [10000]); its training
images are exact, but 4,865 of its test images went through JPEG. If both are there, the binary one is read.
"""

from pathlib import Path

import numpy as np

from picojoule.data.arrays import read_arrays
from picojoule.data.dataset import Dataset, Split, hold_out_last, split_from_arrays
from picojoule.data.find import bad_file, first_folder, missing_data, places, read_bytes
from picojoule.data.images import Unreadable, decode
from picojoule.errors import BadInput

_BINARY, _SHEETS, _PICKLED = "cifar-10-batches-bin", "cifar10", "cifar-10-batches-py"
_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_AGAIN = f"copy it from its source, or use the official binary version from {_URL}"
_BATCH = 10_000  # images per file
_TRAIN = [f"data_batch_{number}" for number in range(1, 6)]
_VALIDATION = 5_000


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """`cifar10`, `cifar10-fair` or `cifar10-holdout`; images `[N, 3, 32, 32]`.

    The last 5,000 training images are validation. `cifar10` tests on the official 10,000 images,
    `cifar10-fair` on 1,900 of them that are lossless in the WebP layout and were picked by position (the
    first 1,000 and every tenth), `cifar10-holdout` on the last training batch, which then does not train.
    """
    folder = _find(name, data_dir)
    batches = _TRAIN[:-1] if name == "cifar10-holdout" else _TRAIN
    train, validation = hold_out_last(_read(folder, batches), _VALIDATION)
    return Dataset(
        name=name,
        train=train,
        validation=validation,
        test=_read_test(name, folder),
        classes=10,
        scale=255,
        split_note=_split_note(name, folder),
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="not stated; the authors ask to be cited",
        citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    )


def read_sheet(path: Path) -> np.ndarray:
    """The 10,000 images of a WebP sheet, uint8 `[10000, 3, 32, 32]`, row by row.

    Raises BadInput if Pillow is not installed, or the file is no such sheet.
    """
    expected = "a WebP sheet of 3200 x 3200 RGB pixels"
    raw = read_bytes(path, expected, _AGAIN)
    try:
        pixels = decode(raw, "WEBP", 3200, ("RGB",), "the WebP sheets of CIFAR-10 are read")
    except Unreadable as error:
        raise bad_file(path, expected, str(error), _AGAIN) from None
    tiles = pixels.reshape(100, 32, 100, 32, 3)
    return tiles.transpose(0, 2, 4, 1, 3).reshape(_BATCH, 3, 32, 32)


def read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[10000, 3, 32, 32]` and labels uint8 `[10000]` of an official binary batch.

    Raises BadInput if the file has another size or a label above 9.
    """
    mend = f"unpack {_URL} again"
    size = _BATCH * 3073  # a label, then 3 x 32 x 32 pixels
    raw = read_bytes(path, f"{size:,} bytes", mend)
    if len(raw) != size:
        raise bad_file(path, f"{size:,} bytes", f"{len(raw):,}", mend)
    rows = np.frombuffer(raw, np.uint8).reshape(_BATCH, 3073)
    if rows[:, 0].max() > 9:
        raise bad_file(path, "labels 0 to 9", f"a label {rows[:, 0].max()}", mend)
    return rows[:, 1:].reshape(_BATCH, 3, 32, 32), rows[:, 0]


def _find(name: str, data_dir: str | Path | None) -> Path:
    where = places(data_dir)
    folder = first_folder(where, [_SHEETS] if name == "cifar10-fair" else [_BINARY, _SHEETS])
    if folder is not None:
        return folder
    if name == "cifar10-fair":
        what = "put the WebP sheets and labels.npz of CIFAR-10"
        other = f", or use 'cifar10' with the official binary version from {_URL}"
        raise BadInput(f"{missing_data(name, where, _SHEETS, what)}{other}")
    pickled = first_folder(where, [_PICKLED])
    if pickled is not None:
        raise BadInput(
            f"{pickled} is the Python version of CIFAR-10, which is not read because unpickling can run code:"
            f" put the files of the binary version {_URL} into {pickled.with_name(_BINARY)}"
        )
    raise missing_data(name, where, _BINARY, f"put the files of {_URL}")


def _read_test(name: str, folder: Path) -> Split:
    if name == "cifar10-holdout":
        return _read(folder, _TRAIN[-1:])
    test = _read(folder, ["test_batch"])
    if name == "cifar10":
        return test
    fair = np.flatnonzero(_label_array(folder, "test_fair", _BATCH))
    return Split(test.images[fair], test.labels[fair])


def _read(folder: Path, batches: list[str]) -> Split:
    """The images and labels of these batches, one after the other."""
    if folder.name == _BINARY:
        images, labels = zip(*(read_binary(folder / f"{batch}.bin") for batch in batches), strict=True)
        return split_from_arrays(np.concatenate(images), np.concatenate(labels))
    images = [read_sheet(folder / f"{batch}.webp") for batch in batches]
    if batches == ["test_batch"]:
        return split_from_arrays(images[0], _label_array(folder, "test", _BATCH))
    first = _TRAIN.index(batches[0]) * _BATCH
    labels = _label_array(folder, "train", 5 * _BATCH)[first : first + len(batches) * _BATCH]
    return split_from_arrays(np.concatenate(images), labels)


def _label_array(folder: Path, which: str, count: int) -> np.ndarray:
    path = folder / "labels.npz"
    expected = f"an array {which!r} of {count:,} labels or marks"
    array = read_arrays(path, [which], expected, _AGAIN)[which]
    if array.shape != (count,) or array.dtype not in (np.uint8, np.bool_) or array.max() > 9:
        raise bad_file(path, expected, f"{array.dtype} {array.shape} with a maximum of {array.max()}", _AGAIN)
    return array


def _split_note(name: str, folder: Path) -> str:
    if name == "cifar10-holdout":
        return (
            "A hold-out, not the official test: training batches 1 to 4 train (35,000 images) and validate"
            " (their last 5,000), and training batch 5 (10,000 images) tests."
        )
    training = "of the 50,000 training images the first 45,000 train and the last 5,000 validate"
    if name == "cifar10-fair":
        return (
            "1,900 lossless images of the official test set, picked by position (the first 1,000 and every"
            f" tenth); {training}."
        )
    if folder.name == _SHEETS:
        return f"The official 10,000 test images, of which 4,865 went through JPEG, which lowers accuracy; {training}."
    return f"The official 10,000 test images; {training}."
