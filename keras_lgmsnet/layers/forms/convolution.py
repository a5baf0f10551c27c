"""Convolutions arranged in several ways: the same sums, in other times on other devices.

Every form takes the inputs `(batch, *sides, channels)` and the kernel `(*kernel_size, channels /
groups, filters)`; those of spaced convolutions also `strides`, the distance between outputs, and
`dilation`, that between taps. What each is good for stands in `keras_lgmsnet.layers.forms`.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.forms import (
    choose,
    form,
    jax_gradient as jax_gradient,  # which registers its forms
    torch_gradient,
    winograd,
)
from keras_lgmsnet.layers.forms.depthwise import band, overlapping_windows, pad_around, pad_axis
from keras_lgmsnet.layers.forms.recomputation import choose_recomputation

# Below so many pixels an image, XLA's own gradient of the kernel is as fast.
LEAST_PIXELS = 64**2

# Of shallower volumes Winograd's form costs more in arranging the kernel than it saves.
LEAST_DEPTH = 12

Convolve = Callable[[Any, Any], Any]


def choose_convolution(
    rank: int,
    kernel_size: int,
    channels: int,
    filters: int,
    dtype: str,
    groups: int = 1,
    strides: int = 1,
    dilation: int = 1,
) -> Convolve:
    """Return the form of a dense or grouped convolution, all groups at once."""
    case: dict[str, Any] = {
        "kernel_size": kernel_size,
        "channels": channels,
        "filters": filters,
        "dtype": dtype,
    }
    if kernel_size == 1 or strides == dilation == 1:
        form = choose("convolution" if groups == 1 else "grouped convolution", rank=rank, **case)
        return _of_every(strides, form)
    form = choose("spaced convolution", rank=rank, **case)
    convolve = functools.partial(form, strides=strides, dilation=dilation)
    if dilation == 1 or groups > 1:
        return convolve
    return functools.partial(convolve_in_reach, dilation=dilation, otherwise=convolve)


def choose_depthwise(
    rank: int, kernel_size: int, channels: int, dtype: str, strides: int = 1, dilation: int = 1
) -> Convolve:
    """Return the form of a depthwise convolution."""
    case: dict[str, Any] = {
        "kernel_size": kernel_size,
        "channels": channels,
        "filters": channels,
        "dtype": dtype,
    }
    if kernel_size == 1 or strides == dilation == 1:
        return _of_every(strides, choose("depthwise convolution", rank=rank, **case))
    form = choose("spaced depthwise convolution", rank=rank, **case)
    return functools.partial(form, strides=strides, dilation=dilation)


def _of_every(strides: int, form: Convolve) -> Convolve:
    """Return a convolution of one tap by the form for neighbouring outputs.

    A pixel between its outputs is met by none. PyTorch's own gradient of a strided one corrupts
    the memory now and then.
    """
    if strides == 1:
        return form

    def convolve_some(inputs: Any, kernel: Any) -> Any:
        every = (slice(None, None, strides),) * (inputs.ndim - 2)
        return form(inputs[(slice(None), *every)], kernel)

    return convolve_some


@form("convolution", "native")
@form("grouped convolution", "native")
@form("depthwise convolution", "native")
@form("spaced convolution", "native")
@form("spaced depthwise convolution", "native")
def convolve(inputs: Any, kernel: Any, strides: int = 1, dilation: int = 1) -> Any:
    """Convolve by the backend's own operation; the kernel's shape implies the groups."""
    if keras.backend.backend() == "torch":
        return torch_gradient.convolve(inputs, kernel, strides, dilation)
    inputs, padding = _with_padding(inputs, kernel, strides, dilation)
    return ops.conv(
        inputs,
        kernel,
        strides=strides,
        padding=padding,
        data_format="channels_last",
        dilation_rate=dilation,
    )


@form("convolution", "matrix product", kernel_sizes=(1,))
def convolve_by_matrix(inputs: Any, kernel: Any) -> Any:
    """Convolve with a dense kernel of one tap, which is a product of two matrices.

    XLA computes the kernel's gradient in a third of the time so.
    """
    shape = ops.shape(inputs)
    pixels = ops.reshape(inputs, (-1, shape[-1]))
    outputs = ops.matmul(pixels, ops.reshape(kernel, kernel.shape[-2:]))
    return ops.reshape(outputs, (*shape[:-1], kernel.shape[-1]))


@form("convolution", "gradient by taps", backends=("jax",), ranks=(2,))
def convolve_with_gradient_by_taps(inputs: Any, kernel: Any) -> Any:
    """Convolve images, whose kernel's gradient is a matrix product for each tap.

    XLA's own is a convolution whose kernel is as large as the image. Measured on two cores, 3 × 3
    taps, milliseconds for both gradients: 256² × 64 channels 830 and 392, 128² × 128 446 and 247,
    64² × 256 243 and 196, 32² × 512 237 and 240: of smaller images XLA's own is taken. Forward-mode
    derivatives (`jax.jvp`) are not defined.
    """
    if not _pays(inputs.shape[1:3]):
        return convolve(inputs, kernel)
    import jax

    # JAX would give the gradient the arguments of `convolve` that are left at their defaults, too.
    convolve_by_taps = jax.custom_vjp(lambda inputs, kernel: convolve(inputs, kernel))
    convolve_by_taps.defvjp(
        lambda inputs, kernel: (convolve(inputs, kernel), (inputs, kernel)), _gradients_by_taps
    )
    return convolve_by_taps(inputs, kernel)


def _pays(sides: tuple[Any, ...]) -> bool:
    """Say whether images are large enough; sides may be symbols where a program is exported."""
    return all(isinstance(side, int) for side in sides) and math.prod(sides) >= LEAST_PIXELS


def _gradients_by_taps(kept: tuple[Any, Any], upstream: Any) -> tuple[Any, Any]:
    """Return the gradients of the inputs and of the kernel."""
    import jax

    inputs, kernel = kept
    _, height, width, channels = inputs.shape
    rows, columns = kernel.shape[:2]
    of_inputs = convolve(upstream, ops.swapaxes(kernel[::-1, ::-1], -1, -2))
    padded = pad_around(inputs, kernel, 1)
    pixels = ops.reshape(upstream, (-1, upstream.shape[-1]))
    of_taps = [
        jax.lax.dot_general(
            ops.reshape(padded[:, row : row + height, column : column + width], (-1, channels)),
            pixels,
            (((0,), (0,)), ((), ())),
            preferred_element_type="float32",
        )
        for row in range(rows)
        for column in range(columns)
    ]
    of_kernel = ops.reshape(ops.stack(of_taps), kernel.shape)
    return of_inputs, ops.cast(of_kernel, kernel.dtype)


@form("convolution", "stacked", ranks=(3,), made=True)
def stacked_form() -> Convolve:
    """Return the form that convolves stacked slices."""
    return choose_recomputation(3)(convolve_stacked)


def convolve_stacked(inputs: Any, kernel: Any) -> Any:
    """Convolve, dense in 3D, as one 2D convolution of every slice.

    The channels of a slice are its own and those of its neighbours.
    """
    _, depth, height, width, channels = ops.shape(inputs)
    taps, filters = kernel.shape[0], kernel.shape[-1]
    padded = pad_axis(inputs, 1, taps // 2, taps // 2)
    slices = ops.concatenate([padded[:, tap : tap + depth] for tap in range(taps)], axis=-1)
    slices = ops.reshape(slices, (-1, height, width, taps * channels))
    kernel = ops.reshape(
        ops.transpose(kernel, (1, 2, 0, 3, 4)), (taps, taps, taps * channels, filters)
    )
    convolve_2d = choose_convolution(2, taps, taps * channels, filters, _dtype(inputs))
    return ops.reshape(convolve_2d(slices, kernel), (-1, depth, height, width, filters))


@form("convolution", "by taps", ranks=(3,), made=True)
def dense_by_taps_form() -> Convolve:
    """Return the form that adds up a 2D convolution for each tap along the depth."""
    return choose_recomputation(3)(convolve_dense_by_taps)


def convolve_dense_by_taps(inputs: Any, kernel: Any) -> Any:
    """Convolve, dense in 3D, as a sum of 2D convolutions of all slices: one a tap along the depth.

    No tensor has more channels than the inputs or the outputs.
    """
    _, depth, height, width, channels = ops.shape(inputs)
    taps, filters = kernel.shape[0], kernel.shape[-1]
    convolve_2d = choose_convolution(2, taps, channels, filters, _dtype(inputs))
    padded = pad_axis(inputs, 1, taps // 2, taps // 2)
    total = 0
    for tap in range(taps):
        images = ops.reshape(padded[:, tap : tap + depth], (-1, height, width, channels))
        total = total + convolve_2d(images, kernel[tap])
    return ops.reshape(total, (-1, depth, height, width, filters))


@form("convolution", "by Winograd", ranks=(3,), kernel_sizes=(winograd.TAPS,), made=True)
def winograd_form() -> Convolve:
    """Return the form that filters along the depth by Winograd's algorithm."""
    return choose_recomputation(3)(convolve_by_winograd)


