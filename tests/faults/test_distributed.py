"""Two processes are one: the same gradients for the same global batch, the same counts, one result."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
import two_processes

from picojoule.data import load
from picojoule.exchange import load as load_model
from picojoule.experiment import evaluate, loop
from picojoule.experiment.measured import measured

TRAIN = (
    "train", "synaptic-penalty", "--network", "mlp", "--timesteps", "2", "--epochs", "2", "--limit-train", "67",
    "--json", "--batch-size", "16",
)  # fmt: skip


def group(processes: int, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Run `python ARGUMENTS` in so many processes at once, as torchrun sets them up."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = []
    for rank in range(processes):
        own = {"RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        started.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                env=shared | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    ended = []
    try:
        for process in started:
            out, err = process.communicate(timeout=120)
            ended.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    finally:
        for process in started:
            process.kill()
    assert [e.returncode for e in ended] == [0] * processes, [e.stderr[-2000:] for e in ended]
    return ended


@pytest.fixture
def work(tmp_path, monkeypatch):
    """What a job finds in one process, this one, and in each of two."""
    for module in (evaluate, loop):
        monkeypatch.setattr(module, "intensities", module.intensities)

    def do(job: str) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
        two_processes.main(job, tmp_path)
        alone = torch.load(tmp_path / f"{job}-0.pt")
        group(2, two_processes.__file__, job, str(tmp_path))
        return alone, [torch.load(tmp_path / f"{job}-{r}.pt") for r in (0, 1)]

    return do


@pytest.mark.slow
def test_gradients_are_those_of_one_process(work):
    expected, found = work("gradients")
    assert len(expected) > 0 and all(f.keys() == expected.keys() for f in found)
    for key, gradient in expected.items():
        scale = float(gradient.abs().max())
        assert scale > 0, f"{key}: the test needs a gradient"
        for process in found:
            assert float((process[key] - gradient).abs().max()) <= 1e-10 * scale, key
        method, rest = key.split(" ", 1)
        if method != "plain" and "conv1" in rest:
            assert not torch.allclose(gradient, expected[f"plain {rest}"], rtol=1e-3), key


@pytest.mark.slow
def test_counts_are_exactly_those_of_one_process(work):
    expected, found = work("counts")
    assert float(expected["360 sums"][0].sum()) > 0, "the test needs events"
    for key, numbers in expected.items():
        for process in found:
            if key.endswith("numbers"):
                assert torch.allclose(process[key], numbers, rtol=1e-14, atol=0), key
            else:
                assert torch.equal(process[key], numbers), key


@pytest.mark.slow
def test_a_run_of_two_processes_leaves_the_model_that_it_reports(tmp_path):
    first, second = group(2, "-m", "picojoule.cli", *TRAIN, "--out", str(tmp_path / "two"))
    assert second.stdout == "", "one process prints"
    (record,) = json.loads(first.stdout)["records"]
    again = measured(load_model(record["model"]), {}, load("digits"), ["horowitz-45nm-fp32"], "cpu", 0, record["model"])
    for key in ("accuracy", "acs", "macs", "silent_fraction", "layers"):
        expected = record[key]
        if key == "layers":
            expected = [
                {k: v for k, v in row.items() if k not in ("energy_pj", "operations_percentiles")} for row in expected
            ]
            again[key] = [
                {k: v for k, v in row.items() if k not in ("energy_pj", "operations_percentiles")} for row in again[key]
            ]
        assert again[key] == expected, key
    assert len((tmp_path / "two" / "records.jsonl").read_text().splitlines()) == 1
