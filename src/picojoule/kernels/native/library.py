"""The compiled kernels: loads their library, chooses the variant for this CPU, and says why. Never compiles."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL, c_char_p, c_int, c_void_p
from pathlib import Path
from typing import NamedTuple

import torch

from picojoule.errors import BadInput
from picojoule.kernels.native.build import NAME, REBUILD, VARIANTS, fingerprint

ABI = 1
"""Version of the functions that `library.cpp` exports; it answers the same number from `picojoule_abi`."""

HERE = Path(__file__).parent
VARIABLE = "PICOJOULE_KERNELS"
SIGNATURES = {
    "picojoule_abi": (c_int, []),
    "picojoule_build": (c_char_p, []),
    "picojoule_sources": (c_char_p, []),
    "picojoule_set_parallel_for": (None, [c_void_p]),
    "picojoule_select": (c_int, [c_char_p]),
    "picojoule_selected": (c_char_p, []),
}


class Status(NamedTuple):
    """Which path runs, `reference`, `portable`, `avx2` or `avx512`, and why."""

    active: str
    reason: str


class _Loaded(NamedTuple):
    library: CDLL | None
    variants: tuple[str, ...]  # that this CPU runs, best last
    remark: str  # why there is no library, or what it lacks


class _InUse(NamedTuple):
    library: CDLL | None
    status: Status


_loaded: _Loaded | None = None
_in_use: _InUse | None = None


def library() -> CDLL | None:
    """The library whose kernels are active, or None if the reference path is.

    The environment variable PICOJOULE_KERNELS, read when this module is imported, chooses the path: `auto` (default,
    the best variant), `reference`, `portable`, `avx2` or `avx512`. Raises BadInput if it cannot run here.
    """
    return _now().library


def loaded() -> CDLL | None:
    """The library, active or not: it finishes what it began before the path was switched."""
    return _load().library


def status() -> Status:
    """The active path and the reason in words; BadInput as in `library`."""
    return _now().status


def available() -> tuple[str, ...]:
    """The paths that run here, slowest first; `reference` always does."""
    return ("reference", *_load().variants)


def built_with() -> str:
    """The compiler and the variants of the library, or why there is none."""
    loaded = _load()
    return loaded.library.picojoule_build().decode() if loaded.library else loaded.remark


@contextmanager
def using(name: str) -> Iterator[None]:
    """Make `name` the active path inside the block, for the whole process: for tests and benchmarks.

    Raises BadInput if it is none of `auto` and `available()`.
    """
    global _in_use
    before = _now()
    _in_use = _choose(name, f"using({name!r})")
    try:
        yield
    finally:
        _in_use = before
        if before.library:
            before.library.picojoule_select(before.status.active.encode())


def _now() -> _InUse:
    global _in_use
    if _in_use is None:
        _in_use = _choose(os.environ.get(VARIABLE) or "auto", VARIABLE)
    return _in_use


def _choose(name: str, chosen_by: str) -> _InUse:
    if name == "reference":
        return _InUse(None, Status("reference", f"chosen by {chosen_by}"))
    library, variants, remark = _load()
    if name not in ("auto", *variants):
        raise BadInput(_refusal(name, chosen_by))
    if library is None:
        return _InUse(None, Status("reference", remark))
    library.picojoule_select(name.encode())
    reason = f"the best of {', '.join(variants)} on this CPU" if name == "auto" else f"chosen by {chosen_by}"
    active = library.picojoule_selected().decode()
    return _InUse(library, Status(active, f"{reason}; {remark}" if remark else reason))


def _refusal(name: str, chosen_by: str) -> str:
    choices = ", ".join(("auto", *available()))
    if name not in VARIANTS:
        return f"unknown kernels {name!r} in {chosen_by} (here: {choices})"
    why = _load().remark if _load().library is None else "this CPU or this build of the library does not have it"
    return f"the kernels {name!r} asked for by {chosen_by} cannot run here: {why} (here: {choices})"


def _load() -> _Loaded:
    global _loaded
    if _loaded is None:
        _loaded = _open(HERE)
    return _loaded


def _open(folder: Path) -> _Loaded:
    """The library in `folder`, checked against the sources beside this file and connected to torch's threads."""
    path = folder / NAME
    if not path.is_file():
        mend = f"`{REBUILD}` builds it" if os.name == "posix" else f"there is none for {sys.platform}"
        return _Loaded(None, (), f"no compiled library is installed; {mend}")
    try:
        library = CDLL(str(path))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return _Loaded(None, (), f"{NAME} could not be loaded ({error}); `{REBUILD}` rebuilds it")
    if library.picojoule_abi() != ABI or library.picojoule_sources().decode() != fingerprint(HERE):
        return _Loaded(None, (), f"{NAME} was built from other sources than are installed; `{REBUILD}` rebuilds it")
    parallel_for = _parallel_for()
    library.picojoule_set_parallel_for(parallel_for)
    variants = tuple(name for name in reversed(VARIANTS) if library.picojoule_select(name.encode()))
    library.picojoule_select(b"auto")
    return _Loaded(library, variants, "" if parallel_for else "one thread: this torch has no torch_parallel_for")


def _parallel_for() -> int | None:
    """The address of torch's stable `torch_parallel_for` (torch/csrc/stable/c/shim.h), so that its threads are ours."""
    file = Path(torch.__file__).parent / "lib" / f"libtorch_cpu{Path(NAME).suffix}"
    try:
        return ctypes.cast(CDLL(str(file)).torch_parallel_for, c_void_p).value
    except (OSError, AttributeError):
        return None


with suppress(BadInput):  # every call of `library` raises it
    _now()  # now, because torch.compile cannot trace a file that is loaded at the first call
