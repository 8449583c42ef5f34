"""The errors a caller may want to catch; the commands turn them into exit codes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Real


class BadInput(ValueError):
    """Something the user gave is wrong; the message is one sentence that says how to mend it (exit code 2)."""


class FailedRun(RuntimeError):
    """A run that was asked for correctly could not be finished, e.g. its loss became NaN (exit code 1)."""


class MissedLimit(RuntimeError):
    """A budget or a gate was checked as asked, and missed (exit code 3)."""


class UntraceableModel(BadInput):
    """The model's forward pass cannot be traced into a graph."""


class UncountedLayer(BadInput):
    """A layer's operations cannot be counted, and `strict` was asked for."""


@contextmanager
def about(name: str) -> Iterator[None]:
    """Says in a BadInput from within what it is about."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from None


def check_choice(what: str, value: str | int, known: Iterable[str | int]) -> None:
    """Raise BadInput unless `value` is one of `known`."""
    known = list(known)
    if value in known:
        return
    if isinstance(value, str) and all(isinstance(name, str) for name in known):
        raise unknown_name(what, value, [str(name) for name in known])
    raise BadInput(f"expected {' or '.join(f'{what}={name}' for name in known)}, got {value!r}")


def check_number(what: str, value: object) -> None:
    """Raise BadInput unless `value` is a number; NaN passes, and is for checks of its range to refuse."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BadInput(f"expected a number as {what}, got {value!r}")


def unknown_name(what: str, name: str, known: list[str]) -> BadInput:
    """The error for a name that does not exist, with the nearest one that does."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    shown = known if len(known) <= 12 else [*get_close_matches(name, known, n=6, cutoff=0.0), f"{len(known)} in all"]
    return BadInput(f"unknown {what} {name!r}{hint} (known: {', '.join(shown)})")
