"""Bad input: exit code 2, one sentence on stderr, nothing on stdout, nothing written."""

import gzip
import json
import pickle
import shutil
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from picojoule.exchange import save
from picojoule.networks import Definition, build

SMALL = ("--epochs", "1", "--limit-train", "64", "--network", "mlp")


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture
def refused(command, tmp_path):
    """Asserts that a command line is refused with one sentence, which it returns."""

    def check(*arguments: object) -> str:
        before = contents(tmp_path)
        said = command(*arguments)
        assert said.code == 2, said
        assert said.out == ""
        assert said.err.startswith("picojoule: ") and said.err.endswith("\n") and said.err.count("\n") == 1, said.err
        assert contents(tmp_path) == before, "something was written"
        return said.err.removeprefix("picojoule: ").rstrip()

    return check


@pytest.fixture(scope="session")
def kept_runs(command, tmp_path_factory):
    """A finished run, and one that was stopped at its first checkpoint."""
    root = tmp_path_factory.mktemp("runs")
    assert command("train", "plain", *SMALL, "--out", root / "finished").code == 0
    assert command("train", "plain", *SMALL, "--out", root / "stopped", "--max-minutes", "0").code == 0
    return root


@pytest.fixture
def runs(kept_runs, tmp_path):
    return shutil.copytree(kept_runs, tmp_path / "runs")


