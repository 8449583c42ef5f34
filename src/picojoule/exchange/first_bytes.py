"""What a file that should be a `.safetensors` file is instead, without running anything in it."""

from pathlib import Path
from zipfile import BadZipFile, ZipFile

PICKLE = "a pickle or torch.save file"


def mistaken_for_safetensors(path: Path) -> str | None:
    """What a file is by its first bytes, such as PICKLE; None for safetensors and for what is not known."""
    with path.open("rb") as file:
        head = file.read(9)
    # the first eight bytes of safetensors are a length, which can be anything; then its header begins
    if head[8:] == b"{":
        return None
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file; a Keras model in one is read if its name ends in .h5"
    if head.startswith(b"PK"):
        return _zipped(path)
    return PICKLE if head.startswith(b"\x80") or path.suffix in (".pt", ".pth") else None


def _zipped(path: Path) -> str:
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (BadZipFile, OSError, ValueError):
        names = []
    if any(name.endswith("data.pkl") for name in names):
        return PICKLE
    keras = {"config.json", "model.weights.h5"} <= set(names)
    return "a Keras model, which is read if its name ends in .keras" if keras else "a ZIP archive"
