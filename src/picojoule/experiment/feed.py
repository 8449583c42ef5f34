"""Feed a model the images of a dataset, and say where a failure of the model comes from."""

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import picojoule
from picojoule.data import Dataset
from picojoule.errors import BadInput
from picojoule.exchange import Declaration
from picojoule.experiment.evaluate import batch_of, evaluation_batch
from picojoule.graph.shapes import evaluating
from picojoule.kinds import Values
from picojoule.metering import KeptState
from picojoule.networks import Network

TRIED = 3
"""Samples on which a model is tried before it is measured: a mistake shows at once, and where it was made."""


class Feed:
    """Makes a model's inputs of the images of a test split."""

    def __init__(self, model: nn.Module, data: Dataset, device: torch.device, declared: Declaration, name: str):
        self._model, self._data, self._device = model, data, device
        self.declared, self._name = declared, name
        self._own = isinstance(model, Network)  # in the memory order that training measures in

    @property
    def samples(self) -> int:
        return len(self._data.test.labels)

    def batches(self, *, labelled: bool, progress: bool = False) -> Iterator[Any]:
        """The whole split."""
        parts = torch.arange(self.samples).split(evaluation_batch(self._model))
        for rows in _bar(parts, f"measuring {self._name}") if progress else parts:
            x, y = self.batch(rows)
            yield (x, y) if labelled else x

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The model's input and the labels of some rows. Raises BadInput if `encode` does not fit."""
        images, labels = batch_of(self._data.test, rows, self._data.scale, self._device, self._own)
        with blamed(f"encode of PICOJOULE failed on images {list(images.shape)}"):
            x = self.declared.encode(images)
        if not isinstance(x, Tensor):
            raise BadInput(f"expected a tensor from encode of PICOJOULE, got {type(x).__name__}")
        axis = self.declared.batch_dim
        if axis not in range(x.dim()) or x.shape[axis] != len(rows):
            fits = [n for n, size in enumerate(x.shape) if size == len(rows)]
            mend = f"declare batch_dim={fits[0]}" if fits else "encode has to keep the samples apart"
            raise BadInput(
                f"{self._name} is fed {list(x.shape)}, whose axis {axis} is not the {len(rows)} images; {mend}"
            )
        return x, labels

    def tried(self) -> tuple[Callable[[Any], Tensor] | None, list[str]]:
        """Run a few samples: how scores are made of the output, None if they cannot be, and what has to be said."""
        x, labels = self.batch(torch.arange(min(TRIED, self.samples)))
        with torch.no_grad(), evaluating(self._model), KeptState(self._model):
            output = self._run(x)
        if not any(isinstance(t, Tensor) for t in tree_leaves(output)):
            raise BadInput(f"expected {self._name} to return a tensor, got {type(output).__name__}")
        scores, remarks = self._scores(output, len(labels))
        if self.declared.encode is not Declaration().encode and isinstance(self.declared.inputs, Values):
            if bool(((x == 0) | (x == 1)).all()):
                remarks.append(
                    "All inputs are 0 or 1 but count as values; if they are spikes, declare inputs=picojoule.Events()."
                )
        return scores, remarks

    def _scores(self, output: Any, samples: int) -> tuple[Callable[[Any], Tensor] | None, list[str]]:
        own = self.declared.scores
        if own is not Declaration().scores:
            with blamed("scores of PICOJOULE failed on the model's output"):
                scores = own(output)
            if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != samples:
                got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
                raise BadInput(f"expected scores [{samples}, classes] from scores of PICOJOULE, got {got}")
            return own, []
        if isinstance(output, Tensor) and output.shape == (samples, self._data.classes):
            return own, []
        got = f"a tensor {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        return None, [
            f"The accuracy is not known: of {samples} images {self._name} makes {got}, not scores "
            f"[{samples}, {self._data.classes}]; declare scores in PICOJOULE."
        ]

    def _run(self, x: Tensor) -> Any:
        """One call; a failure names the layer that made it, with both shapes."""
        inside: list[tuple[str, nn.Module, Any]] = []
        handles = []
        for path, module in self._model.named_modules():

            def enter(m: nn.Module, args: Any, path: str = path) -> None:
                inside.append((path, m, args[0] if args else None))

            def leave(*_: object) -> None:
                inside.pop()

            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            return self._model(x)
        except BadInput:
            raise
        except Exception as error:
            images = [len(x), *self._data.input_shape]
            fed = "" if list(x.shape) == images else f", fed as {list(x.shape)}"
            where = ""
            if len(inside) > 1:
                path, module, entered = inside[-1]
                got = f" got {list(entered.shape)}" if isinstance(entered, Tensor) else " failed"
                where = f": {path}, {module if not list(module.children()) else type(module).__name__},{got}"
            raise BadInput(
                f"{self._name} cannot take the images {list(self._data.input_shape)} of {self._data.name}{fed}{where} "
                f"({_said(error)})"
            ) from error
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Failures of the user's own code as BadInput; not those of the meter."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        if _is_ours(error):
            raise
        raise BadInput(f"{what}: {_said(error)}") from error


def _is_ours(error: Exception) -> bool:
    """Whether an error was raised by the code that counts: a mistake of ours, which needs its traceback."""
    raised = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    package = Path(picojoule.__file__).parent
    return any(raised.is_relative_to(package / part) for part in ("metering", "energy", "graph"))


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _bar(parts: tuple[Tensor, ...], label: str) -> Iterable[Tensor]:
    """The parts, with a bar on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        return parts
    from rich.console import Console
    from rich.progress import track

    return track(parts, label, console=Console(stderr=True), transient=True)
