"""`literature-sop`: the SOP formula of most papers, with its choices stated."""

from torch import nn

from picojoule.energy.conventions.convention import Convention
from picojoule.energy.conventions.observed import Observed
from picojoule.energy.conventions.prices import HOROWITZ_45NM
from picojoule.energy.count import OpCounts


class Literature(Convention):
    """`SOP = r * T * M` for all layers but the first, which is `M` MACs each time it runs; 4.6 and 0.9 pJ.

    M is the dense number of MACs per step with padding taps, r the fraction of non-zero elements of the layer's input
    over the whole run. Batch norm, pooling, residual adds and neurons are free, attention is counted like a layer.
    `joules` has `snn` and `ann`: the same layers, each run once as dense MACs.
    Papers differ in each of these choices and seldom state them: these are ours, of the commonest.
    """

    name = "literature-sop"
    tool = "SOP formula of the literature"
    units = {"sops": "SOP", "macs": "MAC"}
    ac_term, mac_term = "sops", "macs"
    rule = "the formula takes the first layer's input for analog and all others for spikes"
    judges_values = False

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self._first = ""
        self._sums: dict[str, _Sums] = {}

    def site(self, seen: Observed) -> None:
        """A linear operation was called."""
        self._first = self._first or seen.call.name
        self._sums.setdefault(seen.call.name, _Sums()).add(seen, first_batch=self.samples == 0)

    def finish(self, exact: OpCounts) -> None:
        """Multiply layer averages, which need the whole run."""
        for name, s in self._sums.items():
            rate = s.active / s.elements if s.elements else 0.0
            row = {"dense_macs": s.padded, "ann_macs": s.padded / s.steps_per_inference(exact.timesteps)}
            first = name == self._first
            self.rows[name] = {("macs" if first else "sops"): s.padded * (1.0 if first else rate), **row}
            if first:
                self.gap("Zero inputs of the first layer are not skipped", name, s.dense - s.effective)
                self.gap("Padding taps are counted", name, s.padded - s.dense)
            else:
                averaged = "The rate is averaged over the layer, not weighted by fan-out"
                self.gap(averaged, name, rate * s.dense - s.effective)
                self.gap("Padding taps are counted, at the layer's rate", name, rate * (s.padded - s.dense))

    def joules(self, totals: dict[str, float], exact: OpCounts) -> dict[str, float]:
        """Energy of the spiking network, and of the same layers as a dense ANN."""
        prices = HOROWITZ_45NM["fp32"]
        snn, ann = prices.joules(totals["sops"], totals["macs"]), prices.joules(0, totals.get("ann_macs", 0.0))
        return {"snn": snn, "ann": ann}


class _Sums:
    """Sums over the calls of one layer."""

    def __init__(self) -> None:
        self.padded = self.dense = self.effective = self.active = self.elements = 0.0
        self._steps = 0

    def add(self, seen: Observed, *, first_batch: bool) -> None:
        self.padded += seen.padded
        self.dense += seen.dense
        self.effective += seen.effective
        self.active += seen.active
        self.elements += seen.elements
        self._steps += seen.steps if first_batch else 0

    def steps_per_inference(self, timesteps: int) -> int:
        return max(1, min(self._steps, timesteps))
