#!/usr/bin/env bash
# Run the kernel tests on kernels built with g++'s address and undefined-behaviour sanitizers, which end the run at the
# first access out of bounds. With --record the outcome goes to results/sanitizer.jsonl. Takes about two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r src/picojoule "$copy/"
rm -f "$copy"/picojoule/kernels/native/libpicojoule.*

export PYTHONPATH=$copy CXX=${CXX:-g++} PICOJOULE_KERNELS=auto OMP_NUM_THREADS=2
"$python" -m picojoule.kernels.native.build --sanitize "$copy/picojoule/kernels/native"
sanitized() {
  env LD_PRELOAD="$($CXX -print-file-name=libasan.so) $($CXX -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$python" "$@"
}
sanitized -c 'from picojoule.kernels.native.library import built_with
assert built_with().endswith("sanitizers"), built_with()'
sanitized -m pytest tests/kernels --ignore-glob='*test_native_*' -m "not slow" -p no:cacheprovider \
  --capture=sys --junitxml="$copy/outcome.xml"

[ "${1:-}" = --record ] || exit 0
built=$(sanitized -c 'from picojoule.kernels.native.library import built_with; print(built_with())')
PYTHONPATH= "$python" - "$copy/outcome.xml" "$built" <<'END'
import sys
from pathlib import Path
from xml.etree import ElementTree

import torch

from picojoule.experiment.record import provenance, write_records

suite = ElementTree.parse(sys.argv[1]).getroot()[0].attrib
passed = int(suite["tests"]) - int(suite["skipped"])  # a failure has ended the run before
where = {"command": "tools/sanitize_kernels.sh --record", "built_with": sys.argv[2], "tests_passed": passed}
write_records(Path("results/sanitizer.jsonl"), [{**provenance(torch.device("cpu")), **where}])
END
cat results/sanitizer.jsonl
