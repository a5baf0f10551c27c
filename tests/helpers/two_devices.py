"""Trains alike on one device and on two: `python -m tests.helpers.two_devices FOLDER`.

Both are made of the CPU. A process of its own, because a backend counts its devices once.
"""

import dataclasses
import os
import shutil
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"  # read by JAX

import keras
import numpy as np
import pytest

from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.schema import Data, Model, Recipe, Training
from keras_lgmsnet.run_directory import read_json
from keras_lgmsnet.training import loop as training
from keras_lgmsnet.training.finished_epochs import FinishedEpochs
from tests.helpers.runs import assert_same_run, leave_figures_empty, saved_arrays

# 8 images to train on and 3 to validate on, which two devices cannot share evenly.
RECIPE = Recipe(
    data=Data(source="synthetic", num_images=11, image_size=(32, 32), validation_fraction=0.27),
    training=Training(epochs=2, batch_size=4, learning_rate=0.1),
)


_create = registry.create


def create(name, *, input_shape, num_classes, dtype, **arguments) -> keras.Model:
    """Stand in for `registry.create`: LGMSNet is without batch statistics.

    They depend on the share on TensorFlow.
    """
    if name != "lgmsnet":
        shapes = {"input_shape": input_shape, "num_classes": num_classes}
        return _create(name, **shapes, dtype=dtype, **arguments)
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 5, padding="same", activation="relu", dtype=dtype)(image)
    return keras.Model(image, keras.layers.Conv2D(num_classes, 1, dtype="float32")(x))


def main(folder: Path) -> None:
    """Compare histories, weights and scores, also with those of a run that was resumed."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    registry.create = create
    leave_figures_empty(pytest.MonkeyPatch())
    FinishedEpochs.on_epoch_begin = _copy_after_the_first
    run = _train_alike(RECIPE, folder / "lgmsnet")
    if keras.backend.backend() == "jax":  # where batch statistics are those of the whole batch
        guest = Model(network="unet", filters=(4, 8))
        _train_alike(dataclasses.replace(RECIPE, model=guest), folder / "guest")

    copied = folder / "lgmsnet" / "shared-1"
    assert len(read_json(copied, "state.json", "history")["history"]) == 1
    assert_same_run(training.train(_shared(RECIPE), copied, resume=True), run)


def _shared(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, num_devices=2))


def _train_alike(recipe: Recipe, folder: Path) -> Path:
    """Train on one device and on two, compare, and return the run on two."""
    alone = training.train(recipe, folder / "alone")
    run = training.train(_shared(recipe), folder / "shared")
    histories = [read_json(r, "state.json", "history")["history"] for r in (alone, run)]
    for row, expected in zip(*histories, strict=True):
        assert row.keys() == expected.keys()
        for name, value in row.items():
            np.testing.assert_allclose(value, expected[name], rtol=2e-5, err_msg=name)
    arrays, expected = (saved_arrays(r / "checkpoint-0002.keras") for r in (run, alone))
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
    return run


def _copy_after_the_first(self, epoch: int, logs=None) -> None:
    """Keep what a run that was killed in its second epoch would have left."""
    if epoch == 1:
        shutil.copytree(self.run_directory, f"{self.run_directory}-1")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
