"""The table of what is read: one rule for each type of layer."""

from collections.abc import Callable

from torch import nn

from picojoule.exchange.keras.activations import ACTIVATIONS
from picojoule.exchange.keras.affine import AFFINE
from picojoule.exchange.keras.assembly import Assembly, Map
from picojoule.exchange.keras.convolutions import CONVOLUTIONS
from picojoule.exchange.keras.layer import Layer
from picojoule.exchange.keras.merges import add, concatenate
from picojoule.exchange.keras.pooling import POOLINGS
from picojoule.exchange.keras.shapes import SHAPES

Rule = Callable[[Layer, Map, Assembly], Map]

IN_TRAINING_ONLY = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout"),
    *("ActivityRegularization", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom"),
    *("RandomContrast", "RandomBrightness"),
)
"""Layers that pass their input on unchanged outside training."""
_ONE_INPUT: dict[str, Rule] = {**ACTIVATIONS, **AFFINE, **CONVOLUTIONS, **POOLINGS, **SHAPES}
_OPERATIONS: dict[str, str] = {
    "TFOpLambda:__operators__.add": "add",
    "TFOpLambda:math.add": "add",
    "TFOpLambda:concat": "concatenate",
    "TFOpLambda:nn.relu": "relu",
    "TFOpLambda:nn.relu6": "relu6",
    "ops.Add": "add",
    "ops.Concatenate": "concatenate",
    "ops.Relu": "relu",
    "ops.ReLU": "relu",
    "ops.Relu6": "relu6",
    "Relu": "relu",
    "Relu6": "relu6",
    "Add": "add",
    "Concatenate": "concatenate",
}
_MEND = {
    "Lambda": "holds code, which is never executed; replace it by a layer of Keras such as Rescaling or Add",
    "Conv3D": "works on volumes, which are not read; use Conv2D",
}


def apply(layer: Layer, inputs: list[Map], net: Assembly) -> Map:
    """What a layer makes of its inputs. Raises BadInput for a type that is not read."""
    if layer.keywords.get("training") is True:
        raise layer.refuse("is called with training=True; leave that out, so that the model is read as it infers")
    kind = layer.kind
    if kind == "TFOpLambda":
        kind = f"TFOpLambda:{layer.config.get('function')!s:.80}"
    operation = _OPERATIONS.get(kind)
    if operation in ("add", "concatenate"):
        return (add if operation == "add" else concatenate)(layer, inputs, net)
    if kind not in _ONE_INPUT and kind not in IN_TRAINING_ONLY and operation is None:
        mend = _MEND.get(kind, "is not read; replace it by one of the layers that docs/import.md lists")
        raise layer.refuse(mend if kind == layer.kind else f"computes {kind.partition(':')[2]!r}, which {mend}")
    if len(inputs) != 1:
        raise layer.refuse(f"needs one input, got {len(inputs)}")
    if kind in IN_TRAINING_ONLY:
        return inputs[0]
    if operation is not None:
        return net.call(layer.path, nn.ReLU() if operation == "relu" else nn.ReLU6(), inputs[0])
    if kind not in _WITH_WEIGHTS:
        layer.take({})
    return _ONE_INPUT[kind](layer, inputs[0], net)


_WITH_WEIGHTS = {*CONVOLUTIONS, *AFFINE}
