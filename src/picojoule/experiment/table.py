"""Many runs for one table: the same data, pooling and seeds for every method."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from picojoule.data import limited, load
from picojoule.errors import BadInput
from picojoule.execution import fused
from picojoule.experiment.config import Training
from picojoule.experiment.distributed import barrier, join_processes, leave_processes, processes_asked, rank
from picojoule.experiment.evaluate import batch_of
from picojoule.experiment.job import Job, Setting
from picojoule.experiment.method import Method, Progress
from picojoule.experiment.record import Record, provenance, read_lines, write_records
from picojoule.experiment.run import run
from picojoule.experiment.selection import mark_chosen
from picojoule.experiment.start import take_weights
from picojoule.files import sweep, writable_folder
from picojoule.graph import observe
from picojoule.kernels.native.library import status
from picojoule.pages import reuse_pages

_BEFORE = {
    **{"compile": False, "augment": "none", "optimiser": "adam", "lr_schedule": "cosine"},
    **{"weight_decay": 0.0, "dropout": 0.0, "warm_up": 0.0, "clip": None},
    **{"theta": None, "learn_theta": False, "low_rank": False},
}
"""What records ran with that are older than the setting."""
MakeMethod = Callable[[str], list[Method]]
"""The method of a name, once for every strength asked for."""


def run_table(
    names: list[str],
    make: MakeMethod,
    training: Training,
    seeds: tuple[int, ...],
    out: Path,
    *,
    max_minutes: float | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> list[Record]:
    """Run every method for every seed; returns the records, which are also in `out/records.jsonl`.

    A method with a parent runs after its parent, which is run too if it was not named. All methods use the
    same pooling. Raises OutOfTime when `max_minutes` are over: what is done is kept, `resume` goes on.
    """
    training = training.decided()
    methods = [m for name in _with_parents(names, make) for m in make(name)]
    deadline = time.monotonic() + 60 * max_minutes if max_minutes is not None else float("inf")
    device = pick_device(training.device)
    provenance(device)  # the commit that a record names is the one that was started
    data = load(training.data, training.data_dir)
    if training.limit_train is not None:
        data = limited(data, train=training.limit_train)
    setting = Setting(data, training, common_pool(methods, training), out, device, quiet, deadline)
    for method in methods:  # what cannot be built fails before anything is written
        setting.definition(method)
        if method.parent is None:
            method.phases(training.epochs or 1)
            _try(method, setting, seeds)
    if (training.batch_size or 0) < 2 * processes_asked():
        raise BadInput(f"expected --batch-size of at least 2 per process, got {training.batch_size}")
    _check_tools(training, device)
    if training.page_reuse:
        reuse_pages()
    join_processes(device)
    try:
        if rank() == 0:
            _claim(out, resume)
        barrier()
        return _run_all(methods, setting, seeds)
    finally:
        leave_processes()


def _try(method: Method, setting: Setting, seeds: tuple[int, ...]) -> None:
    """One step of training on two images that changes nothing. Raises BadInput for what cannot work."""
    data = setting.data
    if data.timesteps and setting.training.augment != "none":
        raise BadInput(f"{data.name} holds events over time, which no --augment takes; leave it out")
    with torch.random.fork_rng(devices=[]):
        network = method.build(setting.definition(method))
        for start in dict.fromkeys(Job(setting, method, seed).start for seed in seeds):
            if start is not None:
                take_weights(network, start)
        if method.observes:
            x, y = batch_of(data.train, torch.arange(2), data.scale, torch.device("cpu"))
            output, activity = fused(observe(network, x, data.inputs), pools=not method.keeps_trains())(x)
            method.loss(output, y, activity, Progress(0, 0, 1))


def _run_all(methods: list[Method], setting: Setting, seeds: tuple[int, ...]) -> list[Record]:
    path = setting.out / "records.jsonl"
    records = {record["run"]: record for record in _of_this_table(path, setting)}
    for seed in seeds:
        parents: dict[str, Record] = {}
        for method in methods:
            record = run(Job(setting, method, seed), parents[method.parent] if method.parent else None)
            parents.setdefault(method.name, record)
            records[record["run"]] = record
            _write(path, records)
    mark_chosen(list(records.values()))
    _write(path, records)
    return list(records.values())


def _of_this_table(path: Path, setting: Setting) -> list[Record]:
    """The records that the table holds already. Raises BadInput if they were made with other settings."""
    found = read_lines(path)
    same = (
        "data",
        "network",
        "encoder",
        "readout",
        "epochs",
        "start",
        "lr",
        "optimiser",
        "lr_schedule",
        "warm_up",
        "clip",
        "weight_decay",
        "dropout",
        "theta",
        "learn_theta",
        "low_rank",
        "batch_size",
        "augment",
        "precision",
        "compile",
        "save_membranes",
        "limit_train",
    )
    config = setting.training.as_json()
    for record in found:
        differing = [key for key in same if record["config"].get(key, _BEFORE.get(key)) != config[key]]
        differing += ["pool"] if record["pool"] != setting.pool else []
        if differing:
            raise BadInput(
                f"{path} holds runs with another {', '.join(differing)}; give the same settings or choose another --out"
            )
    return found


def _write(path: Path, records: dict[str, Record]) -> None:
    if rank() == 0:
        write_records(path, list(records.values()))


def common_pool(methods: list[Method], training: Training) -> str:
    """The pooling of a table: what was asked for, else what a method needs, else the usual one. Raises BadInput."""
    needed = {m.pool: m.name for m in methods if m.pool is not None}
    if len(needed) > 1:
        both = " and ".join(f"{name} needs --pool {pool}" for pool, name in needed.items())
        raise BadInput(f"all methods of a table share a pooling, but {both}; run them in two tables")
    for pool, name in needed.items():
        if training.pool not in (None, pool):
            raise BadInput(f"{name} needs --pool {pool}, got --pool {training.pool}; leave out --pool or {name}")
    return training.pool or next(iter(needed), training.usual_pool)


def pick_device(name: str | None) -> torch.device:
    """The device asked for; else CUDA where there is one, else the CPU. Raises BadInput."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadInput(f"cannot use --device {name}: {str(error).splitlines()[0]}") from None
    return device


def _check_tools(training: Training, device: torch.device) -> None:
    """Raise BadInput if the machine lacks what a setting needs."""
    if training.save_membranes is not None and (device.type != "cpu" or status().active == "reference"):
        raise BadInput(f"--save-membranes needs the compiled kernels on the CPU ({status().reason}); leave it out")
    if training.compile and device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler  # takes a second to import
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            raise BadInput("--compile needs a C++ compiler such as g++; install one or leave it out") from None


def _with_parents(names: list[str], make: MakeMethod) -> list[str]:
    """The names in order, every parent before its children, none twice."""
    ordered: list[str] = []
    for name in names:
        parent = make(name)[0].parent
        for each in (parent, name):
            if each is not None and each not in ordered:
                ordered.append(each)
    return ordered


def _claim(out: Path, resume: bool) -> None:
    if not resume and (out / "runs").exists():
        raise BadInput(f"{out} already holds runs; go on with --resume or choose another --out")
    sweep(writable_folder(out))
