"""Our own model file: weights as safetensors, the network as a JSON description of known layers.

Loading builds only layers of the table below and runs no code from the file.
"""

import json
import operator
import re
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import fx, nn

from picojoule.cells import (
    GRU,
    LMU,
    LSTM,
    LegendreMemory,
    SpikingRNN,
    WindowConvolution,
    WindowLSTM,
    WindowMixer,
    WindowRNN,
)
from picojoule.errors import BadInput
from picojoule.exchange.first_bytes import PICKLE, mistaken_for_safetensors
from picojoule.files import replacing
from picojoule.kernels.window_rules import WindowRules
from picojoule.layers import (
    AddTime,
    Bernoulli,
    Crop2d,
    EvenRate,
    Frames,
    LastStep,
    Latency,
    LogLatency,
    MeanReadout,
    MembraneReadout,
    Permute,
    QuantisedReLU,
    Repeat,
    Reshape,
    Scale,
    Shift,
    SpikeCount,
    SpikingMaxPool1d,
    SpikingMaxPool2d,
    Timewise,
)
from picojoule.networks import Network
from picojoule.neurons import IAF, LIF, CubaLIF, Diffused, SignedIAF, WindowLIF, WindowNeuron, surrogate
from picojoule.neurons.leaky import Leaky

VERSION = 1

_CONV = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
)
_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVERAGE_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
_LIF = ("v_reset", "v_initial", "max_events")
_WINDOWS = ("width", "size", "window")
_LAYERS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("in_features", "out_features"),
    nn.Conv1d: _CONV,
    nn.Conv2d: _CONV,
    nn.Conv3d: _CONV,
    nn.ConvTranspose1d: (*_CONV, "output_padding"),
    nn.ConvTranspose2d: (*_CONV, "output_padding"),
    nn.ConvTranspose3d: (*_CONV, "output_padding"),
    nn.BatchNorm1d: _NORM,
    nn.BatchNorm2d: _NORM,
    nn.BatchNorm3d: _NORM,
    nn.MaxPool1d: _MAX_POOL,
    nn.MaxPool2d: _MAX_POOL,
    nn.AvgPool1d: _AVERAGE_POOL,
    nn.AvgPool2d: (*_AVERAGE_POOL, "divisor_override"),
    nn.AvgPool3d: (*_AVERAGE_POOL, "divisor_override"),
    nn.AdaptiveAvgPool1d: ("output_size",),
    nn.AdaptiveAvgPool2d: ("output_size",),
    nn.AdaptiveMaxPool1d: ("output_size",),
    nn.AdaptiveMaxPool2d: ("output_size",),
    nn.ZeroPad1d: ("padding",),
    nn.ZeroPad2d: ("padding",),
    nn.ZeroPad3d: ("padding",),
    nn.Upsample: ("size", "scale_factor", "mode", "align_corners"),
    Crop2d: ("left", "right", "top", "bottom"),
    Permute: ("dims",),
    Reshape: ("shape",),
    nn.Flatten: ("start_dim", "end_dim"),
    nn.Unflatten: ("dim", "unflattened_size"),
    nn.PixelShuffle: ("upscale_factor",),
    nn.ReLU: (),
    nn.ReLU6: (),
    nn.LeakyReLU: ("negative_slope",),
    nn.PReLU: ("num_parameters",),
    nn.Hardtanh: ("min_val", "max_val"),
    nn.Threshold: ("threshold", "value"),
    nn.Sigmoid: (),
    nn.Hardsigmoid: (),
    nn.Hardswish: (),
    nn.Tanh: (),
    nn.ELU: ("alpha",),
    nn.GELU: ("approximate",),
    nn.SiLU: (),
    nn.Softplus: ("beta", "threshold"),
    nn.Mish: (),
    nn.Softmax: ("dim",),
    nn.LogSoftmax: ("dim",),
    nn.Dropout: ("p",),
    nn.Identity: (),
    AddTime: (),
    Repeat: ("timesteps",),
    Bernoulli: ("timesteps", "seed"),
    Latency: ("timesteps", "floor", "span"),
    LogLatency: ("timesteps", "tau", "threshold"),
    Frames: ("timesteps",),
    EvenRate: ("timesteps",),
    MeanReadout: (),
    SpikeCount: (),
    MembraneReadout: ("decay", "read"),
    QuantisedReLU: ("scale", "levels"),
    Scale: (),
    Shift: (),
    SpikingMaxPool1d: _MAX_POOL,
    SpikingMaxPool2d: _MAX_POOL,
    SignedIAF: ("threshold", "v_initial"),
    IAF: _LIF,
    LIF: _LIF,
    CubaLIF: _LIF,
    Diffused: ("rounding", "gradient", "random_start", "v_initial", "seed"),
    SpikingRNN: (),
    WindowRNN: ("windows", "projection"),
    WindowLIF: ("across", "projection"),
    WindowNeuron: ("analog",),
    WindowConvolution: _WINDOWS,
    WindowLSTM: _WINDOWS,
    LegendreMemory: ("order", "inputs", "discretisation", "last"),
    LMU: ("cell", "last"),
    LSTM: (),
    GRU: (),
    LastStep: (),
    Timewise: (),
}
_SPIKES = ("spike_h", "spike_u", "spike_m")
_BY_NAME = {layer.__name__: layer for layer in _LAYERS}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "cat": torch.cat,
    "flatten": torch.flatten,
    "item": operator.getitem,
}


