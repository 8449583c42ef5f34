"""Scores, accuracy and accumulates after every step of one run."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from picojoule.energy import count
from picojoule.errors import BadInput
from picojoule.graph.observe import Observed, observe
from picojoule.graph.passes import bypass, copied, recompiled
from picojoule.graph.trace import module_of
from picojoule.kinds import Events
from picojoule.layers import MeanReadout, SpikeCount
from picojoule.networks import Network


class Anytime(NamedTuple):
    """What a network has answered after t = 1 ... T steps, on a batch or on all of them.

    `scores` `[T, B, classes]` are those of the first t steps; `acs` `[T]` are the mean accumulates per image up to t;
    `macs` is what the image costs, once: multiply-accumulates with a non-zero value; `dense_macs` those with zeros too.
    """

    scores: Tensor
    acs: Tensor
    macs: float
    dense_macs: float


class Curve(NamedTuple):
    """Accuracy (fraction), mean accumulates per image after each of T steps, both `[T]`, and multiply-accumulates.

    `macs` and `dense_macs` are as in `Anytime`.
    """

    accuracy: Tensor
    acs: Tensor
    macs: float
    dense_macs: float


def anytime(network: Network) -> "AnytimeNetwork":
    """Make a converted network answer after every step: `made(x) -> Anytime`.

    One run of T steps tells what runs of 1 to T steps would say, with the scales and biases that were chosen for T.
    Raises BadInput for networks that read neither a mean nor a count.
    """
    graph = copied(network.graph_module)
    (readout,) = next(iter(graph.graph.find_nodes(op="output"))).all_input_nodes
    kind = module_of(graph, readout)
    if not isinstance(kind, MeanReadout | SpikeCount):
        raise BadInput(f"expected a network that reads a mean or a count, got {type(kind).__name__}")
    bypass(graph, readout)
    like = next(network.parameters(), torch.zeros(()))
    example = torch.zeros(1, *network.input_shape, dtype=like.dtype, device=like.device)
    return AnytimeNetwork(observe(recompiled(graph), example), isinstance(kind, MeanReadout))


class AnytimeNetwork(nn.Module):
    """A network that answers after every step; see `anytime`."""

    def __init__(self, observed: Observed, mean: bool):
        super().__init__()
        self.observed, self._mean = observed, mean

    @torch.no_grad()
    def forward(self, x: Tensor) -> Anytime:
        currents, activity = self.observed(x)
        scores = currents.cumsum(0)
        if self._mean:
            steps = torch.arange(1, len(scores) + 1, dtype=scores.dtype, device=scores.device)
            scores = scores / steps.reshape(-1, 1, 1)
        events = [r for r in activity.synapses if isinstance(r.site.kind, Events)]
        acs = sum((r.by_step for r in events), torch.zeros(len(scores), dtype=torch.float64, device=x.device))
        counts = count(activity)
        macs, dense = (float(counts.total(quantity)) for quantity in ("macs", "dense_macs"))
        return Anytime(scores, acs.cumsum(0) / len(x), macs, dense)


def accuracy_by_step(network: Network, batches: Iterable[tuple[Tensor, Tensor]]) -> Curve:
    """Accuracy and accumulates after every step, over batches of images and labels."""
    made, right, acs, macs, dense, samples = anytime(network), 0, 0, 0.0, 0.0, 0
    for x, y in batches:
        found = made(x)
        right = right + (found.scores.argmax(2) == y).sum(1)
        acs, samples = acs + found.acs * len(y), samples + len(y)
        macs, dense = macs + found.macs * len(y), dense + found.dense_macs * len(y)
    if not samples:
        raise BadInput("expected at least one batch of images and labels, got none")
    accuracy = torch.as_tensor(right).double() / samples
    return Curve(accuracy, torch.as_tensor(acs) / samples, macs / samples, dense / samples)
