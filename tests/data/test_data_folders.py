import re
from pathlib import Path

import pytest

from picojoule import data
from picojoule.data.find import places
from picojoule.errors import BadInput

NEEDS_FILES = [name for name in data.NAMES if not name.startswith("digits")]
FOLDER = {
    **dict.fromkeys(("mnist", "psmnist", "psmnist-keras", "smnist"), "MNIST/raw"),
    "fashion-mnist": "FashionMNIST/raw",
    "cifar10-fair": "cifar10",
    "tiny-imagenet": "tiny-imagenet-20.npz",
    "nmnist": "nmnist-1100.npz",
    "nmnist-frames": "nmnist-1100.npz",
}


@pytest.fixture(autouse=True)
def no_data_outside(tmp_path, monkeypatch):
    monkeypatch.delenv("PICOJOULE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def message(name, data_dir=None) -> str:
    with pytest.raises(BadInput) as caught:
        data.load(name, data_dir)
    text = str(caught.value)
    assert "\n" not in text and ". " not in text, "one sentence"
    return text


def test_order_of_places(tmp_path, monkeypatch):
    cache = tmp_path / "cache" / "picojoule"
    assert places() == [cache]
    monkeypatch.setenv("PICOJOULE_DATA", "chosen")
    assert places() == [Path("chosen"), cache]
    assert places(tmp_path) == [tmp_path]
    monkeypatch.setenv("PICOJOULE_DATA", "")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert places() == [Path.home() / ".cache" / "picojoule"]


@pytest.mark.parametrize("name", NEEDS_FILES)
def test_missing_data_names_folder_and_source(name, tmp_path, monkeypatch):
    folder = FOLDER.get(name, "cifar-10-batches-bin")
    text = message(name)
    assert f"{tmp_path}/cache/picojoule/{folder}" in text and re.search("https?://", text)
    monkeypatch.setenv("PICOJOULE_DATA", str(tmp_path / "chosen"))
    text = message(name)
    assert f"{tmp_path}/chosen/{folder} or {tmp_path}/cache/picojoule/{folder}" in text
    assert f"into {tmp_path}/chosen/{folder}" in text


@pytest.mark.parametrize("name", NEEDS_FILES)
def test_given_folder_must_hold_something(name, tmp_path):
    assert f"{tmp_path}/nowhere does not exist" in message(name, tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert f"{tmp_path}/file is a file, not a folder" in message(name, tmp_path / "file")
    (tmp_path / "nothing").mkdir()
    assert f"{tmp_path}/nothing is empty" in message(name, str(tmp_path / "nothing"))
    (tmp_path / "other" / "thing").mkdir(parents=True)
    text = message(name, tmp_path / "other")
    read = "mnist" if FOLDER.get(name) == "MNIST/raw" else name
    assert f"no data set {read!r} in {tmp_path}/other/" in text and "PICOJOULE_DATA" not in text


def test_given_folder_is_the_only_place(tmp_path, monkeypatch):
    (tmp_path / "chosen" / "MNIST" / "raw").mkdir(parents=True)
    monkeypatch.setenv("PICOJOULE_DATA", str(tmp_path / "chosen"))
    assert "chosen/MNIST/raw/train-images-idx3-ubyte.gz is missing" in message("mnist")
    (tmp_path / "given").mkdir()
    assert "given is empty" in message("mnist", tmp_path / "given")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_one_missing_file_is_named(name, tmp_path):
    folder = tmp_path / FOLDER[name]
    folder.mkdir(parents=True)
    text = message(name, tmp_path)
    assert text.startswith(f"{folder}/train-images-idx3-ubyte.gz is missing")
    assert text.endswith("/train-images-idx3-ubyte.gz") and "download it from https://" in text
