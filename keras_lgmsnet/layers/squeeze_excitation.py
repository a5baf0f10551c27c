"""Channels weighted by what the whole image or volume holds."""

from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import (
    SpatialLayer,
    float32_at_least,
    over_pixels,
    require_positive,
)
from keras_lgmsnet.layers.convolution import GroupedConv


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class SqueezeExcitation(SpatialLayer):
    """Squeeze-and-excitation (Hu et al., CVPR 2018), 2D or 3D.

    The means of the channels, taken in float32, pass through a pointwise convolution, ReLU, another
    one and a sigmoid. By what comes of them the channels are multiplied.

    Args:
        filters: Channels between the two convolutions, often a quarter of the input's.
        bias_initializer: That of the two convolutions, as for `GroupedConv`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If `filters` is not positive.

    Example:
    >>> SqueezeExcitation(4)(keras.ops.ones((1, 32, 32, 16))).shape
    (1, 32, 32, 16)
    """

    def __init__(self, filters: int, bias_initializer: Any = "zeros", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_positive(filters=filters)
        self.filters = filters
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the convolutions."""
        super().build(input_shape)
        common = {"bias_initializer": self.bias_initializer, "dtype": self.dtype_policy}
        ones = (input_shape[0], *(1,) * self.rank)
        self.reduce = GroupedConv(self.filters, 1, name="reduce", **common)
        self.reduce.build((*ones, self.channels))
        self.expand = GroupedConv(self.channels, 1, name="expand", **common)
        self.expand.build((*ones, self.filters))

    def call(self, inputs: Any) -> Any:
        """Weight the channels."""
        means = over_pixels(ops.mean, float32_at_least(inputs))
        means = ops.cast(means, self.compute_dtype)
        return inputs * ops.sigmoid(self.expand(ops.relu(self.reduce(means))))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
