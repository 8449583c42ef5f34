"""What cannot be read is refused in one sentence, and no file crashes, hangs or fills the memory."""

import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_files import model, onnx

from picojoule.errors import BadInput
from picojoule.exchange.door import open_model
from picojoule.exchange.onnx import build, load_onnx

LINEAR = {"w": np.ones((192, 4), np.float32)}
FLAT = ("Flatten", ["x"], "f", {})


def refused(tmp_path, content, *parts):
    path = tmp_path / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(BadInput) as caught:
        load_onnx(path)
    text = str(caught.value)
    assert all(part in text for part in parts), text
    assert "\n" not in text and text.startswith((str(path), path.name))


def parsed(*arguments, **settings):
    return onnx.ModelProto.FromString(model(*arguments, **settings))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08", bytes(1000), b"PK\x03\x04" * 50])
def test_a_file_of_something_else(tmp_path, content):
    refused(tmp_path, content, "no ONNX model")


def test_no_file(tmp_path):
    with pytest.raises(BadInput, match="no model file"):
        open_model(tmp_path / "missing.onnx")


def test_a_file_cut_short(tmp_path):
    content = model([FLAT, ("MatMul", ["f", "w"], "y", {})], LINEAR)
    refused(tmp_path, content[: len(content) // 2], "corrupt")


def test_a_file_of_more_than_two_gigabytes(tmp_path, monkeypatch):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(BadInput, match="2,147,483,648 bytes, more than the 2 GB"):
        load_onnx(path)


@pytest.mark.parametrize(
    "nodes, weights, parts",
    [
        ([("LSTM", ["x"], "y", {})], {}, ["LSTM 'LSTM_y' is not supported", "spiking"]),
        ([("Erf", ["x"], "y", {})], {}, ["Erf 'Erf_y'", "GELU"]),
        ([("If", ["x"], "y", {})], {}, ["If 'If_y'", "without branches"]),
        ([("Cos", ["x"], "y", {})], {}, ["Cos 'Cos_y' is not supported", "replace it"]),
        ([("Co\ns", ["x"], "y", {})], {}, ["Co?s ", "is not supported"]),
        ([("Conv", ["x", "x"], "y", {})], {}, ["Conv 'Conv_y' computes input 1 from the images"]),
        ([FLAT, ("MatMul", ["f", "w"], "y", {})], {"w": np.ones((5, 4), np.float32)}, ["MatMul_y", "does not fit"]),
        ([FLAT, ("MatMul", ["f", "w"], "y", {})], {"w": np.full((192, 4), np.nan, np.float32)}, ["MatMul_y", "NaN"]),
        ([FLAT, ("Add", ["f", "w"], "y", {})], {"w": np.float32(np.inf)}, ["Add_y", "infinite"]),
        ([FLAT, ("Div", ["f", "w"], "y", {})], {"w": np.float32(0)}, ["Div_y", "infinite"]),
        ([FLAT, ("MatMul", ["f", "v"], "y", {})], LINEAR, ["reads 'v', which nothing before it makes"]),
        ([("Transpose", ["x"], "y", {"perm": [1, 0, 2, 3]})], {}, ["Transpose_y", "batch to stay in front"]),
        ([("Reshape", ["x", "s"], "y", {})], {"s": np.array([-1, 7])}, ["Reshape_y", "mixes the batch"]),
        ([("Reshape", ["x", "s"], "y", {})], {"s": np.array([64, -1])}, ["Reshape_y", "mixes the batch"]),
        ([("Relu", ["x"], "y", {})], {}, ["shape [3, 8, 8] behind the batch", "one score per class"]),
        ([("Identity", ["w"], "y", {})], LINEAR, ["does not depend on its input"]),
        ([("AveragePool", ["x"], "a", {"kernel_shape": [0, 2]}), ("Flatten", ["a"], "y", {})], {}, ["kernel_shape"]),
        ([("MaxPool", ["x"], "a", {"kernel_shape": [9, 9]}), ("Flatten", ["a"], "y", {})], {}, ["MaxPool_a"]),
        ([("MaxPool", ["x"], "a", {}), ("Flatten", ["a"], "y", {})], {}, ["kernel_shape"]),
        ([("Resize", ["x", "", "s"], "y", {"mode": "cubic"})], {"s": np.ones(4, np.float32) * 2}, ["Resize_y"]),
        ([("Pad", ["x", "p"], "y", {"mode": "reflect"})], {"p": np.ones(8, np.int64)}, ["reflect"]),
        ([("Pad", ["x", "p"], "y", {})], {"p": np.array([0, 1, 0, 0, 0, 0, 0, 0])}, ["channels"]),
        ([("Gather", ["x", "i"], "y", {"axis": 1})], {"i": np.array([0, 2])}, ["Gather_y", "expected neighbours"]),
        ([("Gather", ["x", "i"], "y", {})], {"i": np.array(0)}, ["Gather_y", "behind the batch"]),
        ([("Gather", ["x", "i"], "y", {"axis": 1})], {"i": np.array(3)}, ["Gather_y", "expected neighbours"]),
        ([("Slice", ["x", "i", "i"], "y", {})], {"i": np.array([0])}, ["Slice_y", "takes some of the samples"]),
        ([("Split", ["x", "i"], "y", {"axis": 1})], {"i": np.array([2])}, ["Split_y", "expected what fits"]),
        ([("Split", ["x"], "y", {})], {}, ["Split_y", "cuts axis 0"]),
        ([("DepthToSpace", ["x"], "y", {"blocksize": 2})], {}, ["DepthToSpace_y", "does not divide its channels"]),
        ([("Softmax", ["x"], "y", {"axis": 0})], {}, ["Softmax_y"]),
        ([("QuantizeLinear", ["x"], "y", {})], {}, ["before quantisation"]),
        ([("ConstantOfShape", ["s"], "c", {}), ("Add", ["x", "c"], "y", {})], {"s": np.array([2**40])}, ["too large"]),
        ([("Pad", ["x", "p"], "y", {})], {"p": np.array([0, 0, 2**40, 0, 0, 0, 0, 0])}, ["at most 65536"]),
    ],
    ids=lambda value: value[0][0] if isinstance(value, list) and isinstance(value[0], tuple) else "",
)
def test_nodes_that_cannot_be_read(tmp_path, nodes, weights, parts):
    refused(tmp_path, model(nodes, weights), *parts)


@pytest.mark.parametrize("fault", ["_made", "_input", "apply"])
def test_a_fault_of_the_reader_is_not_blamed_on_the_file(tmp_path, monkeypatch, fault):
    def faulty(*_):
        raise TypeError("zip() argument 2 is longer")

    monkeypatch.setattr(build, fault, faulty)
    said = "is damaged, or holds what this reader does not expect (TypeError: zip() argument 2 is longer); report it if"
    refused(tmp_path, model([FLAT], output="f"), said)


def test_open_axes_and_several_inputs_or_outputs(tmp_path):
    changed = parsed([FLAT], output="f")
    changed.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    refused(tmp_path, changed, "axis 2 'height' of its input 'x' has no fixed size")
    changed = parsed([FLAT], output="f")
    changed.graph.input[0].type.tensor_type.ClearField("shape")
    refused(tmp_path, changed, "no shape")
    changed = parsed([FLAT], output="f")
    changed.graph.input.add().name = "mask"
    refused(tmp_path, changed, "2 inputs (x, mask)")
    changed = parsed([FLAT], output="f")
    changed.graph.output.add().name = "x"
    refused(tmp_path, changed, "2 outputs (f, x)")
    refused(tmp_path, parsed([("Relu", ["x"], "f", {}), FLAT], output="f"), "two of its nodes make 'f'")


def test_old_opsets_and_training_mode(tmp_path):
    refused(tmp_path, model([FLAT], output="f", opset=6), "opset 6, expected 7 or newer")
    state = {name: np.ones(3, np.float32) for name in "sbmv"}
    norm = ("BatchNormalization", ["x", *"sbmv"], "y", {"training_mode": 1})
    refused(tmp_path, model([norm], state), "evaluation mode")
    state["v"] = -state["v"]
    refused(tmp_path, model([(*norm[:3], {})], state), "variance of -1")


def outside(location, **entries):
    changed = parsed([FLAT, ("MatMul", ["f", "w"], "y", {})], LINEAR)
    weight = changed.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    return changed


def test_weights_beside_the_model(tmp_path):
    values = torch.randn(192, 4)
    (tmp_path / "weights.bin").write_bytes(bytes(16) + values.numpy().tobytes())
    (tmp_path / "model.onnx").write_bytes(outside("weights.bin", offset=16, length=3072).SerializeToString())
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(load_onnx(tmp_path / "model.onnx")(x), x.flatten(1) @ values)
    refused(tmp_path, outside("weights.bin", offset=17), "does not hold at 17")
    refused(tmp_path, outside("weights.bin", offset=-1), "does not hold at -1")
    refused(tmp_path, outside("weights.bin", length=2**40), "needs 3072 bytes")
    refused(tmp_path, outside("weights.bin", offset="first"), "does not say where")
    refused(tmp_path, outside("missing.bin"), "no file beside the model")


@pytest.mark.parametrize("absolute", [True, False])
def test_weights_elsewhere_are_refused(tmp_path, absolute):
    (tmp_path / "secret.bin").write_bytes(bytes(3072))
    folder = tmp_path / "folder"
    folder.mkdir()
    refused(folder, outside(tmp_path / "secret.bin" if absolute else "../secret.bin"), "no file beside the model")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    refused(folder, outside("link.bin"), "no file beside the model")


def test_a_small_file_does_not_unpack_into_a_large_model(tmp_path):
    nodes = [("Add", ["c", "c"], "c0", {})]
    nodes += [("Add", [f"c{i}", "c"], f"c{i + 1}", {}) for i in range(1500)]
    nodes += [FLAT, ("Add", ["f", "c1500"], "y", {})]
    refused(tmp_path, model(nodes, {"c": np.ones(100_000, np.float32)}), "unpacks into far more memory")
    wide = [("Add", ["r", "q"], "c", {}), FLAT, ("Add", ["f", "c"], "y", {})]
    weights = {"r": np.ones((1, 60_000), np.float32), "q": np.ones((60_000, 1), np.float32)}
    refused(tmp_path, model(wide, weights), "larger than what it is made from")


def seeds():
    """Files with much in them to go wrong."""
    weights = {
        "w": np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32),
        "b": np.ones(4, np.float32),
        "v": np.ones((4, 5), np.float32),
        "k": np.array([-1]),
        "j": np.array([0]),
        "i": np.array(0),
        "s": np.array([1, 1, 2, 2], np.float32),
        "p": np.array([0, 0, 1, 0, 0, 0, 2, 1]),
    }
    nodes = [
        ("Pad", ["x", "p"], "a", {}),
        ("Conv", ["a", "w", "b"], "c", {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        ("BatchNormalization", ["c", *"bbbb"], "d", {"epsilon": 0.01}),
        ("Clip", ["d"], "e", {}),
        ("Resize", ["e", "", "s"], "g", {"mode": "nearest"}),
        ("MaxPool", ["g"], "h", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("AveragePool", ["h"], "l", {"kernel_shape": [2, 2], "ceil_mode": 1}),
        ("Concat", ["l", "l"], "m", {"axis": 1}),
        ("Slice", ["m", "j", "k", "j"], "q", {}),
        ("GlobalAveragePool", ["e"], "n", {}),
        ("Shape", ["n"], "o", {}),
        ("Gather", ["o", "i"], "r", {}),
        ("Unsqueeze", ["r", "j"], "t", {}),
        ("Concat", ["t", "k"], "u", {"axis": 0}),
        ("Reshape", ["n", "u"], "z", {}),
        ("Gemm", ["z", "v"], "y", {"alpha": 0.5}),
    ]
    plain = [("Relu", ["x"], "a", {}), ("Add", ["a", "x"], "c", {}), ("Flatten", ["c"], "y", {})]
    return [
        model(nodes, weights, (3, 9, 9)),
        model(plain, {}, (2, 3, 3), opset=9),
        outside("w.bin").SerializeToString(),
    ]


def mutated(content: bytes, dice: random.Random) -> bytes:
    """`content` with some bytes changed, cut, doubled, or replaced by extreme numbers."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        at, kind = dice.randrange(len(data)), dice.randrange(6)
        if kind == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[at] = dice.randrange(256)
        elif kind == 2:
            del data[at : at + dice.randrange(1, 20)]
        elif kind == 3:
            data[at:at] = data[at : at + dice.randrange(1, 40)]
        elif kind == 4:
            data[at : at + 9] = b"\xff" * 8 + b"\x7f"
        else:
            data = data[: max(1, at)] if dice.random() < 0.2 else data
        data = data or bytearray(1)
    return bytes(data)


def fuzz(folder: Path, count: int, seed: int) -> tuple[int, float]:
    """How many of `count` mutated files were read, and the longest time that one took, in seconds."""
    dice, read, longest = random.Random(seed), 0, 0.0
    path, files = folder / "model.onnx", seeds()
    for _ in range(count):
        path.write_bytes(mutated(dice.choice(files), dice))
        start = time.perf_counter()
        try:
            load_onnx(path)
            read += 1
        except BadInput as error:
            assert "\n" not in str(error)
        longest = max(longest, time.perf_counter() - start)
    return read, longest


def test_mutated_files_are_read_or_refused(tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(3072))
    for content in seeds():
        (tmp_path / "model.onnx").write_bytes(content)
        load_onnx(tmp_path / "model.onnx")
    read, longest = fuzz(tmp_path, 600, seed=0)
    assert 0 < read < 600 and longest < 5


def test_without_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(model([FLAT], output="f"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BadInput, match=r"pip install 'picojoule\[onnx\]'"):
        open_model(path)
