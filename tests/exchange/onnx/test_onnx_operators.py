"""Every operator in every form that files have: equal to onnxruntime, saved and loaded without change."""

from typing import Any

import numpy as np
import pytest
import torch
from onnx_files import by_onnxruntime, model, onnx

from picojoule.exchange import load, save
from picojoule.exchange.onnx import load_onnx

RANDOM = np.random.default_rng(0)


def numbers(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def whole(*values):
    return np.array(values, np.int64)


def ends(*nodes, weights=None, **settings):
    """`nodes` end in `z`; scores follow."""
    return model([*nodes, ("Flatten", ["z"], "y", {})], weights, **settings)


def one(op, inputs=("x",), weights=None, shape=(3, 8, 8), opset=17, **attributes):
    return ends((op, inputs, "z", attributes), weights=weights, shape=shape, opset=opset)


W, B = numbers(6, 3, 3, 3), numbers(6)
CONV: dict[str, Any] = dict(inputs=("x", "w", "b"), weights={"w": W, "b": B})
NORM = {"s": numbers(3), "b": numbers(3), "m": numbers(3), "v": np.abs(numbers(3)) + 0.1}
CASES = {
    "conv": one("Conv", **CONV),
    "conv with strides, pads, dilations": one("Conv", **CONV, strides=[2, 1], pads=[1, 2, 1, 2], dilations=[1, 2]),
    "conv with unequal pads": one("Conv", **CONV, strides=[2, 2], pads=[0, 1, 1, 2]),
    "conv same upper": one("Conv", **CONV, strides=[2, 2], auto_pad="SAME_UPPER"),
    "conv same lower": one("Conv", **CONV, strides=[2, 2], auto_pad="SAME_LOWER"),
    "conv same, stride 3, 7 rows": one("Conv", **CONV, shape=(3, 7, 8), strides=[3, 2], auto_pad="SAME_UPPER"),
    "conv valid": one("Conv", **CONV, auto_pad="VALID"),
    "conv without bias": one("Conv", ("x", "w"), {"w": W}),
    "conv left out bias": one("Conv", ("x", "w", ""), {"w": W}),
    "depthwise": one("Conv", ("x", "w"), {"w": numbers(6, 1, 3, 3)}, group=3),
    "grouped": one("Conv", ("x", "w"), {"w": numbers(6, 2, 3, 3)}, (4, 8, 8), group=2),
    "conv in one dimension": one("Conv", ("x", "w"), {"w": numbers(5, 3, 3)}, (3, 9), pads=[1, 2], strides=[2]),
    "conv in three dimensions": one("Conv", ("x", "w"), {"w": numbers(2, 1, 2, 2, 2)}, (1, 4, 4, 4)),
    "conv of half precision weights": model(
        [("Cast", ["h"], "w", {"to": 1}), ("Conv", ["x", "w"], "z", {}), ("Flatten", ["z"], "y", {})],
        {"h": W.astype(np.float16)},
    ),
    "transposed": one("ConvTranspose", ("x", "w", "b"), {"w": numbers(3, 4, 3, 3), "b": numbers(4)}, strides=[2, 2]),
    "transposed, padded, grouped": one(
        "ConvTranspose",
        ("x", "w"),
        {"w": numbers(4, 3, 3, 3)},
        (4, 5, 5),
        strides=[2, 2],
        pads=[1, 0, 1, 0],
        output_padding=[1, 0],
        group=2,
        dilations=[1, 2],
    ),
    "gemm": one("Gemm", ("x", "w", "b"), {"w": numbers(7, 4), "b": numbers(4)}, (7,), alpha=0.5, beta=2.0),
    "gemm transposed": one("Gemm", ("x", "w", "b"), {"w": numbers(4, 7), "b": numbers(1, 4)}, (7,), transB=1),
    "gemm with one bias": one("Gemm", ("x", "w", "b"), {"w": numbers(4, 7), "b": numbers(1)}, (7,), transB=1),
    "gemm without bias": one("Gemm", ("x", "w"), {"w": numbers(4, 7)}, (7,), transB=1),
    "matmul and bias": ends(
        ("MatMul", ["x", "w"], "a", {}),
        ("Add", ["b", "a"], "z", {}),
        weights={"w": numbers(7, 4), "b": numbers(4)},
        shape=(7,),
    ),
    "matmul of maps and bias": ends(
        ("MatMul", ["x", "w"], "a", {}), ("Add", ["a", "b"], "z", {}), weights={"w": numbers(8, 8), "b": numbers(8)}
    ),
    "norm": one("BatchNormalization", ("x", "s", "b", "m", "v"), NORM, epsilon=0.01),
    "norm of opset 7": one("BatchNormalization", ("x", "s", "b", "m", "v"), NORM, opset=7),
    "norm of features": one("BatchNormalization", ("x", "s", "b", "m", "v"), NORM, (3,)),
    "relu": one("Relu"),
    "relu6": one("Clip", ("x", "l", "h"), {"l": np.float32(0), "h": np.float32(6)}),
    "clip of opset 7": one("Clip", opset=7, min=0.0, max=0.5),
    "clip from -1": one("Clip", ("x", "l", "h"), {"l": np.float32(-1), "h": np.float32(0.5)}),
    "clip from 0": one("Clip", ("x", "l"), {"l": np.float32(0)}),
    "clip from 0.1": one("Clip", ("x", "l"), {"l": np.float32(0.1)}),
    "clip of nothing": one("Clip"),
    "max with 0": one("Max", ("x", "l"), {"l": np.float32(0)}),
    "min behind relu": ends(("Relu", ["x"], "a", {}), ("Min", ["h", "a"], "z", {}), weights={"h": np.float32(0.5)}),
    "leaky relu": one("LeakyRelu", alpha=0.3),
    "prelu of one slope": one("PRelu", ("x", "s"), {"s": np.full((3, 1, 1), 0.2, np.float32)}),
    "prelu of slopes": one("PRelu", ("x", "s"), {"s": np.abs(numbers(3, 1, 1))}),
    "thresholded relu": one("ThresholdedRelu", alpha=0.4),
    "sigmoid": one("Sigmoid"),
    "hard sigmoid": one("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard swish": one("HardSwish"),
    "tanh": one("Tanh"),
    "elu": one("Elu", alpha=0.7),
    "gelu": one("Gelu", opset=20),
    "gelu by tanh": one("Gelu", opset=20, approximate="tanh"),
    "softplus": one("Softplus"),
    "mish": one("Mish", opset=18),
    "silu": ends(("Sigmoid", ["x"], "a", {}), ("Mul", ["x", "a"], "z", {})),
    "softmax": one("Softmax", shape=(5,)),
    "softmax of opset 11": one("Softmax", shape=(5,), opset=11),
    "softmax before flatten": one("Softmax", shape=(5, 1, 1), opset=11, axis=1),
    "log softmax": one("LogSoftmax", shape=(5,), axis=1),
    "max pool": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    "max pool without strides": one("MaxPool", kernel_shape=[3, 2]),
    "max pool padded": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "max pool dilated": one("MaxPool", kernel_shape=[2, 2], dilations=[2, 3]),
    "max pool rounding up": one("MaxPool", shape=(3, 7, 7), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "max pool rounding up, padded": one(
        "MaxPool", shape=(3, 8, 7), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1
    ),
    "max pool same upper": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "max pool same lower": one("MaxPool", kernel_shape=[2, 2], strides=[1, 1], auto_pad="SAME_LOWER"),
    "max pool padded behind": one("MaxPool", kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1]),
    "max pool padded behind, with strides": one("MaxPool", kernel_shape=[3, 2], strides=[2, 1], pads=[0, 0, 1, 1]),
    "max pool padded before, behind relu": ends(
        ("Relu", ["x"], "a", {}),
        ("MaxPool", ["a"], "z", dict(kernel_shape=[2, 2], strides=[2, 2], pads=[1, 0, 0, 1])),
    ),
    "max pool in one dimension": one("MaxPool", shape=(3, 9), kernel_shape=[3], strides=[2], pads=[1, 1]),
    "average pool": one("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "average pool without the padding": one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "average pool with the padding": one(
        "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "average pool with unequal padding": one(
        "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0], count_include_pad=1
    ),
    "average pool same": one(
        "AveragePool", shape=(3, 7, 8), kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "average pool same lower": one("AveragePool", kernel_shape=[2, 2], strides=[1, 1], auto_pad="SAME_LOWER"),
    "average pool rounding up": one(
        "AveragePool", shape=(3, 7, 7), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, opset=19
    ),
    "global average": one("GlobalAveragePool"),
    "global average in one dimension": one("GlobalAveragePool", shape=(3, 9)),
    "global max": one("GlobalMaxPool"),
    "mean of opset 13": one("ReduceMean", axes=[2, 3], keepdims=1, opset=13),
    "mean": one("ReduceMean", ("x", "a"), {"a": whole(-1, -2)}, opset=18, keepdims=0),
    "mean of rows": one("ReduceMean", axes=[2], keepdims=0),
    "mean of channels last": one("ReduceMean", axes=[1, 2], keepdims=0),
    "max of columns": one("ReduceMax", axes=[3], keepdims=1),
    "mean in one dimension": one("ReduceMean", shape=(4, 6), axes=[2], keepdims=0),
    "pad": one("Pad", ("x", "p"), {"p": whole(0, 0, 1, 2, 0, 0, 3, 0)}),
    "pad of opset 7": one("Pad", opset=7, pads=[0, 0, 1, 2, 0, 0, 3, 0]),
    "pad of axes": one("Pad", ("x", "p", "", "a"), {"p": whole(1, 2, 3, 0), "a": whole(2, -1)}, opset=18),
    "pad by less than nothing": one("Pad", ("x", "p"), {"p": whole(0, 0, -1, 2, 0, 0, 3, -2)}),
    "pad by nothing": one("Pad", ("x", "p"), {"p": whole(*[0] * 8)}),
    "slice": one("Slice", ("x", "s", "e", "a"), {"s": whole(1, 2), "e": whole(-1, 100), "a": whole(2, 3)}),
    "slice of opset 9": one("Slice", opset=9, starts=[1, -5], ends=[7, -1], axes=[2, 3]),
    "slice of everything": one("Slice", ("x", "s", "e", "a"), {"s": whole(0), "e": whole(2**62), "a": whole(1)}),
    "slice of channels": one("Slice", ("x", "s", "e", "a"), {"s": whole(1, 2), "e": whole(3, 6), "a": whole(1, 2)}),
    "slice of features": one("Slice", ("x", "s", "e", "a"), {"s": whole(1), "e": whole(-1), "a": whole(1)}, (7,)),
    "slice of series": one("Slice", ("x", "s", "e", "a"), {"s": whole(1), "e": whole(3), "a": whole(1)}, (4, 7)),
    "split": ends(
        ("Split", ["x", "s"], ["a", "b", "c"], {"axis": 1}),
        ("Sub", ["c", "b"], "z", {}),
        weights={"s": whole(1, 2, 2)},
        shape=(5, 6, 6),
    ),
    "split of opset 11": ends(
        ("Split", ["x"], ["a", "b"], {"axis": -1, "split": [4, 4]}), ("Sub", ["b", "a"], "z", {}), opset=11
    ),
    "split into equal pieces": ends(("Split", ["x"], ["a", "z"], {"axis": 2})),
    "split into nearly equal pieces": ends(("Split", ["x"], ["a", "b", "z"], {"axis": 2, "num_outputs": 3}), opset=18),
    "gather of a pixel": ends(
        ("Gather", ["x", "i"], "a", {"axis": 2}),
        ("Gather", ["a", "j"], "z", {"axis": -1}),
        weights={"i": np.array(-2), "j": np.array(3)},
    ),
    "gather of a channel": one("Gather", ("x", "i"), {"i": whole(2)}, axis=1),
    "gather of rows": one("Gather", ("x", "i"), {"i": whole(-3, -2, 7)}, axis=2),
    "depth to space": one("DepthToSpace", shape=(12, 3, 2), blocksize=2),
    "depth to space by columns": one("DepthToSpace", shape=(12, 3, 2), blocksize=2, mode="CRD"),
    "reshape": one("Reshape", ("x", "s"), {"s": whole(0, -1, 4)}),
    "reshape with a free batch": one("Reshape", ("x", "s"), {"s": whole(-1, 192)}),
    "flatten of channels": ends(("GlobalMaxPool", ["x"], "a", {}), ("Flatten", ["a"], "z", {"axis": -3})),
    "transpose": one("Transpose", perm=[0, 2, 1, 3]),
    "transpose there and back": ends(
        ("Transpose", ["x"], "a", {"perm": [0, 2, 3, 1]}), ("Transpose", ["a"], "z", {"perm": [0, 3, 1, 2]})
    ),
    "squeeze": ends(("GlobalMaxPool", ["x"], "a", {}), ("Squeeze", ["a", "d"], "z", {}), weights={"d": whole(2, 3)}),
    "squeeze of opset 11": ends(("GlobalMaxPool", ["x"], "a", {}), ("Squeeze", ["a"], "z", {"axes": [3]}), opset=11),
    "unsqueeze": one("Unsqueeze", ("x", "d"), {"d": whole(1)}, (5,)),
    "unsqueeze of opset 11": one("Unsqueeze", shape=(5,), opset=11, axes=[2, -1]),
    "add of tensors": ends(("Relu", ["x"], "a", {}), ("Add", ["x", "a"], "z", {})),
    "sum of tensors": ends(("Relu", ["x"], "a", {}), ("Sum", ["x", "a", "x"], "z", {})),
    "sub of tensors": ends(("Relu", ["x"], "a", {}), ("Sub", ["a", "x"], "z", {})),
    "add of a number": one("Add", ("x", "c"), {"c": np.float32(0.3)}),
    "add for each channel": one("Add", ("c", "x"), {"c": numbers(3, 1, 1)}),
    "add for each column": one("Add", ("x", "c"), {"c": numbers(8)}),
    "add for each row": one("Add", ("x", "c"), {"c": numbers(1, 1, 8, 1)}),
    "add for each pixel": one("Add", ("x", "c"), {"c": numbers(1, 8, 8)}),
    "sub of a constant": one("Sub", ("x", "c"), {"c": numbers(3, 1, 1)}),
    "sub from a constant": one("Sub", ("c", "x"), {"c": numbers(3, 1, 1)}),
    "sub of a number": one("Sub", ("x", "c"), {"c": np.float32(0.3)}),
    "mul by constants": one("Mul", ("x", "c"), {"c": numbers(3, 1, 1)}),
    "div by a number": one("Div", ("x", "c"), {"c": np.float32(255)}),
    "neg": one("Neg"),
    "conv, mul, add": ends(
        ("Conv", ["x", "w"], "a", {}),
        ("Mul", ["a", "s"], "b", {}),
        ("Add", ["b", "t"], "z", {}),
        weights={"w": W, "s": numbers(6, 1, 1), "t": numbers(1, 6, 1, 1)},
    ),
    "a bias on one of two paths": ends(
        ("Conv", ["x", "w"], "a", {}),
        ("Identity", ["a"], "b", {}),
        ("Add", ["b", "t"], "c", {}),
        ("Relu", ["a"], "d", {}),
        ("Add", ["c", "d"], "z", {}),
        weights={"w": W, "t": numbers(6, 1, 1)},
    ),
    "concat": ends(("Relu", ["x"], "a", {}), ("Concat", ["x", "a"], "z", {"axis": -3})),
    "dropout of opset 7": one("Dropout", opset=7, ratio=0.4),
    "dropout": one("Dropout"),
    "identity": one("Identity"),
    "cast": one("Cast", to=1),
    "expand": one("Expand", ("x", "s"), {"s": whole(1, 3, 8, 8)}),
    "nearest": one("Resize", ("x", "", "s"), {"s": np.array([1, 1, 2, 3], np.float32)}),
    "nearest by floor": one(
        "Resize",
        ("x", "", "s"),
        {"s": np.array([1, 1, 1.5, 2], np.float32)},
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    ),
    "nearest of opset 10": one("Resize", ("x", "s"), {"s": np.array([1, 1, 2, 2], np.float32)}, opset=10),
    "nearest of opset 9": one("Upsample", ("x", "s"), {"s": np.array([1, 1, 2, 2], np.float32)}, opset=9),
    "nearest of opset 7": one("Upsample", opset=7, scales=[1.0, 1.0, 2.0, 2.0]),
    "linear": one("Resize", ("x", "", "s"), {"s": np.array([1, 1, 2, 1.5], np.float32)}, mode="linear"),
    "linear to sizes": one("Resize", ("x", "", "", "s"), {"s": whole(2, 3, 5, 12)}, mode="linear"),
    "linear with corners": one(
        "Resize",
        ("x", "", "s"),
        {"s": np.array([1, 1, 2, 2], np.float32)},
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    "flattened by computed shape": model(
        [
            ("Shape", ["x"], "s", {}),
            ("Gather", ["s", "i"], "n", {"axis": 0}),
            ("Unsqueeze", ["n", "j"], "m", {}),
            ("Concat", ["m", "k"], "t", {"axis": 0}),
            ("Reshape", ["x", "t"], "y", {}),
        ],
        {"i": np.array(0), "j": whole(0), "k": whole(-1)},
    ),
    "shapes by arithmetic": ends(
        ("Shape", ["x"], "s", {}),
        ("Slice", ["s", "zero", "one"], "n", {}),
        ("Slice", ["s", "one", "four"], "r", {}),
        ("ReduceProd", ["r"], "p", {"keepdims": 1}),
        ("Div", ["p", "two"], "q", {}),
        ("Cast", ["q"], "f", {"to": 1}),
        ("Floor", ["f"], "g", {}),
        ("Cast", ["g"], "h", {"to": 7}),
        ("Concat", ["n", "two", "h"], "t", {"axis": 0}),
        ("Reshape", ["x", "t"], "z", {}),
        weights={"zero": whole(0), "one": whole(1), "four": whole(4), "two": whole(2)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_onnxruntime(case, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(CASES[case])
    network = load_onnx(path)
    shape = (2 if case == "linear to sizes" else 3, *network.input_shape)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = network(x)
    torch.testing.assert_close(y, by_onnxruntime(CASES[case], x), rtol=1e-4, atol=1e-5)
    assert y.shape == (len(x), network.classes)
    save(network, tmp_path / "model.safetensors")
    torch.testing.assert_close(load(tmp_path / "model.safetensors")(x), y, rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_names_of_nodes_may_be_left_out(case, tmp_path):
    named, nameless = tmp_path / "named.onnx", tmp_path / "nameless.onnx"
    named.write_bytes(CASES[case])
    file = onnx.ModelProto.FromString(CASES[case])
    for node in file.graph.node:
        node.name = ""
    nameless.write_bytes(file.SerializeToString())
    expected, network = load_onnx(named), load_onnx(nameless)
    x = torch.randn((2, *network.input_shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected(x), rtol=0, atol=0)


def test_channels_last_become_channels_first(tmp_path):
    nodes = [
        ("Mul", ["x", "k"], "a", {}),
        ("Sub", ["a", "m"], "b", {}),
        ("Transpose", ["b"], "c", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["c", "w"], "d", {}),
        ("Transpose", ["d"], "e", {"perm": [0, 2, 3, 1]}),
        ("ReduceMean", ["e"], "y", {"axes": [1, 2], "keepdims": 0}),
    ]
    file = model(nodes, {"k": np.float32(0.1), "m": numbers(3), "w": W}, (8, 7, 3))
    path = tmp_path / "model.onnx"
    path.write_bytes(file)
    network = load_onnx(path)
    x = torch.rand(2, 3, 8, 7)
    assert network.input_shape == (3, 8, 7)
    torch.testing.assert_close(
        network(x), by_onnxruntime(file, x.permute(0, 2, 3, 1).contiguous()), rtol=1e-4, atol=1e-5
    )
    kinds = [type(m).__name__ for m in network.graph_module.children()]
    assert kinds == ["BatchNorm2d", "BatchNorm2d", "Conv2d", "AdaptiveAvgPool2d", "Flatten"]


def test_a_model_written_for_one_number_of_samples_takes_others(tmp_path):
    path = tmp_path / "model.onnx"
    file = model([("Relu", ["x"], "a", {}), ("Reshape", ["a", "s"], "y", {})], {"s": whole(4, 192)}, batch=4)
    path.write_bytes(file)
    x = torch.randn(4, 3, 8, 8)
    network = load_onnx(path)
    torch.testing.assert_close(network(x), by_onnxruntime(file, x))
    assert torch.equal(network(x[:3]), network(x)[:3])


def test_a_bias_goes_into_the_layer_before(tmp_path):
    for case in ("matmul and bias", "matmul of maps and bias", "conv, mul, add"):
        path = tmp_path / "model.onnx"
        path.write_bytes(CASES[case])
        kinds = [type(m).__name__ for m in load_onnx(path).graph_module.children()]
        assert kinds in (["Linear"], ["Linear", "Flatten"], ["Conv2d", "BatchNorm2d", "Flatten"])
