import hashlib
from importlib.resources import files

import numpy as np
import pytest
import torch

from picojoule import data
from picojoule.errors import BadInput


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_shapes_and_types(digits):
    assert digits.input_shape == (1, 8, 8)
    assert (digits.classes, digits.scale) == (10, 16)
    for split, count in ((digits.train, 1257), (digits.validation, 180), (digits.test, 360)):
        assert split.images.shape == (count, 1, 8, 8) and split.images.dtype == torch.uint8
        assert split.labels.shape == (count,) and split.labels.dtype == torch.int64
        assert split.images.max() == 16 and split.images.min() == 0


def test_every_class_has_its_share_in_every_split(digits):
    total = torch.bincount(torch.cat([digits.train.labels, digits.validation.labels, digits.test.labels]))
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for split in (digits.train, digits.validation, digits.test):
        share = total * (len(split.labels) / 1797)
        assert (torch.bincount(split.labels) - share).abs().max() < 1.5


@pytest.mark.parametrize(
    "name, sha256",
    [
        ("pixels", "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"),
        ("labels", "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0"),
        ("split", "807137270fec1ede373912abd66c3ab8f968449b0d12ac84934dbf652dd4f28c"),
    ],
)
def test_arrays_are_as_made(name, sha256):
    with files("picojoule.data").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        assert hashlib.sha256(arrays[name].tobytes()).hexdigest() == sha256


def test_file_is_small():
    assert len(files("picojoule.data").joinpath("digits.npz").read_bytes()) < 80_000


def test_splits_are_disjoint_and_complete(digits):
    def rows(split):
        return [image.numpy().tobytes() for image in split.images]

    train, validation, test = rows(digits.train), rows(digits.validation), rows(digits.test)
    assert len({*train, *validation, *test}) == 1797  # no two of the digits are equal


def test_a_folder_is_not_needed_but_a_wrong_one_is_refused(digits, tmp_path):
    assert data.load("digits", tmp_path).test.labels.equal(digits.test.labels)
    with pytest.raises(BadInput, match="does not exist"):
        data.load("digits", tmp_path / "nowhere")


def test_limited_takes_the_first_and_says_so(digits):
    few = data.limited(digits, train=100, test=50)
    assert few.train.images.equal(digits.train.images[:100])
    assert few.test.labels.equal(digits.test.labels[:50])
    assert len(few.validation.labels) == 180
    assert few.split_note.endswith("; limited to the first 100 of 1,257 train images, the first 50 of 360 test images.")
    assert data.limited(digits) is digits
    assert data.limited(digits, test=360) is digits


@pytest.mark.parametrize("count", [0, -1, 361])
def test_limited_refuses_what_is_not_there(digits, count):
    with pytest.raises(BadInput, match=f"expected 1 to 360 test images of 'digits', got a limit of {count}"):
        data.limited(digits, test=count)
