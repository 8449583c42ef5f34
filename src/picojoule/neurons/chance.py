"""Where neurons and encoders that draw random numbers begin."""

import torch


def generator_at_rest(training: bool, seed: int, device: torch.device) -> torch.Generator:
    """A generator whose state is part of the state of rest.

    Training takes fresh noise, seeded from torch's global generator; evaluation starts from `seed`, so that it can be
    repeated.
    """
    start = int(torch.randint(2**62, ()).item()) if training else seed
    return torch.Generator(device).manual_seed(start)
