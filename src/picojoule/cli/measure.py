"""`picojoule measure`: operations and joules of a saved model."""

from pathlib import Path

from picojoule.cli.output import print_json
from picojoule.experiment.config import Training, checked_seed


def measure(
    model: Path,
    /,
    *,
    data: str = "digits",
    data_dir: Path | None = None,
    hardware: str = "horowitz-45nm-fp32,horowitz-45nm-fp32-sram",
    timesteps: int | None = None,
    device: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Count every synaptic operation of a saved model on a test set, and price it.

    Args:
        model: A .safetensors file that picojoule wrote.
        data: Dataset whose test split is run.
        data_dir: Folder of the datasets; else $PICOJOULE_DATA, else the cache folder.
        hardware: Comma list of price lists.
        timesteps: Run for another number of time steps than the model was saved with.
        device: Where to run.
        seed: Seed of random encoders.
        out: Folder for record.json; nothing is written without it.
        json: Print one JSON object on stdout and nothing else.
    """
    Training(data=data, timesteps=timesteps)  # checks the names and numbers before torch is loaded
    checked_seed(seed)
    from picojoule.data import load
    from picojoule.energy.price import hardware as price_list
    from picojoule.errors import BadInput
    from picojoule.exchange import load as load_model
    from picojoule.exchange import read_notes
    from picojoule.experiment.measured import measured

    names = [name.strip() for name in hardware.split(",") if name.strip()]
    if not names:
        raise BadInput("expected at least one price list after --hardware")
    for name in names:
        price_list(name)
    network = load_model(model)
    if timesteps is not None:
        network = network.with_timesteps(timesteps)
    dataset = load(data, data_dir)
    if network.input_shape != dataset.input_shape:
        raise BadInput(
            f"{model} takes images of shape {network.input_shape}, {data} has {dataset.input_shape}; "
            "give the --data the model was trained on"
        )
    record = measured(network, read_notes(model), dataset, names, device, seed, str(model))
    if out is not None:
        from json import dumps

        from picojoule.files import writable_folder, write_text

        write_text(writable_folder(out) / "record.json", dumps(record, sort_keys=True))
    if json:
        print_json(record)
    else:
        from picojoule.report import measurement_table

        print(measurement_table(record))
