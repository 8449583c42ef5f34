"""Training from the weights of a saved model instead of random ones."""

import hashlib
from pathlib import Path

from picojoule.errors import BadInput
from picojoule.exchange.archive import load_model
from picojoule.networks import Network

SEED = "{seed}"
"""Stands for the seed of a run in the name of a model file."""
LEARNED_FROM_HERE = ("fineness_log", "theta_log")
"""Parameters that a file may lack, for its network had them fixed: their training starts from the values asked for."""


def start_file(start: str | None, seed: int) -> Path | None:
    """The model file that a run of this seed starts from, if any."""
    return None if start is None else Path(start.replace(SEED, str(seed)))


def digest_of(path: Path) -> str:
    """Names the content of a file. Raises BadInput if there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    except OSError as error:
        raise BadInput(f"cannot read --start {path} ({error.strerror}); expected a model.safetensors") from None


def take_weights(network: Network, path: Path) -> None:
    """Give the network the weights and running statistics in `path`. Raises BadInput if it has others.

    What is fixed in `path` and trained from now on, of LEARNED_FROM_HERE, stays as it is in the network.
    """
    weights, own = load_model(path).state_dict(), network.state_dict()
    own = {key: own[key] for key in own if key in weights or key.rpartition(".")[2] not in LEARNED_FROM_HERE}
    if {key: tensor.shape for key, tensor in weights.items()} != {key: tensor.shape for key, tensor in own.items()}:
        raise BadInput(
            f"--start {path} holds weights that do not fit ({_difference(weights, own)}); give a model of the same "
            "--network and data, trained by a method whose networks have the same layers"
        )
    network.load_state_dict(weights, strict=False)


def _difference(weights: dict, own: dict) -> str:
    """The first name or shape in which two states differ."""
    for key in sorted(weights.keys() | own.keys()):
        there, wanted = (list(state[key].shape) if key in state else "none" for state in (weights, own))
        if there != wanted:
            return f"{key}: {there} instead of {wanted}"
    return ""
