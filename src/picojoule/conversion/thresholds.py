"""The activation that is one event per step, from calibration data."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from picojoule.conversion.elementwise import SUMS, beside, moved
from picojoule.conversion.groups import groups
from picojoule.conversion.options import ECCOptions
from picojoule.conversion.parts import CountInput, ceiling_of, channelwise, neurons_of, shape_of
from picojoule.conversion.signals import Signal
from picojoule.conversion.summaries import Summaries
from picojoule.conversion.weights import takes_in
from picojoule.graph.trace import module_of
from picojoule.layers import Permute, Reshape

BINS = 4096
"""Bins of the histograms in which "mmse" looks for its scale (our choice)."""
GRID = 95
"""Scales that "mmse" tries, evenly spaced up to the largest activation."""

_TURNING = (Permute, Reshape, nn.Unflatten, nn.PixelShuffle)


def scales(graph: fx.GraphModule, batches: Sequence[Tensor], timesteps: int, options: ECCOptions) -> dict[str, Tensor]:
    """What one event per step stands for, by the name of each rectifier's node: a scalar, or `[C, 1, ...]`.

    Neurons whose events are added up share a scale, the largest of theirs. A channel that is never active has the scale
    of its layer. The input and the output layer of neurons have their maximum. No scale is above a rectifier's ceiling.
    """
    nodes = neurons_of(graph)
    if options.constant is not None or options.normalisation == "none":
        return {n.name: torch.tensor(min(options.constant or 1.0, ceiling_of(module_of(graph, n)))) for n in nodes}
    by_channel = {n for n in nodes if options.by_channel and _may_differ_by_channel(graph, n)}
    found = _measured(graph, nodes, by_channel, batches, timesteps, options)
    for group in groups(graph, Signal.CONSTANT):
        together = all(n in by_channel for n in group) and len({found[n].shape for n in group}) == 1
        own = [found[n] if together else found[n].max() for n in group]
        largest = torch.stack(own).amax(0)
        found |= dict.fromkeys(group, largest)
    return {n.name: channelwise(scale, shape_of(n)) for n, scale in found.items()}


def _measured(
    graph: fx.GraphModule,
    nodes: list[fx.Node],
    by_channel: set[fx.Node],
    batches: Sequence[Tensor],
    timesteps: int,
    options: ECCOptions,
) -> dict[fx.Node, Tensor]:
    highest = Summaries(graph, nodes, by_channel, lambda n, x: x.amax(1)).over(batches)
    found = {n: torch.stack(values).amax(0) for n, values in highest.items()}
    ends = {n for n in nodes if isinstance(module_of(graph, n), CountInput) or _is_last(n)}
    if options.normalisation == "percentile" and options.percentile < 100:
        ranks = Summaries(graph, nodes, by_channel, lambda n, x: _ranked(x, options.percentile)).over(batches)
        found |= {n: torch.stack(values).mean(0) for n, values in ranks.items() if n not in ends}
    elif options.normalisation == "mmse":
        limits = {n: _above_zero(largest) for n, largest in found.items()}
        counts = Summaries(graph, nodes, by_channel, lambda n, x: _histogram(x, limits[n])).over(batches)
        found |= {n: _least_error(sum(c), limits[n], timesteps) for n, c in counts.items() if n not in ends}
    found = {n: _above_zero(scale) for n, scale in found.items()}
    ceilings = {n: ceiling_of(module_of(graph, n)) for n in nodes}
    return {n: scale.clamp(max=ceilings[n]).reshape(-1 if n in by_channel else ()) for n, scale in found.items()}


def _is_last(node: fx.Node) -> bool:
    return all(user.op == "output" for user in node.users)


def _above_zero(scale: Tensor) -> Tensor:
    """Scales `[C]` with those of silent channels replaced by the largest, or by 1."""
    largest = scale.amax()
    return torch.where(scale > 0, scale, largest if largest > 0 else torch.ones_like(largest))


def _ranked(x: Tensor, percentile: float) -> Tensor:
    rank = max(1, round(x.shape[1] * percentile / 100))
    return x.amax(1) if rank == x.shape[1] else x.kthvalue(rank, 1).values


def _histogram(x: Tensor, limit: Tensor) -> Tensor:
    """Counts `[C, BINS]` of values `[C, n]` over 0 to their limits `[C]`."""
    place = (x / limit.unsqueeze(1) * BINS).long().clamp(0, BINS - 1)
    rows = torch.arange(len(x), device=x.device).unsqueeze(1) * BINS
    return torch.bincount((place + rows).flatten(), minlength=len(x) * BINS).reshape(len(x), BINS).double()


def _least_error(counts: Any, limit: Tensor, timesteps: int) -> Tensor:
    """The scales `[C]` up to their limits with the least squared error of rounding to T levels."""
    centres = (torch.arange(BINS, dtype=torch.float64, device=limit.device) + 0.5) / BINS
    shares = torch.arange(1, GRID + 1, dtype=torch.float64, device=limit.device) / GRID
    errors = []
    for share in shares:
        level = torch.round(centres * timesteps / share).clamp(0, timesteps) * share / timesteps
        errors.append(counts[:, 1:] @ (centres - level)[1:] ** 2)  # the lowest bin holds what is silent
    return limit * shares[torch.stack(errors).argmin(0)].to(limit)


def _may_differ_by_channel(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the weights behind a population can take in a scale for every channel, so that events stay events.

    A constant with another value in every channel is moved to them as its scale would be. Sums behind a layer that
    turns axes want one scale, since their other operand may not be turned.
    """
    shape = shape_of(node)
    each = channelwise(torch.arange(1.0, shape[0] + 1), shape)
    ahead: list[tuple[fx.Node, fx.Node, Tensor, bool]] = [(user, node, each, False) for user in node.users]
    while ahead:
        user, source, factor, turned = ahead.pop()
        module, behind = module_of(graph, user), None
        if user in neurons_of(graph) or user.op == "output" or takes_in(module, factor):
            continue
        if user.target in SUMS:
            behind = None if turned else factor
        elif user.target is torch.cat:
            behind = beside(user, {source: factor}, 1.0)
        else:
            behind = moved(module, factor, shape_of(source))
        if behind is None:
            return False
        ahead += [(n, user, behind, turned or isinstance(module, _TURNING)) for n in user.users]
    return True
