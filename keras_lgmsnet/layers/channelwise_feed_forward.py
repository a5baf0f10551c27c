"""A feed-forward layer of each channel by itself."""

from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, require_positive
from keras_lgmsnet.layers.convolution import GroupedConv
from keras_lgmsnet.layers.forms.recomputation import choose_recomputation
from keras_lgmsnet.layers.initializers import FanInUniform


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ChannelwiseFeedForward(SpatialLayer):
    """Two pointwise convolutions, GELU between, that mix no channels, 2D or 3D.

    Of each channel they make `factor` values and of these, activated, one again: a grouped
    convolution, `widen`, and another, `narrow`, with a group for each channel (3D UX-Net, Lee et
    al., ICLR 2023). They are computed as products with vectors, one of the values after the other,
    so that no tensor has more channels than the input. Kernels and biases start as PyTorch's.

    Args:
        factor: How many values each channel has in between.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If `factor` is not positive.

    Example:
    >>> ChannelwiseFeedForward()(keras.ops.ones((1, 8, 8, 8, 16))).shape
    (1, 8, 8, 8, 16)
    """

    def __init__(self, factor: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_positive(factor=factor)
        self.factor = factor

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernels and biases of the two convolutions."""
        super().build(input_shape)
        wide = self.factor * self.channels
        self.widen = self._convolution(wide, input_shape, "widen")
        self.narrow = self._convolution(self.channels, (*input_shape[:-1], wide), "narrow")
        self._recomputed = choose_recomputation(self.rank)

    def _convolution(self, filters: int, shape: tuple[int | None, ...], name: str) -> GroupedConv:
        convolution = GroupedConv(
            filters,
            1,
            groups=self.channels,
            bias_initializer=FanInUniform(),
            dtype=self.dtype_policy,
            name=name,
        )
        convolution.build(shape)
        return convolution

    def call(self, inputs: Any) -> Any:
        """Add up what becomes of each of the values."""
        shape = (self.channels, self.factor)
        into, offset = (
            ops.reshape(ops.convert_to_tensor(weight), shape)
            for weight in (self.widen.kernel, self.widen.bias)
        )
        out_of = ops.reshape(ops.convert_to_tensor(self.narrow.kernel), shape[::-1])

        def feed(inputs: Any) -> Any:
            outputs = ops.convert_to_tensor(self.narrow.bias)
            for place in range(self.factor):
                value = inputs * into[:, place] + offset[:, place]
                outputs = ops.gelu(value, approximate=False) * out_of[place] + outputs
            return outputs

        return self._recomputed(feed)(inputs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"factor": self.factor}