def save_model(network: Network, path: Path | str, notes: dict[str, Any] | None = None) -> None:
    """Write `network` to `path` in one step. `notes` (plain JSON) come back from `read_notes`.

    Raises BadInput for a layer that a model file cannot describe.
    """
    description = describe_network(network) | {"notes": notes or {}}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in network.graph_module.state_dict().items()}
    with replacing(Path(path)) as file:
        file.write(save(tensors, {"picojoule": json.dumps(description)}))


def describe_network(network: Network) -> dict[str, Any]:
    """A network as plain JSON, without its weights. Raises BadInput for a layer that a model file cannot describe."""
    graph = network.graph_module
    return {
        "picojoule": VERSION,
        "input_shape": list(network.input_shape),
        "classes": network.classes,
        "nodes": [_describe_node(n) for n in graph.graph.nodes],
        "layers": {
            str(n.target): describe_layer(graph.get_submodule(str(n.target)), str(n.target))
            for n in graph.graph.find_nodes(op="call_module")
        },
    }


def load_model(path: Path | str, device: str = "cpu") -> Network:
    """The network in `path`, in evaluation mode. Raises BadInput for anything but an intact model file."""
    description, tensors = _read(Path(path))
    try:
        layers = {name: build_layer(d) for name, d in description["layers"].items()}
        graph = fx.GraphModule(_root(layers), _build_graph(description["nodes"]))
        graph.load_state_dict(tensors, assign=True)  # keeps the type of numbers
        network = Network(graph, tuple(description["input_shape"]), description["classes"])
    except BadInput:
        raise
    except Exception as error:  # a file from anywhere can be wrong in any way
        raise BadInput(f"{path} describes no network that this version can build: {error}") from error
    return network.eval().to(device)


def read_notes(path: Path | str) -> dict[str, Any]:
    """The notes that were saved with a model."""
    return _read(Path(path))[0].get("notes", {})


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise BadInput(f"there is no model file {path}")
    mistaken = mistaken_for_safetensors(path)
    if mistaken == PICKLE:
        mistaken += ", which can run code when it is loaded"
    if mistaken is not None:
        raise BadInput(f"expected a .safetensors file that picojoule wrote, but {path} is {mistaken}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        description = json.loads(metadata["picojoule"])
        version = description["picojoule"]
    except (SafetensorError, OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path} is corrupt or no .safetensors file: {error}") from error
    except (KeyError, TypeError):
        raise BadInput(f"{path} holds weights but no picojoule network description") from None
    if version != VERSION:
        raise BadInput(f"{path} has format version {version}, this picojoule reads {VERSION}")
    return description, tensors


@torch.no_grad()
def describe_layer(layer: nn.Module, name: str) -> dict[str, Any]:
    """A layer as plain JSON. Raises BadInput for a type that model files do not know."""
    if type(layer) not in _LAYERS:
        raise BadInput(f"cannot save {name}: a model file has no description for {type(layer).__name__}")
    arguments = {key: getattr(layer, key) for key in _LAYERS[type(layer)]}
    described: dict[str, Any] = {"type": type(layer).__name__, "arguments": arguments}
    if isinstance(layer, nn.Linear) or "kernel_size" in arguments and "groups" in arguments:
        arguments["bias"] = layer.bias is not None
    if isinstance(layer, Scale | Shift):
        arguments["shape"] = (layer.factor if isinstance(layer, Scale) else layer.offset).shape
    if isinstance(layer, Leaky):
        arguments |= {"threshold": float(layer.threshold), "learn_threshold": layer.threshold_log is not None}
        if not isinstance(layer, IAF):
            arguments |= {"decay": float(layer.decay), "learn_decay": layer.decay_logit is not None}
        if isinstance(layer, CubaLIF):
            arguments["synaptic_decay"] = float(layer.synaptic_decay)
            arguments["learn_synaptic_decay"] = layer.synaptic_decay_logit is not None
        described["surrogate"] = _describe_surrogate(layer.surrogate, name)
    if isinstance(layer, Diffused):
        arguments |= {"fineness": float(layer.fineness), "learn_fineness": layer.fineness_log is not None}
        described["activation"] = describe_layer(layer.activation, name)
    if isinstance(layer, Timewise):
        described["layer"] = describe_layer(layer.layer, name)
    if isinstance(layer, SpikingRNN):
        arguments |= {"in_features": layer.input.in_features, "hidden": layer.input.out_features}
    if isinstance(layer, WindowRNN):
        arguments |= {"in_features": layer.windows * layer.input.in_features, "hidden": layer.input.out_features}
    if isinstance(layer, WindowMixer):
        arguments |= asdict(layer.rules)
    if isinstance(layer, SpikingRNN | WindowRNN | WindowLIF | WindowMixer):
        described["neuron"] = describe_layer(layer.neuron, name)
    if isinstance(layer, LSTM | GRU):
        arguments |= {"in_features": layer.input.in_features, "hidden": layer.recurrent.in_features}
        if layer.spike_h is not None:
            described["spike_h"] = describe_layer(layer.spike_h, name)
    if isinstance(layer, LegendreMemory):
        arguments |= {"theta": float(layer.theta), "learn_theta": layer.theta_log is not None}
        arguments["low_rank"] = not isinstance(layer.Ad, nn.Linear)
    if isinstance(layer, LMU):
        arguments |= {"features": layer.e_x.in_features, "hidden": layer.W_h.in_features}
        arguments |= {"feedback": layer.e_h is not None, "bias": layer.W_x.bias is not None}
        parts = {part: getattr(layer, part) for part in ("memory", *_SPIKES)}
        described |= {part: describe_layer(m, name) for part, m in parts.items() if m is not None}
    return described


def build_layer(described: dict[str, Any]) -> nn.Module:
    """The layer that `describe_layer` described, with fresh weights."""
    kind = _BY_NAME.get(described["type"])
    if kind is None:
        raise BadInput(f"the model file names a layer {described['type']!r} that this version does not know")
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in described["arguments"].items()}
    if "surrogate" in described:
        shape = described["surrogate"]
        arguments["surrogate"] = surrogate(shape["name"], **shape["shape"])
    for part in ("layer", "neuron", "activation", "memory", *_SPIKES):
        if part in described:
            arguments[part] = build_layer(described[part])
    if issubclass(kind, WindowMixer):
        arguments["rules"] = WindowRules(**{f.name: arguments.pop(f.name) for f in fields(WindowRules)})
    if kind in (Permute, Reshape):
        return kind(*next(iter(arguments.values())))
    if kind in (Scale, Shift):
        return kind(torch.ones(arguments["shape"]))
    return kind(**arguments)


