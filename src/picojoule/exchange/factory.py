"""A model from the user's own Python file: `path/model.py:make_model`, with weights from a `.safetensors` file.

The function takes no arguments and returns the `nn.Module`; a class with no required arguments, or a module that
the file has made already, does as well. The file may say how its model is to be fed and read::

    PICOJOULE = dict(scores=lambda output: output[0].sum(0))   # snnTorch: (spikes, membranes), each [T, B, classes]

    PICOJOULE = dict(
        encode=lambda images: images.expand(25, *images.shape),  # [B, C, H, W] to [T, B, C, H, W]
        batch_dim=1,
        scores=lambda spikes: spikes.sum(0),
    )

Nothing has to be declared for a model that takes images `[B, C, H, W]` and returns scores `[B, classes]`.
"""

import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.util import module_from_spec, spec_from_file_location
from inspect import Parameter, isfunction, signature
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from picojoule.errors import BadInput, unknown_name
from picojoule.exchange.first_bytes import PICKLE, mistaken_for_safetensors
from picojoule.kinds import Events, Kind, Values

_IMPORTS = count()
_SIBLINGS: list[str] = []  # names in sys.modules that the last file imported from its own folder


def _same(x: Any) -> Any:
    return x


class Declaration(NamedTuple):
    """What a model file may say in its dictionary `PICOJOULE`.

    `encode` makes the model's input of images `[B, C, H, W]` with intensities in [0, 1]; its work is not counted.
    `inputs` is the kind of what it makes, `batch_dim` the batch axis of that. `scores` makes scores `[B, classes]`
    of the model's output; without labels it is not needed. `spiking` names types of neuron layers.
    """

    inputs: Kind = Values()
    batch_dim: int = 0
    spiking: tuple[type[nn.Module], ...] = ()
    encode: Callable[[Tensor], Any] = _same
    scores: Callable[[Any], Tensor] = _same


class Made(NamedTuple):
    """A model and what its file declares of it."""

    model: nn.Module
    declared: Declaration


def is_factory(name: str | Path) -> bool:
    """Whether `name` is meant for this door: a Python file, with or without `:factory`."""
    text = str(name)
    return text.endswith(".py") or text.rpartition(":")[0].endswith(".py")


def from_factory(name: str | Path, weights: str | Path | None = None) -> nn.Module:
    """The model that the factory in `name`, as `path/model.py:make_model`, returns, with `weights` if given.

    The file is run: give only one that you trust. Its imports find files beside it, as `import layers` or
    `from .layers import Block`. What it prints goes to stderr. Weights are a state dict in a `.safetensors` file,
    which runs no code, and have to fit exactly. Raises BadInput, in one sentence, for whatever goes wrong.
    """
    return open_factory(name, weights).model


def open_factory(name: str | Path, weights: str | Path | None = None) -> Made:
    """As `from_factory`, with the file's declaration."""
    file, function = _split(str(name))
    with _beside(file.parent), redirect_stdout(sys.stderr):
        module = _import(file)
        model = _call(module, function, file)
        declared = _declaration(module, file)
    if weights is not None:
        load_weights(model, weights)
    return Made(model, declared)


def load_weights(model: nn.Module, weights: str | Path) -> None:
    """Load a state dict from a `.safetensors` file into `model`, in place; every key and shape has to fit.

    Of parameters that share memory the file needs one. Raises BadInput, naming the first key that does not fit.
    """
    tensors = _read_weights(Path(weights))
    own = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    loaded = {_memory(own[key]) for key in tensors if key in own and not is_lazy(own[key])}
    missing = [key for key in own if key not in tensors and (is_lazy(own[key]) or _memory(own[key]) not in loaded)]
    foreign = [key for key in tensors if key not in own]
    shaped = [key for key in tensors if key in own and not is_lazy(own[key]) and own[key].shape != tensors[key].shape]
    if missing:
        raise BadInput(f"{weights} lacks {missing[0]}{_more(missing)}, which the model has")
    if foreign:
        raise BadInput(f"{weights} holds {foreign[0]}{_more(foreign)}, which the model does not have")
    if shaped:
        key = shaped[0]
        raise BadInput(
            f"{weights} holds {key} of shape {tuple(tensors[key].shape)}, the model has {tuple(own[key].shape)}"
        )
    try:
        model.load_state_dict(tensors, strict=False)
    except Exception as error:  # a module can load its state in its own way
        raise BadInput(f"{weights} does not load into the model: {_said(error)}") from error


