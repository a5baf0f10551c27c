"""Training on several devices of one host, each taking an equal share of every batch."""

import contextlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.data.batches import Batches


def data_parallel(num_devices: int) -> Callable[[], AbstractContextManager[Any]]:
    """Return the scope in which a model is built, compiled and fitted on several devices.

    The devices are the first GPUs of the host or, where there is none, those that the backend
    makes of the CPU. Keras's own distribution does the work: `keras.distribution.DataParallel` on
    JAX, where batch normalisation takes its statistics over the whole batch, and
    `tf.distribute.MirroredStrategy` on TensorFlow, where each device takes its own share's.

    Args:
        num_devices: How many devices to use; 1 for the backend's default.

    Returns:
        A function that returns a context manager; it may be called and entered more than once.

    Raises:
        ValueError: If there are fewer devices, or several are asked for on PyTorch.

    Example:
    ```python
    scope = data_parallel(2)
    with scope():
        model = LGMSNet2D()
        model.fit(DivisibleBatches(batches, 2), shuffle=False)
    ```
    """
    if num_devices == 1:
        return contextlib.nullcontext
    backend = keras.backend.backend()
    if backend == "torch":
        raise ValueError(
            "Keras trains on one device with the torch backend: choose --backend jax or "
            f"tensorflow. Received: training.num_devices={num_devices}"
        )
    devices = (
        _tensorflow_devices() if backend == "tensorflow" else keras.distribution.list_devices()
    )
    if len(devices) < num_devices:
        raise ValueError(
            f"There must be as many devices as are asked for; {backend} has "
            f"{', '.join(devices)}. Received: training.num_devices={num_devices}"
        )
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(devices[:num_devices]).scope
    return keras.distribution.DataParallel(devices=devices[:num_devices]).scope


class DivisibleBatches(keras.utils.PyDataset):
    """Batches cut or filled up to a multiple of the number of devices.

    Shuffled batches, to train on, leave the last of an epoch's images (of volumes: patches) out,
    fewer than there are devices and others in each epoch. Batches in order, to validate on, are
    filled up with their last image and have a third part, the weight of each image, float32 of
    shape `(batch,)`: with it, the mean loss and scores of an epoch are those of the images alone,
    each once.

    Args:
        batches: The batches to serve; `batch_size` a multiple of `num_devices`.
        num_devices: Number of equal shares that each batch can be cut into.

    Raises:
        ValueError: If the batch size is no multiple of `num_devices`, or there are fewer images
            to train on than devices.
    """

    def __init__(self, batches: Batches, num_devices: int) -> None:
        super().__init__(workers=1)
        if batches.batch_size % num_devices:
            raise ValueError(
                "The batch size must be a multiple of the number of devices. Received: "
                f"training.batch_size={batches.batch_size}, training.num_devices={num_devices}"
            )
        self.batches = batches
        self.num_devices = num_devices
        self.num_images = batches.num_examples * batches.images_per_example
        if batches.shuffle and self.num_images < num_devices:
            raise ValueError(
                "There must be an image to train on for each device. "
                f"Received: {self.num_images} images, training.num_devices={num_devices}"
            )

    def set_epoch(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Choose the epoch, counted from 0, of the batches that are served."""
        self.batches.set_epoch(epoch, logs)

    def __len__(self) -> int:
        if self.batches.shuffle:
            divisible = self.num_images - self.num_images % self.num_devices
            images_per_batch = self.batches.batch_size * self.batches.images_per_example
            return math.ceil(divisible / images_per_batch)
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        images, segmentation_masks = self.batches[index]
        num_images = len(images)
        if self.batches.shuffle:
            kept = num_images - num_images % self.num_devices
            return images[:kept], segmentation_masks[:kept]
        filling = -num_images % self.num_devices
        # Keras divides an epoch's loss by all images served, and its scores by their weights.
        weight = 1 + (-self.num_images % self.num_devices) / self.num_images
        weights = np.array([weight] * num_images + [0.0] * filling, dtype="float32")
        images, segmentation_masks = (
            np.concatenate([array, np.repeat(array[-1:], filling, axis=0)])
            for array in (images, segmentation_masks)
        )
        return images, segmentation_masks, weights


def _tensorflow_devices() -> list[str]:
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]
