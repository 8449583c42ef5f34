"""From a Keras file to a network."""

from pathlib import Path

from picojoule.errors import BadInput
from picojoule.exchange.keras.build import build
from picojoule.exchange.keras.files import opened
from picojoule.networks import Network


def load_keras(path: Path) -> Network:
    """The network in a `.keras` or `.h5` file of Keras 2 or 3, in evaluation mode, without a time axis.

    Images go in as `[B, C, H, W]`, series as `[B, C, L]` and features as `[B, F]`, whatever order of axes the file
    has; scores come out as `[B, classes]`. Layers keep the names of the file. Raises BadInput, with the name and type
    of the layer, for what cannot be read; docs/import.md tells how to mend each.
    """
    if not path.is_file():
        raise BadInput(f"there is no model file {path}")
    try:
        with opened(path) as stored:
            return build(stored)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    except Exception as error:  # a file from anywhere can be wrong in any way
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInput(f"{path} is corrupt or describes no model that this version can build: {reason}") from error
