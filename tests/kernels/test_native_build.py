"""Building the kernels: what works is whole, what fails is one line."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from made_up_kernels import COMPILER, EVERY, built_here, compiler_script, made_up_sources, needs_compiler, on_x86

import picojoule
from picojoule.kernels.native import build as building
from picojoule.kernels.native.build import NAME, Built, build, fingerprint

ROOT = Path(__file__).parents[2]
NATIVE = Path(building.__file__).parent

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no native kernels for this system")


def refused(built: Built, *words: str) -> None:
    """It failed with one line that says that the reference path runs, and why."""
    assert built.path is None
    assert built.message.startswith("kernels not built, the reference path runs: ")
    assert len(built.message.splitlines()) == 1 and built.message.isprintable()
    for word in words:
        assert word in built.message


@needs_compiler
def test_builds_a_library_that_loads_and_leaves_nothing_else(tmp_path):
    built = build(made_up_sources(tmp_path / "from"), tmp_path / "new" / "into")
    assert built.path == tmp_path / "new" / "into" / NAME
    assert os.listdir(tmp_path / "new" / "into") == [NAME]
    library = ctypes.CDLL(str(built.path))
    library.picojoule_build.restype = library.picojoule_sources.restype = ctypes.c_char_p
    assert built.message == f"kernels built: {library.picojoule_build().decode()}"
    assert built.message.endswith("; " + ", ".join(EVERY))
    assert library.picojoule_sources().decode() == fingerprint(tmp_path / "from")


@needs_compiler
def test_each_variant_has_its_instructions_and_what_they_share_runs_everywhere(tmp_path):
    library = ctypes.CDLL(str(built_here(tmp_path).path))
    for name in EVERY:
        assert library.picojoule_select(name.encode()) == 1
        assert library.own() == {"avx512": 512, "avx2": 2, "portable": 1}[name]
        assert library.shared_with_others() == 1


@needs_compiler
def test_relative_folders_and_a_compiler_with_arguments(tmp_path, monkeypatch):
    made_up_sources(tmp_path / "from")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", f"env MADE_UP=1 {COMPILER}")
    assert build(Path("from"), Path("into")).path == Path("into") / NAME
    assert Path("into", NAME).is_file()


def test_no_compiler(tmp_path, monkeypatch):
    sources = made_up_sources(tmp_path / "from")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(build(sources, tmp_path / "into"), "no C++ compiler", "install one")


@pytest.mark.parametrize("command", ["/nonexistent", "/nonexistent -O3", " ", "'unclosed"])
def test_a_named_compiler_that_is_not_there(tmp_path, monkeypatch, command):
    monkeypatch.setenv("CXX", command)
    refused(build(made_up_sources(tmp_path / "from"), tmp_path / "into"), f"CXX={command}".strip())


@needs_compiler
def test_an_error_in_the_sources_keeps_the_old_library(tmp_path):
    path = built_here(tmp_path / "from").path
    assert path is not None
    before = path.read_bytes()
    refused(built_here(tmp_path / "from", variant="#error made up"), "variant.cpp:1", "made up")
    assert path.read_bytes() == before
    assert [name for name in os.listdir(tmp_path / "from") if name.startswith(".")] == []


@needs_compiler
def test_a_library_without_its_functions_is_refused(tmp_path):
    sources = made_up_sources(tmp_path / "from")
    (sources / "library.cpp").write_text("int nothing;")
    refused(build(sources, tmp_path / "into"), "picojoule_abi")
    (sources / "library.cpp").write_text('int gone(); extern "C" int picojoule_abi() { return gone(); }')
    refused(build(sources, tmp_path / "into"), "gone")
    assert os.listdir(tmp_path / "into") == []


WRITE_GARBAGE = r"""for out; do :; done
case "$out" in *.o|*.so|*.dylib) printf '\377\376 not a library' > "$out";; esac"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exit 0", "wrote no library"),
        (r"printf '\377\000\033[31m garbage'; exit 0", "wrote no library"),
        (r"printf '\n  \n\377\033[31m broken\ttwice\r\n' >&2; exit 3", "exit 3"),
        ("kill -9 $$", "exit -9"),
        ("exit 1", "no message"),
        ("echo 'warning: x' >&2; echo 'fatal error: full' >&2; exit 1", "fatal error: full"),
        (WRITE_GARBAGE, NAME),
    ],
)
def test_a_compiler_that_misbehaves(tmp_path, monkeypatch, body, words):
    script = compiler_script(tmp_path / "c++", body)
    monkeypatch.setenv("CXX", str(script))
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / NAME).write_bytes(b"the old one")
    refused(build(made_up_sources(tmp_path / "from"), tmp_path / "into"), words)
    assert os.listdir(tmp_path / "into") == [NAME]
    assert (tmp_path / "into" / NAME).read_bytes() == b"the old one"


