"""Convolutions of stride 1 with "same" padding, in the fastest exact form on each backend.

A depthwise or grouped convolution is the same sum however it is arranged, but no backend is fast
at all of its own arrangements on a CPU. Each layer here keeps one kernel, `(*kernel_size,
channels_in / groups, channels_out)`, and picks the arrangement when it is built. Measured on two
cores (milliseconds for the gradients): depthwise kernel 9, 2D, 8 × 256² × 4, JAX native 847, banded
91; 3D, 96³ × 4, PyTorch native 2197, banded 384, TensorFlow banded 398, by taps 1296; dense kernel
3, 3D, 96³, 32 → 16 channels, JAX native 3724, stacked 1420.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.layers import torch_gradient
from keras_lgmsnet.layers.base import SpatialLayer, require_odd, require_positive
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.jax_gradient import convolve_2d
from keras_lgmsnet.layers.recomputation import recomputed


class _Convolution(SpatialLayer):
    """The kernel and the bias that all forms of a convolution share."""

    def __init__(
        self,
        kernel_size: int,
        use_bias: bool,
        bias_initializer: Any,
        kernel_initializer: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_odd(kernel_size=kernel_size)
        self.kernel_size = kernel_size
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

    def _add_bias(self, outputs: Any) -> Any:
        return outputs if self.bias is None else outputs + self.bias

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "kernel_size": self.kernel_size,
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
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is not positive, `kernel_size` is even, or `groups` divides
            `filters` or the input's channels with a remainder.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(kernel_size, use_bias, bias_initializer, kernel_initializer, **kwargs)
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
        self._form = _fastest_dense(
            self.rank, self.kernel_size, self.groups, self.compute_dtype, self.kernel.shape
        )

    def call(self, inputs: Any) -> Any:
        """Convolve the input."""
        kernel = ops.convert_to_tensor(self.kernel)
        # PyTorch groups well; TensorFlow and JAX take up to 20 times as long as for the dense
        # convolutions that the groups are.
        if self.groups == 1 or keras.backend.backend() == "torch":
            return self._add_bias(self._form(inputs, kernel))
        outputs = [
            self._form(group_inputs, group_kernel)
            for group_inputs, group_kernel in zip(
                ops.split(inputs, self.groups, axis=-1),
                ops.split(kernel, self.groups, axis=-1),
                strict=True,
            )
        ]
        return self._add_bias(ops.concatenate(outputs, axis=-1))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape with `filters` channels."""
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters, "groups": self.groups}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class DepthwiseConv(_Convolution):
    """2D or 3D convolution of each channel with a kernel of its own.

    Args:
        kernel_size: Odd width of the kernel along every axis.
        use_bias: Whether to add a bias per channel.
        bias_initializer: Name of a Keras initializer, or an object of one; `FanInUniform()` goes by
            the kernel's fan-in.
        kernel_initializer: The same for the kernel; by default `FanInUniform()`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If `kernel_size` is not a positive odd integer.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(kernel_size, use_bias, bias_initializer, kernel_initializer, **kwargs)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel and the bias."""
        super().build(input_shape)
        self._add_weights(1, self.channels)
        self._form = _fastest_depthwise(self.rank, self.kernel_size, self.channels)

    def call(self, inputs: Any) -> Any:
        """Convolve the input."""
        return self._add_bias(self._form(inputs, ops.convert_to_tensor(self.kernel)))


def _fastest_dense(
    rank: int, kernel_size: int, groups: int, dtype: str, kernel_shape: tuple[int, ...]
) -> Any:
    """Return the fastest form of a convolution for the backend, by measurement.

    On PyTorch the form takes all groups at once, elsewhere each alone.
    """
    backend = keras.backend.backend()
    if kernel_size == 1 and (backend == "jax" or (backend == "torch" and groups == 1)):
        return _pointwise
    if backend == "torch" and rank == 2 and groups == 1 and min(kernel_shape[-2:]) >= 64:
        return torch_gradient.convolution_with_own_gradient()
    if backend == "jax":
        return convolve_2d if rank == 2 else recomputed(_stacked, rank)
    if rank == 3 and dtype == "bfloat16":
        return _native_where_deep
    return _native


