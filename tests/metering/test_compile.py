"""Compiled models: the same counts, before or after compilation, wherever it is."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from metered import counted, rows
from torch import Tensor, nn

import picojoule as pj
from picojoule.metering import meter

pytestmark = pytest.mark.filterwarnings("ignore")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros(len(x), 5)
        out = torch.zeros(len(x), 3)
        for _ in range(3):
            v = 0.9 * v + self.first(x)
            z = (v > 0.3).float()
            v = v - 0.3 * z
            out = out + self.second(z)
        return out


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("fullgraph", [True, False])
@pytest.mark.parametrize("warm", [True, False])
def test_a_compiled_model_counts_what_it_counted(backend: str, fullgraph: bool, warm: bool):
    model, x = Net(), torch.randn(4, 6)
    want = counted(model, x)
    compiled = torch.compile(model, backend=backend, fullgraph=fullgraph)
    if warm:
        compiled(x)
    assert counted(compiled, x) == want  # pyright: ignore
    report = pj.measure(compiled, [x, x])  # pyright: ignore
    assert report.counts.layers == ("first", "second")
    assert float(report.counts.total("acs")) == pytest.approx(sum(want["second"].acs) / 4)
    assert torch.allclose(compiled(x), model(x))


def test_the_model_metered_is_called_compiled():
    model, x = Net(), torch.randn(4, 6)
    want = counted(model, x)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    with torch.no_grad(), meter(model) as m:
        for _ in range(2):
            compiled(x)
            assert rows(m.activity()) == want


def test_a_model_compiled_in_place():
    model, x = Net(), torch.randn(4, 6)
    want = counted(model, x)
    model.compile(backend="eager")
    model(x)
    assert counted(model, x) == want


def test_a_compiled_part():
    model, x = nn.Sequential(nn.Linear(6, 6), Net()), torch.randn(4, 6)
    want = counted(model, x)
    model[1] = torch.compile(model[1], backend="eager")  # pyright: ignore
    model(x)
    assert counted(model, x) == want


def test_a_compiled_function_inside():
    step = torch.compile(lambda v, i: ((0.9 * v + i > 0.3).float(), 0.9 * v + i), backend="eager", fullgraph=True)

    class Inside(Net):
        def forward(self, x: Tensor) -> Tensor:
            z, _ = step(torch.zeros(len(x), 5), self.first(x))
            return self.second(z)

    model, x = Inside(), torch.randn(4, 6)
    model(x)
    found = counted(model, x)
    assert found["second"].acs == [3 * float(n) for n in (model.first(x) > 0.3).float().sum(1)]


def test_training_a_compiled_model():
    model, x = Net(), torch.randn(4, 6)
    compiled = torch.compile(nn.Sequential(model), backend="eager")
    with meter(compiled) as m:  # pyright: ignore
        y = compiled(x)
        assert y.requires_grad and "0.second" in rows(m.activity())


def test_scripted_functions_and_modules():
    scripted = torch.jit.script(_scripted)

    class Scripted(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.second(scripted(self.first(x)))

    model, x = Scripted(), torch.randn(4, 6)
    for _ in range(3):
        assert counted(model, x)["second"].acs == [3 * float(n) for n in (model.first(x) > 0.3).float().sum(1)]


def test_scripted_modules_are_counted_or_refused_in_one_sentence():
    for inner in (torch.jit.script(nn.Linear(5, 3)), torch.jit.trace(nn.Linear(5, 3), torch.randn(2, 5))):
        model = nn.Sequential(nn.Linear(6, 5), inner)  # pyright: ignore
        try:
            found = counted(model, torch.randn(4, 6))
        except pj.BadInput as error:
            assert "\n" not in str(error) and "script" in str(error).lower()
        else:
            assert sum(sum(row.operations) for row in found.values()) == 4 * (30 + 15)


def _scripted(v: Tensor) -> Tensor:
    return (v > 0.3).to(v.dtype)


def test_exported_programs():
    model, x = Net(), torch.randn(4, 6)
    want = counted(model, x)
    program = torch.export.export(model, (x,)).module()
    found = counted(program, x)
    assert sum(sum(r.acs) for r in found.values()) == sum(want["second"].acs)


def test_traced_networks():
    model, x = Net(), torch.randn(4, 6)
    traced = torch.fx.symbolic_trace(nn.Sequential(model.first, nn.Threshold(0.3, 0.0), nn.ReLU(), model.second))
    assert counted(traced, x)["3"].quantum is None