@needs_compiler
@pytest.mark.parametrize("version", [r"\377\376\033[1m", r"c\"++\\ \$(x) %%s", ""])
def test_a_compiler_with_a_strange_name(tmp_path, monkeypatch, version):
    script = tmp_path / "c++"
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ printf "{version}"; exit; }}\nexec {COMPILER} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    built = build(made_up_sources(tmp_path / "from"), tmp_path / "into")
    assert built.path is not None and built.message.isprintable()
    library = ctypes.CDLL(str(built.path))
    library.picojoule_build.restype = ctypes.c_char_p
    assert library.picojoule_build().decode() in built.message


def test_a_compiler_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    script = compiler_script(tmp_path / "c++", f"sleep 300 & echo $! > {tmp_path}/child; wait")
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setattr(building, "TIMEOUT", 1.0)
    begun = time.monotonic()
    refused(build(made_up_sources(tmp_path / "from"), tmp_path / "into"), "longer than 1 s")
    assert time.monotonic() - begun < 60
    child = int((tmp_path / "child").read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(child, 0)
            time.sleep(0.05)


@needs_compiler
@pytest.mark.skipif(not on_x86(), reason="only x86 has variants with flags")
@pytest.mark.parametrize(("flag", "left"), [("-mavx512f", ["avx2", "portable"]), ("-mavx2", ["portable"])])
def test_a_variant_whose_flags_are_unknown_is_left_out(tmp_path, monkeypatch, flag, left):
    body = f'case " $* " in *" {flag} "*) echo "error: unrecognized {flag}" >&2; exit 1;; esac\nexec {COMPILER} "$@"'
    monkeypatch.setenv("CXX", str(compiler_script(tmp_path / "c++", body)))
    built = build(made_up_sources(tmp_path / "from"), tmp_path / "into")
    assert built.path is not None
    out = [name for name in EVERY if name not in left]
    assert f"; {', '.join(left)} (without {', '.join(out)}:" in built.message
    library = ctypes.CDLL(str(built.path))
    assert [name for name in EVERY if library.picojoule_select(name.encode())] == left


@needs_compiler
def test_other_machines_build_the_portable_variant(tmp_path, monkeypatch):
    monkeypatch.setattr(building.platform, "machine", lambda: "riscv64")
    assert built_here(tmp_path).message.endswith("; portable")


def test_a_system_without_kernels(tmp_path, monkeypatch):
    sources = made_up_sources(tmp_path / "from")
    with monkeypatch.context() as patched:
        patched.setattr(building.os, "name", "nt")
        patched.setattr(building.platform, "system", lambda: "Windows")
        built = build(sources, tmp_path)
    refused(built, "no native kernels for Windows")


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(build(made_up_sources(tmp_path / "from"), tmp_path / "file"))
    refused(build(tmp_path / "missing", tmp_path / "into"))


def test_the_fingerprint_covers_the_cpp_sources_and_nothing_else(tmp_path):
    made_up_sources(tmp_path)
    before = fingerprint(tmp_path)
    (tmp_path / "notes.py").write_text("x = 1")
    assert fingerprint(tmp_path) == before
    (tmp_path / "shared.h").write_text((tmp_path / "shared.h").read_text() + "\n")
    changed = fingerprint(tmp_path)
    (tmp_path / "shared.h").rename(tmp_path / "renamed.h")
    assert len({before, changed, fingerprint(tmp_path)}) == 3


@needs_compiler
def test_the_command_needs_neither_torch_nor_picojoule(tmp_path):
    made_up_sources(tmp_path)
    shutil.copy(building.__file__, tmp_path)
    command = [sys.executable, "-I", "-S", str(tmp_path / "build.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("kernels built: ")
    assert (tmp_path / NAME).is_file()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"CXX": "/nonexistent"})
    assert (done.returncode, done.stderr) == (1, "") and len(done.stdout.splitlines()) == 1


@needs_compiler
def test_a_build_with_sanitizers_goes_elsewhere(tmp_path):
    made_up_sources(tmp_path / "from")
    shutil.copy(building.__file__, tmp_path / "from")
    command = [sys.executable, str(tmp_path / "from" / "build.py"), "--sanitize", str(tmp_path / "into")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this compiler has no sanitizers: {done.stdout}")
    assert os.listdir(tmp_path / "into") == [NAME] and not (tmp_path / "from" / NAME).exists()
    assert b"__asan_init" in (tmp_path / "into" / NAME).read_bytes()


@pytest.fixture
def checkout(tmp_path):
    """The files a wheel is built from, with made-up kernels: they compile sooner."""
    root = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", NAME)
    shutil.copytree(Path(picojoule.__file__).parent, root / "src" / "picojoule", ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, root)
    made_up_sources(root / "src" / "picojoule" / "kernels" / "native")
    return root


def wheel(checkout: Path, **env: str) -> Path:
    if not importlib.util.find_spec("hatchling"):
        pytest.skip("hatchling is not installed: an isolated build brings it")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "-w", checkout.parent / "wheels", checkout],
        env=os.environ | env,
        check=True,
    )
    (made,) = (checkout.parent / "wheels").iterdir()
    return made


