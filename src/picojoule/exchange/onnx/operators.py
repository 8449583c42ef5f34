"""The table of operators: from the name in the file to the function that adds its layers."""

from collections.abc import Callable

import numpy as np
from torch import nn

from picojoule.exchange.onnx import activations, moving, padding, pooling, weights
from picojoule.exchange.onnx.activations import elementwise
from picojoule.exchange.onnx.assembly import Assembly
from picojoule.exchange.onnx.step import Step, Value

OPERATORS: dict[str, Callable[[Step, Assembly], Value | list[Value]]] = {
    "Conv": weights.conv,
    "ConvTranspose": weights.conv_transpose,
    "Gemm": weights.gemm,
    "MatMul": weights.matmul,
    "BatchNormalization": weights.batch_norm,
    "Add": weights.add,
    "Sum": weights.add,
    "Sub": weights.sub,
    "Mul": weights.mul,
    "Div": weights.div,
    "Neg": weights.neg,
    "MaxPool": pooling.max_pool,
    "AveragePool": pooling.average_pool,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "ReduceMean": pooling.reduce_mean,
    "ReduceMax": pooling.reduce_max,
    "Pad": padding.pad,
    "Reshape": moving.reshape,
    "Flatten": moving.flatten,
    "Squeeze": moving.squeeze,
    "Unsqueeze": moving.unsqueeze,
    "Transpose": moving.transpose,
    "Concat": moving.concatenate,
    "Slice": moving.crop,
    "Split": moving.split,
    "Gather": moving.gather,
    "DepthToSpace": moving.depth_to_space,
    "Expand": moving.expand,
    "Shape": moving.shape_of,
    "Resize": moving.resize,
    "Upsample": moving.resize,
    "Identity": activations.same,
    "Dropout": activations.same,
    "Cast": activations.cast,
    "Clip": activations.clip,
    "Max": activations.maximum,
    "Min": activations.minimum,
    "PRelu": activations.prelu,
    "Softmax": activations.softmax,
    "LogSoftmax": activations.softmax,
    "Relu": elementwise(lambda step: nn.ReLU()),
    "LeakyRelu": elementwise(lambda step: nn.LeakyReLU(step.number("alpha", 0.01))),
    "ThresholdedRelu": elementwise(lambda step: nn.Threshold(step.number("alpha", 1.0), 0.0)),
    "Sigmoid": elementwise(lambda step: nn.Sigmoid()),
    "HardSigmoid": elementwise(activations.hard_sigmoid),
    "HardSwish": elementwise(lambda step: nn.Hardswish()),
    "Tanh": elementwise(lambda step: nn.Tanh()),
    "Elu": elementwise(lambda step: nn.ELU(step.number("alpha", 1.0))),
    "Gelu": elementwise(activations.gelu),
    "Swish": elementwise(activations.swish),
    "Softplus": elementwise(lambda step: nn.Softplus()),
    "Mish": elementwise(lambda step: nn.Mish()),
}

_ADVICE = {
    "QuantizeLinear": "load the model as it was before quantisation",
    "DequantizeLinear": "load the model as it was before quantisation",
    "If": "export it without branches",
    "Loop": "export it without loops",
    "Scan": "export it without loops",
    "LSTM": "recurrent layers have no spiking counterpart here",
    "GRU": "recurrent layers have no spiking counterpart here",
    "Erf": "it is a part of GELU, which cannot spike; train with ReLU",
    "LayerNormalization": "train with batch normalisation",
    "InstanceNormalization": "train with batch normalisation",
}


def apply(step: Step, net: Assembly) -> Value | list[Value]:
    """What `step` makes: a tensor, with its layers added to `net`, or a constant; of a Split, a list of tensors.

    Raises BadInput if unsupported.
    """
    function = OPERATORS.get(step.op)
    if function is None:
        advice = _ADVICE.get(step.op, "replace it by a supported layer before exporting")
        raise step.bad(f"is not supported; {advice}")
    return function(step, net)


def is_constant(value: Value | None) -> bool:
    """Whether a value is known without an image; an input left out is."""
    return value is None or isinstance(value, np.ndarray)
