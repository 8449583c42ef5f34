"""`spikingjelly-2026-08`: SpikingJelly's AC and MAC counters as of 8 August 2026."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from picojoule.energy.conventions.convention import Convention, descends_from, first_tensor
from picojoule.energy.conventions.observed import Observed
from picojoule.energy.conventions.prices import HOROWITZ_45NM
from picojoule.energy.count import OpCounts

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SpikingJelly(Convention):
    """An operation with an operand of zeros and ones only is `ac`: its non-zeros x partners; any other is dense `mac`.

    The test runs call by call on input and weights. Padding taps count on the MAC side only; zero weights are not
    discounted. Batch norm adds elements + channels to `ac` and, if affine, elements to `mac`; `nn.AvgPool2d` adds
    outputs x (kernel area - 1) to `ac`. The tool also counts each element-wise addition (those inside neurons); they
    are not reproduced, and `differences` says so. `joules` has its presets; memory traffic is not reproduced.
    Source (read): spikingjelly/activation_based/op_counter (ac.py, mac.py, compute_energy.py).
    """

    name = "spikingjelly-2026-08"
    tool = "SpikingJelly, tree of 8 August 2026"
    units = {"ac": "AC", "mac": "MAC"}
    ac_term, mac_term = "ac", "mac"
    rule = "the tool takes an operand for spikes only if all its values in a call are 0 or 1"

    def hooks(self) -> Iterable[RemovableHandle]:
        """Hooks on batch norms, average pools and neurons."""
        for module in self.names:
            if isinstance(module, _NORMS):
                yield module.register_forward_hook(self._norm)
            elif isinstance(module, nn.AvgPool2d):
                yield module.register_forward_hook(self._pool)
            elif descends_from(module, "spikingjelly", "BaseNode"):
                yield module.register_forward_hook(self._neuron)

    def site(self, seen: Observed) -> None:
        """A linear operation was called."""
        name = seen.call.name
        if seen.unit:
            self.add(name, ac=seen.through_weights if seen.unit_weight else seen.effective)
            if seen.unit_weight:
                zeros = "Weights are all 0 or 1, so that only pairs of ones are counted"
                self.gap(zeros, name, seen.through_weights - seen.effective)
        elif seen.unit_weight:
            acs = _uses_of_unit_weight(seen)
            self.add(name, ac=acs)
            self.gap("Weights are all 0 or 1 and count as the spikes", name, acs - seen.effective)
        else:
            self.add(name, mac=seen.padded)
            self.gap("Zero inputs of a layer that counts as dense are not skipped", name, seen.dense - seen.effective)
            self.gap("Padding taps are counted", name, seen.padded - seen.dense)

    def joules(self, totals: dict[str, float], exact: OpCounts) -> dict[str, float]:
        """Compute energy by the presets fp32, fp16 and int8."""
        return {preset: p.joules(totals["ac"], totals["mac"]) for preset, p in HOROWITZ_45NM.items()}

    def _norm(self, module: nn.Module, args: Any, out: Any) -> None:
        x = first_tensor(args)
        if x is None:
            return
        n, channels, statistics = x.numel(), x.shape[1], module.running_mean is not None
        training = module.training or not statistics
        acs = 3 * n + (2 * channels if statistics else 0) if training else n + channels
        macs = (n if module.affine else 0) + (2 * channels if training and statistics else 0)
        self.add(self.names[module], ac=acs, mac=macs)
        self.gap("Batch norm is counted", self.names[module], acs + macs)

    def _pool(self, module: nn.Module, args: Any, out: Any) -> None:
        assert isinstance(module, nn.AvgPool2d)
        size, y = module.kernel_size, first_tensor(out)
        area = size**2 if isinstance(size, int) else math.prod(size)
        acs = 0 if y is None else y.numel() * (area - 1)
        self.add(self.names[module], ac=acs)
        self.gap("Additions of average pooling are counted", self.names[module], acs)

    def _neuron(self, module: nn.Module, args: Any, out: Any) -> None:
        why = "The tool also counts the additions inside neurons as AC, which is not reproduced here"
        self.gap(why, self.names[module], always=True)


def _uses_of_unit_weight(seen: Observed) -> float:
    weight = seen.call.weight
    assert weight is not None
    if seen.call.window is None:
        inputs = weight.numel() / (seen.dense / seen.elements)
        positions = seen.elements / inputs
    elif seen.call.window.transposed:
        positions = seen.elements / weight.shape[0]
    else:
        positions = seen.outputs / weight.shape[0]
    return float((weight != 0).sum()) * positions
