from typing import Any

import numpy as np
import pytest
import torch

from picojoule import data
from picojoule.data.nmnist import frames_of, read_recordings
from picojoule.errors import BadInput
from picojoule.kinds import Events, Values

EVENTS = {  # recording: its events (x, y, p, microseconds since the one before); all others have none
    0: [(3, 5, 1, 0), (3, 5, 1, 14_999), (3, 5, 0, 0), (33, 0, 1, 1)],
    2: [(0, 33, 0, 65_000)] * 4 + [(1, 2, 1, 39_999), (4, 4, 1, 1), (4, 4, 0, 60_000)],
    1000: [(7, 8, 1, 50_000)],
}
FRAMES = {  # recording: where its frames are 1, as (step, polarity, row, column)
    0: [(0, 0, 5, 3), (0, 1, 5, 3), (1, 1, 0, 33)],
    2: [(4, 0, 33, 0), (8, 0, 33, 0), (13, 0, 33, 0), (17, 0, 33, 0), (19, 1, 2, 1)],
    1000: [(3, 1, 8, 7)],
}


def made_up() -> dict[str, Any]:
    x, y, p, dt = np.array([event for events in EVENTS.values() for event in events]).T
    counts = [len(EVENTS.get(recording, ())) for recording in range(1100)]
    return {
        "x": x.astype(np.uint8),
        "y": y.astype(np.uint8),
        "p": p.astype(np.uint8),
        "dt": dt.astype(np.uint16),
        "offset": np.cumsum([0, *counts]),
        "label": (np.arange(1100) % 10).astype(np.uint8),
        "sample": np.r_[1:1001, 60_001:60_101].astype(np.int32),
    }


def written(folder, **changed):
    path = folder / "nmnist-1100.npz"
    np.savez_compressed(path, **(made_up() | changed))
    return path


def test_events_become_frames(tmp_path):
    frames, dropped = frames_of(read_recordings(written(tmp_path)))
    assert frames.shape == (1100, 20, 2, 34, 34) and frames.dtype == np.uint8 and dropped == 2
    found = {recording: [tuple(place) for place in np.argwhere(frames[recording]).tolist()] for recording in FRAMES}
    assert found == FRAMES
    assert frames.sum(dtype=int) == sum(map(len, FRAMES.values())) and frames.max() == 1


def test_splits_and_what_is_declared(tmp_path):
    written(tmp_path)
    dataset = data.load("nmnist", tmp_path)
    assert (dataset.input_shape, dataset.timesteps, dataset.inputs) == ((2, 34, 34), 20, Events(most=1))
    assert (dataset.name, dataset.classes, dataset.scale) == ("nmnist", 10, 1)
    for split, count in ((dataset.train, 900), (dataset.validation, 100), (dataset.test, 100)):
        assert split.images.shape == (count, 20, 2, 34, 34) and split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64 and split.labels.tolist() == [i % 10 for i in range(count)]
    assert dataset.test.images[0].nonzero().tolist() == [list(place) for place in FRAMES[1000]]
    assert dataset.split_note.endswith("after which came 2 of the 12 events, dropped.")
    assert data.intensities(dataset.train.images[:1], dataset.scale).unique().tolist() == [0.0, 1.0]


def test_counts_of_whole_recordings(tmp_path):
    at_one = {key: np.repeat(array[:1], 20) for key, array in made_up().items() if key in ("x", "y", "p", "dt")}
    more = {key: np.r_[array, at_one[key]] for key, array in made_up().items() if key in at_one}
    written(tmp_path, **more, offset=np.r_[made_up()["offset"][:-1], 32])
    camera = data.load("nmnist-frames", tmp_path)
    assert (camera.input_shape, camera.timesteps, camera.inputs, camera.scale) == ((2, 34, 34), None, Values(), 16)
    assert [len(s.labels) for s in (camera.train, camera.validation, camera.test)] == [900, 100, 100]
    found = {tuple(at): int(camera.train.images[tuple(at)]) for at in camera.train.images.nonzero().tolist()}
    first = {(0, 1, 5, 3): 2, (0, 0, 5, 3): 1, (0, 1, 0, 33): 1}
    assert found == first | {(2, 0, 33, 0): 4, (2, 1, 2, 1): 1, (2, 1, 4, 4): 1, (2, 0, 4, 4): 1}, "late events count"
    assert data.intensities(camera.test.images, 16)[99, 1, 5, 3] == 1.0, "20 events are no more than 16"
    assert "of which 4 of the 32 events are left out, beyond 16 at a pixel." in camera.split_note


