"""What a run is told: frozen dataclasses that are the command line and a TOML file at once. No torch here."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from picojoule.data import NAMES
from picojoule.errors import BadInput, check_choice
from picojoule.networks import ENCODERS, POOLINGS, READOUTS, check_network

PRECISIONS = ("fp32", "bf16", "auto")
SAVED = ("fp32", "bf16")
AUGMENTATIONS = ("none", "crop-flip", "rotate-shift", "rotate-shift-flip")
OPTIMISERS = ("adam", "sgd")
SCHEDULES = ("cosine", "one-cycle", "constant")


@dataclass(frozen=True)
class Training:
    """Everything that shapes a training run.

    Arguments:
        data: Dataset: digits (built in), mnist, fashion-mnist, cifar10, cifar10-fair, cifar10-holdout,
            tiny-imagenet, nmnist, nmnist-frames; sequences psmnist, psmnist-keras, smnist, and digits-sequence
            (built in).
        data_dir: Folder of the datasets; else $PICOJOULE_DATA, else the cache folder.
        network: small-cnn, cnn7, vgg11, vgg16, vgg16-4096, resnet18, resnet20, mlp, mlp-DxW (as mlp-5x128),
            spiking-rnn, mixer-cnn or mixer-rnn (or narrower, as mixer-cnn-24 or mixer-cnn-24x2); for sequences lmu,
            lmu-keras, lstm, gru, or with sizes lmu-HxQ (as lmu-64x32), lmu-keras-HxQ, lstm-H and gru-H.
        timesteps: Time steps of the spiking networks; by default 1 for trained and 16 for converted ones, 20 for
            first-spike, and as many as the data have for events.
        pool: max or avg; unless given what a method of the table needs (synops-conversion avg, first-spike by fan-out
            max), else avg for digits and max for all other data.
        encoder: constant-current (first layer computed once), direct, bernoulli, latency, latency-early, latency-log,
            frames (data that are events) or none (sequences); by default the method's own: latency-early for
            first-spike, else constant-current.
        readout: mean, spike-count, last-membrane, max-membrane or last-step; by default last-step for lmu, lstm and
            gru, else the method's own: max-membrane for first-spike, else mean.
        epochs: Passes over the training images; 60 for digits, else 10.
        start: Model file whose weights to start from, such as runs/a/runs/plain_seed-{seed}/model.safetensors, where
            {seed} stands for the seed of the run; by default weights are random.
        lr: Learning rate at the peak of the schedule.
        optimiser: adam, or sgd (Nesterov momentum 0.9).
        lr_schedule: cosine (from lr to 0), one-cycle (up to lr over the first 30 % of the steps, then the cosine), or
            constant.
        warm_up: Share of the steps of a phase in which the rate rises in a line to that of the schedule's start, which
            begins behind it.
        clip: Largest norm of the gradient of all parameters; longer ones are shortened to it.
        weight_decay: L2 decay of the weights of layers.
        dropout: Dropout of vgg16 and vgg16-4096, as a share of the published rates.
        theta: Window of the memory of lmu networks in steps; by default the length of the sequences.
        learn_theta: Train that window.
        low_rank: Keep the memory's matrix in blocks of low rank: the same numbers by fewer operations, for orders Q of
            16 times a power of two, as in lmu-64x32.
        batch_size: Images per step, over all processes; 64 for digits, else 128.
        augment: none, crop-flip (random crops after padding by 4, random mirror images; the default for CIFAR-10 and
            Tiny ImageNet), rotate-shift (by up to 15 degrees and 10 % of the side), or rotate-shift-flip (with random
            mirror images).
        precision: fp32, bf16 (autocast in training; evaluation is always float32), or auto: bf16 where the processor
            has AMX or the GPU bf16, else fp32. The record says which one ran.
        channels_last: Keep maps in channels-last memory order.
        page_reuse: Let the C allocator keep large pages (Linux; faster for large activations).
        recompute: Keep less for the backward pass and run layers again there; the same results, slower.
        compile: Use torch.compile in training and validation; pays in long runs only.
        save_membranes: Keep membranes for the backward pass in bf16 or fp32 (compiled kernels on the CPU).
        device: Where to run: cpu, cuda, ...; cuda is used when it is there.
        limit_train: Use only the first N training images.
        option: Further options of a method as --option.NAME VALUE, or --option.METHOD:NAME VALUE.
    """

    data: str = "digits"
    data_dir: Path | None = None
    network: str = "small-cnn"
    timesteps: int | None = None
    pool: str | None = None
    encoder: str | None = None
    readout: str | None = None
    epochs: int | None = None
    start: str | None = None
    lr: float = 2e-3
    optimiser: str = "adam"
    lr_schedule: str = "cosine"
    warm_up: float = 0.0
    clip: float | None = None
    weight_decay: float = 0.0
    dropout: float = 0.0
    theta: float | None = None
    learn_theta: bool = False
    low_rank: bool = False
    batch_size: int | None = None
    augment: str | None = None
    precision: str = "auto"
    channels_last: bool = True
    page_reuse: bool = False
    recompute: bool = False
    compile: bool = False
    save_membranes: str | None = None
    device: str | None = None
    limit_train: int | None = None
    option: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, name, known in (
            ("dataset", self.data, NAMES),
            ("encoder", self.encoder, ENCODERS),
            ("readout", self.readout, READOUTS),
            ("precision", self.precision, PRECISIONS),
            ("pooling", self.pool, POOLINGS),
            ("augmentation", self.augment, AUGMENTATIONS),
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule of the learning rate", self.lr_schedule, SCHEDULES),
            ("dtype of saved membranes", self.save_membranes, SAVED),
        ):
            if name is not None:
                check_choice(what, name, known)
        check_network(self.network)
        if not self.network.startswith("lmu") and (self.theta is not None or self.learn_theta or self.low_rank):
            raise BadInput(f"--theta, --learn-theta and --low-rank are for lmu networks, got --network {self.network}")
        if self.compile and self.recompute:
            raise BadInput("give --compile or --recompute, not both: torch.compile chooses by itself what to recompute")
        # batch norm needs two samples in every step of training
        for name, least in (("timesteps", 1), ("epochs", 1), ("batch_size", 2), ("limit_train", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise BadInput(f"expected --{name.replace('_', '-')} of at least {least}, got {value}")
        if not 0 < self.lr < 1e30:
            raise BadInput(f"expected --lr above 0, got {self.lr}")
        if not 0 <= self.warm_up < 1:
            raise BadInput(f"expected --warm-up from 0 to 1 (a share of the steps), got {self.warm_up}")
        if self.clip is not None and not self.clip > 0:
            raise BadInput(f"expected --clip above 0, got {self.clip}")
        if not 0 <= self.weight_decay < 1:
            raise BadInput(f"expected --weight-decay from 0 to 1, got {self.weight_decay}")

    def decided(self) -> "Training":
        """A copy in which what was left open has the dataset's default; the pooling depends on the methods, too."""
        epochs, batch_size = (60, 64) if self.data == "digits" else (10, 128)
        augment = self.augment or ("crop-flip" if self.data.startswith(("cifar10", "tiny-imagenet")) else "none")
        size = self.batch_size or batch_size
        return replace(self, epochs=self.epochs or epochs, batch_size=size, augment=augment)

    @property
    def usual_pool(self) -> str:
        """The pooling where nobody asks for one: digits are small, and lose accuracy by max pooling."""
        return "avg" if self.data == "digits" else "max"

    def as_json(self) -> dict[str, Any]:
        """The settings that decide the result; folders and device are left out."""
        left_out = ("data_dir", "device")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}


def parse_strengths(text: str | None) -> tuple[float, ...]:
    """`"0.5,1,2"` as numbers; an empty tuple for None. Raises BadInput."""
    if text is None:
        return ()
    try:
        strengths = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"expected --strength as a number or a comma list such as 0.5,1,2, got {text!r}") from None
    if any(not 0 <= s < float("inf") for s in strengths):
        raise BadInput(f"expected --strength of at least 0, got {text}")
    return strengths


def parse_seeds(text: str) -> tuple[int, ...]:
    """`"0,1,2"` as seeds. Raises BadInput."""
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"expected --seeds as whole numbers such as 0,1,2, got {text!r}") from None
    return tuple(checked_seed(seed) for seed in seeds)


def checked_seed(seed: int) -> int:
    """`seed`, if it is in the range that every generator takes. Raises BadInput."""
    if not 0 <= seed < 2**32:
        raise BadInput(f"expected a seed from 0 to 2**32 - 1, got {seed}")
    return seed
