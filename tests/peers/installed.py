"""Tests that need a peer are skipped, with the reason, where it is not installed."""

from importlib.util import find_spec
from typing import Any

import pytest

from .zoo import ZOO, Entry


def case(entry: Entry, *packages: str) -> Any:
    """A zoo entry as a test parameter, skipped if one of its packages, or of the given ones, is missing."""
    return pytest.param(entry, id=entry.name, marks=needs(*entry.packages, *packages))


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip without these packages."""
    missing = [p for p in dict.fromkeys(packages) if find_spec(p) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (`make peers` does it)")


def named(name: str) -> Entry:
    """The zoo entry of that name."""
    return next(e for e in ZOO if e.name == name)


cases = [case(entry) for entry in ZOO]