@pytest.mark.parametrize(
    "arguments, hint",
    [
        (("trian", "plain"), 'Did you mean "train"'),
        (("train",), "METHOD"),
        (("train", "plan"), "did you mean 'plain'"),
        (("train", "synaptic"), "did you mean 'synaptic-penalty'"),
        (("compare", "--methods", "ann,plian"), "did you mean 'plain'"),
        (("compare", "--methods", ""), "at least one method"),
        (("compare", "--methods", " , "), "at least one method"),
        (("train", "plain", "--data", "digit"), "did you mean 'digits'"),
        (("train", "plain", "--data", "cifar-10"), "did you mean 'cifar10'"),
        (("train", "plain", "--network", "smallcnn"), "did you mean 'small-cnn'"),
        (("train", "plain", "--encoder", "bernouli"), "did you mean 'bernoulli'"),
        (("train", "plain", "--readout", "avg"), "known: mean, spike-count"),
        (("train", "plain", "--precision", "fp16"), "known: fp32, bf16"),
        (("train", "plain", "--pool", "mean"), "known: max, avg"),
        (("train", "plain", "--timesteps", "0"), "--timesteps of at least 1"),
        (("train", "plain", "--timesteps", "-3"), "--timesteps of at least 1"),
        (("train", "plain", "--timesteps", "many"), "--timesteps"),
        (("train", "plain", "--epochs", "0"), "--epochs of at least 1"),
        (("train", "plain", "--batch-size", "1"), "--batch-size of at least 2"),
        (("train", "plain", "--limit-train", "1"), "--limit-train of at least 2"),
        (("train", "plain", "--limit-train", "1258"), "1 to 1,257 train images"),
        (("train", "plain", "--lr", "0"), "--lr above 0"),
        (("train", "plain", "--lr", "nan"), "--lr above 0"),
        (("train", "plain", "--lr", "fast"), "--lr"),
        (("train", "synaptic-penalty", "--strength", "-1"), "--strength of at least 0"),
        (("train", "synaptic-penalty", "--strength", "1,-1"), "--strength of at least 0"),
        (("train", "synaptic-penalty", "--strength", "strong"), "got 'strong'"),
        (("train", "synaptic-penalty", "--strength", "1,,2"), "got '1,,2'"),
        (("train", "synaptic-penalty", "--strength", "nan"), "--strength of at least 0"),
        (("train", "synaptic-penalty", "--strength", "inf"), "--strength of at least 0"),
        (("train", "plain", "--seeds", "a"), "got 'a'"),
        (("train", "plain", "--seeds", "0,1.5"), "whole numbers"),
        (("train", "plain", "--seeds", ""), "whole numbers"),
        (("train", "plain", "--seeds", "0,-1"), "from 0 to 2**32 - 1"),
        (("train", "plain", "--seed", "99999999999999999999999"), "from 0 to 2**32 - 1"),
        (("train", "plain", "--seed", "one"), "--seed"),
        (("train", "plain", "--seeds", "0", "--seed", "1"), "not both"),
        (("train", "plain", "--max-minutes", "nan"), "--max-minutes of at least 0"),
        (("train", "plain", "--max-minutes", "-1"), "--max-minutes of at least 0"),
        (("train", "plain", "--device", "quantum"), "--device quantum"),
        (("train", "ann", "--network", "spiking-rnn"), "no analog form"),
        (("train", "synops-conversion", "--pool", "max"), "synops-conversion needs --pool avg"),
        (("compare", "--methods", "ann,synops-conversion", "--pool", "max"), "synops-conversion needs --pool avg"),
        (("train", "plain", "--timestep", "2"), "--timestep"),
        (("train", "plain", "--option.foo", "1"), "unknown option 'foo'"),
        (("train", "plain", "--option.decay", "half"), "expected a number for option decay"),
        (("train", "plain", "--option.decay", "1.5"), "0 < decay <= 1"),
        (("train", "plain", "--option.surrogate", "triangel"), "did you mean 'triangle'"),
        (("train", "plain", "--option.plian:decay", "0.5"), "did you mean 'plain'"),
        (("train", "plain", "--option.plain:foo", "1"), "unknown option 'plain:foo'"),
        (("train", "ecc", "--option.residual", "1"), "residual in [0, 1)"),
        (("train", "ecc", "--option.percentile", "0"), "percentile in (0, 100]"),
        (("train", "ecc", "--option.timesteps", "0"), "timesteps of at least 1"),
        (("train", "synaptic-penalty", "--option.p", "3"), "p=1 or p=2"),
        (("train", "plain", "--data", "mnist", "--data-dir", "nowhere"), "nowhere does not exist"),
        (("measure", "missing.safetensors"), "there is no model file missing.safetensors"),
        (("measure", "/"), "expected a model file, but / is a folder"),
        (("measure",), "MODEL"),
        (("report",), "at least one file of records"),
        (("report", "missing.jsonl"), "missing.jsonl"),
        (("report", "--update", "missing.md"), "missing.md"),
        (("cite", "plan"), "did you mean 'plain'"),
        (("cite", "missing.jsonl"), "missing.jsonl"),
        (("train", "plain", "--config"), "after --config"),
        (("train", "plain", "--config", "missing.toml"), "there is no configuration file missing.toml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refused(refused, arguments, hint):
    out = ("--out", "results") if arguments[0] in ("train", "compare") and len(arguments) > 1 else ()
    if arguments[-1] == "--config":
        out = ()
    assert hint in refused(*arguments, *out)


@pytest.mark.parametrize(
    "text, hint",
    [
        ("epochs = = 3", "no readable TOML file"),
        ("epochs = 'three'", "epochs"),
        ("epochen = 3", "epochen"),
        ("timesteps = 0", "--timesteps of at least 1"),
        ("network = 'mpl'", "did you mean 'mlp'"),
        ("[option]\nfoo = 1", "unknown option 'foo'"),
    ],
)
@pytest.mark.parametrize("joined", [False, True])
def test_bad_configuration_file(refused, tmp_path, text, hint, joined):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    config = (f"--config={file}",) if joined else ("--config", file)
    assert hint in refused("train", "plain", *config, "--out", "results")


def test_configuration_file_that_is_no_text(refused, tmp_path):
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    assert "no readable TOML file" in refused("train", "plain", "--config", "bad.toml", "--out", "results")


def test_resume_needs_a_folder(refused):
    assert "--resume needs --out" in refused("train", "plain", "--resume")


def test_empty_data_folder(refused, tmp_path):
    (tmp_path / "data").mkdir()
    said = refused("train", "plain", "--data", "mnist", "--data-dir", "data", "--out", "results")
    assert "the data folder data is empty" in said and "https://" in said


def test_truncated_data_file(refused, tmp_path):
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    whole = gzip.compress(bytes([0, 0, 8, 3]) + bytes(10_000))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(whole[: len(whole) // 2])
    said = refused("train", "plain", "--data", "mnist", "--data-dir", "data", "--out", "results")
    assert "train-images-idx3-ubyte.gz" in said and "truncated" in said


@pytest.mark.parametrize("out", ["taken", "taken/below"])
def test_a_file_in_the_way_of_the_output_folder(refused, tmp_path, runs, out):
    (tmp_path / "taken").write_text("mine")
    assert "cannot write to the folder" in refused("train", "plain", *SMALL, "--out", out)
    assert "cannot write to the folder" in refused("report", runs / "finished" / "records.jsonl", "--out", out)
    model = runs / "finished" / "runs" / "plain_seed-0" / "model.safetensors"
    assert "cannot write to the folder" in refused("measure", model, "--out", out)


@pytest.mark.parametrize("which", ["finished", "stopped"])
def test_runs_are_not_overwritten(refused, runs, which):
    assert "already holds runs; go on with --resume" in refused("train", "plain", *SMALL, "--out", runs / which)


@pytest.mark.parametrize("which", ["finished", "stopped"])
@pytest.mark.parametrize(
    "other",
    [
        ("--network", "small-cnn"),
        ("--epochs", "2"),
        ("--lr", "0.1"),
        ("--batch-size", "32"),
        ("--timesteps", "2"),
        ("--limit-train", "65"),
        ("--encoder", "direct"),
        ("--precision", "bf16"),
    ],
    ids=" ".join,
)
def test_resume_with_other_settings(refused, runs, which, other):
    settings = dict(zip(SMALL[::2], SMALL[1::2], strict=True)) | {other[0]: other[1]}
    arguments = [part for pair in settings.items() for part in pair]
    said = refused("train", "plain", *arguments, "--out", runs / which, "--resume")
    assert (
        "of another run" in said or f"runs with another {other[0][2:]}".replace("-", "_") in said.replace("-", "_")
    ) and ("choose another --out" in said)


def test_resume_from_a_damaged_checkpoint(refused, runs):
    checkpoint = runs / "stopped" / "runs" / "plain_seed-0" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    said = refused("train", "plain", *SMALL, "--out", runs / "stopped", "--resume")
    assert "checkpoint.pt is not a readable checkpoint" in said


class _Evil:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_checkpoint_that_would_run_code_is_refused(refused, runs):
    checkpoint = runs / "stopped" / "runs" / "plain_seed-0" / "checkpoint.pt"
    torch.save({"fingerprint": "x", "model": _Evil()}, checkpoint)
    assert "is not a readable checkpoint" in refused("train", "plain", *SMALL, "--out", runs / "stopped", "--resume")


def test_resume_from_a_damaged_record(refused, runs):
    record = runs / "finished" / "runs" / "plain_seed-0" / "record.json"
    record.write_text(record.read_text()[:100])
    said = refused("train", "plain", *SMALL, "--out", runs / "finished", "--resume")
    assert "record.json is not a readable record" in said


def _pickle(path: Path, model: Path) -> None:
    path.write_bytes(pickle.dumps(_Evil()))


def _torch_save(path: Path, model: Path) -> None:
    torch.save({"weights": _Evil()}, path)


def _old_torch_save(path: Path, model: Path) -> None:
    torch.save(torch.ones(3), path, _use_new_zipfile_serialization=False)


def _keras(path: Path, model: Path) -> None:
    with ZipFile(path, "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, "{}")


def _zip(path: Path, model: Path) -> None:
    with ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")


def _cut_zip(path: Path, model: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(40))


def _hdf5(path: Path, model: Path) -> None:
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))


def _noise(path: Path, model: Path) -> None:
    path.write_bytes(b"no model at all, but long enough to be read as one")


def _empty(path: Path, model: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path, model: Path) -> None:
    path.write_bytes(model.read_bytes()[:-100])


def _foreign(path: Path, model: Path) -> None:
    save_file({"weight": torch.ones(3, 3)}, path)


def _rewritten(path: Path, model: Path, **changes: object) -> None:
    from safetensors import safe_open

    with safe_open(model, "pt") as file:
        description = json.loads(file.metadata()["picojoule"])
    save_file(load_file(model), path, {"picojoule": json.dumps(description | changes)})


def _newer(path: Path, model: Path) -> None:
    _rewritten(path, model, picojoule=99)


def _unknown_layer(path: Path, model: Path) -> None:
    _rewritten(path, model, layers={"a": {"type": "os.system", "arguments": {}}})


def _missing_layers(path: Path, model: Path) -> None:
    _rewritten(path, model, layers={})


def _unknown_step(path: Path, model: Path) -> None:
    step = {"name": "x", "op": "call_method", "target": "__class__", "arguments": [], "keywords": {"dict": {}}}
    _rewritten(path, model, nodes=[step])


def _no_graph(path: Path, model: Path) -> None:
    _rewritten(path, model, nodes=[])


def _list(path: Path, model: Path) -> None:
    save_file(load_file(model), path, {"picojoule": "[1, 2]"})


@pytest.mark.parametrize(
    "damage, hint",
    [
        (_pickle, "pickle or torch.save"),
        (_torch_save, "pickle or torch.save"),
        (_old_torch_save, "pickle or torch.save"),
        (_keras, "is a Keras model, which is read if its name ends in .keras"),
        (_zip, "is a ZIP archive"),
        (_cut_zip, "is a ZIP archive"),
        (_hdf5, "is an HDF5 file"),
        (_noise, "corrupt or no .safetensors file"),
        (_empty, "corrupt or no .safetensors file"),
        (_cut, "corrupt or no .safetensors file"),
        (_foreign, "weights but no picojoule network"),
        (_newer, "format version 99"),
        (_unknown_layer, "'os.system'"),
        (_missing_layers, "describes no network"),
        (_unknown_step, "'call_method'"),
        (_no_graph, "describes no network"),
        (_list, "weights but no picojoule network"),
    ],
)
def test_what_is_no_model_file(refused, runs, tmp_path, damage, hint):
    file = tmp_path / "model.safetensors"
    damage(file, runs / "finished" / "runs" / "plain_seed-0" / "model.safetensors")
    assert hint in refused("measure", file, "--out", "measured")
    assert not (tmp_path / "executed").exists()


def test_a_model_for_images_of_another_shape(refused, tmp_path):
    save(build(Definition("mlp", (1, 28, 28), 10), nn.ReLU), tmp_path / "mnist.safetensors")
    said = refused("measure", "mnist.safetensors", "--data", "digits", "--out", "measured")
    assert "(1, 28, 28)" in said and "(1, 8, 8)" in said


@pytest.mark.parametrize(
    "arguments, hint",
    [
        (("--hardware", "horowitz-45nm-fp23"), "did you mean 'horowitz-45nm-fp32'"),
        (("--hardware", "horowitz-45nm-fp32,lohi"), "unknown hardware 'lohi'; did you mean 'loihi'"),
        (("--hardware", ","), "at least one price list"),
        (("--timesteps", "0"), "--timesteps of at least 1"),
        (("--seed", "-1"), "from 0 to 2**32 - 1"),
        (("--data", "digit"), "did you mean 'digits'"),
        (("--device", "quantum"), "--device quantum"),
        (("--no-such-thing", "1"), "--no-such-thing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_measure_refuses(refused, runs, arguments, hint):
    model = runs / "finished" / "runs" / "plain_seed-0" / "model.safetensors"
    assert hint in refused("measure", model, *arguments, "--out", "measured")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("synaptic-penalty", "--option.layers", "conv9=2"), "unknown penalised layer 'conv9'"),
        (("layer-mean", "--option.layers", "lif1=-1"), "at least 0 for layer lif1"),
        (("synaptic-penalty", "--option.surrogate", "fast_sigmoid:slop=100"), "did you mean 'slope'"),
        (("first-spike", "--timesteps", "1"), "needs more time steps"),
        (("first-spike+synaptic-penalty",), "name first-spike last"),
    ],
)
def test_what_no_training_can_use_is_refused_before_anything_is_written(command, tmp_path, arguments, said):
    answer = command("train", *arguments, "--out", "here")
    assert answer.code == 2 and said in answer.err and answer.err.count("\n") == 1
    assert not (tmp_path / "here").exists()
