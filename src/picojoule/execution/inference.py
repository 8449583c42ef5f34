"""Inference at full speed: norms folded into weights, parts fused, channels last, bf16 if asked for."""

from typing import Literal

import torch
from torch import Tensor, nn

from picojoule.errors import BadInput, unknown_name
from picojoule.execution.blocks import in_time_blocks
from picojoule.execution.fuse import fused
from picojoule.execution.precision import fast_precision
from picojoule.graph.passes import copied, fold_batch_norm
from picojoule.networks import Network
from picojoule.neurons import Neuron

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_PRECISIONS = ("fp32", "bf16", "auto")


class Fast(nn.Module):
    """What `fast` makes: from images `[B, *input_shape]` to scores `[B, classes]` in float32, without gradients."""

    def __init__(self, network: Network, precision: str, steps: int | Literal["auto"] | None):
        super().__init__()
        self.precision = precision
        if precision == "bf16":
            for module in network.modules():
                if not isinstance(module, (Neuron, *_NORMS)):
                    for parameter in module.parameters(recurse=False):
                        parameter.data = parameter.data.to(torch.bfloat16)
        whole = fused(network)
        self.network = (whole if steps is None else in_time_blocks(whole, steps)).eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.bfloat16 if self.precision == "bf16" else x.dtype
        layout = torch.channels_last if x.dim() == 4 else torch.preserve_format
        return self.network(x.to(dtype=dtype, memory_format=layout)).float()


def fast(network: Network, precision: str = "fp32", steps: int | Literal["auto"] | None = None) -> Fast:
    """A copy of `network` for inference, with weights of its own.

    Batch norms become part of the weights before them, neurons and pools run in one kernel, maps lie channels-last. All
    steps run at once, or in blocks of `steps` (see `in_time_blocks`), which bounds the memory. Scores equal those of
    `network` up to rounding; a neuron within a rounding error of its threshold can fire a step earlier or later.
    `precision` is "fp32", "bf16" (weights and currents rounded to bfloat16, membranes in float32) or "auto" (bf16
    where the processor multiplies it in hardware). Raises BadInput for other arguments.
    """
    if not isinstance(network, Network):
        raise BadInput(f"expected a picojoule Network to make fast, got {type(network).__name__}")
    if precision not in _PRECISIONS:
        raise unknown_name("precision", precision, list(_PRECISIONS))
    try:
        graph = fold_batch_norm(network.graph_module)
    except BadInput:
        graph = copied(network.graph_module)  # a norm that does not follow a weight layer stays
    twin = Network(graph, network.input_shape, network.classes)
    twin.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    return Fast(twin, fast_precision(device) if precision == "auto" else precision, steps)
