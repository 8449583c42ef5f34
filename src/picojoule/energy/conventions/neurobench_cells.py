"""NeuroBench's operations of recurrent cells, gates included.

Computed in numpy: these products must not be seen by whatever watches torch at the time.
"""

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn


class CellOperations(NamedTuple):
    """The operations of one call, those of a dense call, and whether the input was taken for spikes."""

    effective: float
    dense: float
    spikes: bool


def cell_operations(cell: nn.Module, args: tuple[Any, ...]) -> CellOperations | None:
    """The operations of `cell(x, state)`; None where NeuroBench fails.

    It fails on a GRU cell without a state or without bias, and on an LSTM cell without a state but with bias. Any other
    cell without a state counts the first sample alone. The states of an LSTM cell are not made dense in `dense`.
    """
    x = _array(args[0])
    state = args[1] if len(args) > 1 else None
    spikes = bool(np.isin(x, (-1, 0, 1)).all())
    effective = _operations(cell, x, state, dense=False)
    dense = _operations(cell, x, state, dense=True)
    return None if effective is None or dense is None else CellOperations(effective, dense, spikes)


def _operations(cell: Any, x: np.ndarray, state: Any, *, dense: bool) -> float | None:
    w_ih, w_hh = _binary(cell.weight_ih, dense), _binary(cell.weight_hh, dense)
    if state is None:
        inputs = w_ih @ _binary(x[0], dense)
        if isinstance(cell, nn.RNNCell):
            return float(inputs.sum())
        return None if cell.bias or isinstance(cell, nn.GRUCell) else _lstm(inputs, np.zeros(1), np.zeros(1))
    if isinstance(cell, nn.RNNCell):
        return float((w_ih @ _binary(x, dense).T).sum() + (w_hh @ _binary(state, dense).T).sum())
    if isinstance(cell, nn.GRUCell) and not cell.bias:
        return None
    inputs = w_ih @ _binary(x, dense).T
    b_ih = _binary(cell.bias_ih, dense)[:, None] if cell.bias else np.zeros(1)
    b_hh = _binary(cell.bias_hh, dense)[:, None] if cell.bias else np.zeros(1)
    if isinstance(cell, nn.GRUCell):
        h = _binary(state, dense).T
        return _gru(inputs, w_hh @ h, h, b_ih, b_hh)
    h, c = (_binary(s, False).T for s in state)
    return _lstm(inputs + w_hh @ h, c, b_ih + b_hh)


def _lstm(gates: np.ndarray, c: np.ndarray, bias: np.ndarray) -> float:
    """Gates' products, then f * c + i * g and o * c, each on 0 or 1 for zero or not."""
    i, f, g, o = np.split(((gates + bias) != 0).astype(float), 4)
    new = f * c + i * g
    return float(gates.sum() + new.sum() + (o * (new != 0)).sum())


def _gru(inputs: np.ndarray, hidden: np.ndarray, h: np.ndarray, b_ih: np.ndarray, b_hh: np.ndarray) -> float:
    """Gates' products, then r * (W h + b), (1 - z) * n and z * h, as the tool derives zero or not.

    Its update gate is "1 - z" of a count and not of a value, and its candidate adds one element of the input's bias.
    """
    both = inputs + hidden
    r, z, _ = np.split(both + b_ih + b_hh, 3)
    hidden_n, bias_n = np.split(hidden, 3)[2], np.split(b_hh, 3)[2]
    gated = ((r != 0) & (hidden_n + bias_n != 0)).astype(float)
    n = hidden_n + b_ih[2] + gated != 0
    kept = ((1 - z != 0) & n).astype(float) + ((z != 0) & (h != 0))
    return float(both.sum() + gated.sum() + kept.sum())


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy()


def _binary(x: Tensor | np.ndarray, dense: bool) -> np.ndarray:
    array = _array(x) if isinstance(x, Tensor) else x
    return np.ones_like(array) if dense else (array != 0).astype(float)
