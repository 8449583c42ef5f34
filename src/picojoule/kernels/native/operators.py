"""Torch operators `picojoule::name` in front of compiled kernels."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from picojoule.errors import BadInput

_LIBRARY = torch.library.Library("picojoule", "DEF")


def define(schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Define the CPU operator of `schema`; `fake` makes results of the same shapes, strides and dtypes without data.

    `torch.library.custom_op` would do the same, but loads torch's compiler at the first call.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, kernel, "CPU")
    torch.library.register_fake(f"picojoule::{name}", fake, lib=_LIBRARY)


def differentiate(name: str, setup_context: Callable[..., None], backward: Callable[..., Any]) -> None:
    """Give the operator `name`, whose schema has no default values, a backward.

    `setup_context(ctx, inputs, outputs)` keeps what `backward(ctx, *grads)` needs. `torch.library.register_autograd`
    would do the same, but reads the schema anew in every call, which takes longer than a small kernel.
    """
    operator = getattr(torch.ops.picojoule, name).default

    def below(keys: Any, inputs: Sequence[Any]) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return operator.redispatch(keys & torch._C._after_autograd_keyset, *inputs)

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs_and_keys: Any) -> Any:
            *inputs, keys = inputs_and_keys
            outputs = below(keys, inputs)
            setup_context(ctx, inputs, outputs)
            return outputs

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return *backward(ctx, *grads), None

    def autograd(keys: Any, *inputs: Any) -> Any:
        trains = torch.is_grad_enabled() and torch._C._any_requires_grad(*inputs)
        return Differentiable.apply(*inputs, keys) if trains else below(keys, inputs)

    _LIBRARY.impl(name, autograd, "Autograd", with_keyset=True)


def end_of_derivatives(name: str) -> None:
    """Let the operator `name`, itself a derivative, refuse to be differentiated."""
    differentiate(name, lambda ctx, inputs, outputs: None, _refuse)


def _refuse(ctx: Any, *grads: Any) -> None:
    raise BadInput(
        "expected first derivatives only from the compiled kernels, got a second one through them; compute it inside "
        "`with picojoule.kernels.native.library.using('reference'):`"
    )
