"""Several devices: what they are, what each is given, and that they train as one."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lgmsnet.data.batches import Batches
from keras_lgmsnet.data.images import Examples, ImageBatches
from keras_lgmsnet.training.distribution import DivisibleBatches, data_parallel


def batches(num_images: int, *, batch_size: int = 4, shuffle: bool = False) -> ImageBatches:
    """Images that hold their own number."""
    images = np.arange(num_images, dtype="uint8")[:, None, None, None] * np.ones(
        (32, 32, 3), "uint8"
    )
    ids = [str(number) for number in range(num_images)]
    examples = Examples(ids, images, images[..., :1] % 2)
    return ImageBatches(examples, batch_size, shuffle=shuffle)


def test_two_devices_train_as_one(tmp_path: Path) -> None:
    if keras.backend.backend() == "torch":
        with pytest.raises(ValueError, match=r"--backend jax or tensorflow. .*num_devices=2"):
            data_parallel(2)
        return
    command = [sys.executable, "-m", "tests.helpers.two_devices", str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert child.returncode == 0, child.stderr


def test_more_devices_than_there_are() -> None:
    message = "one device" if keras.backend.backend() == "torch" else "as many devices"
    with pytest.raises(ValueError, match=rf"{message}.* Received: training.num_devices=100"):
        data_parallel(100)


@pytest.mark.parametrize(("num_images", "sizes"), [(9, [4, 4]), (11, [4, 4, 2]), (12, [4, 4, 4])])
def test_training_leaves_out_what_cannot_be_shared(num_images, sizes) -> None:
    source = batches(num_images, shuffle=True)
    served = DivisibleBatches(source, 2)
    assert [len(served[index][0]) for index in range(len(served))] == sizes
    for index in range(len(served)):
        for part, whole in zip(served[index], source[index], strict=True):
            np.testing.assert_array_equal(part, whole[: sizes[index]])


def test_the_patches_of_a_volume_are_shared() -> None:
    class Patches(Batches):
        """Three patches of each of three volumes, which hold their own number."""

        def _make(self, epoch, positions):
            return np.repeat(positions, 3), np.repeat(-positions, 3)

    source = Patches(3, 2, shuffle=True, seed=0, images_per_example=3)
    served = DivisibleBatches(source, 2)
    served.set_epoch(5)
    assert (len(served), source.epoch) == (2, 5)
    assert [len(served[index][0]) for index in range(2)] == [6, 2]  # of 3, one is left out
    np.testing.assert_array_equal(served[1][1], source[1][1][:2])


@pytest.mark.parametrize("num_images", [8, 9, 10, 11, 1])
def test_validation_counts_each_image_once(num_images) -> None:
    served = DivisibleBatches(batches(num_images), 4)
    loss = score = weights = served_images = 0
    for index in range(len(served)):
        images, masks, weight = served[index]
        assert len(images) == len(masks) == len(weight) == 4
        numbers = images[:, 0, 0, 0]  # any score of the images will do
        loss += (numbers * weight).sum()
        served_images += len(images)
        score += (numbers * weight).sum()
        weights += weight.sum()
    source = batches(num_images)
    numbers = np.concatenate([source[index][0][:, 0, 0, 0] for index in range(len(source))])
    # As Keras means a loss, and a metric.
    assert loss / served_images == pytest.approx(numbers.mean(), rel=1e-5)
    assert score / weights == pytest.approx(numbers.mean(), rel=1e-5)


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size=4, training.num_devices=3"):
        DivisibleBatches(batches(9), 3)
    with pytest.raises(ValueError, match=r"Received: 1 images"):
        DivisibleBatches(batches(1, shuffle=True), 2)
