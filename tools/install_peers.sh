#!/usr/bin/env bash
# Install the peers into .peers, an environment of their own: pinned, torch for the CPU, this package editable.
# Running it again takes seconds. PYTHON chooses the interpreter, TORCH_INDEX where CPU wheels of torch come from.
set -euo pipefail
cd "$(dirname "$0")/.."
pins=tests/peers
bin=.peers/bin
wanted=$(cat tools/install_peers.sh pyproject.toml "$pins"/*.txt | cksum)

if [ "$(cat .peers/.ready 2>/dev/null)" = "$wanted" ]; then
  echo ".peers is up to date"
  exit 0
fi
echo "== setting up .peers (a few minutes)"
"${PYTHON:-python3}" -m venv .peers
pip() { "$bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"; }

# On x86 Linux the package index has only CUDA builds of torch. An index that cannot be reached is passed over.
pip --retries 0 --timeout 20 install --no-deps --extra-index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" \
  "$(grep '^torch==' "$pins/imports.txt")"
"$bin/python" -c 'import sys
from importlib.metadata import requires
cuda = any(r.startswith(("nvidia", "cuda")) and "linux" in r.lower() and sys.platform == "linux" for r in requires("torch") or [])
sys.exit("expected a build of torch for the CPU, got one for CUDA; set TORCH_INDEX to an index of CPU wheels" if cuda else 0)'
pip install -r "$pins/imports.txt"
pip install --no-deps -r "$pins/requirements.txt"
pip install -e .
"$bin/python" tools/no_cuda.py
echo "$wanted" >.peers/.ready
