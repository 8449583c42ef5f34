"""What other counters say of a model, by their own code."""

import io
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Tool(NamedTuple):
    """A counter: the package it is in, the call that makes its number, and what was done to make it run."""

    package: str
    call: str
    numbers: Callable[[nn.Module, Tensor, int], dict[str, float]]
    note: str = ""


def peer_numbers(tool: str, model: nn.Module, x: Tensor, batch_dim: int = 0) -> dict[str, float]:
    """What a tool reports for `model(x)`, per sample.

    Keys: `acs`, `macs` (its two classes, where it has them), `dense`, or `synops` where it has no classes. Where the
    tool's own number is of the whole batch, or a mean over its first axis, it is brought to one sample here.
    Some tools leave attributes on the model: give each a fresh one (not a copy: snnTorch does not reset copies).
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return TOOLS[tool].numbers(model, x, x.shape[batch_dim])


def _syops(model: nn.Module, x: Tensor, samples: int) -> dict[str, float]:
    neuron: Any = import_module("spikingjelly.activation_based.neuron")
    for name in ("MultiStepIFNode", "MultiStepLIFNode", "MultiStepParametricLIFNode"):
        if not hasattr(neuron, name):
            setattr(neuron, name, type(name, (nn.Module,), {}))
    info = import_module("syops").get_model_complexity_info
    options = {"as_strings": False, "print_per_layer_stat": False, "ost": io.StringIO()}
    holder = nn.Sequential(model)
    counted, _ = info(holder, tuple(x.shape[1:]), [(x, None)], **options)
    per_sample = x.shape[0] / samples  # it divides by the length of the first axis
    return {q: float(n) * per_sample for q, n in zip(("dense", "acs", "macs"), counted[:3], strict=True)}


def _neurobench(model: nn.Module, x: Tensor, samples: int) -> dict[str, float]:
    wrapped = import_module("neurobench.models").TorchModel(nn.Sequential(model))
    metric = import_module("neurobench.metrics.workload").SynapticOperations()
    wrapped.register_hooks()
    y = wrapped(x)
    found = metric(wrapped, y, (x.new_zeros(samples), None))
    wrapped.cleanup_hooks()
    return {"acs": found["Effective_ACs"], "macs": found["Effective_MACs"], "dense": found["Dense"]}


def _spikingjelly(model: nn.Module, x: Tensor, samples: int) -> dict[str, float]:
    counter: Any = import_module("spikingjelly.activation_based.op_counter")
    synops, macs = counter.SynOpCounter(), counter.MACCounter()
    with counter.DispatchCounterMode([synops, macs]):
        model(x)
    return {"acs": synops.get_total() / samples, "macs": macs.get_total() / samples}


def _sinabs(model: nn.Module, x: Tensor, samples: int) -> dict[str, float]:
    analyzer = import_module("sinabs.synopcounter").SNNAnalyzer(model)
    model(x)
    return {"synops": float(analyzer.get_model_statistics()["synops"])}


def _sinabs_layers(model: nn.Module, x: Tensor, samples: int) -> dict[str, float]:
    analyzer = import_module("sinabs.synopcounter").SNNAnalyzer(model)
    model(x)
    layers = analyzer.get_layer_statistics()["parameter"].values()
    return {"synops": float(sum(layer["synops"] for layer in layers))}


def _sinabs_hooks(model: nn.Module, x: Tensor, samples: int) -> dict[str, float]:
    hooks: Any = import_module("sinabs.hooks")
    holder = model if isinstance(model, nn.Sequential) else nn.Sequential(model)
    hooks.register_synops_hooks(holder)
    y = holder(x)
    steps = y.shape[0] / samples  # its mean runs over the first axis, in which sinabs folds time
    return {"synops": float(holder.hook_data["total_synops_per_timestep"]) * steps}  # pyright: ignore


TOOLS = {
    "syops": Tool(
        "syops",
        "get_model_complexity_info(model, x.shape[1:], dataloader)",
        _syops,
        "the names MultiStep*Node, which SpikingJelly 2.0 no longer has, were given to empty classes to import it",
    ),
    "neurobench": Tool("neurobench", "SynapticOperations()(TorchModel(model), y, data)", _neurobench),
    "spikingjelly": Tool(
        "spikingjelly",
        "DispatchCounterMode([SynOpCounter(), MACCounter()])",
        _spikingjelly,
        "divided by the batch here",
    ),
    "sinabs": Tool("sinabs", "SNNAnalyzer(model).get_model_statistics()", _sinabs),
    "sinabs-layers": Tool("sinabs", "SNNAnalyzer(model).get_layer_statistics(), added up", _sinabs_layers),
    "sinabs-hooks": Tool("sinabs", "hooks.register_synops_hooks(Sequential)", _sinabs_hooks, "times time steps here"),
}
"""The counters that ran. Norse 1.1.0 has none: its formula is in a pull request (#444), not in a release."""


class Row(NamedTuple):
    """One input to the layer of the vector, and what an exact count gives per sample."""

    name: str
    x: Tensor
    unit: float | None
    operations: int


def vector() -> tuple[nn.Conv2d, list[Row]]:
    """One convolution and four inputs that every tool counts in its own way.

    Seed 0; `x = rand(2, 3, 8, 8) < 0.2`; `Conv2d(3, 4, 3, padding=1, bias=False)`; then the ternary input
    `x - (rand_like(x) < 0.1)`; then `relu(randn(2, 3, 8, 8))`. Leaves torch's generator as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = (torch.rand(2, 3, 8, 8) < 0.2).float()
        layer = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        ternary = x - (torch.rand_like(x) < 0.1).float()
        relu = torch.relu(torch.randn(2, 3, 8, 8))
    rows = [
        Row("{0, 1}", x, 1.0, 1258),
        Row("{0, 0.5}", x * 0.5, 0.5, 1258),
        Row("{-1, 0, 1}", ternary, 1.0, 1570),
        Row("ReLU-like", relu, None, 3090),
    ]
    return layer, rows
