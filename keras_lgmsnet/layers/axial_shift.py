"""Parts of the channels moved along an axis, each by another distance."""

from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, require_positive

FARTHEST = 2


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class AxialShift(SpatialLayer):
    """Shift of UNeXt (Valanarasu and Patel, MICCAI 2022): it mixes neighbours without a weight.

    The channels fall into five parts of neighbours, of `ceil(channels / 5)` each but for the last
    ones. They move along the axis by -2, -1, 0, 1 and 2 pixels; where they come from beyond the
    border there are zeros.

    Args:
        axis: Of the batch: 1 is an image's height, 2 its width.
        **kwargs: `name` and `dtype`, as for any Keras layer.

    Raises:
        ValueError: If `axis` is not positive, or none of the input's axes in space.

    Example:
    >>> AxialShift(1)(keras.ops.ones((1, 16, 16, 10))).shape
    (1, 16, 16, 10)
    """

    def __init__(self, axis: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_positive(axis=axis)
        self.axis = axis

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Check the axis."""
        super().build(input_shape)
        if self.axis > self.rank:
            raise ValueError(
                f"{self.name}: axis must be one in space, from 1 to {self.rank}. "
                f"Received: axis={self.axis}, input_shape={tuple(input_shape)}"
            )

    def call(self, inputs: Any) -> Any:
        """Shift the parts."""
        padding = [(0, 0)] * (self.rank + 2)
        padding[self.axis] = (FARTHEST, FARTHEST)
        padded = ops.pad(inputs, padding)
        width = -(-self.channels // (2 * FARTHEST + 1))
        before = (slice(None),) * self.axis
        parts = []
        for number, first in enumerate(range(0, self.channels, width)):
            # Of so many pixels of padding the part number 0, which moves by -2, has its own last.
            window = slice(2 * FARTHEST - number, -number or None)
            parts.append(padded[(*before, window, ..., slice(first, first + width))])
        return ops.concatenate(parts, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"axis": self.axis}