def _describe_surrogate(function: Any, name: str) -> dict[str, Any]:
    shape = function.keywords if isinstance(function, partial) else {}
    bare = function.func if isinstance(function, partial) else function
    try:
        known = surrogate(bare.__name__) is bare
    except (BadInput, AttributeError):
        known = False
    if not known:
        raise BadInput(f"cannot save {name}: its surrogate {function!r} is not one of picojoule's")
    return {"name": bare.__name__, "shape": dict(shape)}


def _describe_node(node: fx.Node) -> dict[str, Any]:
    target: Any = node.target
    if node.op == "call_function":
        names = [name for name, function in _FUNCTIONS.items() if function is target]
        if not names:
            raise BadInput(f"cannot save {node.name}: a model file has no description for {target}")
        target = names[0]
    elif node.op not in ("placeholder", "call_module", "output"):
        raise BadInput(f"cannot save {node.name}: a model file has no description for {node.op} {target}")
    return {
        "name": node.name,
        "op": node.op,
        "target": target,
        "arguments": _encode(node.args),
        "keywords": _encode(dict(node.kwargs)),
    }


def _encode(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple | list):
        return [_encode(v) for v in value]
    if isinstance(value, dict):
        return {"dict": {k: _encode(v) for k, v in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadInput(f"a model file cannot hold the argument {value!r}")


def _decode(value: Any, nodes: dict[str, fx.Node]) -> Any:
    if isinstance(value, dict):
        if "node" in value:
            return nodes[value["node"]]
        return {k: _decode(v, nodes) for k, v in value["dict"].items()}
    return [_decode(v, nodes) for v in value] if isinstance(value, list) else value


def _build_graph(described: list[dict[str, Any]]) -> fx.Graph:
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for d in described:
        arguments, keywords = tuple(_decode(d["arguments"], nodes)), _decode(d["keywords"], nodes)
        target = _FUNCTIONS[d["target"]] if d["op"] == "call_function" else d["target"]
        if d["op"] not in ("placeholder", "call_module", "call_function", "output"):
            raise BadInput(f"the model file has a step {d['op']!r} that this version does not know")
        for name in (d["target"], *keywords):  # fx writes them into the code it generates
            if not re.fullmatch(r"\w+(\.\w+)*", name):
                raise BadInput(f"the model file has a step with the name {name!r}, which is no name of a layer")
        nodes[d["name"]] = graph.create_node(d["op"], target, arguments, keywords, d["name"])
    return graph


def _root(layers: dict[str, nn.Module]) -> nn.Module:
    """A module that holds layers under dotted names."""
    root = nn.Module()
    for name, layer in layers.items():
        parent = root
        *path, last = name.split(".")
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, layer)
    return root