def _fastest_depthwise(rank: int, kernel_size: int, channels: int) -> Any:
    """Return the fastest form of a depthwise convolution for the backend, by measurement."""
    backend = keras.backend.backend()
    if kernel_size == 1:
        return _scaled
    if backend == "torch":
        return _banded if rank == 3 and kernel_size >= 7 else _native
    if backend == "tensorflow":
        if rank == 2:
            return _native_2d
        return _by_taps if kernel_size == 3 else _banded
    if rank == 2:
        return _blocked
    # The banded form takes one convolution a channel: with many channels and few taps, shifted
    # sums that XLA fuses into one loop win, and compile sooner.
    return recomputed(_shifted if kernel_size == 3 and channels > 8 else _banded, rank)


# Every form takes the input (batch, *sides, channels) and the kernel (*kernel_size, channels_in /
# groups, channels_out).


def _native(inputs: Any, kernel: Any) -> Any:
    """Convolve by the backend's own operation; the kernel's shape implies the groups."""
    if keras.backend.backend() == "torch":
        return torch_gradient.convolve(inputs, kernel)
    return ops.conv(inputs, kernel, padding="same", data_format="channels_last")


def _pointwise(inputs: Any, kernel: Any) -> Any:
    """Convolve with a dense kernel of one tap, which is a product of two matrices.

    That is up to twice as fast, except on TensorFlow; XLA computes the kernel's gradient in a third
    of the time.
    """
    shape = ops.shape(inputs)
    pixels = ops.reshape(inputs, (-1, shape[-1]))
    outputs = ops.matmul(pixels, ops.reshape(kernel, kernel.shape[-2:]))
    return ops.reshape(outputs, (*shape[:-1], kernel.shape[-1]))


