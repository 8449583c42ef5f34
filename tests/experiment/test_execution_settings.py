"""Settings of execution: what they change, what they must not, and what the record says."""

import json
from dataclasses import replace

import pytest
import torch

from picojoule.data import limited, load
from picojoule.errors import BadInput
from picojoule.execution import precision
from picojoule.experiment import job as job_file
from picojoule.experiment.config import Training
from picojoule.experiment.evaluate import evaluation_batch
from picojoule.experiment.job import Job, Setting
from picojoule.experiment.loop import Trainer
from picojoule.experiment.progress import Progressbar
from picojoule.experiment.table import run_table
from picojoule.graph import observe
from picojoule.kernels import saved
from picojoule.kernels.native.library import status, using
from picojoule.methods import make
from picojoule.networks import Definition, build
from picojoule.neurons import LIF

CPU = torch.device("cpu")
SHORT = Training(epochs=1, limit_train=128, timesteps=2)


def setting(folder, training):
    return Setting(limited(load("digits"), train=128), training.decided(), "max", folder, CPU)


def trained(folder, name="synaptic-penalty", **settings):
    """The weights, buffers and history of a short run."""
    method = make(name)
    job = Job(setting(folder, replace(SHORT, **settings)), method, 0)
    torch.manual_seed(0)
    network = method.build(job.definition)
    _, history, _ = Trainer(job, network, Progressbar("", quiet=True)).run()
    return network.state_dict(), history


def records(out, **settings):
    return run_table(
        ["plain"], lambda name: [make(name)], replace(SHORT, network="mlp", **settings), (0,), out, quiet=True
    )


@pytest.mark.parametrize(
    "amx, device, expected",
    [(True, "cpu", "bf16"), (False, "cpu", "fp32"), (True, "meta", "fp32")],
)
def test_auto_is_decided_by_the_processor(monkeypatch, tmp_path, amx, device, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert precision.fast_precision(torch.device(device)) == expected
    if device == "cpu":
        assert setting(tmp_path, Training()).training.precision == expected


@pytest.mark.parametrize("able", [True, False])
def test_auto_on_a_gpu_asks_for_bf16_in_hardware(monkeypatch, able):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: able or including_emulation)
    assert precision.fast_precision(torch.device("cuda")) == ("bf16" if able else "fp32")


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_what_was_asked_for_is_not_decided_again(monkeypatch, tmp_path, asked):
    monkeypatch.setattr(job_file, "fast_precision", lambda device: "bf16" if asked == "fp32" else "fp32")
    assert setting(tmp_path, Training(precision=asked)).training.precision == asked


def test_the_record_names_the_precision_that_ran_and_another_machine_cannot_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr(job_file, "fast_precision", lambda device: "bf16")
    (record,) = records(tmp_path)
    assert record["config"]["precision"] == "bf16"
    monkeypatch.setattr(job_file, "fast_precision", lambda device: "fp32")
    with pytest.raises(BadInput, match="another precision"):
        run_table(
            ["plain"], lambda name: [make(name)], replace(SHORT, network="mlp"), (0,), tmp_path, resume=True, quiet=True
        )
    (tmp_path / "records.jsonl").unlink()
    with pytest.raises(BadInput, match="the record of another run"):
        run_table(
            ["plain"], lambda name: [make(name)], replace(SHORT, network="mlp"), (0,), tmp_path, resume=True, quiet=True
        )


@pytest.mark.parametrize("name", ["plain", "synaptic-penalty"])
def test_recomputing_trains_the_same_network(tmp_path, name):
    weights, history = trained(tmp_path / "a", name)
    again, same = trained(tmp_path / "b", name, recompute=True)
    assert history == same
    assert all(torch.equal(again[key], weights[key]) for key in weights)


