"""The state that modules keep inside: taken before a measurement, put back after every batch."""

from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_FIXED = {"_parameters", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks"}
_FIXED |= {"_backward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs", "training"}
_FIXED |= {"_forward_hooks_always_called", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"}


class KeptState:
    """A context that leaves buffers and attributes of all modules as it found them; `restore` does so at once.

    Tensors are kept with their values: in attributes, in dictionaries, lists and tuples, and in the attributes of
    objects that are held there.
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


def _keep(value: Any, known: set[int] | None = None) -> Callable[[], Any]:
    """How to get a value back: the same object, with what it held. Objects that hold each other are kept once."""
    known = set() if known is None else known
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return _keep_tensor(value)
    if id(value) in known or isinstance(value, nn.Module | nn.Parameter | type | ModuleType) or callable(value):
        return lambda: value
    known.add(id(value))
    if isinstance(value, dict):
        named = {k: _keep(v, known) for k, v in value.items()}
        return lambda: _refilled(value, {k: back() for k, back in named.items()})
    if isinstance(value, list | deque):
        kept = [_keep(v, known) for v in value]
        return lambda: _relisted(value, [back() for back in kept])
    if isinstance(value, tuple):
        kept = [_keep(v, known) for v in value]
        return lambda: (value, [back() for back in kept])[0]
    if hasattr(value, "__dict__"):
        holds = Tensor | dict | list | deque | tuple
        fields = {k: _keep(v, known) for k, v in list(vars(value).items()) if isinstance(v, holds)}
        return lambda: (value, vars(value).update({k: back() for k, back in fields.items()}))[0]
    return lambda: value


def _refilled(value: Any, content: dict[Any, Any]) -> Any:
    value.clear()
    value.update(content)
    return value


def _relisted(value: Any, content: list[Any]) -> Any:
    value.clear()
    value.extend(content)
    return value


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
