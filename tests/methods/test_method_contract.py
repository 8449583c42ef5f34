"""What every method keeps, on a handful of real digits."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch

from picojoule.data import Dataset, intensities, limited, load
from picojoule.energy import count, hardware
from picojoule.errors import BadInput
from picojoule.exchange import load as load_model
from picojoule.exchange import save
from picojoule.experiment.config import Training
from picojoule.experiment.job import Job, Setting
from picojoule.experiment.loop import Trainer
from picojoule.experiment.method import Method, Progress
from picojoule.experiment.progress import Progressbar
from picojoule.graph import observe
from picojoule.methods import METHODS, check_options, make
from picojoule.networks import Definition, Network

CPU = torch.device("cpu")
WANTED = Definition("small-cnn", (1, 8, 8), 10, pool="avg")


def tiny() -> Dataset:
    return limited(load("digits"), train=32, validation=16, test=24)


def images(data: Dataset) -> torch.Tensor:
    return intensities(data.test.images, data.scale)


def trained(method: Method, data: Dataset, folder: Path, wanted: Definition = WANTED) -> Network:
    """The network after two steps of training."""
    torch.manual_seed(0)
    network = method.build(method.definition(wanted, None))
    job = Job(Setting(data, Training(epochs=1, batch_size=16), wanted.pool, folder, CPU), method, 0)
    return Trainer(job, network, Progressbar("", quiet=True)).run()[0].eval()


def deployed(name: str, data: Dataset, folder: Path, wanted: Definition = WANTED) -> Network:
    method = make(name)
    learner = method if method.parent is None else make(method.parent)
    network = trained(learner, data, folder, wanted)
    calibration = list(intensities(data.train.images, data.scale).split(16))
    return method.finish(network, calibration, method.definition(wanted, None)).eval()


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


def test_the_name_is_the_file_name_with_hyphens(name):
    file = Path(inspect.getfile(METHODS[name]))
    assert METHODS[name].name == name == file.stem.replace("_", "-")


def test_every_file_is_a_method():
    folder = Path(inspect.getfile(METHODS["plain"])).parent
    assert {p.stem.replace("_", "-") for p in folder.glob("*.py")} - {"--init--", "combined"} == set(METHODS)


def test_options_are_a_frozen_dataclass_with_defaults(name):
    method = make(name)
    assert isinstance(method, Method) and method == METHODS[name]() and hash(method) == hash(METHODS[name]())
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.anything = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_what_it_says_about_itself_exists(name):
    method = make(name)
    assert hardware(method.hardware).name == method.hardware
    assert method.parent is None or (method.parent in METHODS and make(method.parent).parent is None)
    assert method.pool in (None, "max", "avg")
    assert all(isinstance(reference, str) and reference for reference in method.cite)
    assert sum(phase.epochs for phase in method.phases(10)) == 10


@pytest.mark.parametrize("timesteps", [None, 1, 5])
def test_the_definition_answers_the_timesteps_asked_for(name, timesteps):
    wanted = dataclasses.replace(WANTED, timesteps=99, encoder="bernoulli", readout="spike-count")
    if name == "first-spike" and timesteps == 1:
        with pytest.raises(BadInput, match="needs more time steps"):
            make(name).definition(wanted, timesteps)
        return
    definition = make(name).definition(wanted, timesteps)
    if name.startswith("ann"):
        assert definition.timesteps == 1 and definition.encoder == "constant-current"
    else:
        own = {"ecc": 16, "synops-conversion": 16, "first-spike": 20}
        assert definition.timesteps == (timesteps or own.get(name, 1))
    assert (definition.name, definition.input_shape, definition.classes) == ("small-cnn", (1, 8, 8), 10)


@pytest.mark.parametrize("learner", [name for name in METHODS if make(name).parent is None])
def test_it_learns_and_its_losses_are_finite(learner, tmp_path):
    method, data = make(learner), tiny()
    torch.manual_seed(0)
    network = method.build(method.definition(WANTED, None)).train()
    x, y = intensities(data.train.images, data.scale), data.train.labels
    output, activity = observe(network, x[:1])(x)
    terms = method.loss(output, y, activity if method.observes else None, Progress(0, 0, 2))
    assert terms and all(term.dim() == 0 and torch.isfinite(term) and term >= 0 for term in terms.values())
    sum(terms.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    assert any(p.grad.abs().sum() > 0 for p in network.parameters() if p.grad is not None)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    after = trained(method, data, tmp_path).state_dict()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[k], after[k]) for k, _ in network.named_parameters())


@pytest.mark.parametrize("network", ["small-cnn", "mlp"])
def test_what_is_deployed_can_be_counted_saved_and_loaded(name, network, tmp_path):
    data, wanted = tiny(), dataclasses.replace(WANTED, name=network)
    made = deployed(name, data, tmp_path, wanted)
    assert isinstance(made, Network) and not made.training
    assert made.timesteps == make(name).definition(wanted, None).timesteps
    x = images(data)
    with torch.no_grad():
        output, activity = observe(made, x[:1], strict=True)(x)
        assert torch.equal(output, made(x)) and output.shape == (24, 10) and torch.isfinite(output).all()
    counts = count(activity)
    assert float(counts.total("dense_macs")) > 0
    if network == "small-cnn":
        assert (float(counts.total("acs")) > 0) == (not name.startswith("ann"))
    save(made, tmp_path / "model.safetensors")
    back = load_model(tmp_path / "model.safetensors")
    with torch.no_grad():
        again, other = observe(back, x[:1], strict=True)(x)
    assert torch.equal(again, output)
    assert torch.equal(count(other).sums, counts.sums)
    for key, tensor in made.state_dict().items():
        assert torch.equal(back.state_dict()[key], tensor)


def test_finish_leaves_the_parent_as_it_was(name, tmp_path):
    method, data = make(name), tiny()
    network = trained(make(method.parent or name), data, tmp_path)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with torch.no_grad():
        expected = network(images(data))
    method.finish(network, [images(data)], method.definition(WANTED, None))
    assert all(torch.equal(network.state_dict()[k], v) for k, v in before.items())
    with torch.no_grad():
        assert torch.equal(network(images(data)), expected)


def test_options_come_as_text():
    method = make("synaptic-penalty", 0.25, {"p": "2", "decay": "0.75", "surrogate": "arctan"})
    assert method == METHODS["synaptic-penalty"](strength=0.25, p=2, decay=0.75, surrogate="arctan")
    assert make("plain", 0.25) == METHODS["plain"](), "strength is for penalties"
    owned = {"ecc:residual": "0.25", "synaptic-penalty:p": "2"}
    assert make("ecc", None, owned).residual == 0.25  # pyright: ignore[reportAttributeAccessIssue]
    assert make("plain", None, owned) == make("plain")


@pytest.mark.parametrize(
    "names, options, hint",
    [
        (["plain"], {"residual": "0"}, "unknown option 'residual'"),
        (["plain", "ecc"], {"ecc:decay": "1"}, "unknown option 'ecc:decay'"),
        (["plain"], {"nobody:decay": "1"}, "unknown method 'nobody'"),
    ],
)
def test_an_option_that_nobody_has_is_refused(names, options, hint):
    with pytest.raises(BadInput, match=hint):
        check_options(names, options)
    check_options(["plain", "ecc"], {"residual": "0", "decay": "1", "ecc:residual": "0"})


@pytest.mark.parametrize("options", [{"p": "two"}, {"p": "1.5"}, {"decay": ""}])
def test_an_option_that_is_no_number_is_refused(options):
    with pytest.raises(BadInput, match="expected a (whole )?number for option"):
        make("synaptic-penalty", None, options)
