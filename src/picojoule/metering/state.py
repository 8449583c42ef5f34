"""The state that modules keep inside: taken before a measurement, put back after every batch."""

from typing import Any

from torch import Tensor, nn

_FIXED = {"_parameters", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks"}
_FIXED |= {"_backward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs", "training"}
_FIXED |= {"_forward_hooks_always_called", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"}


class KeptState:
    """A context that leaves buffers and attributes of all modules as it found them; `restore` does so at once.

    Tensors in attributes, lists, tuples and dictionaries are kept by value, other objects by reference.
    """

    def __init__(self, model: nn.Module):
        self._modules = list(model.modules())

    def __enter__(self) -> "KeptState":
        self._kept = [{k: _copy(v) for k, v in vars(m).items() if k not in _FIXED} for m in self._modules]
        return self

    def restore(self) -> None:
        """Put back what was there at the beginning."""
        for module, kept in zip(self._modules, self._kept, strict=True):
            attributes = vars(module)
            for name in [n for n in attributes if n not in kept and n not in _FIXED]:
                del attributes[name]
            for name, value in kept.items():
                if isinstance(value, dict) and isinstance(attributes.get(name), dict):
                    attributes[name].clear()
                    attributes[name].update(_copy(value))
                else:
                    attributes[name] = _copy(value)

    def __exit__(self, *_: object) -> None:
        self.restore()


def _copy(value: Any) -> Any:
    if isinstance(value, nn.Parameter | nn.Module):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) is dict:
        return {k: _copy(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copy(v) for v in value)
    return value
