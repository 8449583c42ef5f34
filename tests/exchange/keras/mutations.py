"""Ways to damage a Keras file: bytes, settings, and arrays."""

import copy
import io
import json
import zipfile
from typing import Any

import h5py
import numpy as np

NASTY = (
    *(None, True, -1, 0, 3, 2**31, 10**30, 1e308, float("nan"), float("inf"), "", "relu", "channels_first", "Lambda"),
    *([], [1], [1, 2], [[1, 2], [3, 4]], [None, 4, 4, 3], [10**9, 10**9], [["conv", 0, 0]], {}),
    *({"class_name": "Dense"}, "Sequential", "Functional", "__keras_tensor__", 0.5, -5),
)


def _places(value, found):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        found.append((value, key))
        _places(below, found)
    return found


def changed_settings(r, source):
    """A JSON text with a few values replaced, copied, exchanged or left out."""
    config = json.loads(source)
    places = _places(config, [])
    for _ in range(r.choice([1, 1, 2, 4])):
        (a, i), (b, j) = r.choice(places), r.choice(places)
        if not (i in a if isinstance(a, dict) else i < len(a)) or not (j in b if isinstance(b, dict) else j < len(b)):
            continue
        how = r.randrange(4)
        if how == 0:
            a[i] = copy.deepcopy(r.choice(NASTY))
        elif how == 1:
            a[i] = copy.deepcopy(b[j])
        elif how == 2:
            a[i], b[j] = copy.deepcopy(b[j]), copy.deepcopy(a[i])
        else:
            del a[i]
    return json.dumps(config)


def changed_bytes(r, raw):
    """Bits flipped, the end cut off, runs of one byte, runs copied from elsewhere."""
    raw, how = bytearray(raw), r.randrange(5)
    i, j, n = r.randrange(len(raw)), r.randrange(len(raw)), r.choice([1, 2, 4, 8, 64])
    if how == 0:
        for _ in range(r.choice([1, 5, 20])):
            raw[r.randrange(len(raw))] ^= 1 << r.randrange(8)
    elif how == 1:
        del raw[i:]
    elif how == 2:
        raw[i : i + n] = bytes([r.choice([0, 127, 128, 255])]) * min(n, len(raw) - i)
    elif how == 3:
        raw[i : i + n] = raw[j : j + n]
    else:
        raw[r.randrange(min(len(raw), 2048))] = r.randrange(256)
    return bytes(raw)


def changed_array(r, content):
    """An HDF5 file with one array replaced by one of another size, type, place or value."""
    memory = io.BytesIO(content)
    with h5py.File(memory, "r+") as file:
        names = []
        file.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)
        name, how = r.choice(names), r.randrange(6)
        found: Any = file[name]
        values = found[()]
        del file[name]
        if how == 0:
            file.create_dataset(name, shape=r.choice([(10**6, 10**6), (2**40,)]), dtype="f4")
        elif how == 1:
            file[name] = h5py.ExternalLink("elsewhere.h5", "/x")
        elif how == 2:
            file[name] = np.full(values.shape, np.nan, "f4")
        elif how == 3:
            file[name] = values.astype(r.choice(["i4", "f8", "f2", "S3", "c8"]))
        elif how == 4:
            file.create_dataset(name, data=np.atleast_1d(values), chunks=True, compression="gzip")
        else:
            file[name] = np.zeros((3, 3, 3), "f4")
    return memory.getvalue()


def mutated(r, content):
    """The bytes of a `.keras` or `.h5` file, damaged in one of these ways."""
    how = r.randrange(3)
    if not content.startswith(b"PK"):
        if how == 0:
            return changed_bytes(r, content)
        if how == 1:
            return changed_array(r, content)
        memory = io.BytesIO(content)
        with h5py.File(memory, "r+") as file:
            file.attrs["model_config"] = changed_settings(r, file.attrs["model_config"])
        return memory.getvalue()
    if r.random() < 0.2:
        return changed_bytes(r, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if how == 0:
        parts["config.json"] = changed_settings(r, parts["config.json"]).encode()
    else:
        change = changed_bytes if how == 1 else changed_array
        parts["model.weights.h5"] = change(r, parts["model.weights.h5"])
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", r.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return memory.getvalue()
