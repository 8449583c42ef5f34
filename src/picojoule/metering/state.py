"""The state that modules keep inside: taken before a measurement, put back after every batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_FIXED = {"_parameters", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks"}
_FIXED |= {"_backward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs", "training"}
_FIXED |= {"_forward_hooks_always_called", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"}


class KeptState:
    """A context that leaves buffers and attributes of all modules as it found them; `restore` does so at once.

    Tensors are kept with their values, in attributes, lists, tuples and dictionaries; other objects by reference.
    """

    def __init__(self, model: nn.Module):
        self._modules = list(model.modules())

    def __enter__(self) -> "KeptState":
        self._kept = [{k: _keep(v) for k, v in vars(m).items() if k not in _FIXED} for m in self._modules]
        return self

    def restore(self) -> None:
        """Put back what was there at the beginning."""
        for module, kept in zip(self._modules, self._kept, strict=True):
            attributes = vars(module)
            for name in [n for n in attributes if n not in kept and n not in _FIXED]:
                del attributes[name]
            attributes.update({name: back() for name, back in kept.items()})

    def __exit__(self, *_: object) -> None:
        self.restore()


def _keep(value: Any) -> Callable[[], Any]:
    """How to get a value back: the same object, with what it held."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return _keep_tensor(value)
    if type(value) is dict:
        parts = {k: _keep(v) for k, v in value.items()}

        def refilled() -> Any:
            found = {k: back() for k, back in parts.items()}
            value.clear()
            value.update(found)
            return value

        return refilled
    if type(value) is list:
        kept = [_keep(v) for v in value]

        def relisted() -> Any:
            value[:] = [back() for back in kept]
            return value

        return relisted
    if type(value) is tuple:
        members = [_keep(v) for v in value]

        def untouched() -> Any:
            for back in members:
                back()
            return value

        return untouched
    return lambda: value


def _keep_tensor(tensor: Tensor) -> Callable[[], Tensor]:
    copy = tensor.detach().clone()

    def back() -> Tensor:
        with torch.no_grad():
            if tensor.shape != copy.shape:
                tensor.data = copy.clone()
            elif tensor.is_inference() or not torch.equal(tensor, copy):
                tensor.copy_(copy)
        return tensor

    return back
