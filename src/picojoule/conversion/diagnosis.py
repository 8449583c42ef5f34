"""Where a conversion loses what the trained network knew: activations against rates, layer by layer."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from picojoule.conversion.images import image_batches
from picojoule.conversion.options import ECCOptions
from picojoule.conversion.pipeline import Converted, ConvertedLayer
from picojoule.errors import BadInput
from picojoule.graph.trace import module_of

BROKEN = 0.9
"""A layer whose rates correlate with the activations less than this is where a conversion breaks (our choice)."""
MANY = 0.02
"""A share of saturated neurons from which they are named as the cause (our choice)."""
MISSING = 0.2
"""A share of neurons that never fire although their activation does, from which they are named (our choice)."""
SHIFTED = 0.02
"""A mean error of a channel, in events per step, from which correcting biases is suggested (our choice)."""
CONSTANT = 1e-9
"""A share of variation in a sum of squares up to which activations are constant: rounding of float32."""


@dataclass(frozen=True)
class LayerDiagnosis:
    """One population against the activation it stands for, over images; all in units of one event per step.

    correlation: of activations and rates, over neurons and images; 1 is perfect. Where activations are constant it is 1
        if rates agree with them up to rounding, else 0; 0 also where rates alone are constant.
    mean_error: mean absolute difference.
    max_error: that of the worst channel.
    shift: the largest difference of a channel's means, with its sign (rates above activations are positive).
    residual: mean absolute charge, in thresholds, that neurons driven above 0 left behind or spent too early (0.25 if
        they only round).
    saturated_fraction: neurons that fired at every step, as a share of neurons and images.
    silent_fraction: neurons without an event on all images.
    missing_fraction: those of them whose activation was above 0 on some image.
    """

    name: str
    correlation: float
    mean_error: float
    max_error: float
    shift: float
    residual: float
    saturated_fraction: float
    silent_fraction: float
    missing_fraction: float


class Diagnosis(NamedTuple):
    """The layers in wiring order, the name of the first that breaks (None if none does), and what to try."""

    layers: tuple[LayerDiagnosis, ...]
    breaks_at: str | None
    suggestion: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return self._asdict() | {"layers": [asdict(layer) for layer in self.layers]}


@torch.no_grad()
def diagnose(converted: Converted, images: Tensor | Iterable[Any]) -> Diagnosis:
    """Compare every population with its activation on images: one tensor `[N, ...]`, or batches as for `convert`.

    Raises BadInput without any, and for those of another shape.
    """
    spiking, ann = converted.network.graph_module, converted.ann
    tallies = {layer.name: _Tally(layer, _threshold(spiking, layer.name)) for layer in converted.layers}
    shape = converted.network.input_shape
    for x in image_batches(images, "images to diagnose"):
        if tuple(x.shape[1:]) != shape:
            raise BadInput(f"expected images to diagnose [B, {', '.join(map(str, shape))}], got shape {list(x.shape)}")
        wanted = {n for name in tallies for n in _with_source(spiking, name)}
        trains, activations = _values(spiking, wanted, x), _values(ann, set(tallies), x)
        for name, tally in tallies.items():
            _, source = _with_source(spiking, name)
            tally.add(activations[name], trains[name], trains[source])
    if any(tally.images == 0 for tally in tallies.values()):
        raise BadInput("expected at least one image to diagnose, got none")
    layers = tuple(tally.diagnosis() for tally in tallies.values())
    breaks = next((layer for layer in layers if layer.correlation < BROKEN), None)
    return Diagnosis(layers, breaks and breaks.name, _suggestion(layers, breaks, converted))


def _suggestion(layers: tuple[LayerDiagnosis, ...], breaks: LayerDiagnosis | None, converted: Converted) -> str:
    """What to try, from the first layer that breaks, or the one with the largest error."""
    layer = breaks or max(layers, key=lambda found: found.mean_error)
    steps, options = converted.network.timesteps, converted.options
    tried = []
    if layer.saturated_fraction > MANY:
        tried.append(
            f"{100 * layer.saturated_fraction:.1f} % of its neurons fire at every step, so that larger activations are "
            f"cut off: {_higher_scale(options)}"
        )
    if layer.missing_fraction > MISSING:
        lower = "lower its scale (normalisation mmse) or " if options.normalisation != "mmse" else ""
        tried.append(
            f"{100 * layer.missing_fraction:.1f} % of its neurons never fire although their activation does: {lower}"
            "give more steps"
        )
    if abs(layer.shift) > SHIFTED and not options.bias_correction:
        tried.append(
            f"the mean of a channel is off by {layer.shift:+.2f} events per step: correct biases (bias_correction)"
        )
    if layer.residual > 0.5 and not options.signed:
        tried.append(
            f"{layer.residual:.1f} thresholds of charge are left behind or were spent too early: let neurons take "
            "events back (signed)"
        )
    if not tried:
        tried.append(f"its rates are as exact as {steps} steps allow: give more steps")
    if breaks is None:
        return f"No layer breaks; {layer.name} has the largest error: {'; '.join(tried)}."
    return f"{layer.name} is the first layer that breaks (correlation {layer.correlation:.2f}): {'; '.join(tried)}."


def _higher_scale(options: ECCOptions) -> str:
    if options.normalisation == "mmse":
        return "give more steps, for which mmse cuts off less"
    return f"raise its scale (normalisation {'max' if options.normalisation != 'max' else 'mmse, by channel'})"


class _Tally:
    """Running sums of one population."""

    def __init__(self, layer: ConvertedLayer, threshold: float):
        self.layer, self.threshold, self.images, self.steps = layer, threshold, 0, 1
        self._sums = torch.zeros(6, dtype=torch.float64)
        self._residual = self._saturated = self._driven = 0.0
        self._error: Any = 0.0
        self._difference: Any = 0.0
        self._fired: Any = False
        self._active: Any = False

    def add(self, activation: Tensor, train: Tensor, current: Tensor) -> None:
        """Activations `[B, C, ...]`, events `[T, B, C, ...]`, and the currents that drove them."""
        counts, steps = train.sum(0), len(train)
        a, r = (activation / self.layer.scale).double(), counts.double() / steps
        self.images, self.steps = self.images + len(a), steps
        n = torch.tensor(float(a.numel()))
        self._sums += torch.stack([n.double(), a.sum(), r.sum(), (a * a).sum(), (r * r).sum(), (a * r).sum()])
        by_channel = (a - r).transpose(0, 1).flatten(1)
        self._error += by_channel.abs().mean(1) * len(a)
        self._difference -= by_channel.mean(1) * len(a)
        charge = current.expand_as(train).sum(0).double() / self.threshold
        driven = (charge > 0) | (counts != 0)
        self._residual += float((charge - counts)[driven].abs().sum())
        self._driven += int(driven.sum())
        self._saturated += float((counts.abs() >= steps).double().mean()) * len(a)
        self._fired = self._fired | (train != 0).flatten(0, 1).any(0)
        self._active = self._active | (a > 0).any(0)

    def diagnosis(self) -> LayerDiagnosis:
        n, a, r, aa, rr, ar = self._sums.tolist()
        varied_a, varied_r = aa - a * a / n, rr - r * r / n
        max_error = float(self._error.max()) / self.images
        if varied_a <= CONSTANT * aa:
            correlation = float(max_error <= 1 / self.steps)
        else:
            correlation = 0.0 if varied_r <= CONSTANT * rr else (ar - a * r / n) / (varied_a * varied_r) ** 0.5
        shifts = self._difference / self.images
        silent = ~self._fired
        return LayerDiagnosis(
            self.layer.name,
            correlation,
            float(self._error.mean()) / self.images,
            max_error,
            float(shifts[shifts.abs().argmax()]),
            self._residual / max(1.0, self._driven),
            self._saturated / self.images,
            float(silent.double().mean()),
            float((silent & self._active).double().mean()),
        )


def _threshold(graph: fx.GraphModule, name: str) -> float:
    """What one event of a population costs its membrane."""
    (node,) = [n for n in graph.graph.nodes if n.name == name]
    neuron: Any = module_of(graph, node)
    return float(neuron.threshold)


def _with_source(graph: fx.GraphModule, name: str) -> tuple[str, str]:
    """A population's node and the one that drives it."""
    (node,) = [n for n in graph.graph.nodes if n.name == name]
    return name, node.all_input_nodes[0].name


def _values(graph: fx.GraphModule, names: set[str], x: Tensor) -> dict[str, Tensor]:
    """What the named nodes yield for one batch."""
    run = _Keep(graph, names)
    run.run(x)
    return run.found


class _Keep(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, names: set[str]):
        super().__init__(graph)
        self._names, self.found = names, {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._names:
            self.found[n.name] = value
        return value