def _split(name: str) -> tuple[Path, str]:
    path, colon, function = name.rpartition(":")
    if not colon or not function.isidentifier():
        raise BadInput(f"expected FILE.py:FACTORY such as model.py:make_model, got {name!r}")
    file = Path(path).resolve()
    if file.suffix != ".py":
        raise BadInput(f"expected a Python file before the colon, such as model.py:make_model, got {name!r}")
    if not file.is_file():
        raise BadInput(f"there is no Python file {path}")
    return file, function


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Lets imports find the files in `folder`, and none that an earlier file imported from its own folder."""
    for name in _SIBLINGS:
        sys.modules.pop(name, None)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))
        _SIBLINGS[:] = [name for name in set(sys.modules) - before if _is_in(folder, name)]


def _is_in(folder: Path, name: str) -> bool:
    top = name.partition(".")[0]
    file = getattr(sys.modules[name], "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(folder) and _stem(Path(file), folder) == top


def _stem(file: Path, folder: Path) -> str:
    return file.resolve().relative_to(folder).parts[0].removesuffix(".py")


def _import(file: Path) -> ModuleType:
    """Run `file` as a module of a package of its own, so that its name is unique and `from .x` finds its folder."""
    package = ModuleType(f"picojoule_factory_{next(_IMPORTS)}")
    package.__path__ = [str(file.parent)]
    name = package.__name__ + "." + re.sub(r"\W", "_", file.stem)
    spec = spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules |= {package.__name__: package, name: module}
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadInput(f"{file.name} cannot be imported: {_said(error)}{_line(error, file)}") from error
    return module


def _call(module: ModuleType, function: str, file: Path) -> nn.Module:
    if not hasattr(module, function):
        known = [name for name, value in vars(module).items() if _makes_models(value, module)]
        if known:
            raise unknown_name(f"factory of {file.name}", function, known)
        raise BadInput(f"{file.name} defines no function {function}, and no other without required arguments")
    factory = getattr(module, function)
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise BadInput(f"{function} in {file.name} is {_what(factory)}; expected a function that returns an nn.Module")
    if needed := _needed(factory):
        raise BadInput(
            f"{function} in {file.name} needs {', '.join(needed)}; expected a function without required arguments"
        )
    try:
        model = factory()
    except (Exception, SystemExit) as error:
        raise BadInput(f"{function} in {file.name} failed: {_said(error)}{_line(error, file)}") from error
    if not isinstance(model, nn.Module):
        raise BadInput(f"{function} in {file.name} returned {_what(model)}; expected an nn.Module")
    return model


def _makes_models(value: Any, module: ModuleType) -> bool:
    """Whether something in a file is a model, or may make one: defined there, and callable without arguments."""
    makes = isfunction(value) or isinstance(value, type) and issubclass(value, nn.Module)
    own = getattr(value, "__module__", None) == module.__name__
    return isinstance(value, nn.Module) or makes and own and not _needed(value)


def _needed(factory: Callable[..., Any]) -> list[str]:
    try:
        parameters = signature(factory).parameters.values()
    except (TypeError, ValueError):  # not every built-in tells
        return []
    optional = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is Parameter.empty and p.kind not in optional]


def _declaration(module: ModuleType, file: Path) -> Declaration:
    given = getattr(module, "PICOJOULE", {})
    if not isinstance(given, dict):
        raise BadInput(f"PICOJOULE in {file.name} is {_what(given)}; expected a dict such as dict(batch_dim=1)")
    for key in given:
        if key not in Declaration._fields:
            raise unknown_name(f"key of PICOJOULE in {file.name}", str(key), list(Declaration._fields))
    if isinstance(given.get("spiking"), type | list):
        spiking = given["spiking"]
        given = given | {"spiking": tuple(spiking) if isinstance(spiking, list) else (spiking,)}
    declared = Declaration(**given)
    for key, right, expected in (
        ("inputs", isinstance(declared.inputs, Values | Events), "picojoule.Events(...) or picojoule.Values()"),
        ("batch_dim", type(declared.batch_dim) is int, "a whole number"),
        ("spiking", _are_layers(declared.spiking), "a tuple of nn.Module classes"),
        ("encode", callable(declared.encode), "a function of the images"),
        ("scores", callable(declared.scores), "a function of the model's output"),
    ):
        if not right:
            raise BadInput(f"{key} of PICOJOULE in {file.name} is {given[key]!r}; expected {expected}")
    return declared


def _are_layers(types: Any) -> bool:
    return isinstance(types, tuple) and all(isinstance(t, type) and issubclass(t, nn.Module) for t in types)


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise BadInput(f"there is no weights file {path}")
    mistaken = mistaken_for_safetensors(path)
    if mistaken == PICKLE:
        raise BadInput(
            f"{path} is a pickle, which can run code when it is loaded; convert it once with "
            f"`safetensors.torch.save_file(torch.load({path.name!r}, weights_only=True), "
            f"{path.with_suffix('.safetensors').name!r})`"
        )
    if mistaken is not None:
        raise BadInput(f"expected a state dict in a .safetensors file, but {path} is {mistaken}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is corrupt or no .safetensors file: {error}") from error


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for two names of one tensor; tensors without memory are told apart."""
    if not tensor.data_ptr():
        return (id(tensor),)
    return (tensor.data_ptr(), tensor.shape, tensor.stride())


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _line(error: BaseException, file: Path) -> str:
    if isinstance(error, SyntaxError):
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f" (line {lines[-1]})" if lines else ""


def _more(keys: list[str]) -> str:
    return f" and {len(keys) - 1} more" if len(keys) > 1 else ""


def _what(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
