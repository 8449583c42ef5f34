"""Models from the user's own Python file: what is found, what is refused, and that nothing is left behind."""

import pickle
import sys
from pathlib import Path
from textwrap import dedent
from zipfile import ZipFile

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from picojoule import Events, Values
from picojoule.errors import BadInput
from picojoule.exchange.factory import Declaration, from_factory, is_factory, load_weights, open_factory

NET = """
from torch import nn

def make_model():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
"""


@pytest.fixture
def written(tmp_path):
    """Writes a Python file and returns its path."""

    def write(text: str, name: str = "model.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    return write


def refusal(name: object, weights: Path | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        from_factory(str(name), weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_misspelled_name_is_compared_with_what_can_make_a_model(written):
    file = written("""
        from dataclasses import dataclass
        from collections import OrderedDict
        from torch import nn
        from torch.nn import Linear, Sequential
        @dataclass
        class Width:
            n: int = 2
        width = Width()
        class Block(nn.Module):
            def __init__(self, width): super().__init__()
        def block(width): return Block(width)
        def linear(): return Linear(3, 2)
        ready = Sequential(Linear(3, 2))
    """)
    assert refusal(f"{file}:Linea").endswith("did you mean 'linear'? (known: linear, ready)")


@pytest.mark.parametrize("how", ["make", "Net", "lazy", "ready"])
def test_functions_classes_and_modules_give_a_model(written, how):
    file = written("""
        from torch import nn
        class Net(nn.Module):
            def __init__(self, width=3):
                super().__init__()
                self.fc = nn.Linear(width, 2)
        def make(*, width=3): return Net(width)
        lazy = lambda *a, **k: Net()
        ready = Net()
    """)
    model = from_factory(f"{file}:{how}")
    assert type(model).__name__ == "Net" and isinstance(model.get_submodule("fc"), nn.Linear)


def test_weights_are_loaded_exactly(written, tmp_path):
    file = written(NET)
    trained = {k: torch.randn_like(v) for k, v in from_factory(f"{file}:make_model").state_dict().items()}
    save_file(trained, tmp_path / "w.safetensors")
    loaded = from_factory(f"{file}:make_model", tmp_path / "w.safetensors").state_dict()
    assert loaded.keys() == trained.keys() and all(torch.equal(loaded[k], trained[k]) for k in trained)


def test_a_file_holds_shared_weights_once(tmp_path):
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model

    trained, fresh = tied(), tied()
    save_model(trained, str(tmp_path / "w.safetensors"))
    load_weights(fresh, tmp_path / "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), trained.parameters(), strict=True))


def test_lazy_layers_take_the_shape_of_the_weights(tmp_path):
    save_file({"weight": torch.ones(2, 5), "bias": torch.ones(2)}, tmp_path / "w.safetensors")
    lazy = nn.LazyLinear(2)
    load_weights(lazy, tmp_path / "w.safetensors")
    assert lazy.weight.shape == (2, 5) and bool((lazy.weight == 1).all())


@pytest.mark.parametrize("style", ["import layers", "from . import layers", "import blocks.inner as layers"])
def test_siblings_are_found_and_their_folder_leaves_the_path(written, style):
    text = "from torch import nn\ndef block(): return nn.Linear(7, 1)\n"
    written(text, "net/layers.py")
    written(text, "net/blocks/inner.py")
    file = written(f"{style}\ndef make(): return layers.block()\n", "net/model.py")
    before = list(sys.path)
    model = from_factory(f"{file}:make")
    assert isinstance(model, nn.Linear) and model.in_features == 7
    assert sys.path == before


def test_siblings_may_be_imported_inside_the_factory_and_the_path_is_mended_after_a_failure(written):
    written("from torch import nn\nWIDTH = 5\n", "deep/sizes.py")
    file = written(
        """
        from torch import nn
        def make():
            from sizes import WIDTH
            return nn.Linear(WIDTH, 1)
        def fail():
            raise ValueError("no")
    """,
        "deep/model.py",
    )
    before = list(sys.path)
    model = from_factory(f"{file}:make")
    assert isinstance(model, nn.Linear) and model.in_features == 5
    refusal(f"{file}:fail")
    assert sys.path == before


def test_two_files_do_not_see_each_others_siblings(written):
    models = []
    for folder, width in (("a", 2), ("b", 3), ("a", 2)):
        written(f"WIDTH = {width}\n", f"{folder}/sizes.py")
        file = written(
            "from torch import nn\nimport sizes\ndef make(): return nn.Linear(sizes.WIDTH, 1)", f"{folder}/m.py"
        )
        models.append(from_factory(f"{file}:make"))
    assert [m.in_features for m in models] == [2, 3, 2]


def test_packages_installed_below_the_folder_are_imported_once(written, tmp_path, monkeypatch):
    written("made = object()\n", "env/installed_package.py")
    monkeypatch.syspath_prepend(str(tmp_path / "env"))
    file = written("import installed_package\n" + NET)
    from_factory(f"{file}:make_model")
    package = sys.modules["installed_package"]
    from_factory(f"{file}:make_model")
    assert sys.modules["installed_package"] is package


def test_what_the_file_prints_is_kept_off_stdout(written, capsys):
    file = written("print('importing')\n" + NET.replace("return", "print('making'); return"))
    from_factory(f"{file}:make_model")
    said = capsys.readouterr()
    assert said.out == "" and said.err == "importing\nmaking\n"


def test_dataclasses_with_written_out_types_work(written):
    file = written(
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from torch import nn
        @dataclass
        class Size:
            width: int = 3
        def make(): return nn.Linear(Size().width, 1)
    """,
        "my model-v1.2.py",
    )
    assert isinstance(from_factory(f"{file}:make"), nn.Linear)


def test_declaration_defaults_to_images_and_scores(written):
    declared = open_factory(f"{written(NET)}:make_model").declared
    assert declared == Declaration() and declared.inputs == Values()
    x = torch.ones(2)
    assert declared.encode(x) is x and declared.scores(x) is x


def test_declaration_of_a_model_with_time_first(written):
    file = written("""
        from torch import nn
        from picojoule import Events
        class Spike(nn.Module): ...
        def make(): return Spike()
        PICOJOULE = dict(
            inputs=Events(most=1),
            batch_dim=1,
            spiking=Spike,
            encode=lambda images: (images > 0.5).float().expand(4, *images.shape),
            scores=lambda output: output[0].sum(0),
        )
    """)
    model, declared = open_factory(f"{file}:make")
    assert (declared.inputs, declared.batch_dim, declared.spiking) == (Events(most=1), 1, (type(model),))
    encoded = declared.encode(torch.rand(3, 1, 2, 2))
    assert encoded.shape == (4, 3, 1, 2, 2) and set(encoded.unique().tolist()) <= {0.0, 1.0}
    assert declared.scores((torch.ones(4, 3, 5), None)).tolist() == [[4.0] * 5] * 3


@pytest.mark.parametrize(
    ("declaration", "hint"),
    [
        ("7", "PICOJOULE in model.py is int; expected a dict"),
        ("dict(batchdim=1)", "unknown key of PICOJOULE in model.py 'batchdim'; did you mean 'batch_dim'?"),
        ("{3: 1}", "unknown key of PICOJOULE in model.py '3'"),
        ("dict(batch_dim='1')", "batch_dim of PICOJOULE in model.py is '1'; expected a whole number"),
        ("dict(batch_dim=True)", "expected a whole number"),
        ("dict(inputs='events')", "expected picojoule.Events(...) or picojoule.Values()"),
        ("dict(spiking=int)", "expected a tuple of nn.Module classes"),
        ("dict(spiking=[nn.ReLU, 3])", "expected a tuple of nn.Module classes"),
        ("dict(scores=3)", "expected a function of the model's output"),
        ("dict(encode=3)", "expected a function of the images"),
    ],
)
def test_a_wrong_declaration_is_refused(written, declaration, hint):
    assert hint in refusal(f"{written(f'{NET}{chr(10)}PICOJOULE = {declaration}')}:make_model")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("model.py", "expected FILE.py:FACTORY such as model.py:make_model, got 'model.py'"),
        ("model.py:", "got 'model.py:'"),
        ("model.py:make model", "got 'model.py:make model'"),
        (r"C:\nets\model.py", "expected FILE.py:FACTORY"),
        ("model.txt:make", "expected a Python file before the colon"),
        ("gone.py:make", "there is no Python file gone.py"),
    ],
)
def test_a_name_that_is_no_factory(name, hint):
    assert hint in refusal(name)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (NET, "unknown factory of model.py 'make'; did you mean 'make_model'? (known: make_model)"),
        ("x = 1", "model.py defines no function make, and no other"),
        ("make = 3", "make in model.py is int; expected a function that returns an nn.Module"),
        ("def make(width, *, deep): ...", "needs width, deep; expected a function without required arguments"),
        ("def make(): return 3", "make in model.py returned int; expected an nn.Module"),
        ("def make(): return str", "make in model.py returned the class str; expected an nn.Module"),
        ("def make():\n  x = 1\n  raise KeyError('w')", "make in model.py failed: KeyError: 'w' (line 3)"),
        ("def make(): exit()", "make in model.py failed: SystemExit"),
        ("def make(): return 1 / 0", "failed: ZeroDivisionError: division by zero (line 1)"),
        ("def make()\n  x", "model.py cannot be imported: SyntaxError: "),
        ("1\nimport snn_torsch", "cannot be imported: ModuleNotFoundError: No module named 'snn_torsch' (line 2)"),
        ("raise RuntimeError('a\\nb')", "cannot be imported: RuntimeError: a b (line 1)"),
        ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3 (line 1)"),
    ],
)
def test_a_file_that_makes_no_model(written, text, hint):
    assert hint in refusal(f"{written(text)}:make")


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda w: w.pop("0.bias"), "lacks 0.bias, which the model has"),
        (lambda w: [w.pop(k) for k in list(w)[:3]], "lacks 0.weight and 2 more, which"),
        (lambda w: w.update(extra=torch.ones(1)), "holds extra, which the model does not have"),
        (lambda w: w.update({"2.bias": torch.ones(7)}), "holds 2.bias of shape (7,), the model has (2,)"),
    ],
)
def test_weights_that_do_not_fit(written, tmp_path, change, hint):
    file = written(NET)
    weights = dict(from_factory(f"{file}:make_model").state_dict())
    change(weights)
    save_file(weights, tmp_path / "w.safetensors")
    assert hint in refusal(f"{file}:make_model", tmp_path / "w.safetensors")


class Trap:
    def __reduce__(self):
        return (exec, ("raise AssertionError('a pickle was run')",))


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
@pytest.mark.parametrize("save", [torch.save, lambda o, f: Path(f).write_bytes(pickle.dumps(o))], ids=["zip", "pickle"])
def test_pickles_are_refused_unread(written, tmp_path, name, save):
    save({"x": Trap()}, tmp_path / name)
    said = refusal(f"{written(NET)}:make_model", tmp_path / name)
    assert "is a pickle" in said and "save_file(torch.load(" in said


def test_weights_that_are_no_safetensors(written, tmp_path):
    file = written(NET)
    assert "there is no weights file" in refusal(f"{file}:make_model", tmp_path / "gone.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"nothing at all")
    assert "corrupt or no .safetensors file" in refusal(f"{file}:make_model", tmp_path / "w.safetensors")
    with ZipFile(tmp_path / "w.safetensors", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    assert "w.safetensors is a ZIP archive" in refusal(f"{file}:make_model", tmp_path / "w.safetensors")


def test_a_module_that_refuses_its_state(written, tmp_path):
    file = written("""
        from torch import nn
        class Net(nn.Linear):
            def _load_from_state_dict(self, *arguments): raise OSError("locked")
        def make(): return Net(1, 1)
    """)
    save_file({"weight": torch.ones(1, 1), "bias": torch.ones(1)}, tmp_path / "w.safetensors")
    assert "does not load into the model: OSError: locked" in refusal(f"{file}:make", tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a/model.py:make", True),
        (Path("model.py"), True),
        ("model.safetensors", False),
        (r"C:\x\model.safetensors", False),
        ("model.pt", False),
    ],
)
def test_which_names_are_factories(name, is_one):
    assert is_factory(name) == is_one