def test_limited_keeps_the_kind_and_the_frames(tmp_path):
    written(tmp_path)
    few = data.limited(data.load("nmnist", tmp_path), train=10)
    assert few.train.images.shape == (10, 20, 2, 34, 34) and (few.timesteps, few.inputs) == (20, Events(most=1))


def test_images_are_values_without_time():
    digits = data.load("digits")
    assert digits.inputs == Values() and digits.timesteps is None


def test_the_first_place_that_has_the_file_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("PICOJOULE_DATA", str(tmp_path / "chosen"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "picojoule").mkdir()
    written(tmp_path / "picojoule")
    assert data.load("nmnist").timesteps == 20
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "nmnist-1100.npz").write_bytes(b"")
    with pytest.raises(BadInput, match=r"chosen/nmnist-1100\.npz: expected"):
        data.load("nmnist")


def refused(path) -> str:
    with pytest.raises(BadInput) as caught:
        read_recordings(path)
    text = str(caught.value)
    assert "\n" not in text and ". " not in text and text.startswith(str(path)) and "https://" in text
    return text


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"x": np.full(12, 34, np.uint8)}, "got a x of 34, above 33; "),
        ({"y": np.full(12, 40, np.uint8)}, "got a y of 40, above 33; "),
        ({"p": np.full(12, 2, np.uint8)}, "got a p of 2, above 1; "),
        ({"label": np.full(1100, 10, np.uint8)}, "got a label of 10, above 9; "),
        ({"x": np.zeros(11, np.uint8)}, "got an array 'y' of uint8 (12,) instead of uint8 (11,); "),
        ({"dt": np.zeros(12, np.int64)}, "got an array 'dt' of int64 (12,) instead of uint16 (12,); "),
        ({"label": np.zeros(1099, np.uint8)}, "got an array 'label' of uint8 (1099,) instead of uint8 (1100,); "),
        ({"offset": np.arange(1101)}, "got offsets that do not divide its 12 events; "),
        ({"offset": np.full(1101, 12)}, "got offsets that do not divide its 12 events; "),
        ({"offset": np.r_[0, 9, 3, [12] * 1098]}, "got offsets that do not divide its 12 events; "),
        ({"sample": np.arange(1100, dtype=np.int32)}, "got recordings with other official numbers; "),
    ],
)
def test_wrong_arrays(tmp_path, changed, said):
    assert f"expected the events of 1,100 recordings, {said}" in refused(written(tmp_path, **changed))


def test_damaged_files(tmp_path):
    whole = written(tmp_path).read_bytes()
    path = tmp_path / "other.npz"
    contents = [b"", b"not an archive", whole[:-100], whole[: len(whole) // 2]]
    contents += [whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :] for place in (0, len(whole) // 2)]
    for content in contents:
        path.write_bytes(content)
        assert f"got {len(content):,} bytes that cannot be read as that (" in refused(path)
    np.savez(path, **{key: array for key, array in made_up().items() if key != "dt"})
    assert "cannot be read as that (KeyError)" in refused(path)
    objects = written(tmp_path, label=np.array([{}] * 1100))
    assert "cannot be read as that (ValueError)" in refused(objects), "objects would need pickle"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "cannot be read as that" in refused(path)


def test_a_missing_file_and_a_folder(tmp_path):
    assert "absent.npz is missing (expected the events of 1,100 recordings)" in refused(tmp_path / "absent.npz")
    (tmp_path / "nmnist-1100.npz").mkdir()
    with pytest.raises(BadInput, match=r"nmnist-1100\.npz cannot be read"):
        data.load("nmnist", tmp_path)
