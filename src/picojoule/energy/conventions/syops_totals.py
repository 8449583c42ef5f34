"""Recurrent layers and attention in syops: dense formulas that enter its total alone."""

from typing import Any

from torch import Tensor, nn


def recurrent(module: Any, x: Tensor) -> float:
    """Operations of an RNN, GRU or LSTM, layer or cell, for an input `x`.

    The first axis of a layer's input is taken for the batch and the second for time, whatever `batch_first` says.
    """
    if isinstance(module, nn.RNNCellBase):
        return x.shape[0] * _step(module, "weight_ih", "weight_hh", "bias_ih", "bias_hh")
    names = ("weight_ih_l{}", "weight_hh_l{}", "bias_ih_l{}", "bias_hh_l{}")
    operations = sum(_step(module, *(name.format(i) for name in names)) for i in range(module.num_layers))
    return operations * x.shape[0] * x.shape[1] * (2 if module.bidirectional else 1)


def _step(module: Any, *names: str) -> float:
    w_ih, w_hh = (getattr(module, name) for name in names[:2])
    biases = sum(getattr(module, name).numel() for name in names[2:]) if module.bias else 0
    return w_ih.numel() + w_hh.numel() + _gates(module) * module.hidden_size + biases


def _gates(module: nn.Module) -> int:
    if isinstance(module, nn.RNN | nn.RNNCell):
        return 1
    return 7 if isinstance(module, nn.GRU | nn.GRUCell) else 10


def attention(module: Any, args: tuple[Tensor, ...]) -> float:
    """Operations of `nn.MultiheadAttention` called with three positional tensors."""
    q, k, v = args[:3]
    batch, length = (0, 1) if module.batch_first else (1, 0)
    queries, keys, values = (t.shape[length] for t in (q, k, v))
    q_dim, k_dim, v_dim = (t.shape[2] for t in (q, k, v))
    operations = queries * q_dim + queries * q_dim**2 + keys * k_dim**2 + values * v_dim**2
    if module.in_proj_bias is not None:
        operations += (queries + keys + values) * q_dim
    heads = module.num_heads
    pairs = queries * keys
    operations += heads * (pairs * (q_dim // heads) + pairs + pairs * (v_dim // heads))
    operations += queries * v_dim * (v_dim + 1)
    return float(operations * q.shape[batch])
