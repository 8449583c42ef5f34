"""`norse`: the SynOps of Norse's pull request #444."""

from torch import nn

from picojoule.energy.conventions.convention import Convention
from picojoule.energy.conventions.observed import Observed


class Norse(Convention):
    """Sum of the values x outputs per input, for `nn.Linear` and `nn.Conv2d` modules (`SynOpsCounter`).

    A convolution's outputs per input are `out_channels * kH * kW / groups`: neither borders nor stride enter.
    Norse adds up over calls and batches; here the sum is divided by the samples.
    Source (read): norse/norse pull request #444, functional/synops.py as described there.
    """

    name = "norse"
    tool = "Norse, pull request #444 (published formula)"
    units = {"synops": "SynOps"}
    sums_values = "Values are added up, with their sign and scale, instead of events counted"

    def site(self, seen: Observed) -> None:
        """A linear operation was called."""
        call, module = seen.call, seen.call.module
        if isinstance(module, nn.Linear):
            fan_out = float(module.out_features)
        elif isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            fan_out = module.out_channels * height * width / module.groups
        else:
            self.gap("Only nn.Linear and nn.Conv2d modules are counted", call.name, -seen.effective)
            return
        self.add(call.name, synops=seen.total * fan_out)
        self.gap(self.sums_values, call.name, seen.value_sum - seen.effective)
        outside = seen.total * fan_out - seen.value_sum
        self.gap("Every input is given the full kernel, at borders and whatever the stride", call.name, outside)
