"""Keras files written by hand, without Keras: configs and weights as the file formats have them."""

import io
import json
import zipfile

import h5py
import numpy as np


def layer(kind, name, **config):
    return {"class_name": kind, "config": {"name": name, **config}}


def conv(name="conv", filters=2, window=3, **config):
    return layer("Conv2D", name, filters=filters, kernel_size=[window, window], **config)


def dense(name="dense", units=2, **config):
    return layer("Dense", name, units=units, **config)


def inputs(*shape):
    return layer("InputLayer", "input", batch_input_shape=[None, *shape])


def sequential(*layers):
    return {"class_name": "Sequential", "config": {"name": "model", "layers": list(layers)}}


def functional(layers, fed, output):
    """Layers in Keras 2's wiring: `fed` names the inputs of each layer that has any."""
    for described in layers:
        name = described["config"]["name"]
        described["name"] = name
        described["inbound_nodes"] = [[[source, 0, 0, {}] for source in fed[name]]] if name in fed else []
    ends = {"input_layers": [["input", 0, 0]], "output_layers": [[output, 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "model", "layers": layers, **ends}}


def write_h5(path, model, weights, backend="tensorflow", version="2.15.0", **options):
    """`weights` are `{layer: {variable: array}}`."""
    with h5py.File(path, "w", **options) as file:
        file.attrs["model_config"] = json.dumps(model)
        file.attrs["backend"], file.attrs["keras_version"] = backend, version
        top = file.create_group("model_weights")
        for name, arrays in weights.items():
            group = top.create_group(name)
            group.attrs["weight_names"] = np.array([f"{name}/{variable}:0".encode() for variable in arrays])
            for variable, array in arrays.items():
                group.create_dataset(f"{name}/{variable}:0", data=array)
    return path


def weight_file(groups):
    """The HDF5 part of a zip: `{group: [arrays]}`, where a group is `conv2d_1` or `functional/layers/conv2d`."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, arrays in groups.items():
            group = file.create_group(f"layers/{name}/vars")
            for i, array in enumerate(arrays):
                group.create_dataset(str(i), data=array)
    return content.getvalue()


def write_zip(path, model, groups, compression=zipfile.ZIP_STORED):
    """A `.keras` file as Keras 2.15 and 3 write it, without the names that newer versions add."""
    parts = {
        "metadata.json": json.dumps({"keras_version": "3.0.0"}),
        "config.json": json.dumps(model),
        "model.weights.h5": weight_file(groups),
    }
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def randoms(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