def convolve_by_winograd(inputs: Any, kernel: Any) -> Any:
    """Convolve, dense in 3D, by half as many 2D convolutions as by taps.

    Rounding errors are at most 1.2e-5 of the outputs' standard deviation where those of sums are
    4e-6, of 64³ × 64 channels, which float32 allows and half precision does not.
    """
    depth, channels = inputs.shape[1], inputs.shape[-1]
    if not isinstance(depth, int) or depth < LEAST_DEPTH:
        return convolve_dense_by_taps(inputs, kernel)
    convolve_2d = choose_convolution(2, winograd.TAPS, channels, kernel.shape[-1], _dtype(inputs))
    return winograd.convolve_along_depth(inputs, kernel, convolve_2d)


@form("convolution", "native where large", ranks=(3,))
@form("grouped convolution", "native where large", ranks=(3,))
@form("depthwise convolution", "native where large", ranks=(3,))
def convolve_where_large(inputs: Any, kernel: Any) -> Any:
    """Convolve natively, in float32 where the volume may be smaller than the kernel.

    There oneDNN, the CPU kernels of TensorFlow and PyTorch, leaves some of the kernel's gradient
    in bfloat16 unwritten: whatever the memory held before, wrong numbers or NaN. On PyTorch it was
    seen of volumes shallower than the kernel, and of those whose width half a kernel of 7 or 9
    exceeds, never of strides or dilation.
    """
    sides = zip(inputs.shape[1:-1], kernel.shape, strict=False)
    if all(side is not None and side >= taps for side, taps in sides):
        return convolve(inputs, kernel)
    outputs = convolve(ops.cast(inputs, "float32"), ops.cast(kernel, "float32"))
    return ops.cast(outputs, inputs.dtype)


