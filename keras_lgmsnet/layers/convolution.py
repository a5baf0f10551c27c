"""Convolutions with zeros around, as many on every side, in the fastest exact form on each backend.

A depthwise or grouped convolution is the same sum however it is arranged. Each layer here keeps one
kernel, `(*kernel_size, channels_in / groups, channels_out)`, and picks the arrangement when it is
built, see `keras_lgmsnet.layers.forms`.

Of `k` taps `k // 2` pixels of zeros lie on each side, as many more as the taps lie apart, whatever
the stride: so does PyTorch pad by `k // 2`, while Keras's "same" puts fewer before a strided image
than after it.
"""

from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import (
    SpatialLayer,
    float32_at_least,
    require_odd,
    require_positive,
)
from keras_lgmsnet.layers.forms.convolution import choose_convolution, choose_depthwise
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON


class _Convolution(SpatialLayer):
    """The kernel and the bias that all forms of a convolution share."""

    def __init__(
        self,
        kernel_size: int,
        use_bias: bool,
        bias_initializer: Any,
        kernel_initializer: Any,
        strides: int,
        dilation: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_odd(kernel_size=kernel_size)
        require_positive(strides=strides, dilation=dilation)
        if strides > 1 and dilation > 1:
            raise ValueError(
                "strides and dilation cannot both be more than 1. "
                f"Received: strides={strides}, dilation={dilation}"
            )
        self.kernel_size = kernel_size
        self.strides = strides
        self.dilation = dilation
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_initializer = keras.initializers.get(kernel_initializer or FanInUniform())

    def _add_weights(self, channels_per_group: int, filters: int) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size,) * self.rank + (channels_per_group, filters),
            initializer=self.kernel_initializer,
        )
        self.bias = None
        if self.use_bias:
            initializer = self.bias_initializer
            if isinstance(initializer, FanInUniform):
                initializer = initializer.for_bias_of(self.kernel.shape)
            self.bias = self.add_weight(name="bias", shape=(filters,), initializer=initializer)

    def call(self, inputs: Any) -> Any:
        """Convolve the input."""
        return self._shift(self._form(inputs, ops.convert_to_tensor(self.kernel)))

    def _shift(self, outputs: Any) -> Any:
        """Add the bias, if there is one."""
        if self.bias is None:
            return outputs
        if self.kernel_size > 1:
            return outputs + self.bias
        # On PyTorch in place: of few channels, a copy takes almost as long as the product does.
        outputs += self.bias
        return outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with sides divided by the strides and rounded up."""
        sides = (None if side is None else -(-side // self.strides) for side in input_shape[1:-1])
        return (input_shape[0], *sides, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "dilation": self.dilation,
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class GroupedConv(_Convolution):
    """2D or 3D convolution whose channels fall into independent groups.

    With `groups=1` it is the ordinary dense convolution.

    Args:
        filters: Output channels, divisible by `groups`.
        kernel_size: Odd width of the kernel along every axis.
        groups: Number of groups; it must divide the input's channels.
        use_bias: Whether to add a bias per output channel.
        bias_initializer: Name of a Keras initializer, or an object of one; `FanInUniform()` goes by
            the kernel's fan-in.
        kernel_initializer: The same for the kernel; by default `FanInUniform()`.
        strides: The distance between neighbouring outputs, along every axis.
        dilation: The distance between neighbouring taps of the kernel, along every axis.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is not positive, `kernel_size` is even, `strides` and `dilation`
            both exceed 1, or `groups` divides `filters` or the input's channels with a remainder.

    Example:
    >>> GroupedConv(8, 3, groups=2)(keras.ops.ones((1, 32, 32, 4))).shape
    (1, 32, 32, 8)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        groups: int = 1,
        use_bias: bool = True,
        bias_initializer: Any = "zeros",
        kernel_initializer: Any = None,
        strides: int = 1,
        dilation: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size,
            use_bias,
            bias_initializer,
            kernel_initializer,
            strides,
            dilation,
            **kwargs,
        )
        require_positive(filters=filters, groups=groups)
        if filters % groups:
            raise ValueError(
                f"filters must be divisible by groups. Received: filters={filters}, groups={groups}"
            )
        self.filters = filters
        self.groups = groups

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel and the bias."""
        super().build(input_shape)
        if self.channels % self.groups:
            raise ValueError(
                f"{self.name}: groups must divide the input's channels. "
                f"Received: groups={self.groups}, input_shape={tuple(input_shape)}"
            )
        self._add_weights(self.channels // self.groups, self.filters)
        self._form = choose_convolution(
            self.rank,
            self.kernel_size,
            self.channels,
            self.filters,
            self.compute_dtype,
            self.groups,
            self.strides,
            self.dilation,
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with strided sides and `filters` channels."""
        return (*super().compute_output_shape(input_shape)[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters, "groups": self.groups}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class StandardizedConv(GroupedConv):
    """Convolution with weight standardization (Qiao et al., 2019), 2D or 3D.

    What each output channel's kernel holds is brought to mean 0 and variance 1, in float32, before
    every use. Beside group normalization it does for few images what batch normalization does for
    many.

    Args:
        *args: As for `GroupedConv`.
        epsilon: Added to the variance.
        **kwargs: As for `GroupedConv`.

    Raises:
        ValueError: As `GroupedConv` does.

    Example:
    >>> StandardizedConv(8, 3)(keras.ops.ones((1, 32, 32, 4))).shape
    (1, 32, 32, 8)
    """

    def __init__(self, *args: Any, epsilon: float = EPSILON, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epsilon = epsilon

    def call(self, inputs: Any) -> Any:
        """Convolve the input by the standardized kernel."""
        kernel = ops.cast(self.standardized(), self.compute_dtype)
        return self._shift(self._form(inputs, kernel))

    def standardized(self) -> Any:
        """Return the kernel that inputs are convolved by, in float32 at least."""
        kernel = float32_at_least(ops.convert_to_tensor(self.kernel))
        axes = tuple(range(self.rank + 1))
        centred = kernel - ops.mean(kernel, axis=axes, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=axes, keepdims=True)
        return centred * ops.rsqrt(variance + self.epsilon)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class DepthwiseConv(_Convolution):
    """2D or 3D convolution of each channel with a kernel of its own.

    Args:
        kernel_size: Odd width of the kernel along every axis.
        use_bias: Whether to add a bias per channel.
        bias_initializer: Name of a Keras initializer, or an object of one; `FanInUniform()` goes by
            the kernel's fan-in.
        kernel_initializer: The same for the kernel; by default `FanInUniform()`.
        strides: The distance between neighbouring outputs, along every axis.
        dilation: The distance between neighbouring taps of the kernel, along every axis.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is not positive, `kernel_size` is even, or `strides` and
            `dilation` both exceed 1.

    Example:
    >>> DepthwiseConv(9)(keras.ops.ones((1, 48, 48, 48, 4))).shape
    (1, 48, 48, 48, 4)
    """

    def __init__(
        self,
        kernel_size: int,
        use_bias: bool = True,
        bias_initializer: Any = "zeros",
        kernel_initializer: Any = None,
        strides: int = 1,
        dilation: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size,
            use_bias,
            bias_initializer,
            kernel_initializer,
            strides,
            dilation,
            **kwargs,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel and the bias."""
        super().build(input_shape)
        self._add_weights(1, self.channels)
        self._form = choose_depthwise(
            self.rank,
            self.kernel_size,
            self.channels,
            self.compute_dtype,
            self.strides,
            self.dilation,
        )
