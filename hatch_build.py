"""Compiles the kernels when a wheel is built or the package is installed from its sources.

Without a working compiler the wheel holds no library and stays pure: the package then runs its reference path.
`PICOJOULE_BUILD=off` leaves the compiler alone.
"""

import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src/picojoule/kernels/native")


class Kernels(BuildHookInterface):
    """Puts the library into the wheel; for an editable install, beside its sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("PICOJOULE_BUILD") == "off":
            self.app.display_info("kernels not built, the reference path runs: PICOJOULE_BUILD=off")
            return
        sources = Path(self.root) / NATIVE
        self._folder = (
            None if version == "editable" else TemporaryDirectory(prefix="picojoule-", ignore_cleanup_errors=True)
        )
        built = _build_module(sources / "build.py").build(sources, Path(self._folder.name) if self._folder else sources)
        if built.path is None:
            self.app.display_warning(built.message)
            return
        self.app.display_info(built.message)
        if self._folder:
            build_data["force_include"][str(built.path)] = str(NATIVE.relative_to("src") / built.path.name)
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if folder := getattr(self, "_folder", None):
            folder.cleanup()


def _build_module(path: Path) -> Any:
    spec = spec_from_file_location("picojoule_build", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"expected {path} among the sources")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform() -> str:
    """The platform of this machine, e.g. linux_x86_64: the library is not checked against the manylinux baselines."""
    from packaging.tags import platform_tags

    return next(tag for tag in platform_tags() if "manylinux" not in tag and "musllinux" not in tag)