def convolve_in_reach(inputs: Any, kernel: Any, dilation: int, otherwise: Convolve) -> Any:
    """Convolve by a matrix product a tap where taps meet few pixels, else by another form.

    DeepLabV3's taps lie 12 to 36 pixels apart, often on a map that is narrower: all but the middle
    one meet zeros there. Measured on two cores, 2 × 8² × 640 to 256 channels, 3 × 3 taps 12 apart,
    milliseconds with the gradient: PyTorch 127 and 19, JAX 56 and 3, TensorFlow 1715 and 26.
    """
    sides = inputs.shape[1:-1]
    if not all(isinstance(side, int) for side in sides):  # known to the graph only
        return otherwise(inputs, kernel)
    # Along each axis the taps that meet pixels, and how far from an output these lie.
    taps_and_shifts = [
        [
            (tap, dilation * (tap - taps // 2))
            for tap in range(taps)
            if dilation * abs(tap - taps // 2) < side
        ]
        for side, taps in zip(sides, kernel.shape[:-2], strict=True)
    ]
    met = math.prod(
        sum(side - abs(shift) for _, shift in axis)
        for side, axis in zip(sides, taps_and_shifts, strict=True)
    )
    if 2 * met > math.prod(sides) * math.prod(kernel.shape[:-2]):
        return otherwise(inputs, kernel)
    total = 0
    for axes in itertools.product(*taps_and_shifts):
        tap, shifts = zip(*axes, strict=True)
        window = tuple(
            slice(max(shift, 0), side + min(shift, 0))
            for shift, side in zip(shifts, sides, strict=True)
        )
        product = convolve_by_matrix(inputs[(slice(None), *window)], kernel[tap])
        zeros = [(max(-shift, 0), max(shift, 0)) for shift in shifts]
        total = total + ops.pad(product, [(0, 0), *zeros, (0, 0)])
    return total


@form("grouped convolution", "apart")
def convolve_apart(inputs: Any, kernel: Any) -> Any:
    """Convolve each group by a dense convolution of its own.

    Many groups of few channels and one filter each are convolved by their first channels, their
    second ones and so on, each time depthwise.
    """
    taps, *_, channels, filters = kernel.shape
    groups = inputs.shape[-1] // channels
    rank = inputs.ndim - 2
    if groups == filters >= channels:
        convolve = choose_depthwise(rank, taps, groups, _dtype(inputs))
        return sum(
            convolve(inputs[..., place::channels], kernel[..., place : place + 1, :])
            for place in range(channels)
        )
    convolve = choose_convolution(rank, taps, channels, filters // groups, _dtype(inputs))
    outputs = [
        convolve(group_inputs, group_kernel)
        for group_inputs, group_kernel in zip(
            ops.split(inputs, groups, axis=-1), ops.split(kernel, groups, axis=-1), strict=True
        )
    ]
    return ops.concatenate(outputs, axis=-1)


@form("depthwise convolution", "native 2D", ranks=(2,))
@form("spaced depthwise convolution", "native 2D", ranks=(2,))
def convolve_depthwise(inputs: Any, kernel: Any, strides: int = 1, dilation: int = 1) -> Any:
    """Convolve, depthwise in 2D, by Keras's own operation."""
    inputs, padding = _with_padding(inputs, kernel, strides, dilation)
    return ops.depthwise_conv(
        inputs,
        ops.swapaxes(kernel, -1, -2),
        strides=strides,
        padding=padding,
        data_format="channels_last",
        dilation_rate=dilation,
    )


@form("depthwise convolution", "by taps", ranks=(3,))
def convolve_by_taps(inputs: Any, kernel: Any) -> Any:
    """Convolve, depthwise in 3D, as a sum of 2D convolutions: one a tap along the depth.

    The slices lie on the batch axis.
    """
    _, depth, height, width, channels = ops.shape(inputs)
    taps = kernel.shape[0]
    padded = pad_axis(inputs, 1, taps // 2, taps // 2)
    total = 0
    for tap in range(taps):
        images = ops.reshape(padded[:, tap : tap + depth], (-1, height, width, channels))
        total = total + convolve_depthwise(images, kernel[tap])
    return ops.reshape(total, (-1, depth, height, width, channels))


@form("spaced depthwise convolution", "on sub-grids", ranks=(2,))
def convolve_sub_grids(inputs: Any, kernel: Any, strides: int = 1, dilation: int = 1) -> Any:
    """Convolve, depthwise in 2D, each of the grids of pixels that lie as far apart as the taps.

    On such a grid the taps are neighbours, so that no form for spaced ones is needed.
    """
    if dilation == 1:
        return convolve(inputs, kernel, strides)
    batch, height, width, channels = ops.shape(inputs)
    rows, columns = -(-height // dilation), -(-width // dilation)
    missing = (dilation * rows - height, dilation * columns - width)
    grids = ops.pad(inputs, ((0, 0), *((0, number) for number in missing), (0, 0)))
    grids = ops.reshape(grids, (batch, rows, dilation, columns, dilation, channels))
    grids = ops.reshape(ops.transpose(grids, (0, 2, 4, 1, 3, 5)), (-1, rows, columns, channels))
    convolve_grids = choose_depthwise(2, kernel.shape[0], channels, _dtype(inputs))
    grids = convolve_grids(grids, kernel)
    grids = ops.reshape(grids, (batch, dilation, dilation, rows, columns, channels))
    outputs = ops.transpose(grids, (0, 3, 1, 4, 2, 5))
    outputs = ops.reshape(outputs, (batch, dilation * rows, dilation * columns, channels))
    return outputs[:, :height, :width]


@form("depthwise convolution", "banded", ranks=(3,), made=True)
def banded_form() -> Convolve:
    """Return the form that convolves blocks of slices."""
    return choose_recomputation(3)(convolve_banded)


def convolve_banded(inputs: Any, kernel: Any) -> Any:
    """Convolve, depthwise in 3D, as one dense 2D convolution a channel, of blocks of slices.

    The channels of that convolution are the slices of a block.
    Out of `block + taps - 1` input slices the convolution computes `block` output slices; its
    kernel is banded, each output slice seeing its own `taps` input slices. This multiplies by
    some zeros, and turns a memory-bound loop over few channels into dense matrix products.
    """
    batch, depth, height, width, channels = ops.shape(inputs)
    taps = kernel.shape[0]
    block = _block_slices(inputs.shape[1], taps)
    windows = overlapping_windows(inputs, 1, block, taps)
    number = ops.shape(windows)[1]
    windows = ops.reshape(windows, (-1, block + taps - 1, height, width, channels))
    windows = ops.transpose(windows, (0, 2, 3, 1, 4))
    joins = band(block, taps, kernel.dtype)
    kernels = ops.einsum("tio,thwc->hwioc", joins, kernel[:, :, :, 0])
    outputs = [
        convolve(windows[..., channel], kernels[..., channel]) for channel in range(channels)
    ]
    outputs = ops.transpose(ops.stack(outputs, axis=-1), (0, 3, 1, 2, 4))
    outputs = ops.reshape(outputs, (batch, number * block, height, width, channels))
    return outputs[:, :depth]


def _block_slices(depth: int | None, taps: int) -> int:
    """Return about 16 slices a block, evened out over a known depth, at least the overlap."""
    if depth is None:
        return max(16, taps - 1)
    return max(-(-depth // -(-depth // 16)), taps - 1)


def _with_padding(inputs: Any, kernel: Any, strides: int, dilation: int) -> tuple[Any, str]:
    """Return the inputs and the padding that Keras is to add."""
    if strides == 1:  # where "same" is as much on every side
        return inputs, "same"
    return pad_around(inputs, kernel, dilation), "valid"


def _dtype(inputs: Any) -> str:
    return keras.backend.standardize_dtype(inputs.dtype)
