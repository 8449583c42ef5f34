"""Compiles the kernels into one plain C library, `python -m picojoule.kernels.native.build`.

Standard library only: `hatch_build.py` loads this file by its path, where neither torch nor picojoule is installed.
"""

import argparse
import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

REBUILD = "python -m picojoule.kernels.native.build"
NAME = "libpicojoule.dylib" if sys.platform == "darwin" else "libpicojoule.so"
# Skylake is the oldest CPU with these AVX-512 parts; it has no bf16 instructions.
VARIANTS = {
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"),
    "avx2": ("-mavx2", "-mfma", "-mf16c"),
    "portable": (),
}
BASE = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off")
OPTIMISED = ("-O3",)
SANITIZED = ("-fsanitize=address,undefined", "-g", "-O1")
TIMEOUT = 120.0  # seconds, each call of the compiler


class Built(NamedTuple):
    """The library that was built, or None; and one line that says what happened."""

    path: Path | None
    message: str


class _Failed(Exception):
    pass


def build(sources: Path, into: Path, sanitize: bool = False) -> Built:
    """Compile `variant.cpp` once for each instruction set and `library.cpp` into `into / NAME`. Never raises.

    The compiler is $CXX, else g++, clang++ or c++. A variant whose flags it does not know is left out. The library
    appears whole or not at all: whatever fails, one that was there before stays. `sanitize` builds with the address
    and undefined-behaviour sanitizers; such a library loads only where their run-time library is loaded first.
    """
    try:
        return _build(sources, into, sanitize)
    except (_Failed, OSError) as error:
        return Built(None, f"kernels not built, the reference path runs: {_one_line(str(error))}")


def fingerprint(sources: Path) -> str:
    """The SHA-256 of the C++ files in `sources` and of the flags they are compiled with."""
    digest = hashlib.sha256(repr((VARIANTS, BASE, OPTIMISED)).encode())
    for file in sorted([*sources.glob("*.cpp"), *sources.glob("*.h")], key=lambda file: file.name):
        content = file.read_bytes()
        digest.update(f"\n{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _build(sources: Path, into: Path, sanitize: bool) -> Built:
    if os.name != "posix":
        raise _Failed(f"there are no native kernels for {platform.system()}")
    compiler = _compiler()
    version = _version(compiler)
    flags = [*BASE, *(SANITIZED if sanitize else OPTIMISED)]
    variants, left_out = _variants(compiler)
    told = f"{version}; {', '.join(variants)}{'; sanitizers' if sanitize else ''}"
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=into.resolve()) as made:
        folder = Path(made)
        # The baseline first: of a function that several objects hold, the linker keeps the first copy, and only
        # this one runs on every CPU.
        commands = {
            "library": [
                *(f"-DPICOJOULE_HAS_{name.upper()}" for name in variants),
                f'-DPICOJOULE_BUILD="{told}"',
                f'-DPICOJOULE_SOURCES="{fingerprint(sources)}"',
                "library.cpp",
            ]
        } | {name: [f"-DPICOJOULE_VARIANT={name}", *VARIANTS[name], "variant.cpp"] for name in reversed(variants)}
        objects = {name: str(folder / f"{name}.o") for name in commands}
        calls = [[*compiler, *flags, "-c", *command, "-o", objects[name]] for name, command in commands.items()]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda call: _run(call, sources), calls))
        linked = folder / NAME
        _run([*compiler, *flags, "-shared", *objects.values(), "-o", str(linked)], sources)
        _check(linked, load=not sanitize)
        os.replace(linked, into / NAME)
    return Built(into / NAME, f"kernels built: {told}" + (f" ({left_out})" if left_out else ""))


def _compiler() -> list[str]:
    """$CXX, which may hold arguments, or the first usual compiler that is there."""
    if asked := os.environ.get("CXX"):
        try:
            command = shlex.split(asked)
        except ValueError:
            command = []
        if not command or not shutil.which(command[0]):
            raise _Failed(f"CXX={asked} is not a compiler that can be run")
        return command
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            return [name]
    raise _Failed(f"no C++ compiler (g++, clang++ or c++) was found; install one, then run `{REBUILD}`")


def _version(compiler: list[str]) -> str:
    """What the compiler calls itself, reduced to characters that are safe inside a C string."""
    lines = _run([*compiler, "--version"]).splitlines()
    return (
        re.sub(r"[^\w .,:;()+~/-]", "", lines[0] if lines else "", flags=re.ASCII).strip()[:120] or "unknown compiler"
    )


def _variants(compiler: list[str]) -> tuple[list[str], str]:
    """The variants this machine and compiler can build, best first; and which are left out, in words."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ["portable"], ""
    empty = [*compiler, "-fsyntax-only", "-x", "c++", os.devnull]
    _run(empty)
    known, unknown = [], []
    for name, flags in VARIANTS.items():
        try:
            _run([*empty, *flags])
        except _Failed:
            unknown.append(name)
        else:
            known.append(name)
    return known, f"without {', '.join(unknown)}: the compiler does not know the flags" if unknown else ""


def _run(command: Sequence[str], folder: Path | None = None) -> str:
    """What a command prints; raises _Failed with its first line of error."""
    name = Path(command[0]).name
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"LC_ALL": "C"},
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise _Failed(f"{name} took longer than {TIMEOUT:.0f} s") from None
    finally:
        if process.returncode is None:
            _end(process)
    if process.returncode != 0:
        lines = [line for line in errors.splitlines() if line.strip()]
        first = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "no message")
        raise _Failed(f"{name} failed (exit {process.returncode}): {first}")
    return out


def _end(process: subprocess.Popen[str]) -> None:
    """Kill a compiler and the processes it started: they would hold its pipes open."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _check(linked: Path, load: bool) -> None:
    if not linked.is_file():
        raise _Failed("the compiler reported success but wrote no library")
    if load and not hasattr(ctypes.CDLL(str(linked)), "picojoule_abi"):
        raise _Failed("the library that was linked does not export picojoule_abi")


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:400]


def main(arguments: Sequence[str] | None = None) -> int:
    """Build in place, or with the sanitizers into another folder; 0 if it worked."""
    parser = argparse.ArgumentParser(prog=REBUILD, description="Compile picojoule's kernels.")
    parser.add_argument("--sanitize", type=Path, metavar="FOLDER", help="build with sanitizers into this folder")
    folder = parser.parse_args(arguments).sanitize
    here = Path(__file__).resolve().parent
    built = build(here, folder or here, sanitize=folder is not None)
    print(built.message)
    return 0 if built.path else 1


if __name__ == "__main__":
    sys.exit(main())
