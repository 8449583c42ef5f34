"""What is learned beside weights: thresholds, decays, how fine events are, and how long a memory lasts."""

import torch
from torch import Tensor, nn

LEARNED = ("threshold", "decay", "synaptic_decay", "fineness", "theta")


@torch.no_grad()
def learned_values(model: nn.Module) -> dict[str, dict[str, float]]:
    """The trained scalars of LEARNED as they are now, by the name of the neurons, or the memory, in `model`."""
    found: dict[str, dict[str, float]] = {}
    for name, module in model.named_modules():
        values = {key: getattr(module, key, None) for key in LEARNED}
        own = {key: float(value) for key, value in values.items() if isinstance(value, Tensor) and value.dim() == 0}
        if own:
            found[name.removeprefix("graph_module.").removesuffix(".neuron")] = own
    return found
