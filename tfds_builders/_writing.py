"""How prepared copies are written."""

from collections.abc import Iterable
from typing import Any

import tensorflow_datasets as tfds


class ExampleWriter(tfds.core.ExampleWriter):
    """Writes all examples in Parquet, too.

    Of an iterator over a shard, TensorFlow Datasets' adapter for Parquet keeps the first hundred
    examples, skips a hundred, and goes on so; of a list, it keeps all. A shard is of a gigabyte at
    most, unless a single example is larger.
    """

    def write(self, path: Any, examples: Iterable[Any]) -> Any:
        """Write a shard."""
        if self.file_format is tfds.core.FileFormat.PARQUET:
            examples = list(examples)
        return super().write(path, examples)
