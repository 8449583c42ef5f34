"""Post-training use of the temporally diffused quantiser: every activation of a trained network becomes neurons."""

import copy
from itertools import count
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, fx, nn

from picojoule.cells import GRU, LMU, LSTM
from picojoule.conversion.analog import without_time
from picojoule.conversion.time import over_time
from picojoule.errors import BadInput
from picojoule.graph.passes import recompiled
from picojoule.graph.trace import module_of
from picojoule.layers import QuantisedReLU
from picojoule.networks import SIGNALS, Network
from picojoule.networks.definition import check_signals
from picojoule.neurons import Diffused, Stateful
from picojoule.neurons.diffused import ACTIVATIONS, check_fineness

_RECURRENT = (LMU, LSTM, GRU)
_ACTIVATIONS = (
    *(a for a in ACTIVATIONS.values() if a is not nn.Identity),
    *(nn.Hardsigmoid, nn.Hardswish, nn.Mish, nn.CELU, nn.SELU, nn.Softsign, nn.LogSigmoid, nn.Threshold),
    *(nn.Hardshrink, nn.Softshrink, nn.Tanhshrink),
)


def quantise(
    model: nn.Module,
    fineness: float = 4.0,
    *,
    timesteps: int = 1,
    example: Tensor | None = None,
    rounding: str = "diffused",
    gradient: str = "spiking",
    random_start: bool = True,
    learn_fineness: bool = False,
    signals: str = SIGNALS,
) -> Network:
    """A copy of a trained network whose activations are `Diffused` neurons, over `timesteps` steps; weights stay.

    `model` takes images `[B, ...]` and yields scores `[B, classes]`; `example` `[B, ...]` is one batch of them, which a
    Network does not need. The image is a constant current and the scores are the mean output current, which tend to
    those of `model` as `fineness` grows. More steps average noise, but not what an activation or a max pool makes of
    noise in its input. Batch norm and weights stay trainable, for spiking-aware fine-tuning; dropout, and a softmax of
    the scores, are taken out. The other settings are those of `Diffused`.

    Of a Network with cells LMU, LSTM or GRU, which has time steps of its own, the `signals` of these cells alone become
    events: h, u, and the copy of m that is multiplied, of an LMU; h of the others.

    Raises BadInput for a network with spikes already, without an activation, or with one that is not elementwise.
    """
    if not isinstance(timesteps, Integral) or timesteps < 1:
        raise BadInput(f"expected timesteps of at least 1, a whole number, got {timesteps!r}")
    check_fineness(fineness)
    settings: dict[str, Any] = {"rounding": rounding, "gradient": gradient, "random_start": random_start}
    settings["learn_fineness"] = learn_fineness
    if isinstance(model, Network) and any(isinstance(m, _RECURRENT) for m in model.modules()):
        if timesteps > 1:
            raise BadInput(f"expected timesteps=1, since a recurrent network has steps of its own, got {timesteps}")
        return _with_quantised_signals(model, signals, fineness, settings)
    if example is None:
        if not isinstance(model, Network):
            raise BadInput(f"expected example=, one batch of inputs [B, ...] of {type(model).__name__}, got none")
        example = _example(model)
    graph = recompiled(without_time(model, example)[0])
    spiking = [m for m in graph.modules() if isinstance(m, Stateful)]
    if spiking:
        raise BadInput(f"expected an analog network to quantise, got one with {type(spiking[0]).__name__} in it")
    classes = model.classes if isinstance(model, Network) else _scores(graph, example).shape[-1]
    nodes = [n for n in graph.graph.nodes if _is_elementwise(module_of(graph, n), str(n.target))]
    if not nodes:
        raise BadInput(f"expected a network with activations such as ReLU or tanh, got {type(model).__name__} without")
    for seed, node in enumerate(nodes):
        activation: Any = module_of(graph, node)
        neurons = Diffused(activation, fineness, seed=seed, **settings)
        graph.set_submodule(str(node.target), neurons.to(example.device))
    return Network(over_time(graph, timesteps), tuple(example.shape[1:]), classes).eval()


def _with_quantised_signals(model: Network, signals: str, fineness: float, settings: dict[str, Any]) -> Network:
    gated = not any(isinstance(m, LMU) for m in model.modules())
    check_signals(signals, "this network" if gated else "")
    made = copy.deepcopy(model)
    like, seeds = next(made.parameters()), count()
    found = [
        (cell, f"spike_{signal}")
        for cell in made.modules()
        for signal in SIGNALS
        if signal in signals and isinstance(cell, _RECURRENT) and hasattr(cell, f"spike_{signal}")
    ]
    for cell, place in found:
        if getattr(cell, place) is not None:
            raise BadInput(f"expected an analog network to quantise, got one with {place} in {type(cell).__name__}")
        setattr(cell, place, Diffused("identity", fineness, seed=next(seeds), **settings).to(like.device))
    return made.eval()


def _is_elementwise(layer: object, name: str) -> bool:
    """Whether a layer is an activation that can be quantised. Raises BadInput for an activation that cannot."""
    if isinstance(layer, _ACTIVATIONS) or isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
        return True
    if isinstance(layer, QuantisedReLU) or type(layer).__module__ == nn.ReLU.__module__:
        raise BadInput(
            f"cannot quantise {name} ({type(layer).__name__}): expected elementwise activations such as ReLU, tanh, or "
            "PReLU with one slope; train the network with one of them in its place"
        )
    return False


def _example(model: Network) -> Tensor:
    like = next(model.parameters(), torch.zeros(()))
    return torch.zeros(1, *model.input_shape, dtype=like.dtype, device=like.device)


def _scores(graph: fx.GraphModule, example: Tensor) -> Tensor:
    with torch.no_grad():
        scores = graph(example)
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise BadInput(f"expected a model with scores [B, classes], got {got}; quantise its classifying part")
    return scores
