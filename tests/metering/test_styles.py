"""Whole networks in the styles of the libraries, against brute force that visits nothing but patterns."""

import contextlib
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from metered import counted, reached, rows
from styles import STYLES, Style
from torch import Tensor, nn

from picojoule.metering import meter


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@contextlib.contextmanager
def _listening(model: nn.Module) -> Iterator[dict[str, list[tuple[Tensor, nn.Module]]]]:
    """What enters every linear operation, by replacing torch's functions; by layer or parameter name."""
    found: dict[str, list[tuple[Tensor, nn.Module]]] = {}
    names = {id(p): n for n, p in model.named_parameters()}
    layers = {f"{n}.weight": n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    real = {name: getattr(F, name) for name in ("linear", "conv2d")}
    matmul = Tensor.__matmul__

    def note(x: Tensor, weight: Tensor, layer: nn.Module) -> None:
        name = names[id(weight)]
        found.setdefault(layers.get(name, name), []).append((x.detach().clone(), layer))

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        note(x, weight, nn.Linear(weight.shape[1], weight.shape[0], bias=False))
        return real["linear"](x, weight, bias)

    def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: object) -> Tensor:
        stride, padding, *_ = (*rest, 1, 0)[: max(2, len(rest))] if rest else (1, 0)
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], stride, padding, bias=False)  # pyright: ignore
        note(x, weight, layer)
        return real["conv2d"](x, weight, bias, *rest)

    def product(a: Tensor, b: Tensor) -> Tensor:
        base = b._base if b._base is not None else b
        note(a, base, nn.Linear(b.shape[0], b.shape[1], bias=False))
        return matmul(a, b)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "linear", linear)
        patch.setattr(F, "conv2d", conv2d)
        patch.setattr(Tensor, "__matmul__", product)
        yield found


def brute_force(style: Style, model: nn.Module, x: Tensor, B: int) -> dict[str, list[float]]:
    """Operations of each sample at each layer."""
    with torch.no_grad(), _listening(model) as found:
        model(x)
    totals = {}
    for name, quantum in style.layers.items():
        total = torch.zeros(B, dtype=torch.float64)
        for entered, layer in found[name]:
            n = (entered != 0) if quantum is None else (entered / quantum).round()
            total += _by_sample(n, layer, B, style.batch_dim == 0)
        totals[name] = total.tolist()
    return totals


def _by_sample(n: Tensor, layer: nn.Module, B: int, batch_major: bool) -> Tensor:
    if isinstance(layer, nn.Linear) and n.dim() == 3:
        n = n.flatten(0, 1)
    each = torch.tensor(reached(layer, n))
    return each.view(B, -1).sum(1) if batch_major else each.view(-1, B).sum(0)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_every_layer_of_every_style(name: str, mode: type):
    style, B = STYLES[name], 4
    model, x = style.make(), style.x(B)
    want = brute_force(style, model, x, B)
    with mode(), meter(model, batch_dim=style.batch_dim, strict=True) as m:
        model(x)
        found = rows(m.activity())
    for layer, quantum in style.layers.items():
        assert found[layer].quantum == quantum, layer
        assert found[layer].operations == pytest.approx(want[layer]), layer
        assert sum(want[layer]) > 0, layer


@pytest.mark.parametrize("name", [n for n in STYLES if "T == B" not in n])
def test_samples_alone_count_what_they_count_in_a_batch(name: str):
    style, B = STYLES[name], 3
    model, x = style.make(), style.x(B)
    whole = counted(model, x, batch_dim=style.batch_dim)
    for i in range(B):
        alone = counted(model, x.narrow(style.batch_dim, i, 1), batch_dim=style.batch_dim)
        for layer in style.layers:
            assert alone[layer].operations == pytest.approx([whole[layer].operations[i]]), layer


@pytest.mark.parametrize("name", [n for n in STYLES if "T == B" not in n])
def test_steps_add_up_and_follow_time(name: str):
    """Cutting the last step off leaves the counts of the others."""
    style, B = STYLES[name], 3
    model, x = style.make(), style.x(B)
    time = 1 - style.batch_dim
    with torch.no_grad(), meter(model, batch_dim=style.batch_dim) as m:
        model(x)
        whole = {}
        for record in m.activity().synapses:
            whole.setdefault(record.site.name, []).append(record.by_step)
    steps = {name: torch.cat(parts) for name, parts in whole.items()}
    T = x.shape[time]
    for layer in style.layers:
        assert len(steps[layer]) == T, layer
    if "squeezed" in name:
        return  # its length is fixed
    with torch.no_grad(), meter(model, batch_dim=style.batch_dim) as m:
        model(x.narrow(time, 0, T - 1))
        for layer, row in rows(m.activity()).items():
            if layer in style.layers:
                assert sum(row.operations) == pytest.approx(float(steps[layer][:-1].sum())), layer


@pytest.mark.parametrize("name", STYLES)
def test_quick_counting_equals_classification(name: str):
    style = STYLES[name]
    model = style.make()
    batches = [style.x(B) for B in (4, 4, 2, 1, 5, 4)]
    found = {}
    for quick in (True, False):
        with torch.no_grad(), meter(model, batch_dim=style.batch_dim, quick=quick) as m:
            found[quick] = []
            for x in batches:
                model(x)
                activity = m.activity()
                neurons = {n.name: (n.events.tolist(), n.updates, n.steps) for n in activity.neurons}
                found[quick].append((rows(activity), neurons))
    for i, (ours, theirs) in enumerate(zip(found[True], found[False], strict=True)):
        assert ours == theirs, i


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("quick", [True, False])
def test_outputs_and_gradients_are_the_same_bit_by_bit(name: str, quick: bool):
    style = STYLES[name]
    model, x = style.make(), style.x(3)

    def run() -> list[Tensor]:
        model.zero_grad()
        y = model(x)
        y.square().sum().backward()
        return [y.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    want = run()
    state = torch.get_rng_state()
    with meter(model, batch_dim=style.batch_dim, quick=quick) as m:
        for _ in range(3):
            got = run()
            m.activity()
            assert len(got) == len(want) and all(map(torch.equal, got, want))
    assert torch.equal(state, torch.get_rng_state())
