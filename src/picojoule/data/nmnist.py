"""N-MNIST: 1,100 recordings of MNIST digits by an event camera of 34 x 34 pixels, as events over time or as images.

`nmnist-1100.npz` holds the first 1,000 recordings of the official training set and the first 100 of the test set,
end to end. Of each event: `x`, `y` uint8 (0 to 33), `p` uint8 (the polarity, 1 = brighter) and `dt` uint16
(microseconds since the event before, the first since the start). Of each recording: `label` uint8, `sample` int32
(its official number, 1 to 1000 and 60001 to 60100) and `offset` int64, with the number of all events at the end.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from picojoule.data.arrays import divides, fault_in, read_arrays
from picojoule.data.dataset import Dataset, Split, hold_out_last, split_from_arrays
from picojoule.data.find import bad_file, first_file, missing_data, places
from picojoule.kinds import Events, Values

TIMESTEPS = 20
BIN_US = 15_000
"""Microseconds per frame: three saccades of the camera, 0.1 s each, are 20 frames."""
MOST = 16
"""Events at one pixel that are intensity 1 of an image; 0.02 % of the pixels with events have more."""

_FILE, _SOURCE = "nmnist-1100.npz", "https://www.garrickorchard.com/datasets/n-mnist"
_PACK = f"pack the first 1,000 training and 100 test recordings of {_SOURCE}"
_SIDE = 34
_TRAIN, _TEST, _VALIDATION = 1_000, 100, 100
_EXPECTED = "the events of 1,100 recordings"
_AGAIN = f"copy it from its source, or {_PACK} as the documentation of picojoule.data.nmnist says"


class Recordings(NamedTuple):
    """The arrays of the file: `x`, `y`, `p`, `dt` of each event, `offset` `[N + 1]`, `label` and `sample` `[N]`."""

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    dt: np.ndarray
    offset: np.ndarray
    label: np.ndarray
    sample: np.ndarray


def load(name: str = "nmnist", data_dir: str | Path | None = None) -> Dataset:
    """N-MNIST, OFF events in channel 0 and ON events in 1.

    `nmnist` is binary frames `[N, T=20, 2, 34, 34]` of 15 ms, declared as unit events: a pixel is 1 if any event of
    that polarity fell into the frame. `nmnist-frames` is one image `[N, 2, 34, 34]` of each recording, as networks
    without time take it: its events at each pixel, at most 16 of them, where 16 are intensity 1. The last 100 of the
    1,000 training recordings are validation, the 100 test recordings are the test.
    """
    where = places(data_dir)
    path = first_file(where, _FILE)
    if path is None:
        raise missing_data(name, where, _FILE, f"{_PACK} (its format is in picojoule.data.nmnist)")
    recordings = read_recordings(path)
    events = f"of the {len(recordings.x):,} events"
    if name == "nmnist-frames":
        images, dropped = counts_of(recordings)
        note = f"counts of events, of which {dropped:,} {events} are left out, beyond {MOST} at a pixel"
    else:
        images, dropped = frames_of(recordings)
        note = f"{TIMESTEPS} binary frames of {BIN_US // 1000} ms, after which came {dropped:,} {events}, dropped"
    train, validation = hold_out_last(_split(images, recordings, slice(_TRAIN)), _VALIDATION)
    return Dataset(
        name=name,
        train=train,
        validation=validation,
        test=_split(images, recordings, slice(_TRAIN, None)),
        classes=10,
        scale=MOST if name == "nmnist-frames" else 1,
        split_note="The first 100 official test recordings; of the first 1,000 official training recordings the"
        f" first 900 train and the last 100 validate; {note}.",
        source=_SOURCE,
        licence="CC BY-SA 4.0",
        citation="Orchard, Jayawant, Cohen and Thakor 2015, Converting static image datasets to spiking neuromorphic"
        " datasets using saccades, Frontiers in Neuroscience 9:437",
        inputs=Values() if name == "nmnist-frames" else Events(most=1),
    )


def read_recordings(path: Path) -> Recordings:
    """All events of the file. Raises BadInput if it is missing, damaged or holds other recordings."""
    recordings = Recordings(**read_arrays(path, Recordings._fields, _EXPECTED, _AGAIN))
    fault = _fault(recordings)
    if fault:
        raise bad_file(path, _EXPECTED, fault, _AGAIN)
    return recordings


def frames_of(recordings: Recordings) -> tuple[np.ndarray, int]:
    """Binary frames uint8 `[N, T, 2, 34, 34]`, and how many events came after the last frame."""
    frames = np.zeros((len(recordings.label), TIMESTEPS, 2, _SIDE, _SIDE), np.uint8)
    dropped = 0
    for frame, (start, end) in zip(frames, pairwise(recordings.offset), strict=True):
        step = np.cumsum(recordings.dt[start:end], dtype=np.int64) // BIN_US
        kept = int(np.searchsorted(step, TIMESTEPS))  # events are in order of time
        x, y, p = (values[start : start + kept] for values in recordings[:3])
        frame[step[:kept], p, y, x] = 1
        dropped += int(end - start) - kept
    return frames, dropped


def counts_of(recordings: Recordings) -> tuple[np.ndarray, int]:
    """Events of the whole recording at each pixel, at most MOST, uint8 `[N, 2, 34, 34]`, and how many are left out."""
    shape = (len(recordings.label), 2, _SIDE, _SIDE)
    recording = np.repeat(np.arange(shape[0]), np.diff(recordings.offset))
    places = np.ravel_multi_index((recording, recordings.p, recordings.y, recordings.x), shape)
    counts = np.bincount(places, minlength=math.prod(shape)).reshape(shape)
    kept = counts.clip(max=MOST).astype(np.uint8)
    return kept, int(counts.sum() - kept.sum(dtype=np.int64))


def _split(images: np.ndarray, recordings: Recordings, part: slice) -> Split:
    return split_from_arrays(images[part], recordings.label[part])


def _fault(r: Recordings) -> str:
    """What is wrong with the arrays; empty if nothing is."""
    events, count = r.x.size, _TRAIN + _TEST
    types = (*[np.uint8] * 3, np.uint16, np.int64, np.uint8, np.int32)
    shapes = (*[(events,)] * 4, (count + 1,), (count,), (count,))
    expected = dict(zip(r._fields, zip(types, shapes, strict=True), strict=True))
    fault = fault_in(r._asdict(), expected, {"x": _SIDE - 1, "y": _SIDE - 1, "p": 1, "label": 9})
    if fault:
        return fault
    if not divides(r.offset, events):
        return f"offsets that do not divide its {events:,} events"
    official = np.concatenate([np.arange(1, _TRAIN + 1), np.arange(60_001, 60_001 + _TEST)])
    return "" if (r.sample == official).all() else "recordings with other official numbers"
