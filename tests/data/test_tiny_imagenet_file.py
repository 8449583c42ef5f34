import io
import sys
from typing import Any

import numpy as np
import pytest
import torch

from picojoule import data
from picojoule.data.tiny_imagenet import read_images
from picojoule.errors import BadInput


def jpeg(colour: int | tuple[int, int, int], side: int = 64) -> bytes:
    """One colour, or one grey level."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    file = io.BytesIO()
    image.new("L" if isinstance(colour, int) else "RGB", (side, side), colour).save(file, "JPEG", quality=95)
    return file.getvalue()


def made_up(changed: dict[int, bytes] | None = None) -> dict[str, Any]:
    """Training images, class after class, each as bright as its place in its class, and grey test images."""
    bright = [jpeg((place // 2, 0, 0)) for place in range(500)]
    files = bright * 20 + [jpeg(200)] * 1000
    for number, raw in (changed or {}).items():
        files[number] = raw
    return {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offset": np.cumsum([0, *map(len, files)]),
        "label": np.r_[np.repeat(np.arange(20), 500), np.arange(1000) % 20].astype(np.uint8),
        "split": np.r_[np.zeros(10_000), np.ones(1000)].astype(np.uint8),
    }


def written(folder, changed=None, **arrays):
    path = folder / "tiny-imagenet-20.npz"
    np.savez(path, **(made_up(changed) | arrays))
    return path


def test_splits_take_every_class_in_turn(tmp_path):
    written(tmp_path)
    dataset = data.load("tiny-imagenet", tmp_path)
    assert (dataset.name, dataset.classes, dataset.scale, dataset.timesteps) == ("tiny-imagenet", 20, 255, None)
    assert dataset.input_shape == (3, 64, 64)
    places = {"train": range(450), "validation": range(450, 500)}
    for which, of_class in places.items():
        split = getattr(dataset, which)
        assert split.images.dtype == torch.uint8 and split.labels.tolist() == list(range(20)) * len(of_class)
        expected = np.repeat([place // 2 for place in of_class], 20)
        assert np.abs(split.images[:, 0, 5, 7].numpy() - expected).max() <= 2, "JPEG is lossy"
        assert split.images[:, 1:].max() <= 3
    assert dataset.test.labels.tolist() == [i % 20 for i in range(1000)]
    assert dataset.test.images.unique().tolist() == [200], "grey has three equal channels"


def refused(path) -> str:
    with pytest.raises(BadInput) as caught:
        read_images(path)
    text = str(caught.value)
    assert "\n" not in text and ". " not in text and text.startswith(str(path)) and "http://" in text
    return text


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({"label": np.full(11_000, 20, np.uint8)}, "got a label of 20, above 19; "),
        ({"label": np.zeros(11_000, np.uint8)}, "got classes of unequal size; "),
        ({"label": np.zeros(10, np.uint8)}, "got an array 'label' of uint8 (10,) instead of uint8 (11000,); "),
        ({"offset": np.zeros(11_001, np.int64)}, "got offsets that do not divide its"),
        ({"split": np.zeros(11_000, np.uint8)}, "got another order of training and validation images; "),
    ],
)
def test_wrong_arrays(tmp_path, arrays, said):
    assert f"expected 11,000 JPEG images of 20 classes, {said}" in refused(written(tmp_path, **arrays))


def test_wrong_images(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    png = io.BytesIO()
    image.new("RGB", (64, 64)).save(png, "PNG")
    cases = [(jpeg(3)[:-40], "bytes that do not decode"), (jpeg(3, 32), "got 32 x 32 L pixels"), (b"", "got 0 bytes")]
    for raw, said in [*cases, (png.getvalue(), "bytes that do not decode")]:
        text = refused(written(tmp_path, {7: raw}))
        assert "expected 64 x 64 pixels in image 7, got" in text and said in text


def test_damaged_file(tmp_path):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:10_000])
    assert "got 10,000 bytes that cannot be read as that (" in refused(path)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    path = written(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(BadInput, match=r"JPEG images of Tiny ImageNet .* pip install 'picojoule\[images\]'"):
        read_images(path)
