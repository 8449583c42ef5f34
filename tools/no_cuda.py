"""Fail if a CUDA, torchvision or torchaudio distribution got installed: the project runs on plain CPU torch."""

import sys
from importlib.metadata import distributions

unwanted = sorted(
    name
    for name in {d.metadata["Name"].lower() for d in distributions()}
    if name.startswith(("nvidia-", "cuda-")) or name in ("torchvision", "torchaudio")
)
if unwanted:
    sys.exit(
        f"unwanted distributions: {', '.join(unwanted)}; remove .venv and install with -c constraints.txt, "
        "on Linux with the index of PyTorch's CPU wheels as an extra index"
    )
print("no CUDA, torchvision or torchaudio distribution is installed")
