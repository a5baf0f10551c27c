"""Runs, recipes and saved networks of version 0.1 still read, with what they computed then."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_lgmsnet as kl
from keras_lgmsnet.run import Run
from keras_lgmsnet.run_directory import read_recipe
from keras_lgmsnet.training import loop as training

# Written by version 0.1 on the PyTorch backend, every weight and statistic moved from its start:
# `layers.keras` holds every layer, `TorchSGD` with its schedule, and metrics of images; `run` is
# a run of two epochs that was interrupted in the second; `outputs.npz` has every eighth pixel of
# what the networks return for standard normal images drawn from seed 0.
FOLDER = Path(__file__).parent / "fixtures" / "version_0_1"


def _assert_same_outputs(network: keras.Model, name: str, input_shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(size=input_shape).astype("float32")
    outputs = np.asarray(network.predict_on_batch(image))
    every_eighth = (slice(None), *[slice(None, None, 8)] * (outputs.ndim - 2))
    expected = np.load(FOLDER / "outputs.npz")[name]
    np.testing.assert_allclose(outputs[every_eighth], expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_every_layer_loads_with_its_optimizer() -> None:
    network = keras.saving.load_model(FOLDER / "layers.keras")
    _assert_same_outputs(network, "layers", (2, 16, 16, 3))
    assert network.optimizer.iterations == 1
    assert any(np.any(momentum.numpy()) for momentum in network.optimizer.momentums)
    assert network.optimizer.weight_decay == 1e-4
    assert isinstance(network.loss, kl.losses.BCEDiceLoss)


@pytest.mark.parametrize(
    ("name", "run", "input_shape"),
    [("images", "run", (1, 32, 32, 3)), ("volumes", "run_on_volumes", (1, 32, 32, 32, 1))],
)
def test_a_run_reads(name: str, run: str, input_shape: tuple[int, ...]) -> None:
    read = Run.read(FOLDER / run)
    assert read.kind.name == name
    assert read.recipe.model.arguments["dims"] == (4, 4, 4, 4, 4)
    _assert_same_outputs(read.network, name, input_shape)


@pytest.mark.no_backend  # since each reads the network above, and resumes in `test_training`
def test_a_run_is_resumed(tmp_path: Path) -> None:
    run = shutil.copytree(FOLDER / "run", tmp_path / "run")
    begun = json.loads((run / "recipe.json").read_text())
    # Whatever backend a run began on, its checkpoint has the same weights.
    (run / "recipe.json").write_text(json.dumps(begun | {"backend": keras.backend.backend()}))
    before = json.loads((run / "state.json").read_text())["history"]
    training.train(read_recipe(run), run, resume=True)
    history = json.loads((run / "state.json").read_text())["history"]
    assert history[:1] == before
    assert len(history) == 2
    assert json.loads((run / "metrics.json").read_text())["images"] == 2
