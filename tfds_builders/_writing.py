"""How prepared copies are written."""

import os
from collections.abc import Iterable
from typing import Any

import tensorflow_datasets as tfds

from keras_lgmsnet.process.progress import track


class ExampleWriter(tfds.core.ExampleWriter):
    """Writes all examples in Parquet, too, and tells its progress if it is to.

    Of an iterator over a shard, TensorFlow Datasets' adapter for Parquet keeps the first hundred
    examples, skips a hundred, and goes on so; of a list, it keeps all. A shard is of a gigabyte at
    most, unless a single example is larger.

    Args:
        file_format: As in TensorFlow Datasets.
        progress: Whether to tell how many examples of a shard are written.
    """

    def __init__(self, file_format: tfds.core.FileFormat, *, progress: bool = False) -> None:
        super().__init__(file_format)
        self.progress = progress

    def write(self, path: Any, examples: Iterable[Any]) -> Any:
        """Write a shard."""
        name = os.path.basename(path)  # which TensorFlow Datasets gives as a text, too
        examples = track(examples, label=f"Writing {name}", unit="example", shown=self.progress)
        if self.file_format is tfds.core.FileFormat.PARQUET:
            examples = list(examples)
        return super().write(path, examples)
