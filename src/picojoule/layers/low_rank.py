"""A square matrix whose blocks off the diagonal have low rank, as a few small products."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from picojoule.errors import BadInput
from picojoule.layers.timewise import Timewise

LEAF, TOLERANCE = 16, 1e-7
"""The side of the blocks on the diagonal, and what is dropped beside the largest singular value (our choice)."""


def fits(side: int) -> bool:
    """Whether a matrix of this side can be halved down to its leaves: LEAF times a power of two."""
    return side >= LEAF and side == LEAF << ((side // LEAF).bit_length() - 1)


class BlockLowRank(nn.Module):
    """A matrix `[n, n]` on the last axis of `[..., D, n]`, whose blocks off the diagonal are kept as factors.

    Arguments:
        matrix: what it approximates, within TOLERANCE of the largest singular value of each block. Its side is
            LEAF times a power of two.

    The blocks beside the diagonal are halved again and again. On each level block i reads its sibling through `reads`
    and `writes`, grouped convolutions of size 1, which count as what they are; `diagonal` holds the blocks of
    LEAF x LEAF. The matrix of a Legendre memory, whose blocks have ranks of about 7, has about n log n weights then.
    """

    def __init__(self, matrix: Tensor):
        super().__init__()
        n = len(matrix)
        if not fits(n):
            raise BadInput(f"expected a matrix whose side is {LEAF} times a power of two, got {n}")
        depth = (n // LEAF).bit_length() - 1
        self.side = n
        self.diagonal = nn.Conv1d(n, n, 1, groups=n // LEAF, bias=False)
        self.reads, self.writes = nn.ModuleList(), nn.ModuleList()
        with torch.no_grad():
            blocks = [matrix[i : i + LEAF, i : i + LEAF] for i in range(0, n, LEAF)]
            self.diagonal.weight.copy_(torch.cat(blocks).unsqueeze(-1))
            for level in range(1, depth + 1):
                self._add_level(matrix, 2**level)

    def _add_level(self, matrix: Tensor, count: int) -> None:
        size = self.side // count
        writes, reads = [], []
        for i in range(count):
            rows, columns = i * size, (i ^ 1) * size
            u, s, v = torch.linalg.svd(matrix[rows : rows + size, columns : columns + size])
            writes.append((u * s, s))
            reads.append(v)
        rank = max(int((s > TOLERANCE * s[0]).sum()) for _, s in writes)
        write = nn.Conv1d(count * rank, self.side, 1, groups=count, bias=False)
        write.weight.copy_(torch.cat([u[:, :rank] for u, _ in writes]).unsqueeze(-1))
        read = nn.Conv1d(self.side, count * rank, 1, groups=count, bias=False)
        read.weight.copy_(torch.cat([reads[i ^ 1][:rank] for i in range(count)]).unsqueeze(-1))
        self.reads.append(read)
        self.writes.append(write)

    def forward(self, x: Tensor) -> Tensor:
        columns = x.flatten(0, -3).transpose(1, 2)  # [..., D, n] to [N, n, D]
        y = self.diagonal(columns)
        for level, (read, write) in enumerate(zip(self.reads, self.writes, strict=True)):
            y = y + write(_siblings(read(columns), level))
        return y.transpose(1, 2).reshape(x.shape)

    def parts(self) -> Iterator[tuple[str, nn.Module]]:
        """The layers inside by name, folded over time."""
        return ((name, Timewise(m)) for name, m in self.named_modules() if isinstance(m, nn.Conv1d))

    def operands(self, x: Tensor) -> dict[str, Tensor]:
        """What enters them, `[T, B, channels, D]`, for x `[T, B, D, n]`."""
        columns = x.transpose(2, 3)
        entered = {"diagonal": columns}
        for i, read in enumerate(self.reads):
            entered[f"reads.{i}"] = columns
            entered[f"writes.{i}"] = _siblings(Timewise(read)(columns), i)
        return entered

    def dense(self) -> Tensor:
        """The whole matrix."""
        weight = self.diagonal.weight
        return self(torch.eye(self.side, dtype=weight.dtype, device=weight.device).unsqueeze(1)).squeeze(1).T


def _siblings(x: Tensor, level: int) -> Tensor:
    """Exchange what neighbouring blocks read; level 0 has two blocks of channels, each further one twice as many."""
    return x.unflatten(-2, (2**level, 2, -1)).flip(-3).flatten(-4, -2)
