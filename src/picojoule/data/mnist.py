"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in ten classes, as idx files."""

from pathlib import Path
from typing import NamedTuple

from picojoule.data.dataset import Dataset, Split, hold_out_last, split_from_arrays
from picojoule.data.find import bad_file, first_folder, missing_data, places
from picojoule.data.idx import read_idx

_VALIDATION = 5_000


class _Facts(NamedTuple):
    folder: str  # as torchvision lays it out
    source: str
    files_url: str
    licence: str
    citation: str


_FACTS = {
    "mnist": _Facts(
        "MNIST/raw",
        "http://yann.lecun.com/exdb/mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "not stated by the authors; usually given as CC BY-SA 3.0",
        "LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition,"
        " Proceedings of the IEEE 86(11)",
    ),
    "fashion-mnist": _Facts(
        "FashionMNIST/raw",
        "https://github.com/zalandoresearch/fashion-mnist",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
        "MIT (Zalando SE)",
        "Xiao, Rasul and Vollgraf 2017, Fashion-MNIST: a novel image dataset for benchmarking machine"
        " learning algorithms, arXiv:1708.07747",
    ),
}


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """`mnist` or `fashion-mnist`; images `[N, 1, 28, 28]`, the last 5,000 training images are validation."""
    facts = _FACTS[name]
    where = places(data_dir)
    folder = first_folder(where, [facts.folder])
    if folder is None:
        files = "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"
        raise missing_data(name, where, facts.folder, f"download the four files {facts.files_url}/{files}")
    train, validation = hold_out_last(_read(folder, "train", 60_000, facts.files_url), _VALIDATION)
    return Dataset(
        name=name,
        train=train,
        validation=validation,
        test=_read(folder, "t10k", 10_000, facts.files_url),
        classes=10,
        scale=255,
        split_note="The official 10,000 test images; of the official 60,000 training images the first 55,000"
        " train and the last 5,000 validate.",
        source=facts.source,
        licence=facts.licence,
        citation=facts.citation,
    )


def _read(folder: Path, part: str, count: int, url: str) -> Split:
    image_path = folder / f"{part}-images-idx3-ubyte"
    images = read_idx(image_path, (count, 28, 28), f"download it from {url}/{image_path.name}.gz")
    label_path = folder / f"{part}-labels-idx1-ubyte"
    mend = f"download it from {url}/{label_path.name}.gz"
    labels = read_idx(label_path, (count,), mend)
    if labels.max() > 9:
        raise bad_file(label_path, "labels 0 to 9", f"a label {labels.max()}", mend)
    return split_from_arrays(images[:, None], labels)
