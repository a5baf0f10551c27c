"""Layers that weight or shift channels, or treat each by itself."""

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
from keras_lgmsnet.layers.forms.recomputation import choose_recomputation
from keras_lgmsnet.layers.initializers import FanInUniform

# How many pixels `AxialShift` moves channels at most.
FARTHEST = 2


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class LayerScale(SpatialLayer):
    """Multiplication of each channel by a learned number, 2D or 3D.

    At the end of a residual branch it lets the block start as next to nothing but its input
    (Touvron et al., CaiT, ICCV 2021).

    Args:
        initial_value: Where all the numbers, `gamma`, start.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Example:
    >>> LayerScale()(keras.ops.ones((1, 32, 32, 16))).shape
    (1, 32, 32, 16)
    """

    def __init__(self, initial_value: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the numbers."""
        super().build(input_shape)
        initial = keras.initializers.Constant(self.initial_value)
        self.gamma = self.add_weight(name="gamma", shape=(self.channels,), initializer=initial)

    def call(self, inputs: Any) -> Any:
        """Multiply the channels."""
        return inputs * self.gamma

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"initial_value": self.initial_value}


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
