"""Loading the kernels: which path is active, and what is said about it."""

import json
import os
from pathlib import Path

import pytest
import torch
from made_up_kernels import EVERY, built_here, made_up_sources, needs_compiler, python

from picojoule.errors import BadInput
from picojoule.experiment.doctor import findings
from picojoule.kernels.native import library as loading
from picojoule.kernels.native.build import NAME, REBUILD
from picojoule.kernels.native.library import Status, available, built_with, library, status, using

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no native kernels for this system")

BEST = EVERY[0]
WORST_FIRST = EVERY[::-1]


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Forgets what was loaded and looks into an empty folder instead of the package."""
    monkeypatch.delenv("PICOJOULE_KERNELS", raising=False)
    for name, value in {"HERE": tmp_path, "_loaded": None, "_in_use": None}.items():
        monkeypatch.setattr(loading, name, value)
    return tmp_path


@needs_compiler
def test_the_best_variant_is_active(installed):
    message = built_here(installed).message
    active = library()
    assert active is not None and active is library()
    assert status() == Status(BEST, f"the best of {', '.join(WORST_FIRST)} on this CPU")
    assert available() == ("reference", *WORST_FIRST)
    assert message == f"kernels built: {built_with()}"


@needs_compiler
def test_what_the_cpu_lacks_is_neither_chosen_nor_offered(installed):
    built_here(installed, library=f'#define LACKING "{BEST}"')
    here = [name for name in WORST_FIRST if name != BEST]
    if not here:
        pytest.skip("this machine has the portable variant only")
    assert status().active == here[-1]
    with (
        pytest.raises(BadInput, match="this CPU or this build .*here: auto, reference, " + ", ".join(here)),
        using(BEST),
    ):
        pass


@needs_compiler
def test_using_switches_and_restores(installed):
    built_here(installed)
    native = library()
    assert native is not None
    with using("portable"):
        assert status() == Status("portable", "chosen by using('portable')") and native.own() == 1
        with using("reference"):
            assert library() is None and status().active == "reference"
            with using("auto"):
                assert status().active == BEST
        assert library() is native and native.own() == 1
    assert native.picojoule_selected().decode() == status().active == BEST
    with pytest.raises(ZeroDivisionError), using("portable"):
        _ = 1 / 0
    assert native.picojoule_selected().decode() == status().active == BEST


@pytest.mark.parametrize("name", ["", "fast", "AVX2", "avx512 "])
def test_an_unknown_path_changes_nothing(installed, name):
    with pytest.raises(BadInput, match=r"unknown kernels .* \(here: auto, reference\)"), using(name):
        pass
    assert status().active == "reference"


def test_no_library(installed):
    assert library() is None and available() == ("reference",)
    assert status() == Status("reference", f"no compiled library is installed; `{REBUILD}` builds it")
    assert built_with() == status().reason
    with using("auto"):
        assert library() is None
    with (
        pytest.raises(BadInput, match="'portable' asked for by using.* no compiled library is installed"),
        using("portable"),
    ):
        pass


@needs_compiler
@pytest.mark.parametrize("file", ["shared.h", "library.cpp", "new.h"])
def test_a_stale_library_is_noticed(installed, file):
    built_here(installed)
    with (installed / file).open("a") as source:
        source.write("// edited\n")
    assert library() is None
    assert "other sources" in status().reason and REBUILD in status().reason and built_with() == status().reason


@needs_compiler
def test_a_library_of_another_version_is_noticed(installed, monkeypatch):
    built_here(installed)
    monkeypatch.setattr(loading, "ABI", 2)
    assert status().active == "reference" and REBUILD in status().reason


@pytest.mark.parametrize("content", [b"", b"not a library", b"\x7fELF"])
def test_a_broken_library_is_a_reason_not_an_error(installed, content):
    made_up_sources(installed)
    (installed / NAME).write_bytes(content)
    assert library() is None
    assert "could not be loaded" in status().reason and REBUILD in status().reason


@needs_compiler
def test_a_library_without_all_functions_is_a_reason_not_an_error(installed):
    assert built_here(installed, library="#define picojoule_select renamed").path
    assert library() is None and "picojoule_select" in status().reason


@needs_compiler
def test_torch_lends_its_threads(installed):
    built_here(installed)
    native = library()
    assert native is not None and native.has_threads() == 1
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert native.sum_below(1000) == 499500
    finally:
        torch.set_num_threads(before)


@needs_compiler
def test_a_torch_that_lends_no_threads_is_named(installed, monkeypatch):
    built_here(installed)
    monkeypatch.setattr(loading.torch, "__file__", str(installed / "torch" / "__init__.py"))
    native = library()
    assert native is not None and native.has_threads() == 0
    assert "one thread" in status().reason and "torch_parallel_for" in status().reason


@needs_compiler
def test_compiled_code_may_ask(installed):
    built_here(installed)
    status()

    def step(x):
        return x + 1 if library() is not None else x - 1

    compiled = torch.compile(step, fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1)).item() == 1
    with using("reference"):
        assert compiled(torch.zeros(1)).item() == -1


COMPILED_FIRST = """
import torch
from picojoule.kernels.native.library import library
step = torch.compile(lambda x: x - 1 if library() is None else x + 1, fullgraph=True, backend="eager")
print(step(torch.zeros(1)).item())
"""


def test_compiled_code_may_ask_first():
    done = python(COMPILED_FIRST, {"PICOJOULE_KERNELS": "reference", "PATH": os.environ["PATH"]})
    assert (done.stdout.strip(), done.stderr) == ("-1.0", "")


SAY = """
import json
from pathlib import Path
from picojoule.errors import BadInput
from picojoule.kernels.native import library as loading
loading.HERE, loading._loaded, loading._in_use = Path({folder!r}), None, None
try:
    said = [loading.library() is not None, *loading.status()]
