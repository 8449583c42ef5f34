"""Tiny ImageNet, 20 of its 200 classes: 11,000 photographs of 64 x 64 pixels.

`tiny-imagenet-20.npz` holds every tenth class (by WordNet number), 500 training and 50 validation images each, as the
official JPEG files end to end: `jpeg` uint8, `offset` int64 `[11001]`, and for each image, the 10,000 training images
first, `label` uint8 (0 to 19) and `split` uint8 (0 training, 1 validation).
"""

from pathlib import Path

import numpy as np

from picojoule.data.arrays import divides, fault_in, read_arrays
from picojoule.data.dataset import Dataset, hold_out_last, split_from_arrays
from picojoule.data.find import bad_file, first_file, missing_data, places
from picojoule.data.images import Unreadable, decode

_FILE, _SOURCE = "tiny-imagenet-20.npz", "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_PACK = f"pack every tenth class of {_SOURCE}"
_AGAIN = f"copy it from its source, or {_PACK} as the documentation of picojoule.data.tiny_imagenet says"
_CLASSES, _SIDE = 20, 64
_TRAIN, _TEST, _VALIDATION = 10_000, 1_000, 1_000
_EXPECTED = "11,000 JPEG images of 20 classes"


def load(name: str = "tiny-imagenet", data_dir: str | Path | None = None) -> Dataset:
    """Tiny ImageNet with 20 classes, images `[N, 3, 64, 64]`, decoded once; greyscale becomes three equal channels.

    Training images are taken in turn from every class, in the order of the file; the last 50 of each class are
    validation. The official validation images, whose labels are public, are the test.
    """
    where = places(data_dir)
    path = first_file(where, _FILE)
    if path is None:
        raise missing_data(name, where, _FILE, f"{_PACK} (its format is in picojoule.data.tiny_imagenet)")
    images, labels = read_images(path)
    in_turn = np.argsort(labels[:_TRAIN], kind="stable").reshape(_CLASSES, -1).T.ravel()
    train, validation = hold_out_last(split_from_arrays(images[in_turn], labels[in_turn]), _VALIDATION)
    return Dataset(
        name=name,
        train=train,
        validation=validation,
        test=split_from_arrays(images[_TRAIN:], labels[_TRAIN:]),
        classes=_CLASSES,
        scale=255,
        split_note="20 of the 200 classes; their 1,000 official validation images test; of the 500 official training"
        " images of each class the first 450 train and the last 50 validate.",
        source=_SOURCE,
        licence="not stated; images from ImageNet, for non-commercial research",
        citation="Le and Yang 2015, Tiny ImageNet Visual Recognition Challenge, CS 231N, Stanford University",
    )


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[11000, 3, 64, 64]` and labels uint8 `[11000]`, in the order of the file.

    Raises BadInput if the file is missing or damaged, an image does not decode, or Pillow is not installed.
    """
    arrays = read_arrays(path, ("jpeg", "offset", "label", "split"), _EXPECTED, _AGAIN)
    fault = _fault(arrays)
    if fault:
        raise bad_file(path, _EXPECTED, fault, _AGAIN)
    data, offset = arrays["jpeg"].tobytes(), arrays["offset"]
    images = np.empty((_TRAIN + _TEST, 3, _SIDE, _SIDE), np.uint8)
    for number, image in enumerate(images):
        raw = data[offset[number] : offset[number + 1]]
        try:
            pixels = decode(raw, "JPEG", _SIDE, ("RGB", "L"), "the JPEG images of Tiny ImageNet are read")
        except Unreadable as error:
            raise bad_file(path, f"{_SIDE} x {_SIDE} pixels in image {number}", str(error), _AGAIN) from None
        image[:] = pixels.transpose(2, 0, 1)
    return images, arrays["label"]


def _fault(arrays: dict[str, np.ndarray]) -> str:
    """What is wrong with the arrays; empty if nothing is."""
    count, size = _TRAIN + _TEST, arrays["jpeg"].size
    expected = {
        "jpeg": (np.uint8, (size,)),
        "offset": (np.int64, (count + 1,)),
        "label": (np.uint8, (count,)),
        "split": (np.uint8, (count,)),
    }
    fault = fault_in(arrays, expected, {"label": _CLASSES - 1})
    if fault:
        return fault
    if not divides(arrays["offset"], size):
        return f"offsets that do not divide its {size:,} bytes"
    if (arrays["split"] != (np.arange(count) >= _TRAIN)).any():
        return "another order of training and validation images"
    parts = (arrays["label"][:_TRAIN], _TRAIN), (arrays["label"][_TRAIN:], _TEST)
    equal = all((np.bincount(part, minlength=_CLASSES) == of // _CLASSES).all() for part, of in parts)
    return "" if equal else "classes of unequal size"
