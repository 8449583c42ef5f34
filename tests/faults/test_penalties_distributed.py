"""Two processes with unequal shares are one: penalties of batch means have the gradient of the whole batch."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from picojoule.energy.penalties import activity_floor, first_spike_penalty, rate_bounds, synops_target, total_spikes
from picojoule.energy.penalties.parts import batch_mean
from picojoule.graph import Activity, observe
from picojoule.neurons import LIF

SHARES = ((0, 5), (5, 7))
PENALTIES: dict[str, Callable[[Activity], Tensor]] = {
    "target": lambda a: synops_target(a, 3.0),
    "floor": lambda a: activity_floor(a, 2.0),
    "total": lambda a: total_spikes(a, 2),
    "first-spike": first_spike_penalty,
    "first-spike fan-out": lambda a: first_spike_penalty(a, weight="fan-out"),
    "bounds": lambda a: rate_bounds(a, 0.5, 1.0),
}


def found(rows: slice) -> dict[str, Tensor]:
    """Values and gradients of every penalty for some rows of the batch."""
    torch.manual_seed(0)
    first = nn.Linear(4, 6)
    model = nn.Sequential(first, LIF(0.5, 0.3), nn.Linear(6, 5), LIF(0.5, 0.1), nn.Linear(5, 2)).double()
    x = torch.rand(4, 7, 4, dtype=torch.float64)[:, rows]
    activity = observe(model, x, batch_dim=1)(x)[1]
    answer = {}
    for name, penalty in PENALTIES.items():
        value = penalty(activity)
        answer[f"{name} value"] = value.detach()
        answer[f"{name} gradient"] = torch.autograd.grad(value, first.weight, retain_graph=True)[0]
    return answer


def work(rank: int, port: int, out: str) -> None:
    """One process of two: its share of the batch, and its part of the gradient."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://localhost:{port}", rank=rank, world_size=2)
    try:
        first, last = SHARES[rank]
        answer = found(slice(first, last))
        for name, tensor in answer.items():
            if name.endswith("gradient"):
                tensor *= (last - first) / 7
                dist.all_reduce(tensor)
        half = torch.full((last - first, 3), 1000.0, dtype=torch.float16)
        answer["half"] = batch_mean(half)
        torch.save(answer, Path(out) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_unequal_shares_have_the_gradient_of_the_whole_batch(tmp_path: Path):
    expected = found(slice(0, 7))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    spawn(work, (port, str(tmp_path)), nprocs=2)
    shares = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name, tensor in expected.items():
        assert tensor.abs().sum() > 0, f"{name}: the test needs a number"
        for share in shares:
            if name.endswith("gradient"):
                torch.testing.assert_close(
                    share[name], tensor, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
                )
        if name in ("target value", "floor value"):
            assert all(share[name].item() == pytest.approx(tensor.item()) for share in shares)
        elif name.endswith("value"):
            mean = sum(share[name] * (last - first) / 7 for share, (first, last) in zip(shares, SHARES, strict=True))
            torch.testing.assert_close(mean, tensor)
    own = found(slice(*SHARES[0]))
    assert own["target value"].item() != pytest.approx(expected["target value"].item(), rel=1e-3)
    assert all(torch.equal(share["half"], torch.full((3,), 1000.0)) for share in shares)