except BadInput as error:
    said = str(error)
print(json.dumps(said))
"""


def said(folder: Path, value: str | None):
    env = {"OMP_NUM_THREADS": "1"} | ({} if value is None else {"PICOJOULE_KERNELS": value})
    done = python(SAY.format(folder=str(folder)), env)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@needs_compiler
def test_the_environment_chooses(tmp_path):
    built_here(tmp_path)
    best = [True, BEST, f"the best of {', '.join(WORST_FIRST)} on this CPU"]
    assert said(tmp_path, None) == said(tmp_path, "auto") == best
    assert said(tmp_path, "reference") == [False, "reference", "chosen by PICOJOULE_KERNELS"]
    assert said(tmp_path, "portable") == [True, "portable", "chosen by PICOJOULE_KERNELS"]
    every = ", ".join(["auto", "reference", *WORST_FIRST])
    assert said(tmp_path, "fast") == f"unknown kernels 'fast' in PICOJOULE_KERNELS (here: {every})"


def test_the_environment_asks_for_what_is_not_there(tmp_path):
    sentence = said(tmp_path, "portable")
    assert "'portable' asked for by PICOJOULE_KERNELS cannot run here" in sentence and "auto, reference" in sentence


NEVER_COMPILES = """
import sys
def forbid(event, _):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn"):
        raise RuntimeError("a process was started: " + event)
import torch
sys.addaudithook(forbid)
from pathlib import Path
from picojoule.kernels.native import library as loading
loading.HERE, loading._loaded, loading._in_use = Path({folder!r}), None, None
import picojoule as pj
loading.library()
with loading.using("reference"):
    pj.LIF()(torch.ones(3, 2, 4))
pj.LIF()(torch.ones(3, 2, 4))
print(loading.status().active)
"""


def test_import_and_first_use_start_no_compiler(tmp_path):
    made_up_sources(tmp_path)
    done = python(NEVER_COMPILES.format(folder=str(tmp_path)), {"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]})
    assert (done.stderr, done.stdout.strip()) == ("", "reference")
    assert not (tmp_path / NAME).exists()


def test_the_audit_would_notice_a_process():
    code = NEVER_COMPILES.split("from pathlib")[0] + "import subprocess; subprocess.run(['true'])"
    assert "a process was started" in python(code, {"OMP_NUM_THREADS": "1"}).stderr


@needs_compiler
def test_doctor_says_what_is_active_and_how_it_was_built(installed):
    built_here(installed)
    found = findings()
    assert found["kernels"] == f"{BEST}: the best of {', '.join(WORST_FIRST)} on this CPU"
    assert found["kernels: build"] == built_with()


def test_doctor_says_how_to_build_and_what_is_asked_wrongly(installed, monkeypatch):
    assert REBUILD in findings()["kernels: build"] and findings()["kernels"].startswith("reference: ")
    monkeypatch.setattr(loading, "_in_use", None)
    monkeypatch.setenv("PICOJOULE_KERNELS", "fast")
    assert "unknown kernels 'fast'" in findings()["kernels"]
