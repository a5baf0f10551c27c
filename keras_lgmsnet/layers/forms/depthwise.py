"""Depthwise convolutions as sums of shifted inputs and as products of matrices, and their parts.

The other forms, which convolve by a backend's own operation, are in `convolution`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_lgmsnet.layers.forms import form
from keras_lgmsnet.layers.forms.recomputation import choose_recomputation


@form("depthwise convolution", "scaled", kernel_sizes=(1,))
def scale(inputs: Any, kernel: Any) -> Any:
    """Convolve with a depthwise kernel of one tap, which multiplies each channel by a number."""
    return inputs * ops.reshape(kernel, (-1,))


@form("depthwise convolution", "shifted", made=True)
def shifted_form() -> Callable[[Any, Any], Any]:
    """Return the form that sums shifted inputs."""
    return choose_recomputation(3)(sum_shifted)


@form("spaced depthwise convolution", "shifted")
def sum_shifted(inputs: Any, kernel: Any, strides: int = 1, dilation: int = 1) -> Any:
    """Convolve, depthwise, as a sum of shifted inputs: one a tap, each scaled by channel."""
    sides = ops.shape(inputs)[1:-1]
    padded = pad_around(inputs, kernel, dilation)
    total = 0
    for tap in np.ndindex(*kernel.shape[:-2]):
        window = tuple(
            slice(dilation * start, dilation * start + side, strides)
            for start, side in zip(tap, sides, strict=True)
        )
        total = total + padded[(slice(None), *window)] * kernel[tap][0]
    return total


@form("depthwise convolution", "blocked", ranks=(2,))
def convolve_blocked(inputs: Any, kernel: Any) -> Any:
    """Convolve, depthwise in 2D, as one matrix product a channel.

    It leads from blocks of input pixels to blocks of 8 × 8 outputs, or more for a large kernel.
    The matrix holds the kernel once per output pixel, and zeros. All channels are one batched
    product, which XLA's CPU backend multiplies, differentiates and compiles fast.
    """
    batch, height, width, channels = ops.shape(inputs)
    taps = kernel.shape[0]
    block = max(8, taps - 1)
    windows = overlapping_windows(overlapping_windows(inputs, 2, block, taps), 1, block, taps)
    _, rows, side, columns, _, _ = ops.shape(windows)
    windows = ops.transpose(windows, (5, 0, 1, 3, 2, 4))
    windows = ops.reshape(windows, (channels, batch * rows * columns, side * side))
    joins = band(block, taps, kernel.dtype)
    matrices = ops.einsum("tio,sjp,tsc->cijop", joins, joins, kernel[:, :, 0])
    outputs = ops.matmul(windows, ops.reshape(matrices, (channels, side * side, block * block)))
    outputs = ops.reshape(outputs, (channels, batch, rows, columns, block, block))
    outputs = ops.transpose(outputs, (1, 2, 4, 3, 5, 0))
    outputs = ops.reshape(outputs, (batch, rows * block, columns * block, channels))
    return outputs[:, :height, :width]


def overlapping_windows(inputs: Any, axis: int, block: int, taps: int) -> Any:
    """Cut an axis into (blocks, `block + taps - 1`), zeros around it, neighbours overlapping."""
    shape = list(ops.shape(inputs))
    blocks = (shape[axis] + block - 1) // block
    # One block more than the outputs have, for what the last of them sees beyond itself.
    padded = pad_axis(inputs, axis, taps // 2, 2 * block)
    before = (slice(None),) * axis
    padded = padded[(*before, slice(0, (blocks + 1) * block))]
    split = ops.reshape(padded, (*shape[:axis], blocks + 1, block, *shape[axis + 1 :]))
    own = split[(*before, slice(0, -1))]
    overlap = split[(*before, slice(1, None), slice(0, taps - 1))]
    return ops.concatenate([own, overlap], axis=axis + 1)


def band(block: int, taps: int, dtype: str) -> Any:
    """Return 1 at (tap, input, output) where the tap joins the two, and 0 elsewhere."""
    joins = np.zeros((taps, block + taps - 1, block))
    for tap in range(taps):
        joins[tap, np.arange(block) + tap, np.arange(block)] = 1
    return ops.convert_to_tensor(joins, dtype=dtype)


def pad_around(inputs: Any, kernel: Any, dilation: int) -> Any:
    """Put zeros on every side, as many as the kernel reaches beyond a pixel."""
    reaches = [dilation * (taps // 2) for taps in kernel.shape[:-2]]
    return ops.pad(inputs, [(0, 0), *((reach, reach) for reach in reaches), (0, 0)])


def pad_axis(inputs: Any, axis: int, before: int, after: int) -> Any:
    """Put zeros before and after an axis."""
    width = [(0, 0)] * len(inputs.shape)
    width[axis] = (before, after)
    return ops.pad(inputs, width)
