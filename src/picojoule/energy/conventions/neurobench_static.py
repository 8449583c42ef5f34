"""NeuroBench's metrics of a model that does not run."""

from collections.abc import Iterable

from torch import Tensor, nn

PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONNECTED = (*PLAIN, nn.RNNBase, nn.RNNCellBase)


def footprint(model: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def connection_sparsity(model: nn.Module) -> float:
    """Zero weights / all weights of linear, convolution and recurrent modules without children, to 4 decimals.

    Recurrent modules give their biases too. 0.0 without any such module (the tool raises there).
    """
    zeros = weights = 0
    for module in _leaves(model):
        for weight in _weights(module):
            zeros += int((weight == 0).sum())
            weights += weight.numel()
    return round(zeros / weights, 4) if weights else 0.0


def _leaves(module: nn.Module) -> Iterable[nn.Module]:
    children = list(module.children())
    for child in children:
        yield from _leaves(child)
    if not children:
        yield module


def _weights(module: nn.Module) -> list[Tensor]:
    if isinstance(module, PLAIN):
        return [module.weight]
    if isinstance(module, nn.RNNCellBase):
        names = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if module.bias else [])
    elif isinstance(module, nn.RNNBase):
        kinds = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if module.bias else [])
        kinds += ["weight_hr"] if module.proj_size > 0 else []
        directions = ("", "_reverse") if module.bidirectional else ("",)
        names = [f"{kind}_l{i}{way}" for i in range(module.num_layers) for way in directions for kind in kinds]
    else:
        return []
    return [getattr(module, name) for name in names]
