"""Imports run one way, nothing heavy is loaded before it is needed, and nothing is left unfinished."""

import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import picojoule

SOURCE = Path(picojoule.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
LAYERS = (
    "experiment",
    "conversion",
    "exchange",
    "energy",
    "execution",
    "networks",
    "metering",
    "graph",
    "cells",
    "layers",
    "neurons",
    "kernels",
)
BASE = {"errors", "kinds", "files", "lazy", "pages", "__init__"}
MAY_IMPORT = {part: {part, *LAYERS[i + 1 :]} for i, part in enumerate(LAYERS)}
MAY_IMPORT["experiment"] |= {"data"}
MAY_IMPORT |= {
    "data": {"data"},
    "report": {"report"},
    "methods": {"methods", *LAYERS},
    "cli": {"cli", "report", "methods", "data", *LAYERS},
}
ABSTRACT = {
    *("neurons/stateful.py", "neurons/neuron.py", "cells/cell.py", "experiment/method.py", "experiment/penalised.py"),
    "energy/conventions/convention.py",
}


def short(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def part_of(path: Path) -> str:
    """The layer of a file: its folder, or its name at the top."""
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def is_protocol(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases)


def exempt(tree: ast.AST, path: Path) -> set[int]:
    """Nodes under `if TYPE_CHECKING:`, which count as no import in an `__init__`."""
    if path.name != "__init__.py":
        return set()
    blocks = [n for n in ast.walk(tree) if is_type_checking(n)]
    return {id(inner) for block in blocks for inner in ast.walk(block)}


def modules_imported(path: Path) -> set[str]:
    """Dotted names of picojoule's own modules that a file imports, anywhere in it."""
    tree = ast.parse(path.read_text())
    free = exempt(tree, path)
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in free:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{short(path)} imports relatively"
            module = node.module or ""
            found |= {f"{module}.{a.name}" for a in node.names} if module == "picojoule" else {module}
    return {name for name in found if name.split(".")[0] == "picojoule"}


def target(module: str) -> str:
    """The layer of an imported module; the package itself and its version count as base."""
    parts = module.split(".")
    return "__init__" if len(parts) == 1 or parts[1] == "__version__" else parts[1]


@pytest.mark.parametrize("path", FILES, ids=short)
def test_imports_run_one_way(path):
    part = part_of(path)
    allowed = BASE if part in BASE else MAY_IMPORT[part] | BASE
    wrong = {m for m in modules_imported(path) if target(m) not in allowed}
    assert not wrong, f"{short(path)} ({part}) may not import {sorted(wrong)}"


def test_every_folder_has_a_place_in_the_order():
    assert {part_of(path) for path in FILES} <= set(MAY_IMPORT) | BASE


def test_no_method_imports_another():
    for path in (SOURCE / "methods").glob("*.py"):
        if path.name != "__init__.py":
            assert not {m for m in modules_imported(path) if target(m) == "methods"}, short(path)


def test_the_reader_of_imports_sees_imports(tmp_path, monkeypatch):
    file = tmp_path / "graph" / "made_up.py"
    file.parent.mkdir()
    file.write_text("import picojoule.cli\ndef f():\n    from picojoule.energy import count\n    from os import path\n")
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    assert modules_imported(file) == {"picojoule.cli", "picojoule.energy"}
    with pytest.raises(AssertionError, match="may not import"):
        test_imports_run_one_way(file)
    hidden = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import picojoule.cli\n"
    file.write_text(hidden)
    assert modules_imported(file) == {"picojoule.cli"}, "exempt in an __init__ only"
    init = file.with_name("__init__.py")
    init.write_text(hidden)
    assert modules_imported(init) == set()


HEAVY = ("torch", "numpy", "plotly", "safetensors", "jinja2")


@pytest.mark.parametrize(
    "what",
    [
        "import picojoule",
        "from picojoule import BadInput, Events",
        "from picojoule.cli import main; main(['--help'])",
        "from picojoule.cli import main; main(['--version'])",
        "from picojoule.cli import main; main(['train', '--help'])",
        "from picojoule.cli import main; main(['compare', '--network', 'smal-cnn'])",
    ],
)
def test_answers_without_torch(what):
    code = (
        f"import sys, json\ntry:\n    {what}\nexcept SystemExit:\n    pass\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(run.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("name", picojoule.__all__)
def test_public_names_resolve(name):
    assert getattr(picojoule, name) is not None
    assert name in dir(picojoule)


@pytest.mark.parametrize(
    "package",
    ["data", "networks", "exchange", "report", "layers", "neurons", "cells", "energy", "execution", "conversion"],
)
def test_names_of_a_package_resolve(package):
    module = import_module(f"picojoule.{package}")
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_this"):
        getattr(picojoule, "nothing_" + "like_this")


@pytest.mark.parametrize("path", FILES, ids=short)
def test_nothing_is_left_unfinished(path):
    text = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    tree = ast.parse(text)
    protocols = {id(f) for c in ast.walk(tree) if is_protocol(c) for f in ast.walk(c)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node):
            assert short(path) in ABSTRACT, f"{short(path)} line {node.lineno}"
        if isinstance(node, ast.FunctionDef) and id(node) not in protocols:
            assert not (len(node.body) == 1 and ast.unparse(node.body[0]) in ("...", "pass")), node.name


def test_only_the_abstract_bases_leave_something_to_implement():
    classes = {
        node.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and "raise NotImplementedError" in ast.unparse(node)
    }
    assert classes == {"Stateful", "Neuron", "Cell", "Method", "Convention", "Penalised"}
