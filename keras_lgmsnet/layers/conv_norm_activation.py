"""Convolution, normalization and activation in one layer."""

from typing import Any

import keras

from keras_lgmsnet.layers.base import SpatialLayer, get_activation
from keras_lgmsnet.layers.convolution import GroupedConv
from keras_lgmsnet.layers.forms.recomputation import choose_recomputation
from keras_lgmsnet.layers.normalization import normalization_layer


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ConvNormActivation(SpatialLayer):
    """Convolution, normalization, activation: the network's elementary step.

    Args:
        filters: Output channels.
        kernel_size: Odd width of the kernel along every axis.
        activation: Name of a Keras activation, or a callable.
        use_bias: Whether the convolution has a bias.
        normalization: `"batch"`, `"instance"`, or `None` for the published choice: batch
            normalization in 2D, instance normalization in 3D.
        bias_initializer: Name of a Keras initializer, or an object of one; `FanInUniform()` goes by
            the kernel's fan-in.
        kernel_initializer: The same for the kernel; by default `FanInUniform()`.
        strides: The distance between neighbouring outputs, along every axis.
        dilation: The distance between neighbouring taps of the kernel, along every axis.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is out of range.

    Example:
    >>> ConvNormActivation(16, 3)(keras.ops.ones((1, 32, 32, 3))).shape
    (1, 32, 32, 16)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        activation: Any = "silu",
        use_bias: bool = False,
        normalization: str | None = None,
        bias_initializer: Any = "zeros",
        kernel_initializer: Any = None,
        strides: int = 1,
        dilation: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.convolution = GroupedConv(
            filters,
            kernel_size,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            kernel_initializer=kernel_initializer,
            strides=strides,
            dilation=dilation,
            dtype=self.dtype_policy,
            name="convolution",
        )
        self.activation = get_activation(activation)
        self.normalization = normalization
        normalization_layer(normalization, rank=2)  # an unknown name is refused here already

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the convolution's weights and the normalization of the input's rank."""
        super().build(input_shape)
        self.convolution.build(input_shape)
        self.norm = normalization_layer(
            self.normalization, self.rank, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build(self.compute_output_shape(input_shape))
        self._recomputed = choose_recomputation(self.rank, self.norm)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Convolve, normalize, activate."""

        def normalize(x: Any) -> Any:
            return self.activation(self.norm(x, training=training))

        return self._recomputed(normalize)(self.convolution(inputs))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with strided sides and `filters` channels."""
        return self.convolution.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.convolution.filters,
            "kernel_size": self.convolution.kernel_size,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.convolution.use_bias,
            "normalization": self.normalization,
            "bias_initializer": keras.initializers.serialize(self.convolution.bias_initializer),
            "kernel_initializer": keras.initializers.serialize(self.convolution.kernel_initializer),
            "strides": self.convolution.strides,
            "dilation": self.convolution.dilation,
        }
