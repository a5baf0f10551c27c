"""Normalization of the channels by how strongly each of them responds."""

from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, float32_at_least, over_pixels


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class GlobalResponseNormalization(SpatialLayer):
    """Global response normalization of ConvNeXt V2 (Woo et al., CVPR 2023), 2D or 3D.

    A channel's response is the Euclidean norm of its pixels, taken in float32; `r` is the response
    divided by the mean of all channels' responses. Of the inputs x comes `(gamma * r + 1) * x +
    beta`, where `gamma` and `beta` are learned by channel and start at zero.

    Args:
        epsilon: Added to the mean of the responses.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Example:
    >>> GlobalResponseNormalization()(keras.ops.ones((1, 32, 32, 16))).shape
    (1, 32, 32, 16)
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the scale and the offset, of as many axes as the input, as published."""
        super().build(input_shape)
        shape = (*(1,) * (self.rank + 1), self.channels)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="zeros")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")

    def call(self, inputs: Any) -> Any:
        """Scale each channel by its response, and shift it."""
        squares = over_pixels(ops.sum, ops.square(float32_at_least(inputs)))
        # The root of 0 has no finite gradient; PyTorch's norm has 0 there, and so has this.
        is_zero = ops.equal(squares, 0)
        responses = ops.where(is_zero, 0, ops.sqrt(ops.where(is_zero, 1, squares)))
        relative = responses / (ops.mean(responses, axis=-1, keepdims=True) + self.epsilon)
        relative = ops.cast(relative, self.compute_dtype)
        return (self.gamma * relative + 1) * inputs + self.beta

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"epsilon": self.epsilon}
