"""Measure a model: operations, joules, baselines and neuron health over a data set, from one pass."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from picojoule.energy import price
from picojoule.energy.baselines import check_settings
from picojoule.energy.conventions import Conventions
from picojoule.energy.energy_report import EnergyReport
from picojoule.energy.presentations import presentations_of
from picojoule.energy.tally import Tally
from picojoule.errors import BadInput, UncountedLayer
from picojoule.graph.shapes import evaluating
from picojoule.kinds import Kind, Values
from picojoule.metering import ChangedPath, KeptState, Meter, meter

HARDWARE = "horowitz-45nm-fp32"


def measure(
    model: nn.Module,
    batches: Iterable[Tensor | tuple[Tensor, Tensor]],
    hardware: str | Path | price.Hardware | Iterable[str | Path | price.Hardware] = HARDWARE,
    inputs: Kind = Values(),  # noqa: B008  (frozen)
    batch_dim: int = 0,
    *,
    spiking: tuple[type[nn.Module], ...] = (),
    values: tuple[type[nn.Module], ...] = (),
    strict: bool = False,
    run: Callable[[nn.Module, Tensor], Any] | None = None,
    scores: Callable[[Any], Tensor] | None = None,
    conventions: str | Iterable[str] = (),
    ann_density: float | None = None,
    presentations: int | None = None,
    skip_zero_weights: bool = False,
) -> EnergyReport:
    """Run any torch model once over `batches` of x or (x, y) in evaluation mode; report operations and energy.

    `inputs` is the kind of x and `batch_dim` its batch axis, `hardware` one or several price lists: names, or paths
    of `.toml` files. `spiking` and `values` name module types whose output is stated to be unit events, or values,
    instead of followed. With `strict` something that cannot be counted raises UncountedLayer; else it is listed.

    `run(model, x)` is how the model is called, if not as `model(x)`: as often as there are time steps, for a model
    of one step, called with the batch in front. `scores` makes scores `[B, classes]` of what that returns; they are
    needed for the accuracy alone. `conventions` are tools whose numbers are to be shown beside. `ann_density` is the
    share of non-zero activations of the sparse ANN baseline, `presentations` how often the ANN baselines see a sample:
    as often as there are steps, for sequences that an ANN has to see step by step, too. Unless given it is so for
    models with cells LMU, LSTM or GRU of picojoule, and once for others. Zero weights are synapses unless
    `skip_zero_weights`.

    The model is left as it was. State that modules keep inside is put back after every batch to what it was before
    the first, so that every batch starts from the same state. Raises BadInput for what cannot be measured.
    """
    lists, conventions = prices(hardware), [conventions] if isinstance(conventions, str) else list(conventions)
    check_settings(ann_density, 1 if presentations is None else presentations)
    if conventions and skip_zero_weights:
        raise BadInput("expected conventions or skip_zero_weights, got both; the other tools count every weight")
    if not isinstance(model, nn.Module):
        raise BadInput(f"expected a torch module to measure, got {type(model).__name__}")
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        got = f"a tensor of shape {tuple(batches.shape)}" if isinstance(batches, Tensor) else type(batches).__name__
        raise BadInput(f"expected an iterable of batches, such as [x] or a DataLoader, got {got}")
    seen = _Seen(model, run, scores, batch_dim)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(evaluating(model))
        state = stack.enter_context(KeptState(model))
        tools = stack.enter_context(Conventions(conventions, model)) if conventions else None
        watch = {"spiking": spiking, "values": values, "skip_zero_weights": skip_zero_weights}
        watch |= {"steps_outside": run is not None, "probes": (tools,) if tools else ()}
        axis = batch_dim if run is None else 0
        found: Meter = stack.enter_context(meter(model, inputs, axis, **watch))
        for batch in batches:
            x, y = _parts(batch)
            if not -x.dim() <= batch_dim < x.dim():
                raise BadInput(f"expected x with a batch axis {batch_dim}, got shape {tuple(x.shape)}; give batch_dim")
            if x.shape[batch_dim] == 0:
                continue
            try:
                seen.present(found, x, y)
            except ChangedPath:  # it depends on the data what the model computes
                state.restore()
                seen.present(found, x, y)
            state.restore()
            if tools is not None:
                tools.end_batch(x.shape[batch_dim])
            if strict and found.uncounted:
                raise UncountedLayer(f"cannot count every operation of {type(model).__name__}: {found.uncounted[0]}")
        report = seen.tally.report(found.sites, found.uncounted, lists)
        seen_by_ann = presentations_of(model, report.counts) if presentations is None else presentations
        report = replace(report, ann_density=ann_density, presentations=seen_by_ann)
        return report if tools is None else replace(report, conventions=tools.results(report.counts))


def prices(names: str | Path | price.Hardware | Iterable[str | Path | price.Hardware]) -> list[price.Hardware]:
    """The price lists asked for. Raises BadInput, with the nearest name, if there is no such list."""
    asked = [names] if isinstance(names, str | Path | price.Hardware) else list(names)
    if not asked:
        raise BadInput("expected at least one price list as hardware, got none")
    return [name if isinstance(name, price.Hardware) else price.hardware(name) for name in asked]


class _Seen:
    """Presents batches to a metered model, and adds up what comes out."""

    def __init__(self, model: nn.Module, run: Any, scores: Any, batch_dim: int):
        self.tally = Tally()
        self._model, self._run, self._scores, self._batch_dim = model, run, scores, batch_dim

    def present(self, found: Meter, x: Tensor, labels: Tensor | None) -> None:
        output = self._model(x) if self._run is None else self._run(self._model, x)
        activity = found.activity()
        if activity.samples != x.shape[self._batch_dim]:
            raise BadInput(
                f"expected {x.shape[self._batch_dim]} samples, as axis {self._batch_dim} of x has, in each call of the "
                f"model, got {activity.samples}; give the batch_dim of x, and let run call the model batch first"
            )
        self.tally.add(activity, self._scored(output, labels), labels)

    def _scored(self, output: Any, labels: Tensor | None) -> Tensor | None:
        leaves = [t for t in tree_leaves(output) if isinstance(t, Tensor)]
        if not leaves:
            raise BadInput(f"expected {type(self._model).__name__} to return a tensor, got {type(output).__name__}")
        if any(t.is_floating_point() and bool(t.isnan().any()) for t in leaves):
            raise BadInput(f"expected numbers from {type(self._model).__name__}, got NaN; check inputs and weights")
        if labels is None:
            return None
        scores = leaves[0] if self._scores is None else self._scores(output)
        if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(labels):
            shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise BadInput(
                f"expected scores [B, classes] for {len(labels)} labels, got {shape}; give scores=, a function of the "
                "model's output, or batches without labels"
            )
        return scores


def _parts(batch: Any) -> tuple[Tensor, Tensor | None]:
    x, y = batch if isinstance(batch, tuple | list) and len(batch) == 2 else (batch, None)
    if not isinstance(x, Tensor) or not (y is None or isinstance(y, Tensor)):
        got = f"({type(x).__name__}, {type(y).__name__})" if y is not None else type(x).__name__
        raise BadInput(f"expected batches of a tensor x or a pair (x, labels), got {got}")
    return x, y
