import io
import sys

import numpy as np
import pytest

from picojoule import data
from picojoule.data.cifar10 import read_binary, read_sheet
from picojoule.errors import BadInput


def made_up_batch(seed):
    """10,000 rows of a label and 3,072 equal pixels, as in an official binary file."""
    rows = np.empty((10_000, 3073), np.uint8)
    rows[:, 0] = (np.arange(10_000) + seed) % 10
    rows[:, 1:] = ((np.arange(10_000) + seed) % 256)[:, None]
    return rows


@pytest.fixture(scope="module")
def binary_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("binary")
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    for number in range(1, 6):
        made_up_batch(number).tofile(folder / f"data_batch_{number}.bin")
    made_up_batch(6).tofile(folder / "test_batch.bin")
    return root


def test_binary_version(binary_root):
    dataset = data.load("cifar10", binary_root)
    assert dataset.input_shape == (3, 32, 32)
    assert [len(s.labels) for s in (dataset.train, dataset.validation, dataset.test)] == [
        45_000,
        5_000,
        10_000,
    ]
    assert dataset.train.labels[:3].tolist() == [1, 2, 3] and dataset.test.labels[:3].tolist() == [6, 7, 8]
    assert dataset.validation.images[0].unique().tolist() == [(5_000 + 5) % 256]
    assert "JPEG" not in dataset.split_note


def test_holdout_of_the_binary_version(binary_root):
    dataset = data.load("cifar10-holdout", binary_root)
    assert [len(s.labels) for s in (dataset.train, dataset.validation, dataset.test)] == [
        35_000,
        5_000,
        10_000,
    ]
    assert dataset.test.labels[:3].tolist() == [5, 6, 7]
    assert dataset.validation.labels[0] == (5_000 + 4) % 10


def test_fair_needs_the_sheets(binary_root):
    with pytest.raises(BadInput, match="no data set 'cifar10-fair' in .*, or use 'cifar10' with the official"):
        data.load("cifar10-fair", binary_root)


def test_pixels_of_the_binary_version_are_channel_rows_columns(tmp_path):
    rows = np.zeros((10_000, 3073), np.uint8)
    rows[7, 0], rows[7, 1 + 1024 + 32 * 2 + 3] = 9, 200  # green, row 2, column 3
    rows.tofile(tmp_path / "batch.bin")
    images, labels = read_binary(tmp_path / "batch.bin")
    assert labels[7] == 9 and images[7, 1, 2, 3] == 200 and images.sum(dtype=int) == 200


@pytest.mark.parametrize(
    "content, got",
    [(b"\0" * 100, "expected 30,730,000 bytes, got 100;"), (b"\x0b" * 30_730_000, "got a label 11;")],
)
def test_damaged_binary_file(tmp_path, content, got):
    (tmp_path / "batch.bin").write_bytes(content)
    with pytest.raises(BadInput, match=rf"batch\.bin: .*{got} unpack https://"):
        read_binary(tmp_path / "batch.bin")


def test_python_version_is_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(BadInput, match="cifar-10-batches-py is the Python version .*cifar-10-binary.tar.gz"):
        data.load("cifar10", tmp_path)


def test_tiles_of_a_sheet_go_row_by_row(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.zeros((3200, 3200, 3), np.uint8)
    pixels[32 + 4, 64 + 5, 2] = 200  # tile row 1, tile column 2, blue
    image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True, method=0)
    images = read_sheet(tmp_path / "a.webp")
    assert images.shape == (10_000, 3, 32, 32)
    assert images[102, 2, 4, 5] == 200 and images.sum(dtype=int) == 200


def test_damaged_sheet(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image.fromarray(noise).save(whole, "WEBP", lossless=True)
    (tmp_path / "small.webp").write_bytes(whole.getvalue())
    (tmp_path / "cut.webp").write_bytes(whole.getvalue()[:2000])
    (tmp_path / "text.webp").write_bytes(b"not an image")
    with pytest.raises(BadInput, match=r"small\.webp: expected .*, got 64 x 64 RGB pixels; "):
        read_sheet(tmp_path / "small.webp")
    for name in ("cut.webp", "text.webp"):
        with pytest.raises(BadInput, match=rf"{name}: expected .*, got [\d,]+ bytes that do not decode"):
            read_sheet(tmp_path / name)
    with pytest.raises(BadInput, match="absent.webp is missing"):
        read_sheet(tmp_path / "absent.webp")


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.webp").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(BadInput, match=r"pip install 'picojoule\[images\]'"):
        read_sheet(tmp_path / "a.webp")
