"""Names of a package that are loaded when they are first used, so that the command line answers without torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy(package: str, homes: dict[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """The `__getattr__` of `package`: `homes` maps a module to the names it provides."""
    home_of = {name: home for home, names in homes.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name]), name)

    return __getattr__
