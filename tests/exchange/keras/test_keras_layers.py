"""Random Keras models, saved in both formats and read again, give what Keras gives, and save bit by bit as ours."""

import logging
import os

import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras.layers", reason="keras is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

from random_keras import random_model  # noqa: E402 - the backend must be chosen before

from picojoule.exchange import load, save  # noqa: E402
from picojoule.exchange.keras import load_keras  # noqa: E402


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def order(request):
    import keras

    before = keras.config.image_data_format()
    keras.config.set_image_data_format(request.param)
    keras.utils.clear_session()
    yield request.param
    keras.config.set_image_data_format(before)


def in_our_order(x, network):
    """What Keras takes, as our network takes it: channels in front, and one where the file leaves them out."""
    shape = tuple(x.shape[1:])
    if network.input_shape == (1, *shape):
        return x.unsqueeze(1)
    return x if network.input_shape == shape else x.movedim(-1, 1)


@pytest.mark.parametrize(
    ("order", "seed"),
    [("channels_last", seed) for seed in range(24)] + [("channels_first", seed) for seed in range(24, 32)],
    indirect=["order"],
)
def test_random_models_equal_keras(seed, order, tmp_path):
    model, numbers = random_model(seed)
    x = torch.from_numpy(numbers)
    with torch.no_grad():
        expected = model(x, training=False).cpu()
    scale = max(1.0, float(expected.abs().max()))
    for suffix in (".keras", ".h5"):
        model.save(tmp_path / f"model{suffix}")
        network = load_keras(tmp_path / f"model{suffix}")
        images = in_our_order(x, network)
        with torch.no_grad():
            given = network(images)
        assert (given - expected).abs().max() < 1e-4 * scale
        save(network, tmp_path / "model.safetensors")
        with torch.no_grad():
            assert torch.equal(load(tmp_path / "model.safetensors")(images), given)
