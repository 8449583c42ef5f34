"""`sinabs`: the synops of sinabs' analyser hooks."""

import math

from torch import nn

from picojoule.energy.conventions.convention import Convention
from picojoule.energy.conventions.observed import Observed


class Sinabs(Convention):
    """Sum of value x exact fan-out, for `nn.Linear` and `nn.Conv2d` modules.

    What follows average pooling is multiplied by the pool's kernel area: every `nn.AvgPool2d` counts for the next
    Linear or Conv2d in the order of `named_modules()`. Per sample, summed over time; sinabs' hooks print the mean over
    all that lies in the first axis, which is per time step where time is folded into the batch.
    Source (read): sinabs 3.1.3, synopcounter.py (`get_layer_statistics`) and hooks.py.
    """

    name = "sinabs"
    tool = "sinabs 3.1.3 (published formula)"
    units = {"synops": "SynOps"}
    sums_values = "Values are added up, with their sign and scale, instead of events counted"

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self._scale, pending = {}, 1.0
        for module in model.modules():
            if isinstance(module, nn.AvgPool2d):
                size = module.kernel_size
                pending *= size**2 if isinstance(size, int) else math.prod(size)
            elif isinstance(module, nn.Linear | nn.Conv2d):
                self._scale[module], pending = pending, 1.0

    def site(self, seen: Observed) -> None:
        """A linear operation was called."""
        call, module = seen.call, seen.call.module
        if module not in self._scale:
            self.gap("Only nn.Linear and nn.Conv2d modules are counted", call.name, -seen.effective)
            return
        scale = self._scale[module]
        self.add(call.name, synops=seen.value_sum * scale)
        self.gap(self.sums_values, call.name, seen.value_sum - seen.effective)
        rescaled = "The sum behind an average pool is multiplied by the pool's kernel area"
        self.gap(rescaled, call.name, seen.value_sum * (scale - 1))
