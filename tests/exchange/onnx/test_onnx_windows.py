"""Convolutions and poolings with any windows, strides and padding equal onnxruntime, or are refused."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from onnx_files import by_onnxruntime, model

from picojoule.errors import BadInput
from picojoule.exchange.onnx import load_onnx


def drawn(dice: random.Random) -> bytes:
    """A model of one window operator.

    Left out are automatic padding with dilation, which onnxruntime refuses or forgets, and with strides longer than the
    window, where it crops: TensorFlow, whose padding it is, pads by nothing then.
    """
    op = dice.choice(["Conv", "MaxPool", "AveragePool", "Relu"])
    rows, columns = dice.randint(5, 10), dice.randint(5, 10)
    size = [dice.randint(1, 4), dice.randint(1, 4)]
    settings: dict[str, Any] = {"kernel_shape": size, "strides": [dice.randint(1, 3), dice.randint(1, 3)]}
    if op != "AveragePool" and dice.random() < 0.3:
        settings["dilations"] = [dice.randint(1, 2), dice.randint(1, 2)]
    if dice.random() < 0.4:
        settings["auto_pad"] = dice.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
        settings["strides"] = [min(s, k) for s, k in zip(settings["strides"], size, strict=True)]
        settings.pop("dilations", None)
    elif dice.random() < 0.7:
        settings["pads"] = [dice.randrange(k) for k in (*size, *size)]
    if op != "Conv" and "auto_pad" not in settings:
        settings["ceil_mode"] = dice.randrange(2)
    if op == "AveragePool":
        settings["count_include_pad"] = dice.randrange(2)
    weights = {"w": np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)} if op == "Conv" else {}
    if op == "Relu":  # then a pooling may pad as it likes
        nodes = [("Relu", ["x"], "r", {}), ("MaxPool", ["r"], "z", settings), ("Flatten", ["z"], "y", {})]
    else:
        nodes = [(op, ["x", *weights], "z", settings), ("Flatten", ["z"], "y", {})]
    return model(nodes, weights, (3, rows, columns), opset=19)


def agree(path, count: int, seed: int) -> tuple[int, int]:
    """How many of `count` models are equal to onnxruntime, and how many are refused."""
    dice, equal, refused = random.Random(seed), 0, 0
    for _ in range(count):
        content = drawn(dice)
        path.write_bytes(content)
        try:
            network = load_onnx(path)
        except BadInput:
            refused += 1
            continue
        x = torch.randn(2, *network.input_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(network(x), by_onnxruntime(content, x), rtol=1e-4, atol=1e-5)
        equal += 1
    return equal, refused


def test_any_windows(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    equal, refused = agree(tmp_path / "model.onnx", 150, seed=0)
    assert equal > 6 * refused and equal > 100