IN_WHEEL = "picojoule/kernels/native/"


@needs_compiler
def test_a_wheel_holds_the_library_and_serves_every_python(checkout):
    made = wheel(checkout)
    _, _, interpreter, abi, platform = made.stem.split("-")
    assert (interpreter, abi) == ("py3", "none") and platform != "any" and "manylinux" not in platform
    with zipfile.ZipFile(made) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/WHEEL"))).decode()
        archive.extractall(checkout.parent / "unpacked")
    assert {IN_WHEEL + name for name in (NAME, "variant.cpp", "library.cpp", "shared.h", "build.py")} <= names
    assert "Root-Is-Purelib: false" in metadata
    unpacked = checkout.parent / "unpacked" / IN_WHEEL
    library = ctypes.CDLL(str(unpacked / NAME))
    library.picojoule_sources.restype = ctypes.c_char_p
    assert library.picojoule_sources().decode() == fingerprint(unpacked)
    assert not (checkout / "src" / IN_WHEEL / NAME).exists()


@pytest.mark.parametrize("env", [{"CXX": "/nonexistent"}, {"PICOJOULE_BUILD": "off"}])
def test_without_a_compiler_the_wheel_is_pure_even_beside_an_old_library(checkout, env):
    (checkout / "src" / IN_WHEEL / NAME).write_bytes(b"an old one")
    made = wheel(checkout, **env)
    assert made.stem.endswith("-py3-none-any")
    with zipfile.ZipFile(made) as archive:
        names = archive.namelist()
    assert IN_WHEEL + "variant.cpp" in names and IN_WHEEL + NAME not in names


def test_the_real_sources_are_complete():
    assert {"variant.cpp", "library.cpp", "build.py"} <= {path.name for path in NATIVE.iterdir()}
