"""Batches for `fit`: a reproducible order, made side by side and one ahead."""

import abc
import functools
import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cv2
import keras
import numpy as np

Batch = tuple[np.ndarray, np.ndarray]


class Batches(keras.utils.PyDataset, abc.ABC):
    """Base of the batches that the networks are trained and validated on.

    The order depends on `(seed, epoch)` and the augmentation of an example on `(seed, epoch,
    position of the example)` alone, so training resumed at an epoch sees what uninterrupted
    training sees. Two things are left to the caller of `fit`: `shuffle=False`, or Keras changes
    the order of the batches by a random state of its own, and `set_epoch` as a callback, because
    Keras does not tell a dataset its epoch.

    What a batch holds is made side by side by the threads of one pool, and the next batch while the
    model trains on this one, which changes nothing in them; from the first batch on, OpenCV has
    one thread of its own in the process.

    Args:
        num_examples: How many examples there are to serve.
        batch_size: Examples in a batch; the last one may have fewer.
        shuffle: Whether each epoch has an order of its own.
        seed: Seed of order and augmentation, an integer ≥ 0.
        images_per_example: How many images, or patches, a batch has of each example.

    Raises:
        ValueError: If there is no example, or an argument is out of range.

    Example:
    ```python
    batches = ImageBatches(examples, batch_size=16, shuffle=True)  # or PatchBatches
    model.fit(
        batches,
        epochs=10,
        shuffle=False,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=batches.set_epoch)],
    )
    ```
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        images_per_example: int = 1,
    ) -> None:
        # One worker: with more, Keras carries batches fetched ahead over into the next epoch.
        super().__init__(workers=1)
        if num_examples < 1:
            raise ValueError("There must be at least one example to serve. Received: none")
        if batch_size < 1:
            raise ValueError(f"The batch size must be at least 1. Received: {batch_size=}")
        if seed < 0:
            raise ValueError(f"The seed must not be negative. Received: {seed=}")
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.images_per_example = images_per_example
        self.epoch = 0
        self._next: tuple[tuple[int, int], Future] | None = None

    @abc.abstractmethod
    def _make(self, epoch: int, positions: np.ndarray) -> Batch:
        """Return the batch of the examples at these positions; called from several threads."""

    def set_epoch(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Choose the epoch, counted from 0, whose order and augmentation the batches have.

        Counting Keras's own `on_epoch_begin` calls instead would be wrong: before the first
        epoch `fit` begins another to infer shapes, on some backends and for some models.

        Args:
            epoch: The epoch that is about to begin.
            logs: Ignored; lets the method serve as a callback's `on_epoch_begin`.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.num_examples / self.batch_size)

    def __getitem__(self, index: int) -> Batch:
        batch = self._take(self.epoch, index)
        if index + 1 < len(self):
            # While the model trains on this one.
            made = _ahead().submit(self._make_at, self.epoch, index + 1)
            self._next = (self.epoch, index + 1), made
        return batch

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_next": None}

    def _take(self, epoch: int, index: int) -> Batch:
        if self._next is not None and self._next[0] == (epoch, index):
            return self._next[1].result()
        return self._make_at(epoch, index)

    def _make_at(self, epoch: int, index: int) -> Batch:
        positions = np.arange(self.num_examples)
        if self.shuffle:
            positions = np.random.default_rng([self.seed, epoch]).permutation(positions)
        return self._make(epoch, positions[index * self.batch_size : (index + 1) * self.batch_size])


def side_by_side(work: Callable[[int], None], items: Iterable[int]) -> None:
    """Do the work for each item in the threads that make all batches; raises what a thread raised.

    Example:
    ```python
    side_by_side(fill, range(len(images)))
    ```
    """
    list(_threads().map(work, items))


@functools.cache
def _ahead() -> ThreadPoolExecutor:
    """Return the threads that wait for batches made ahead; each has its work done by others."""
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="Batches-ahead")


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads that make all batches, with an image or a patch each."""
    # OpenCV's own threads, waiting for one another within each image, cost more than they bring.
    cv2.setNumThreads(1)
    return ThreadPoolExecutor(thread_name_prefix="Batches")
