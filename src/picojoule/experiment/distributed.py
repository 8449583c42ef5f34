"""One process, or many under torchrun: the same code."""

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn

from picojoule.energy.tally import Tally


def join_processes(device: torch.device) -> None:
    """Join the group that torchrun set up; nothing to do in a single process."""
    if processes_asked() > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def processes_asked() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leave_processes() -> None:
    """Leave the group, if one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number; 0 writes files and prints."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def share_of(rows: Tensor) -> Tensor:
    """This process's part of a global batch of row numbers (every world-size-th one)."""
    return rows[rank() :: world_size()]


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with gradients averaged over processes; itself in a single process."""
    if world_size() == 1:
        return model
    return nn.parallel.DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def share_buffers(model: nn.Module) -> None:
    """Give every process the buffers of the first: each gathers batch-norm statistics from its own share."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in some process: all of them learn the same answer."""
    if not dist.is_initialized():
        return flag
    shared = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared)


def reduce_tally(tally: Tally) -> None:
    """Add up the tallies of all processes, in place and exactly (sums, not means)."""
    if dist.is_initialized():
        tally.reduce(lambda tensor: dist.all_reduce(tensor))