def test_recomputing_is_recorded_but_no_other_run(tmp_path):
    with_it, without = replace(SHORT, recompute=True), SHORT
    names = [Job(setting(tmp_path, t), make("plain"), 0).fingerprint for t in (with_it, without)]
    assert names[0] == names[1] and with_it.as_json()["recompute"] is True


@pytest.mark.parametrize("option", [{"save_membranes": "bf16"}, {"compile": True}])
def test_what_changes_rounding_is_another_run(tmp_path, option):
    other = replace(SHORT, **option)
    assert Job(setting(tmp_path, SHORT), make("plain"), 0).fingerprint != (
        Job(setting(tmp_path, other), make("plain"), 0).fingerprint
    )


def test_membranes_are_saved_as_asked_in_training_alone(monkeypatch, tmp_path):
    seen = []
    real = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda *a: (seen.append(saved._dtype), real(*a))[1])
    trained(tmp_path, save_membranes="bf16")
    assert set(seen) == {torch.bfloat16} and saved._dtype is None


def test_saved_membranes_need_the_kernels(tmp_path):
    with using("reference"), pytest.raises(BadInput, match="--save-membranes needs the compiled kernels"):
        records(tmp_path, save_membranes="bf16")


def test_compiling_needs_a_compiler(monkeypatch, tmp_path):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def missing():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    with pytest.raises(BadInput, match="--compile needs a C"):
        records(tmp_path, compile=True)


@pytest.mark.parametrize(
    "wrong, hint",
    [
        ({"save_membranes": "fp16"}, "known: fp32, bf16"),
        ({"compile": True, "recompute": True}, "--compile or --recompute, not both"),
    ],
)
def test_wrong_settings(wrong, hint):
    with pytest.raises(BadInput, match=hint):
        Training(**wrong)


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
@pytest.mark.parametrize("observes", [True, False])
def test_a_compiled_run_counts_the_same(monkeypatch, tmp_path, observes):
    """With the back end that runs the captured graph as it is: the graph is whole, and its numbers are the same."""
    torch._dynamo.reset()
    real, calls = torch.compile, []

    def compile_eagerly(model, **options):
        calls.append(options)
        return real(model, backend="aot_eager", fullgraph=True, **options)

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    name = "synaptic-penalty" if observes else "plain"
    weights, history = trained(tmp_path / "a", name, network="mlp")
    compiled, same = trained(tmp_path / "b", name, network="mlp", compile=True)
    torch._dynamo.reset()
    assert len(calls) == (1 if observes else 2) and all(o == {"dynamic": False} for o in calls)
    assert [row["validation_acs"] for row in same] == pytest.approx(
        [row["validation_acs"] for row in history], rel=1e-2
    )
    assert all(torch.allclose(compiled[key], weights[key], atol=1e-2) for key in weights)


@pytest.mark.parametrize("timesteps, batch", [(1, 256), (3, 85), (4, 64), (16, 16), (100, 16)])
def test_evaluation_takes_fewer_images_of_more_steps(timesteps, batch):
    net = build(Definition("small-cnn", (1, 8, 8), 10, timesteps), LIF)
    assert evaluation_batch(net) == evaluation_batch(observe(net, torch.rand(1, 1, 8, 8))) == batch
    assert evaluation_batch(build(Definition("mlp", (1, 8, 8), 10, timesteps), LIF)) == 256, "no maps"
    assert evaluation_batch(torch.nn.Linear(2, 2)) == 256


@pytest.mark.skipif(status().active == "reference", reason="saved membranes need the compiled kernels")
def test_the_table_says_what_ran(tmp_path):
    (record,) = records(tmp_path, recompute=True, save_membranes="fp32")
    written = json.loads((tmp_path / "records.jsonl").read_text())["config"]
    assert written == record["config"]
    assert {k: written[k] for k in ("recompute", "compile", "save_membranes")} == {
        "recompute": True,
        "compile": False,
        "save_membranes": "fp32",
    }
    assert written["precision"] == precision.fast_precision(CPU)
