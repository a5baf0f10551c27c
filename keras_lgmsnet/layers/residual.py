"""The residual block: convolutions whose result is added to their input."""

from typing import Any

import keras

from keras_lgmsnet.layers.base import SpatialLayer, get_activation, require_positive
from keras_lgmsnet.layers.conv_norm_activation import ConvNormActivation
from keras_lgmsnet.layers.initializers import fan_out_normal


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ResidualBlock(SpatialLayer):
    """ResNet's block: two or three convolutions, added to the input, 2D or 3D.

    The basic block has two 3-wide convolutions; a bottleneck has one between two pointwise ones.
    Each convolution is normalized, and an activation follows all but the last, and the sum. Where
    width or sides change, the input passes through a pointwise convolution and its norm first.
    Strides are those of the first 3-wide convolution, as in torchvision, where the paper has them
    at a bottleneck's first.

    Args:
        filters: Output channels.
        strides: The distance between neighbouring outputs, along every axis.
        normalization: `"batch"`, `"instance"`, or `None`: batch in 2D, instance in 3D.
        bottleneck: Channels of a bottleneck's 3-wide convolution; `None` for the basic block.
        activation: Name of a Keras activation, or a callable.
        kernel_initializer: Name of a Keras initializer, or an object of one; by default
            torchvision's: normal, of variance 2 / (taps × filters).
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is out of range.

    Example:
    >>> ResidualBlock(16, strides=2)(keras.ops.ones((1, 32, 32, 8))).shape
    (1, 16, 16, 16)
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        normalization: str | None = None,
        bottleneck: int | None = None,
        activation: Any = "relu",
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.normalization = normalization
        self.bottleneck = bottleneck
        self.activation = get_activation(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer or fan_out_normal())
        if bottleneck is None:
            self.steps = [
                self._convolution(filters, 3, strides, self.activation, "first"),
                self._convolution(filters, 3, 1, "linear", "second"),
            ]
        else:
            require_positive(bottleneck=bottleneck)
            self.steps = [
                self._convolution(bottleneck, 1, 1, self.activation, "first"),
                self._convolution(bottleneck, 3, strides, self.activation, "second"),
                self._convolution(filters, 1, 1, "linear", "third"),
            ]
        self.shortcut: ConvNormActivation | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights, and the convolution of the input if there is to be one."""
        super().build(input_shape)
        shape = input_shape
        for step in self.steps:
            step.build(shape)
            shape = step.compute_output_shape(shape)
        if self.strides > 1 or self.channels != self.filters:
            self.shortcut = self._convolution(self.filters, 1, self.strides, "linear", "shortcut")
            self.shortcut.build(input_shape)

    def _convolution(
        self, filters: int, kernel_size: int, strides: int, activation: Any, name: str
    ) -> ConvNormActivation:
        return ConvNormActivation(
            filters,
            kernel_size,
            activation,
            normalization=self.normalization,
            kernel_initializer=self.kernel_initializer.clone(),  # an object draws the same again
            strides=strides,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the block."""
        x = inputs
        for step in self.steps:
            x = step(x, training=training)
        if self.shortcut is not None:
            inputs = self.shortcut(inputs, training=training)
        return self.activation(x + inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with strided sides and `filters` channels."""
        for step in self.steps:
            input_shape = step.compute_output_shape(input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "strides": self.strides,
            "normalization": self.normalization,
            "bottleneck": self.bottleneck,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
