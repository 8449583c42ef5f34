import json

import pytest
import torch
from hand_meter import HandMeter, measure, site_call
from torch import nn

from picojoule.energy.conventions import CONVENTIONS, Conventions
from picojoule.errors import BadInput
from picojoule.kinds import Events, Values

torch.manual_seed(0)
SPIKES = (torch.rand(5, 3, 6, 6) < 0.3).float()
INPUTS = {
    "spikes": SPIKES,
    "halves": SPIKES * 0.5,
    "ternary": SPIKES - (torch.rand_like(SPIKES) < 0.1).float(),
    "counts": torch.poisson(torch.full_like(SPIKES, 0.4)),
}
MODELS = {
    "strided": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)),
    "grouped": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=2, dilation=2, groups=3), nn.Flatten(), nn.Linear(216, 2)
    ),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2, output_padding=1, bias=False)),
    "pooled": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2), nn.MaxPool2d(3)),
    "pruned": lambda: _pruned(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(144, 3))),
    "shared": lambda: _shared(nn.Linear(6, 6)),
}


def _pruned(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in model.parameters():
            p[torch.rand_like(p) < 0.4] = 0
    return model


def _shared(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Sequential(layer, nn.ReLU()), nn.Sequential(layer, nn.ReLU()))


def _first_layer(model: nn.Module) -> str:
    return next(name for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d))


@pytest.mark.parametrize("values", INPUTS)
@pytest.mark.parametrize("name", MODELS)
def test_the_reasons_add_up_to_the_difference(name, values):
    model = MODELS[name]().eval()
    kind = Events(0.5, most=1) if values == "halves" else Events(signed=values == "ternary")
    kinds = {_first_layer(model): kind} if name not in ("pooled", "shared") else {}
    for report in HandMeter(model, kinds).run([INPUTS[values][:2], INPUTS[values][2:]])[0].values():
        explained = sum(gap.operations for gap in report.gaps)
        assert report.operations - report.exact_operations == pytest.approx(explained, abs=1e-6)
        assert len(report.differences) == len(report.gaps)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_results_do_not_depend_on_the_batches(name):
    """With spikes only and no bias: where a tool's own result depends on them, its own test says so."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(144, 2, bias=False)).eval()
    kinds = {"0": Events(most=1)}
    totals = [HandMeter(model, kinds).run(SPIKES.split(size), [name])[0][name].totals for size in (5, 2, 1)]
    assert totals[0] == pytest.approx(totals[1]) and totals[0] == pytest.approx(totals[2])


def test_memory_is_a_row_per_layer_however_many_batches():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()

    def size(batches: int) -> int:
        meter = HandMeter(model, {"0": Events()})
        meter.run([SPIKES] * batches)
        assert meter.probe is not None
        return sum(len(str(sorted(vars(c)))) + len(c.rows) + len(c._gaps) for c in meter.probe._conventions)

    assert size(1) == size(9)


def test_hooks_go_and_outputs_stay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Sigmoid()).eval()
    before = model(SPIKES)
    with Conventions(CONVENTIONS, model):
        assert torch.equal(model(SPIKES), before)
        assert any(m._forward_hooks for m in model.modules())
    with pytest.raises(ZeroDivisionError), Conventions(CONVENTIONS, model):
        raise ZeroDivisionError
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_what_is_no_module_is_said_to_be_left_out():
    layer, functional = nn.Linear(6, 2), Conventions(["norse", "sinabs", "syops", "neurobench"], nn.Sequential())
    exact = HandMeter(nn.Sequential(layer), {"0": Events()}).run([SPIKES])[1]
    functional.site(site_call("0", layer, SPIKES, layer(SPIKES))._replace(module=None))
    functional.end_batch(5)
    for report in functional.results(exact).values():
        assert report.operations == 0
        assert any("Only" in s and "fewer" in s for s in report.differences)


def test_results_can_be_asked_for_twice_and_are_plain_data():
    meter = HandMeter(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), {"0": Events()})
    first, exact = meter.run([SPIKES])
    assert meter.probe is not None
    again = meter.probe.results(exact)
    assert {n: r.to_dict() for n, r in again.items()} == {n: r.to_dict() for n, r in first.items()}
    assert json.loads(json.dumps(first["syops"].to_dict()))["headline"] == first["syops"].headline


def test_layers_add_up_to_totals():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
    for report in measure(model, SPIKES, {"0": Events()}).values():
        for term, total in report.totals.items():
            assert total == pytest.approx(sum(row.get(term, 0.0) for row in report.layers.values()))


def test_events_of_several_counts_are_explained():
    report = measure(nn.Sequential(nn.Linear(6, 2)), INPUTS["counts"], {"0": Events()}, ["neurobench"])["neurobench"]
    assert any("several events" in s and "fewer" in s for s in report.differences)


def test_analog_values_taken_for_spikes_are_explained():
    report = measure(nn.Sequential(nn.Linear(6, 2)), SPIKES, {"0": Values()}, ["neurobench"])["neurobench"]
    assert any("Analog values are counted as accumulates" in s for s in report.differences)


def test_unknown_name_gives_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'neurobench'"):
        Conventions(["neurobnech"], nn.Sequential())


def test_counts_of_other_samples_are_refused():
    meter = HandMeter(nn.Sequential(nn.Linear(6, 2)), {})
    exact = meter.run([SPIKES])[1]
    assert meter.probe is not None
    with pytest.raises(BadInput, match="5 samples"):
        meter.probe.results(exact + exact)
    with pytest.raises(BadInput, match="end_batch"):
        Conventions(["norse"], nn.Sequential()).results(exact)
