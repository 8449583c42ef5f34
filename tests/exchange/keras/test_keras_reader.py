"""What the reader makes of settings that Keras on torch cannot show: old formats, other backends, exact padding."""

import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip("h5py")

import h5py  # noqa: E402
from keras_files import (  # noqa: E402
    conv,
    dense,
    functional,
    inputs,
    layer,
    randoms,
    sequential,
    write_h5,
    write_zip,
)

from picojoule.errors import BadInput  # noqa: E402
from picojoule.exchange.keras import load_keras  # noqa: E402
from picojoule.exchange.keras.hdf5 import Bytes, root  # noqa: E402
from picojoule.layers import Permute  # noqa: E402

IMAGES = torch.from_numpy(randoms(2, 2, 5, 6, seed=3))


@torch.no_grad()
def run(network, x=IMAGES):
    return network(x)


def test_theano_kernels_are_turned(tmp_path):
    kernel, bias = randoms(3, 3, 2, 2), randoms(2)
    model = sequential(inputs(2, 5, 6), conv(data_format="channels_first"), layer("Flatten", "flat"))
    path = write_h5(tmp_path / "m.h5", model, {"conv": {"kernel": kernel, "bias": bias}}, "theano", "2.0.4")
    turned = torch.from_numpy(kernel[::-1, ::-1].copy()).permute(3, 2, 0, 1)
    expected = F.conv2d(IMAGES, turned, torch.from_numpy(bias)).flatten(1)
    network = load_keras(path)
    assert torch.allclose(run(network), expected, atol=1e-6)
    assert not any(isinstance(m, Permute) for m in network.modules()), "an old Flatten keeps the file's order"


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_flatten_puts_channels_last(data_format, tmp_path):
    shape = (5, 6, 2) if data_format == "channels_last" else (2, 5, 6)
    flat = layer("Flatten", "flat", data_format=data_format)
    model = sequential(inputs(*shape), layer("MaxPooling2D", "pool", pool_size=1, data_format=data_format), flat)
    network = load_keras(write_h5(tmp_path / "m.h5", model, {}))
    assert network.input_shape == (2, 5, 6)
    assert torch.equal(run(network), IMAGES.permute(0, 2, 3, 1).flatten(1))


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Max", "Average"])
def test_padding_neither_wins_nor_counts(kind, window, stride, tmp_path):
    pool = layer(f"{kind}Pooling2D", "pool", pool_size=[window] * 2, strides=[stride] * 2, padding="same")
    network = load_keras(write_h5(tmp_path / "m.h5", sequential(inputs(5, 6, 2), pool, layer("Flatten", "flat")), {}))
    rows, columns = (windows(n, window, stride) for n in (5, 6))
    reduce = torch.amax if kind == "Max" else torch.mean
    cells = [reduce(IMAGES[:, :, i][..., j], (2, 3)) for i in rows for j in columns]
    assert torch.allclose(run(network), torch.stack(cells, 1).flatten(1), atol=1e-6)


