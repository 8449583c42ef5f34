"""Time picojoule and its peers, interleaved in one run, and record ratios, floors and peak memory.

    .peers/bin/python -m benchmarks.speed [--cases lif,conv-train] [--rounds 7] [--out results/speed.jsonl]

The kernels' tests run first, and red tests end the run before anything is timed. Records of other cases in the
output file are kept. --quick runs small sizes for two rounds, to see that everything works; it writes no records
unless --out names a file outside results/.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

from picojoule.experiment.record import Record, write_records
from picojoule.pages import reuse_pages
from picojoule.report.units import format_number

from .cases import CASES
from .peak_memory import ROOT, measure_peak
from .records import implementation_named, merged
from .run import Disagreement, run_case

RESULTS = ROOT / "results"
TESTS = ("tests/kernels", "tests/neurons")


def main() -> None:
    given = _arguments()
    if given.peak:
        title, name = given.peak
        if given.reuse:
            reuse_pages()
        case = next(case for make in CASES.values() for case in make(given.quick) if case.title == title)
        torch.manual_seed(0)
        print(measure_peak(case, implementation_named(case, name)))
        return
    _refuse_red_kernels()
    page_reuse = reuse_pages()
    rounds = 2 if given.quick else given.rounds
    for name in given.cases:
        found: list[Record] = []
        for case in CASES[name](given.quick):
            print(f"== {case.title}: {case.about}", flush=True)
            try:
                records = run_case(case, rounds, page_reuse, ["--quick"] if given.quick else [])
            except ModuleNotFoundError as error:
                sys.exit(f"{error}: run tools/install_peers.sh, then .peers/bin/python -m benchmarks.speed")
            except (Disagreement, RuntimeError) as error:
                sys.exit(str(error))
            for record in records:
                _show(record)
            found += records
        if given.out:
            write_records(given.out, merged(_read(given.out), found, list(CASES)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help=f"some of {', '.join(CASES)}, separated by commas")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="default: results/speed.jsonl; with --quick: none")
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds")
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "IMPLEMENTATION"), help=argparse.SUPPRESS)
    parser.add_argument("--reuse", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.cases = given.cases.split(",")
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"unknown case {unknown[0]!r} (choose from {', '.join(CASES)})")
    if given.rounds < 1:
        parser.error(f"expected --rounds >= 1, got {given.rounds}")
    if given.quick and given.out and given.out.resolve().is_relative_to(RESULTS):
        parser.error("numbers of a --quick run are never recorded in results/; choose another --out")
    if not given.quick and given.out is None:
        given.out = RESULTS / "speed.jsonl"
    return given


def _refuse_red_kernels() -> None:
    """Exit with one sentence unless the tests of kernels and neurons pass in this environment."""
    print(f"== tests: {' '.join(TESTS)}", flush=True)
    command = [sys.executable, "-m", "pytest", *TESTS, "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        last = ((run.stdout + run.stderr).strip().splitlines() or ["no message"])[-1]
        sys.exit(f"the tests of the kernels are red, so no speed is reported ({last}); run pytest {' '.join(TESTS)}")


def _read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _show(record: Record) -> None:
    milliseconds = format_number(record["sum_s"]["median"] * 1e3)
    floor = f", {record['of_floor']:.2f}x the floor" if record["of_floor"] else ""
    print(
        f"{record['implementation']:28s} {milliseconds:>10s} ms per {record['per']}, "
        f"{record['faster']:.2f}x as fast as {record['reference']}{floor}, {record['peak_mib']:,.1f} MiB",
        *(f"\n    {'met' if t['met'] else 'MISSED'}: {t['target']}: {t['value']:.2f}" for t in record["targets"]),
        flush=True,
    )


if __name__ == "__main__":
    main()
