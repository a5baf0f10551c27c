"""Transposed convolutions of odd kernels: inputs lie two pixels apart in what they are spread over.

Their outputs are those of PyTorch's, padded so that the first and the last pixel stay at the
border: of a side of `s` pixels become `2 * s - 1`.
"""

import itertools
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, require_positive
from keras_lgmsnet.layers.forms.convolution import choose_convolution
from keras_lgmsnet.layers.forms.recomputation import choose_recomputation
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.resampling import fold

# Along an axis, of outputs in even places and of those in odd ones: the taps that reach them, each
# with how many pixels further than the place's half the input lies that it reaches them from.
TAPS = (((1, 0),), ((2, 0), (0, 1)))


class _TransposedConvolution(SpatialLayer):
    """The kernel and the bias of a transposed convolution."""

    def __init__(
        self, strides: int, bias_initializer: Any, kernel_initializer: Any, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        require_positive(strides=strides)
        self.strides = strides
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_initializer = keras.initializers.get(kernel_initializer or FanInUniform())

    def _add_weights(self, shape: tuple[int, ...], filters: int) -> None:
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=self.kernel_initializer
        )
        initializer = self.bias_initializer
        if isinstance(initializer, FanInUniform):
            initializer = initializer.for_bias_of(shape)
        self.bias = self.add_weight(name="bias", shape=(filters,), initializer=initializer)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with the inputs `strides` pixels apart."""
        sides = (
            None if side is None else self.strides * (side - 1) + 1 for side in input_shape[1:-1]
        )
        return (input_shape[0], *sides, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class TransposedDepthwiseConv(_TransposedConvolution):
    """Transposed convolution of each channel with a kernel of its own, 3 wide, and stride 2.

    Of a side of `s` pixels it makes `2 * s - 1`: PyTorch's with a padding of 1. The outputs of each
    parity along the axes are a small convolution of their own, of one or two taps an axis.

    Args:
        bias_initializer: Name of a Keras initializer, or an object of one; `FanInUniform()` goes by
            the kernel's fan-in.
        kernel_initializer: The same for the kernel; by default `FanInUniform()`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Example:
    >>> TransposedDepthwiseConv()(keras.ops.ones((1, 16, 16, 16, 4))).shape
    (1, 31, 31, 31, 4)
    """

    def __init__(
        self, bias_initializer: Any = "zeros", kernel_initializer: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(2, bias_initializer, kernel_initializer, **kwargs)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel, `(3, 3, (3,) 1, channels)`, and the bias."""
        super().build(input_shape)
        self._add_weights((3,) * self.rank + (1, self.channels), self.channels)
        self._convolve = choose_recomputation(self.rank)(_convolve_phases)

    def call(self, inputs: Any) -> Any:
        """Convolve the input."""
        outputs = self._convolve(inputs, ops.convert_to_tensor(self.kernel))
        outputs += self.bias  # in place on PyTorch
        return outputs


def _convolve_phases(inputs: Any, kernel: Any) -> Any:
    """Return the outputs of each parity, put in their places."""
    sides = ops.shape(inputs)[1:-1]
    rank = len(sides)
    padded = ops.pad(inputs, [(0, 0), *[(0, 1)] * rank, (0, 0)])
    phases = []
    for parities in itertools.product((0, 1), repeat=rank):
        total = None
        for axes in itertools.product(*(TAPS[parity] for parity in parities)):
            taps, starts = zip(*axes, strict=True)
            window = tuple(
                slice(start, start + side) for start, side in zip(starts, sides, strict=True)
            )
            product = padded[(slice(None), *window)] * kernel[taps][0]
            if total is None:
                total = product
            else:
                total += product  # in place on PyTorch
        phases.append(total)
    return _without_last(fold(phases, rank), 1)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class TransposedPointwiseConv(_TransposedConvolution):
    """Transposed convolution of one tap, 2D or 3D: between its inputs' outputs is the bias alone.

    Of a side of `s` pixels it makes `strides * (s - 1) + 1`. Without strides it is a pointwise
    convolution, with the kernel and the initial values of a transposed one.

    Args:
        filters: Output channels.
        strides: How many pixels the inputs lie apart in the output, along every axis.
        bias_initializer: Name of a Keras initializer, or an object of one; `FanInUniform()` goes by
            what PyTorch takes for the fan-in here: `filters`.
        kernel_initializer: The same for the kernel; by default `FanInUniform()`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If `filters` or `strides` is not positive.

    Example:
    >>> TransposedPointwiseConv(8, strides=2)(keras.ops.ones((1, 16, 16, 16, 4))).shape
    (1, 31, 31, 31, 8)
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        bias_initializer: Any = "zeros",
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(strides, bias_initializer, kernel_initializer, **kwargs)
        require_positive(filters=filters)
        self.filters = filters

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel, `(1, 1, (1,) filters, channels)`, and the bias."""
        super().build(input_shape)
        self._add_weights((1,) * self.rank + (self.filters, self.channels), self.filters)
        self._form = choose_convolution(
            self.rank, 1, self.channels, self.filters, self.compute_dtype
        )

    def call(self, inputs: Any) -> Any:
        """Multiply the pixels by the matrix, and put zeros between them before the bias."""
        outputs = self._form(inputs, ops.swapaxes(ops.convert_to_tensor(self.kernel), -1, -2))
        if self.strides > 1:
            for axis in range(self.rank, 0, -1):
                outputs = self._spread(outputs, axis)
            outputs = _without_last(outputs, self.strides - 1)
        outputs += self.bias  # in place on PyTorch
        return outputs

    def _spread(self, inputs: Any, axis: int) -> Any:
        """Put zeros after each entry of an axis: joined on the next, the reshape does the rest."""
        shape = list(ops.shape(inputs))
        shape[axis] = self.strides * shape[axis]
        zeros = [ops.zeros_like(inputs)] * (self.strides - 1)
        return ops.reshape(ops.concatenate([inputs, *zeros], axis=axis + 1), shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with the inputs `strides` pixels apart, and `filters` channels."""
        return (*super().compute_output_shape(input_shape)[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters, "strides": self.strides}


def _without_last(inputs: Any, number: int) -> Any:
    """Leave out the last pixels along every axis."""
    return inputs[(slice(None), *(slice(0, -number),) * (inputs.ndim - 2))]