def windows(size, window, stride):
    """The slices that lie inside `size` where ceil(size / stride) windows are centred, the odd border behind."""
    count = -(-size // stride)
    before = max((count - 1) * stride + window - size, 0) // 2
    starts = [i * stride - before for i in range(count)]
    return [slice(max(start, 0), min(start + window, size)) for start in starts]


def test_layers_are_found_by_type_and_count(tmp_path):
    """Older zips name no layers: the second `Dense` of the config is `dense_1`, whatever it is called."""
    first, second = randoms(4, 3), randoms(3, 2, seed=1)
    model = sequential(inputs(4), dense("b", 3, use_bias=False), dense("a", 2, use_bias=False))
    network = load_keras(write_zip(tmp_path / "m.keras", model, {"dense": [first], "dense_1": [second]}))
    x = torch.ones(1, 4)
    assert torch.allclose(run(network, x), x @ torch.from_numpy(first) @ torch.from_numpy(second), atol=1e-6)
    assert [name for name, _ in network.named_parameters()] == ["graph_module.b.weight", "graph_module.a.weight"]


def test_a_layer_called_twice_becomes_two(tmp_path):
    layers = [inputs(4), dense("square", 4), layer("ReLU", "act"), layer("Add", "add")]
    model = functional(layers, {"square": ["input"], "act": ["square"], "add": ["act", "act"]}, "add")
    model["config"]["layers"][1]["inbound_nodes"] = [[["input", 0, 0, {}]], [["act", 0, 0, {}]]]
    model["config"]["layers"][2]["inbound_nodes"] = [[["square", 0, 0, {}]], [["square", 1, 0, {}]]]
    model["config"]["layers"][3]["inbound_nodes"] = [[["act", 0, 0, {}], ["act", 1, 0, {}]]]
    weights = {"square": {"kernel": randoms(4, 4), "bias": randoms(4)}}
    network = load_keras(write_h5(tmp_path / "m.h5", model, weights))
    assert sum(isinstance(m, nn.ReLU) for m in network.modules()) == 2
    linear = nn.Linear(4, 4)
    linear.load_state_dict({"weight": torch.from_numpy(randoms(4, 4)).T, "bias": torch.from_numpy(randoms(4))})
    x = torch.from_numpy(randoms(3, 4, seed=5))
    with torch.no_grad():
        once = linear(x).relu()
        assert torch.allclose(network(x), once + linear(once).relu(), atol=1e-6)


def test_names_become_names_of_modules(tmp_path):
    names = ["conv-1", "2nd", "forward", "class", "conv/1", "conv 1"]
    model = sequential(inputs(5, 6, 2), *(layer("ReLU", name) for name in names), layer("Flatten", "flat"))
    network = load_keras(write_h5(tmp_path / "m.h5", model, {}))
    made = [name for name, module in network.graph_module.named_modules() if isinstance(module, nn.ReLU)]
    assert made == ["conv_1", "_2nd", "forward_", "class_", "conv_1_2", "conv_1_3"]
    assert run(network).shape == (2, 60)


def test_images_without_a_channel_axis_get_one(tmp_path):
    flat = load_keras(write_h5(tmp_path / "m.h5", sequential(inputs(5, 6), layer("Flatten", "flat")), {}))
    assert flat.input_shape == (1, 5, 6) and torch.equal(run(flat, IMAGES[:, :1]), IMAGES[:, 0].flatten(1))
    series = sequential(inputs(5, 6), layer("GlobalMaxPooling1D", "pool"))
    series = load_keras(write_h5(tmp_path / "m.h5", series, {}))
    assert series.input_shape == (6, 5) and series.classes == 6


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4"])
def test_floats_of_every_size_and_layout_of_hdf5(kind, options, tmp_path):
    kernel = randoms(4, 2).astype(kind)
    path = write_h5(
        tmp_path / "m.h5", sequential(inputs(4), dense(use_bias=False)), {"dense": {"kernel": kernel}}, **options
    )
    expected = np.ones((1, 4), "f4") @ kernel.astype("f4")
    assert np.allclose(run(load_keras(path), torch.ones(1, 4)).numpy(), expected, atol=1e-5)


def test_a_deflated_zip_is_read_alike(tmp_path):
    model = sequential(inputs(4), dense())
    arrays = {"dense": [randoms(4, 2), randoms(2)]}
    plain, packed = (
        run(load_keras(write_zip(tmp_path / f"{how}.keras", model, arrays, how)), torch.ones(1, 4))
        for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    )
    assert torch.equal(plain, packed)


def test_hdf5_is_read_as_its_own_library_reads_it(tmp_path):
    """Groups of many names, in trees of several levels; long lists of texts; a text longer than a header."""
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        for i in range(3000):
            file.create_group(f"group{i}")
        file["group7/deep/er"] = randoms(3, 5)
        file.attrs["long"] = "x" * 200_000
        file.attrs["parts0"], file.attrs["parts1"] = np.array([b"a", b"bcd"]), np.array([b"e"])
    node = root(Bytes(path.read_bytes()))
    assert node.children() == sorted(f"group{i}" for i in range(3000))
    found = node.child("group7/deep/er")
    assert found is not None and found.is_array and torch.equal(found.numbers(), torch.from_numpy(randoms(3, 5)))
    assert node.text("long", 1 << 20) == "x" * 200_000 and node.names("parts") == ["a", "bcd", "e"]
    assert node.child("group7/none") is None and node.text("none", 10) is None and node.names("none") == []
    with pytest.raises(BadInput):
        node.text("long", 10)


@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("packed", {"chunks": (2, 2), "compression": "gzip"}),
        ("float", {"dtype": "i4"}),
        ("elsewhere", {"external": [("elsewhere.bin", 0, 100)]}),
    ],
)
def test_arrays_that_are_not_in_one_piece(how, options, tmp_path):
    path = tmp_path / "array.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(4, 4), **({"dtype": "f4"} | options))
        file["link"] = h5py.ExternalLink("elsewhere.h5", "/x")
        file["soft"] = h5py.SoftLink("/x")
    node = root(Bytes(path.read_bytes()))
    found = node.child("x")
    assert found is not None
    with pytest.raises(BadInput, match=how):
        found.numbers()
    for name in ("link", "soft"):
        with pytest.raises(BadInput, match="link"):
            node.child(name)
