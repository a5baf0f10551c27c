"""What tells tokens where they are."""

import math
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class PositionEmbedding(SpatialLayer):
    """A learned vector for each pixel, which is added to it, 2D or 3D.

    So pixels that attend to one another know where they are. The sides are those that it was built
    with, for good.

    Args:
        initializer: Name of a Keras initializer, or an object of one, of the `table` `(1, pixels,
            channels)`, pixels row by row.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If a side is not known.

    Example:
    >>> PositionEmbedding()(keras.ops.ones((1, 16, 16, 8))).shape
    (1, 16, 16, 8)
    """

    def __init__(self, initializer: Any = "zeros", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the table."""
        super().build(input_shape)
        self._sides: tuple[Any, ...] = tuple(input_shape[1:-1])
        if None in self._sides:
            raise ValueError(
                f"{self.name} has a vector for each pixel, so the sides must be known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.table = self.add_weight(
            name="table",
            shape=(1, math.prod(self._sides), self.channels),
            initializer=self.initializer,
        )

    def call(self, inputs: Any) -> Any:
        """Add the vectors."""
        table = ops.convert_to_tensor(self.table)
        return inputs + ops.reshape(table, (1, *self._sides, self.channels))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "initializer": keras.initializers.serialize(self.initializer)
        }
