"""What cannot be converted, and what to do instead."""

import operator

import torch
from torch import Tensor, fx, nn

from picojoule.cells import WindowMixer
from picojoule.conversion.parts import (
    ADAPTIVE_MAXIMA,
    AVERAGES,
    LEAKY,
    MAXIMA,
    MOVES,
    NORMS,
    RECTIFIERS,
    is_synaptic,
    neurons_of,
)
from picojoule.errors import BadInput
from picojoule.graph.trace import module_of
from picojoule.layers import Scale, Shift
from picojoule.neurons import Neuron, Stateful

_KNOWN = (*RECTIFIERS, *LEAKY, *ADAPTIVE_MAXIMA, *AVERAGES, *MAXIMA, *MOVES, *NORMS, Scale, Shift)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase, Stateful)
_ATTENTION = (
    *(nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder),
    *(nn.TransformerEncoderLayer, nn.TransformerDecoderLayer),
)
_IMAGE_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.LocalResponseNorm)
_SOFTMAX = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d)
_RELU = "train the network with ReLU in its place, which spikes can stand for"


def refuse_spiking(model: nn.Module) -> None:
    """Raise BadInput for a model that has neurons already, such as one that was converted."""
    for name, module in model.named_modules():
        if isinstance(module, Neuron):
            raise BadInput(
                f"there is nothing to convert: {name or 'the model'} ({type(module).__name__}) already spikes; use the "
                "network as it is, or convert the one of ReLUs that it was made of"
            )


def refuse_unrectified(graph: fx.GraphModule, name: str) -> None:
    """Raise BadInput for an analog graph, that of the model `name`, in which no place would spike."""
    if not neurons_of(graph):
        raise BadInput(
            f"there is nothing to convert: no layer of {name} would receive spikes, since it has no ReLU and no two "
            "linear layers in a row; measure it as it is"
        )


def refuse_unknown(graph: fx.GraphModule) -> None:
    """Raise BadInput for the first part of an analog graph that has no spiking form, with what to do."""
    for node in graph.graph.nodes:
        module = module_of(graph, node)
        if node.op in ("placeholder", "output"):
            continue
        if module is None:
            _refuse_function(node)
            continue
        name = f"{node.target} ({type(module).__name__})"
        if not (is_synaptic(module) or isinstance(module, _KNOWN)):
            raise BadInput(f"cannot convert {name}: {_advice(module)}")
        if isinstance(module, nn.Hardtanh) and module.min_val != 0:
            raise BadInput(f"cannot convert {name} from {module.min_val:g}: events are not negative; {_RELU}")
        if isinstance(module, LEAKY) and bool((_slope(module) < 0).any()):
            raise BadInput(f"cannot convert {name} with a negative slope: its activation has a minimum; {_RELU}")
        if isinstance(module, nn.MaxPool1d | nn.MaxPool2d) and module.return_indices:
            raise BadInput(f"cannot convert {name} that returns indices: spikes carry none; use it without them")
        if any(not bool(p.isfinite().all()) for p in (*module.parameters(), *_floats(module))):
            raise BadInput(f"cannot convert {name}: its weights hold NaN or infinity; train or load the model again")


def _advice(module: nn.Module) -> str:
    """Why a layer has no spiking form, and what to use instead."""
    if isinstance(module, WindowMixer):
        return (
            "a window mixer, spiking or of ReLUs, cannot be converted, for its membranes go on from window to window; "
            "use it as it is, or train a spiking one with `picojoule train one-step`"
        )
    if isinstance(module, _RECURRENT):
        return (
            "conversion is for networks without recurrence; train a spiking recurrent network instead, such as "
            "`picojoule train plain --network spiking-rnn`"
        )
    if isinstance(module, _ATTENTION):
        return (
            "attention multiplies activations by each other, which spikes of single neurons cannot stand for; use "
            "convolutions or linear layers in its place"
        )
    if isinstance(module, _IMAGE_NORMS) or type(module).__name__.startswith("InstanceNorm"):
        return (
            "it computes its mean or deviation anew for every image; train the network with batch norm in its place, "
            "whose constants become part of the weights"
        )
    if isinstance(module, _SOFTMAX):
        return (
            "a softmax is left out where it makes the scores, but activations behind this one are computed from it; "
            "train the network with ReLU in its place, or take it out"
        )
    if type(module).__module__ == nn.ReLU.__module__:
        return f"it has no spiking form; {_RELU}, or take it out"
    return (
        "it has no spiking form; use linear layers, convolutions, batch norm, ReLU, and max or average pooling in its "
        "place, or take it out"
    )


def _refuse_function(node: fx.Node) -> None:
    name = getattr(node.target, "__name__", str(node.target))
    known = node.target in (operator.add, operator.sub, torch.cat)
    operands = [a for a in node.args if not isinstance(a, list | tuple)] if node.target is not torch.cat else []
    if not known or not all(isinstance(a, fx.Node) for a in operands):
        raise BadInput(f"cannot convert {node.name} ({name}): it has no spiking form; write it as a layer of torch.nn")


def _floats(module: nn.Module) -> list[Tensor]:
    return [b for b in module.buffers() if b.is_floating_point()]


def _slope(module: nn.Module) -> Tensor:
    return module.weight if isinstance(module, nn.PReLU) else torch.tensor(module.negative_slope)  # pyright: ignore
