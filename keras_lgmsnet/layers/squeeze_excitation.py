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
from keras_lgmsnet.layers.initializers import FanInUniform


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class SqueezeExcitation(SpatialLayer):
    """Squeeze-and-excitation (Hu et al., CVPR 2018), 2D or 3D.

    The means of the channels, taken in float32, pass through a pointwise convolution, ReLU, another
    one and a sigmoid. By what comes of them the channels are multiplied.

    Args:
        filters: Channels between the two convolutions, often a quarter of the input's.
        bias_initializer: That of the two convolutions, as for `GroupedConv`.
        kernel_initializer: The same for their kernels, which draw different numbers.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If `filters` is not positive.

    Example:
    >>> SqueezeExcitation(4)(keras.ops.ones((1, 32, 32, 16))).shape
    (1, 32, 32, 16)
    """

    def __init__(
        self,
        filters: int,
        bias_initializer: Any = "zeros",
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_positive(filters=filters)
        self.filters = filters
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_initializer = keras.initializers.get(kernel_initializer or FanInUniform())

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the convolutions."""
        super().build(input_shape)
        ones = (input_shape[0], *(1,) * self.rank)
        self.reduce = self._convolution(self.filters, self.kernel_initializer, "reduce")
        self.reduce.build((*ones, self.channels))
        # An object may draw the same numbers for both.
        self.expand = self._convolution(self.channels, self.kernel_initializer.clone(), "expand")
        self.expand.build((*ones, self.filters))

    def _convolution(self, filters: int, kernel_initializer: Any, name: str) -> GroupedConv:
        return GroupedConv(
            filters,
            1,
            bias_initializer=self.bias_initializer,
            kernel_initializer=kernel_initializer,
            dtype=self.dtype_policy,
            name=name,
        )

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
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
