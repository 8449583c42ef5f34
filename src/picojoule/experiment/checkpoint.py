"""Checkpoints of a run, bound to its settings."""

from pathlib import Path
from typing import Any

import torch

from picojoule.errors import BadInput
from picojoule.files import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values to `path` atomically."""
    with replacing(path) as file:
        torch.save(state, file)


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The checkpoint at `path`, or None if there is none.

    Raises BadInput if it is corrupt or belongs to a run with other settings (its fingerprint differs).
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = state["fingerprint"]
    except Exception as error:
        raise BadInput(
            f"{path} is not a readable checkpoint ({type(error).__name__}); delete it to start again"
        ) from error
    if known != fingerprint:
        raise BadInput(
            f"{path} is the checkpoint of another run ({known}), this one is {fingerprint}; "
            "resume with the same settings or choose another --out"
        )
    return state
