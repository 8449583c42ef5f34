"""Bad input: one clear sentence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from metered import rows
from torch import Tensor, nn

import picojoule as pj
from picojoule.errors import BadInput
from picojoule.metering import meter


class Returns(nn.Module):
    """Returns what it is told to."""

    def __init__(self, value: Any):
        super().__init__()
        self.layer, self.value = nn.Linear(6, 3), value

    def forward(self, x: Tensor) -> Any:
        y = self.layer(x)
        return self.value(y) if callable(self.value) else self.value


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.layer(torch.randn(2, 6))


X = torch.ones(4, 6)
NOTHING = "no linear operation|nothing of .* could be counted"
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "measure: no module": (lambda: pj.measure(lambda x: x, [X]), "expected a torch module"),  # pyright: ignore
    "measure: a class": (lambda: pj.measure(nn.Linear, [X]), "expected a torch module"),  # pyright: ignore
    "measure: no tensor": (lambda: pj.measure(Returns(None), [X]), "return a tensor, got NoneType"),
    "measure: a number": (lambda: pj.measure(Returns(lambda y: y.sum().item()), [X]), "return a tensor, got float"),
    "measure: no linear operation": (
        lambda: pj.measure(nn.Sequential(nn.ReLU()), [X]),
        NOTHING,
    ),
    "measure: nothing at all": (lambda: pj.measure(nn.Identity(), [X]), NOTHING),
    "measure: no batch": (lambda: pj.measure(nn.Linear(6, 3), []), "batches was empty"),
    "measure: empty batches": (lambda: pj.measure(nn.Linear(6, 3), [X[:0]]), "batches was empty"),
    "measure: NaN in": (lambda: pj.measure(nn.Linear(6, 3), [X * float("nan")]), "NaN"),
    "measure: NaN weights": (lambda: pj.measure(_broken(), [X]), "NaN"),
    "measure: NaN inside": (
        lambda: pj.measure(nn.Sequential(nn.Linear(6, 6), _Root(), nn.Linear(6, 3)), [-X]),
        "NaN",
    ),
    "measure: wrong batch axis": (lambda: pj.measure(nn.Linear(6, 3), [X], batch_dim=3), "batch axis 3"),
    "measure: not a tensor": (lambda: pj.measure(nn.Linear(6, 3), [[1.0, 2.0]]), "batches of a tensor"),  # pyright: ignore
    "measure: labels": (lambda: pj.measure(Returns(lambda y: y.sum()), [(X, torch.ones(4))]), "scores"),
    "measure: data parallel": (lambda: pj.measure(nn.DataParallel(nn.Linear(6, 3)), [X]), "DataParallel"),
    "measure: hardware": (lambda: pj.measure(nn.Linear(6, 3), [X], hardware="horowitz-45nm-fp23"), "fp32"),
    "measure: inputs": (lambda: pj.measure(nn.Linear(6, 3), [X], inputs="events"), "kind"),  # pyright: ignore
    "measure: spiking instance": (lambda: pj.measure(nn.Linear(6, 3), [X], spiking=(nn.ReLU(),)), "spiking"),  # pyright: ignore
    "meter: no module": (lambda: _meter(lambda x: x, X), "expected a torch module"),
    "meter: data parallel": (lambda: _meter(nn.DataParallel(nn.Linear(6, 3)), X), "DataParallel"),
    "meter: not called": (lambda: _meter(nn.Linear(6, 3)), "nothing was metered"),
    "meter: no tensor in": (lambda: _meter(Several(), 3), "tensor among the inputs"),
    "meter: no input": (lambda: _meter(Several()), "nothing was metered|tensor among"),
    "meter: 0-d": (lambda: _meter(Several(), torch.tensor(1.0)), "batch axis 0"),
    "meter: batch axis too high": (lambda: _meter(nn.Linear(6, 3), X, batch_dim=2), "batch axis 2"),
    "meter: no linear operation": (lambda: _meter(nn.ReLU(), X), NOTHING),
    "meter: NaN": (lambda: _meter(nn.Linear(6, 3), X * float("nan")), "NaN"),
    "meter: an empty batch": (lambda: _meter(nn.Linear(6, 3), X[:0]), "sample"),
    "meter: inputs": (lambda: _meter(nn.Linear(6, 3), X, inputs=1.0), "kind"),
    "meter: negative batch axis": (
        lambda: _meter(nn.Linear(6, 3), X, batch_dim=-5),
        "batch_dim of at least 0|batch axis",
    ),
}


class _Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 1e6).sqrt()


def _broken() -> nn.Module:
    layer = nn.Linear(6, 3)
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
    return layer


def _meter(model: Any, *args: Any, **options: Any) -> None:
    with torch.no_grad(), meter(model, **options) as m:
        if args:
            model(*args)
        rows(m.activity())


@pytest.mark.parametrize("name", CASES)
def test_one_sentence(name: str):
    call, says = CASES[name]
    with pytest.raises(BadInput, match=says) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and ". " not in text


def test_an_error_of_the_model_is_the_models_own():
    """Not wrapped, not renamed."""
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"), meter(nn.Linear(6, 3)) as m:
        m._session.model(torch.randn(4, 5))
    with pytest.raises(TypeError, match="unexpected keyword"), meter(nn.Linear(6, 3)) as m:
        m._session.model(torch.randn(4, 6), gain=1)


def test_activity_is_read_once():
    model = nn.Linear(6, 3)
    with torch.no_grad(), meter(model) as m:
        model(X)
        assert m.activity().synapses
        with pytest.raises(BadInput, match="nothing was metered"):
            m.activity()
