"""`neurobench`: the system metrics of NeuroBench 2.3."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from picojoule.energy.conventions.convention import Convention, times_found
from picojoule.energy.conventions.neurobench_activity import Activations
from picojoule.energy.conventions.neurobench_cells import cell_operations
from picojoule.energy.conventions.neurobench_static import CONNECTED, PLAIN, connection_sparsity, footprint
from picojoule.energy.conventions.observed import Observed
from picojoule.energy.conventions.report import ConventionReport
from picojoule.energy.count import OpCounts
from picojoule.errors import BadInput


class NeuroBench(Convention):
    """Non-zero inputs x non-zero weights of `nn.Linear`, `nn.Conv1d` to `Conv3d` and recurrent cells.

    A call's operations are `Effective_ACs` if all inputs are -1, 0 or 1, else `Effective_MACs`; `Dense` are all
    synapses (no padding taps). Bias, batch norm, pooling and transposed convolutions count nothing. The class is
    judged batch by batch, so that it may depend on the batches. The tool fails on a recurrent *layer* once and leaves
    it out from then on: with no batch after that it prints 0, and so does this; with more, this averages over all
    samples, the tool over those of later batches only. Sums here are float64; the tool's are float32, inexact above
    16.7 million per call.
    `metrics` has the tool's other results, see `neurobench_keys`. No joules, by design of the tool.
    Source (read): neurobench 2.3.0, metrics/, hooks/, blocks/.
    """

    name = "neurobench"
    tool = "NeuroBench 2.3.0"
    units = {"Effective_ACs": "AC", "Effective_MACs": "MAC"}
    ac_term, mac_term = "Effective_ACs", "Effective_MACs"
    rule = "the tool takes an input for spikes if all values of a batch are -1, 0 or 1"

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self._times = times_found(model, lambda module: isinstance(module, CONNECTED))
        self._activations = Activations(model)
        self._failed: set[str] = set()
        self._batches = 0
        self._static = {
            "ParameterCount": sum(p.numel() for p in model.parameters()),
            "Footprint": footprint(model),
            "ConnectionSparsity": connection_sparsity(model),
        }

    def hooks(self) -> Iterable[RemovableHandle]:
        """Hooks on recurrent cells and layers, and on activations."""
        yield from self._activations.hooks()
        for module in self._times:
            if isinstance(module, nn.RNNCellBase):
                yield module.register_forward_pre_hook(self._cell)
            elif isinstance(module, nn.RNNBase):
                yield module.register_forward_pre_hook(self._layer)

    def site(self, seen: Observed) -> None:
        """A linear operation was called."""
        name, module = seen.call.name, seen.call.module
        times = self._times.get(module, 0) if isinstance(module, PLAIN) else 0
        if not times:
            self.gap("Only nn.Linear and convolution modules and recurrent cells are counted", name, -seen.effective)
            return
        operations, term = seen.through_weights, "Effective_ACs" if seen.signed_unit else "Effective_MACs"
        self.add(name, **{term: operations * times, "Dense": seen.dense * times})
        self.gap("Zero weights are discounted", name, operations - seen.effective)
        self.gap("A module found at several places is counted for each", name, operations * (times - 1))

    def end_batch(self, samples: int) -> None:
        """A batch is over."""
        super().end_batch(samples)
        self._batches += 1
        self._activations.end_batch(samples)

    def finish(self, exact: OpCounts) -> None:
        """Fail where the tool fails."""
        for layer in sorted(self._failed):
            self.gap("The tool fails on a recurrent layer: it leaves out that layer and one batch", layer, always=True)
        if self._spoiled:
            for layer, row in self.rows.items():
                lost = row.get("Effective_ACs", 0.0) + row.get("Effective_MACs", 0.0)
                self.gap("No batch was left after those that failed, so that the tool prints 0", layer, -lost)
            self.rows = {}
        for why in self._activations.failures():
            self.gap(why, "", always=True)

    def metrics(self) -> dict[str, Any]:
        """NeuroBench's other metrics, by its names."""
        return {**self._static, **self._activations.results(), "failed": self._spoiled}

    @property
    def _spoiled(self) -> bool:
        """Whether a layer failed in every batch."""
        return 0 < self._batches <= len(self._failed)

    def _cell(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        counted = cell_operations(module, args)
        if counted is None:
            self._failed.add(self.names[module])
            return
        term = "Effective_ACs" if counted.spikes else "Effective_MACs"
        name, times = self.names[module], self._times[module]
        self.add(name, **{term: counted.effective * times, "Dense": counted.dense * times})
        why = "Recurrent cells are counted by formulas that include their gates"
        self.gap(why, name, counted.effective * times)

    def _layer(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._failed.add(self.names[module])


def neurobench_keys(report: ConventionReport) -> dict[str, Any]:
    """The result dictionary of a NeuroBench 2.3 benchmark run, in its names and order, from a `neurobench` report.

    As there, a metric that fails on the model is 0.0.
    """
    if report.name != NeuroBench.name:
        raise BadInput(f"expected the report of the convention 'neurobench', got that of {report.name!r}")
    static = ("ParameterCount", "Footprint", "ConnectionSparsity")
    activity = ("ActivationSparsity", "ActivationSparsityByLayer", "MembraneUpdates")
    synaptic = {term: report.totals.get(term, 0.0) for term in ("Effective_MACs", "Effective_ACs", "Dense")}
    return {
        **{key: report.metrics[key] for key in (*static, *activity)},
        "SynapticOperations": 0.0 if report.metrics["failed"] else synaptic,
        "NeuronOperations": report.metrics["NeuronOperations"],
    }