def _stacked(inputs: Any, kernel: Any) -> Any:
    """Convolve, dense in 3D, as one 2D convolution of every slice.

    The channels of a slice are its own and those of its neighbours.
    """
    _, depth, height, width, channels = ops.shape(inputs)
    taps, filters = kernel.shape[0], kernel.shape[-1]
    padded = _pad_axis(inputs, 1, taps // 2, taps // 2)
    slices = ops.concatenate([padded[:, tap : tap + depth] for tap in range(taps)], axis=-1)
    slices = ops.reshape(slices, (-1, height, width, taps * channels))
    kernel = ops.reshape(
        ops.transpose(kernel, (1, 2, 0, 3, 4)), (taps, taps, taps * channels, filters)
    )
    return ops.reshape(convolve_2d(slices, kernel), (-1, depth, height, width, filters))


def _native_where_deep(inputs: Any, kernel: Any) -> Any:
    """Convolve natively, in float32 where the volume may be shallower than the kernel.

    There oneDNN, the CPU kernels of TensorFlow and PyTorch, leaves some of the kernel's gradient
    in bfloat16 unwritten, and so now and then NaN.
    """
    depth = inputs.shape[1]
    if depth is not None and depth >= kernel.shape[0]:
        return _native(inputs, kernel)
    outputs = _native(ops.cast(inputs, "float32"), ops.cast(kernel, "float32"))
    return ops.cast(outputs, inputs.dtype)


def _scaled(inputs: Any, kernel: Any) -> Any:
    """Convolve with a depthwise kernel of one tap, which multiplies each channel by a number."""
    return inputs * ops.reshape(kernel, (-1,))


def _native_2d(inputs: Any, kernel: Any) -> Any:
    """Convolve, depthwise in 2D, by Keras's own operation."""
    return ops.depthwise_conv(
        inputs, ops.swapaxes(kernel, -1, -2), padding="same", data_format="channels_last"
    )


def _by_taps(inputs: Any, kernel: Any) -> Any:
    """Convolve, depthwise in 3D, as a sum of 2D convolutions: one a tap along the depth.

    The slices lie on the batch axis.
    """
    _, depth, height, width, channels = ops.shape(inputs)
    taps = kernel.shape[0]
    padded = _pad_axis(inputs, 1, taps // 2, taps // 2)
    total = 0
    for tap in range(taps):
        images = ops.reshape(padded[:, tap : tap + depth], (-1, height, width, channels))
        total = total + _native_2d(images, kernel[tap])
    return ops.reshape(total, (-1, depth, height, width, channels))


def _shifted(inputs: Any, kernel: Any) -> Any:
    """Convolve, depthwise, as a sum of shifted inputs: one a tap, each scaled by channel."""
    sides = ops.shape(inputs)[1:-1]
    padded = inputs
    for axis, taps in enumerate(kernel.shape[:-2]):
        padded = _pad_axis(padded, axis + 1, taps // 2, taps // 2)
    total = 0
    for tap in np.ndindex(*kernel.shape[:-2]):
        window = tuple(slice(start, start + side) for start, side in zip(tap, sides, strict=True))
        total = total + padded[(slice(None), *window)] * kernel[tap][0]
    return total


def _blocked(inputs: Any, kernel: Any) -> Any:
    """Convolve, depthwise in 2D, as one matrix product a channel.

    It leads from blocks of input pixels to blocks of 8 × 8 outputs, or more for a large kernel.
    The matrix holds the kernel once per output pixel, and zeros. All channels are one batched
    product, which XLA's CPU backend multiplies, differentiates and compiles fast.
    """
    batch, height, width, channels = ops.shape(inputs)
    taps = kernel.shape[0]
    block = max(8, taps - 1)
    windows = _windows(_windows(inputs, 2, block, taps), 1, block, taps)
    _, rows, side, columns, _, _ = ops.shape(windows)
    windows = ops.transpose(windows, (5, 0, 1, 3, 2, 4))
    windows = ops.reshape(windows, (channels, batch * rows * columns, side * side))
    band = _band(block, taps, kernel.dtype)
    matrices = ops.einsum("tio,sjp,tsc->cijop", band, band, kernel[:, :, 0])
    outputs = ops.matmul(windows, ops.reshape(matrices, (channels, side * side, block * block)))
    outputs = ops.reshape(outputs, (channels, batch, rows, columns, block, block))
    outputs = ops.transpose(outputs, (1, 2, 4, 3, 5, 0))
    outputs = ops.reshape(outputs, (batch, rows * block, columns * block, channels))
    return outputs[:, :height, :width]


def _banded(inputs: Any, kernel: Any) -> Any:
    """Convolve, depthwise in 3D, as one dense 2D convolution a channel, of blocks of slices.

    The channels of that convolution are the slices of a block.
    Out of `block + taps - 1` input slices the convolution computes `block` output slices; its
    kernel is banded, each output slice seeing its own `taps` input slices. This multiplies by
    some zeros, and turns a memory-bound loop over few channels into dense matrix products.
    """
    batch, depth, height, width, channels = ops.shape(inputs)
    taps = kernel.shape[0]
    block = _block_slices(inputs.shape[1], taps)
    windows = _windows(inputs, 1, block, taps)
    number = ops.shape(windows)[1]
    windows = ops.reshape(windows, (-1, block + taps - 1, height, width, channels))
    windows = ops.transpose(windows, (0, 2, 3, 1, 4))
    band = _band(block, taps, kernel.dtype)
    kernels = ops.einsum("tio,thwc->hwioc", band, kernel[:, :, :, 0])
    outputs = [_native(windows[..., channel], kernels[..., channel]) for channel in range(channels)]
    outputs = ops.transpose(ops.stack(outputs, axis=-1), (0, 3, 1, 2, 4))
    outputs = ops.reshape(outputs, (batch, number * block, height, width, channels))
    return outputs[:, :depth]


def _block_slices(depth: int | None, taps: int) -> int:
    """Return about 16 slices a block, evened out over a known depth, at least the overlap."""
    if depth is None:
        return max(16, taps - 1)
    return max(-(-depth // -(-depth // 16)), taps - 1)


def _windows(inputs: Any, axis: int, block: int, taps: int) -> Any:
    """Cut an axis into (blocks, `block + taps - 1`), zeros around it, neighbours overlapping."""
    shape = list(ops.shape(inputs))
    blocks = (shape[axis] + block - 1) // block
    # One block more than the outputs have, for what the last of them sees beyond itself.
    padded = _pad_axis(inputs, axis, taps // 2, 2 * block)
    before = (slice(None),) * axis
    padded = padded[(*before, slice(0, (blocks + 1) * block))]
    split = ops.reshape(padded, (*shape[:axis], blocks + 1, block, *shape[axis + 1 :]))
    own = split[(*before, slice(0, -1))]
    overlap = split[(*before, slice(1, None), slice(0, taps - 1))]
    return ops.concatenate([own, overlap], axis=axis + 1)


def _band(block: int, taps: int, dtype: str) -> Any:
    """Return 1 at (tap, input, output) where the tap joins the two, and 0 elsewhere."""
    band = np.zeros((taps, block + taps - 1, block))
    for tap in range(taps):
        band[tap, np.arange(block) + tap, np.arange(block)] = 1
    return ops.convert_to_tensor(band, dtype=dtype)


def _pad_axis(inputs: Any, axis: int, before: int, after: int) -> Any:
    """Put zeros before and after an axis."""
    width = [(0, 0)] * len(inputs.shape)
    width[axis] = (before, after)
    return ops.pad(inputs, width)
