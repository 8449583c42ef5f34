"""What cannot be read is refused with one sentence that names the layer and says what to do."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

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
    weight_file,
    write_h5,
    write_zip,
)

from picojoule.errors import BadInput  # noqa: E402
from picojoule.exchange.door import open_model  # noqa: E402

KERNEL = {"kernel": randoms(4, 2), "bias": randoms(2)}


def refusal(path):
    with pytest.raises(BadInput) as caught:
        open_model(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def row(*layers, shape=(4,)):
    return sequential(inputs(*shape), *layers)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        (row(layer("Lambda", "twice", function="4wEAAAA=")), ["'twice' (Lambda)", "never executed"]),
        (row(layer("LSTM", "cells", units=3)), ["'cells' (LSTM)", "docs/import.md"]),
        (row(layer("Activation", "act", activation="hard_silu")), ["'act'", "'hard_silu'", "relu"]),
        (row(dense(activation={"class_name": "PReLU", "config": {}})), ["'dense' (Dense)", "activation"]),
        (row(dense(units=0)), ["'dense'", "units", "0"]),
        (row(dense(units=3)), ["'dense'", "'kernel'", "(4, 3)", "(4, 2)"]),
        (row(dense(use_bias=False)), ["'dense'", "'bias'", "do not ask for"]),
        (row(dense("other")), ["'dense'", "does not have"]),
        (row(conv(), shape=(4,)), ["'conv' (Conv2D)", "3 axes", "(4,)"]),
        (row(conv(), shape=(None, None, 3)), ["not fixed", "keras.Input"]),
        (row(conv(window=9), shape=(4, 4, 3)), ["'conv'"]),
        (row(layer("Flatten", "f"), shape=(2, 2, 2, 2, 2)), ["images, series or features", "keras.Input"]),
        (row(layer("ReLU", "r"), shape=(4, 4, 3)), ["[B, classes]", "GlobalAveragePooling2D"]),
        (row(layer("ReLU", "r", threshold=1.0, negative_slope=0.1)), ["'r' (ReLU)", "plain ReLU"]),
        (row(layer("BatchNormalization", "n", axis=[1, 2]), shape=(4, 4, 3)), ["'n'", "one axis"]),
        (row(layer("Permute", "p", dims=[1, 1]), shape=(4, 3)), ["'p' (Permute)", "dims"]),
        (row(layer("Reshape", "r", target_shape=[5, -1])), ["'r' (Reshape)", "(4,)"]),
        (row(layer("Cropping2D", "c", cropping=[[2, 2], [0, 0]]), shape=(4, 4, 3)), ["'c'", "crop less"]),
        (row(layer("ZeroPadding2D", "z", padding=[[0, 10**8], [0, 10**8]]), shape=(4, 4, 3)), ["'z'", "numbers"]),
        ({"class_name": "MyModel", "config": {}}, ["'MyModel'", "keras.Input"]),
        (sequential(dense(), dense()), ["same name"]),
        (sequential(dense()), ["input shape", "keras.Input"]),
        (sequential(), ["no layers"]),
        ([], ["JSON object", "list"]),
    ],
)
def test_refusals_say_what_and_how_to_mend(model, parts, tmp_path):
    weights = {"dense": KERNEL} if "Dense" in str(model) else {}
    message = refusal(write_h5(tmp_path / "model.h5", model, weights))
    assert all(part in message for part in parts), message


def wired(*layers, output="add", **fed):
    return functional([inputs(4), *layers], {name: list(sources) for name, sources in fed.items()}, output)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        (wired(layer("Add", "add"), add=["input"]), ["'add' (Add)", "two or more"]),
        (wired(layer("Add", "add"), add=["input", "ghost"]), ["'ghost'"]),
        (wired(layer("ReLU", "a"), layer("Add", "add"), a=["add"], add=["a", "input"]), ["circle"]),
        (wired(layer("Multiply", "add"), add=["input", "input"]), ["'add' (Multiply)", "docs/import.md"]),
        (wired(layer("TFOpLambda", "add", function="math.subtract"), add=["input"]), ["'math.subtract'"]),
        (wired(layer("Concatenate", "add", axis=0), add=["input", "input"]), ["axis"]),
    ],
)
def test_wiring_is_refused_where_it_cannot_be_followed(model, parts, tmp_path):
    message = refusal(write_h5(tmp_path / "model.h5", model, {}))
    assert all(part in message for part in parts), message


def test_several_inputs_or_outputs(tmp_path):
    two = wired(layer("Add", "add"), add=["input", "input"])
    two["config"]["output_layers"] *= 2
    assert "one output" in refusal(write_h5(tmp_path / "two.h5", two, {}))
    two = wired(layer("Add", "add"), layer("InputLayer", "mask", batch_input_shape=[None, 4]), add=["input", "mask"])
    two["config"]["input_layers"].append(["mask", 0, 0])
    assert "one input" in refusal(write_h5(tmp_path / "two.h5", two, {}))


def test_a_call_in_training_mode(tmp_path):
    model = wired(layer("BatchNormalization", "add"), add=["input"])
    model["config"]["layers"][1]["inbound_nodes"] = [[["input", 0, 0, {"training": True}]]]
    assert "training=True" in refusal(write_h5(tmp_path / "model.h5", model, {}))


@pytest.mark.parametrize("kind", ["ReLU", "Dropout"])
def test_models_that_multiply_when_they_are_called(kind, tmp_path):
    """Eight models inside each other, each of which calls the next ten times."""
    model = wired(layer(kind, "add"), add=["input"])
    for _ in range(8):
        inner = {**model, "name": "inner", "config": {**model["config"], "name": "inner"}}
        calls = [[["input", 0, 0, {}]], *([["inner", i, 0, {}]] for i in range(1, 10))]
        model = functional([inputs(4)], {}, "inner")
        model["config"]["layers"].append({**inner, "inbound_nodes": calls})
        model["config"]["output_layers"] = [["inner", 10, 0]]
    assert "more than" in refusal(write_h5(tmp_path / "deep.h5", model, {}))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(value, tmp_path):
    arrays = {"kernel": np.full((4, 2), value, "f4"), "bias": randoms(2)}
    message = refusal(write_h5(tmp_path / "model.h5", row(dense()), {"dense": arrays}))
    assert "'dense' (Dense)" in message and "NaN or infinity" in message and "'kernel'" in message


def test_a_weight_that_is_missing(tmp_path):
    message = refusal(write_h5(tmp_path / "model.h5", row(dense()), {"dense": {"kernel": randoms(4, 2)}}))
    assert "'dense'" in message and "no weight 'bias'" in message
    message = refusal(write_zip(tmp_path / "model.keras", row(dense()), {"dense": [randoms(4, 2)]}))
    assert "no weight 'bias'" in message


def test_surplus_weights_in_a_zip(tmp_path):
    arrays = [randoms(4, 2), randoms(2)]
    message = refusal(write_zip(tmp_path / "model.keras", row(dense()), {"dense": [*arrays, randoms(2)]}))
    assert "'dense'" in message and "do not ask for" in message
    message = refusal(write_zip(tmp_path / "model.keras", row(dense()), {"dense": arrays, "dense_1": arrays}))
    assert "'dense_1'" in message and "does not have" in message


def test_theano_where_it_pads_in_its_own_way(tmp_path):
    model = row(conv(padding="same", strides=[2, 2]), shape=(4, 4, 2))
    arrays = {"conv": {"kernel": randoms(3, 3, 2, 2), "bias": randoms(2)}}
    assert "Theano" in refusal(write_h5(tmp_path / "model.h5", model, arrays, backend="theano", version="2.0.4"))


def test_weights_without_a_model(tmp_path):
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["dense/kernel"] = randoms(4, 2)
    assert "model.save()" in refusal(tmp_path / "weights.h5")
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(row(dense())))
    assert "metadata.json" in refusal(tmp_path / "model.keras")


def test_no_model_file_at_all(tmp_path):
    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "text.keras").write_text("a model")
    (tmp_path / "cut.keras").write_bytes(b"PK\x03\x04")
    for name in ("empty.h5", "text.keras", "cut.keras"):
        refusal(tmp_path / name)
    assert "no model file" in refusal(tmp_path / "missing.h5")


def test_a_zip_that_would_fill_the_memory(tmp_path):
    path = write_zip(tmp_path / "model.keras", row(dense()), {"dense": list(KERNEL.values())})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(row(dense())))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", weight_file({}) + bytes(1 << 24))
    assert "would unpack to" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (10 << 20))
    assert "would unpack to" in refusal(path)


def test_settings_nested_without_end(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[" * 1_000_000)
    assert "JSON" in refusal(path)
    model = row(dense())
    for _ in range(200):
        model = sequential(inputs(4), {**model, "config": {**model["config"], "name": "inner"}})
    refusal(write_h5(path.with_suffix(".h5"), model, {}))


def test_keras_and_h5py_are_not_needed(tmp_path):
    path = write_zip(tmp_path / "model.keras", row(dense()), {"dense": list(KERNEL.values())})
    code = (
        "import sys\nsys.modules['keras'] = sys.modules['h5py'] = None\n"
        f"from picojoule.exchange.door import open_model\nprint(open_model({str(path)!r}).classes)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout == "2\n"
