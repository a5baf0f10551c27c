"""Halving and multiplying the sides of images and volumes, in two dimensions as `flat` is."""

import itertools
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, ops

from keras_lgmsnet.export.rewriting import flat
from keras_lgmsnet.export.rewriting.flat import Features
from keras_lgmsnet.layers.forms.interpolation import interpolation_matrix
from keras_lgmsnet.layers.transposed import TAPS


def halve(x: Features, kernel_size: int = 2) -> Features:
    """Apply max pooling of every second pixel and those around it, see `MaxPooling`."""
    images = _halve_images(x.settled(), kernel_size, axes=(1, 2))
    if x.depth is None:
        return x.replace(images)
    _, height, width, channels = images.shape
    images = ops.reshape(images, (-1, x.depth, height * width, channels))
    images = _halve_images(images, kernel_size, axes=(1,))
    return Features(ops.reshape(images, (-1, height, width, channels)), x.depth // 2)


def _halve_images(images: KerasTensor, kernel_size: int, axes: tuple[int, ...]) -> KerasTensor:
    for axis in axes:
        # The border again, which changes no maximum, nor the range of int8 as -∞ would.
        images = _repeat_border(images, axis, (kernel_size - 1) // 2)
    sizes, strides = (
        [number if axis in axes else 1 for axis in (1, 2)] for number in (kernel_size, 2)
    )
    return keras.layers.MaxPooling2D(sizes, strides, dtype="float32")(images)


def _repeat_border(images: KerasTensor, axis: int, reach: int) -> KerasTensor:
    """Put the first pixels along an axis before it, and the last ones after it."""
    if reach == 0:
        return images
    before = (slice(None),) * axis
    first, last = images[(*before, slice(0, 1))], images[(*before, slice(-1, None))]
    return flat.join([first] * reach + [images] + [last] * reach, axis=axis)


def interpolate(x: Features, kind: str, factor: int, align_corners: bool, name: str) -> Features:
    """Apply an interpolation, of those of `keras_lgmsnet.layers.forms.interpolation`."""
    if align_corners or (kind == "cubic" and x.depth is not None):
        return _interpolate_by_matrices(x, kind, factor, align_corners, name)
    if kind == "cubic":
        return _interpolate_by_phases(x, factor, name)
    images = _enlarge(x.images, (factor, factor))
    if x.depth is None:
        return x.replace(images)
    _, height, width, channels = images.shape
    images = ops.reshape(images, (-1, x.depth, height * width, channels))
    images = _enlarge(images, (factor, 1))
    return Features(ops.reshape(images, (-1, height, width, channels)), factor * x.depth)


def _enlarge(images: KerasTensor, factors: tuple[int, int]) -> KerasTensor:
    return keras.layers.UpSampling2D(factors, interpolation="bilinear", dtype="float32")(images)


def _interpolate_by_phases(x: Features, factor: int, name: str) -> Features:
    """Interpolate images cubically, by a depthwise convolution for each output of a pixel.

    All pixels have the same weights, since the border is repeated before.
    """
    reach = 2  # of an output, in pixels
    padded = x
    for axis in (1, 2):
        padded = padded.replace(_repeat_border(padded.settled(), axis, reach))
    # Of an axis in the middle of which no output sees the border, the outputs of the middle pixel.
    taps = interpolation_matrix(4 * reach + 1, "cubic", factor, align_corners=False)
    taps = taps.reshape(-1, factor, 4 * reach + 1)[2 * reach, :, reach : 3 * reach + 1]
    phases = []
    for row, column in itertools.product(range(factor), repeat=2):
        kernel = np.multiply.outer(taps[row], taps[column])[:, :, None, None]
        kernel = np.tile(kernel, (x.channels, 1))
        phase = flat.depthwise_2d(padded, kernel, None, f"{name}-{row}{column}", padding="valid")
        phases.append(phase.images)
    return x.replace(ops.depth_to_space(flat.join(phases, axis=-1), factor))


def _interpolate_by_matrices(
    x: Features, kind: str, factor: int, align_corners: bool, name: str
) -> Features:
    """Interpolate by a dense layer along each axis."""

    def multiply(images: KerasTensor, axis: int, step: str) -> KerasTensor:
        size = images.shape[axis]
        matrix = interpolation_matrix(size, kind, factor, align_corners).T
        order = [0, 1, 2, 3]
        order[axis], order[3] = order[3], order[axis]
        # A convolution of one tap, which every runtime has a fast kernel for.
        columns = flat.conv_2d(
            ops.transpose(images, order), matrix[None, None], None, f"{name}-{step}"
        )
        return ops.transpose(columns, order)

    images = multiply(multiply(x.settled(), 1, "height"), 2, "width")
    if x.depth is None:
        return x.replace(images)
    _, height, width, channels = images.shape
    images = ops.reshape(images, (-1, x.depth, height * width, channels))
    images = multiply(images, 1, "depth")
    return Features(ops.reshape(images, (-1, height, width, channels)), factor * x.depth)


def repeat(x: Features) -> Features:
    """Apply nearest upsampling by 2 along every axis."""
    images = ops.depth_to_space(flat.join([x.settled()] * 4, axis=-1), 2)
    if x.depth is None:
        return x.replace(images)
    return _interleave_slices(x, [images, images])


# From the three taps of a kernel to the two by which it meets the pixels before they are repeated:
# at the first repetition of a pixel, the last two taps fall on it, at the second the first two.
_TAPS = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])


def convolve_repeated(
    x: Features, kernel: np.ndarray, bias: np.ndarray | None, name: str, activation: Any
) -> Features:
    """Apply `repeat` and a 3-wide convolution, by fewer than half as many multiplications.

    Each of the 4 (8) repetitions of a pixel sees 2 × 2 (× 2) different ones, and has a kernel of
    its own for them.
    """
    if x.depth is None:
        return x.replace(_convolve_repeated_images(x.settled(), kernel, bias, name, activation))
    slices = []
    for phase, taps in enumerate(_TAPS):
        padded = flat.pad_depth(x, 1 - phase, phase)
        pairs = flat.join([padded[:, :-1], padded[:, 1:]], axis=-1)
        slices.append(
            _convolve_repeated_images(
                ops.reshape(pairs, (-1, *x.sides, 2 * x.channels)),
                np.einsum("td,dhwcf->hwtcf", taps, kernel).reshape(3, 3, -1, kernel.shape[-1]),
                bias,
                f"{name}-{phase}",
                activation,
            )
        )
    return _interleave_slices(x, slices)


def _convolve_repeated_images(
    images: KerasTensor, kernel: np.ndarray, bias: np.ndarray | None, name: str, activation: Any
) -> KerasTensor:
    outputs = []
    for row, column in itertools.product((0, 1), repeat=2):
        padded = ops.pad(images, ((0, 0), (1 - row, row), (1 - column, column), (0, 0)))
        part = np.einsum("ih,jw,hwcf->ijcf", _TAPS[row], _TAPS[column], kernel)
        output = flat.conv_2d(padded, part, bias, f"{name}-{row}{column}", padding="valid")
        outputs.append(flat.activate(output, activation))
    return ops.depth_to_space(flat.join(outputs, axis=-1), 2)


def double_by_matrices(
    x: Features, kernel: np.ndarray, bias: np.ndarray | None, name: str, activation: Any
) -> Features:
    """Apply a transposed convolution of stride 2 with a kernel `(2, 2, (2,) channels, filters)`."""
    channels, filters = kernel.shape[-2:]
    bias = None if bias is None else np.tile(bias, 4)

    def double_sides(kernel: np.ndarray, name: str) -> KerasTensor:
        matrix = kernel.reshape(4, channels, filters).transpose(1, 0, 2).reshape(channels, -1)
        images = flat.pointwise(x, matrix, bias, name).images
        return ops.depth_to_space(flat.activate(images, activation), 2)

    if x.depth is None:
        return x.replace(double_sides(kernel, name))
    slices = [double_sides(part, f"{name}-{number}") for number, part in enumerate(kernel)]
    return _interleave_slices(x, slices)


def _interleave_slices(x: Features, slices: list[KerasTensor]) -> Features:
    """Return volumes of the slices of several, one after the other."""
    assert x.depth is not None
    _, height, width, channels = slices[0].shape
    rows = [ops.reshape(images, (-1, 1, height * width, channels)) for images in slices]
    images = ops.reshape(flat.join(rows, axis=1), (-1, height, width, channels))
    return Features(images, len(slices) * x.depth)


def convolve_transposed(x: Features, kernel: np.ndarray, bias: np.ndarray, name: str) -> Features:
    """Apply a transposed depthwise convolution, see `TransposedDepthwiseConv`."""
    kernel = np.swapaxes(kernel, -1, -2)
    padded = flat.pad(x, ((0, 0), (0, 1), (0, 1)))
    if x.depth is None:
        images = _convolve_transposed_images(x, padded.images, kernel, bias, name)
        return _without_last(x.replace(images), 1)
    slices = [
        _convolve_transposed_images(x, padded.images, part, bias if tap else None, f"{name}-{tap}")
        for tap, part in enumerate(kernel)
    ]
    first, middle, last = (x.replace(images) for images in slices)
    # The slice after each, and zeros after the last one.
    later = ops.reshape(flat.pad_depth(first, 0, 1)[:, 1:], (-1, *first.images.shape[1:]))
    return _without_last(_interleave_slices(x, [middle.images, last.images + later]), 1)


def _convolve_transposed_images(
    x: Features, padded: KerasTensor, kernel: np.ndarray, bias: np.ndarray | None, name: str
) -> KerasTensor:
    """Return twice as many rows and columns, of which the last ones are not to be used."""
    height, width = x.sides
    phases = []
    for row, column in itertools.product((0, 1), repeat=2):
        part = kernel[[tap for tap, _ in TAPS[row]]][:, [tap for tap, _ in TAPS[column]]]
        seen = Features(padded[:, : height + row, : width + column], x.depth)
        phase = flat.depthwise_2d(seen, part, bias, f"{name}-{row}{column}", padding="valid")
        phases.append(phase.images)
    return ops.depth_to_space(flat.join(phases, axis=-1), 2)


def spread(x: Features, strides: int, bias: np.ndarray) -> Features:
    """Put pixels so many apart, zeros between them, and add a bias to all."""
    images = ops.pad(x.settled(), ((0, 0),) * 3 + ((0, (strides**2 - 1) * x.channels),))
    y = x.replace(ops.depth_to_space(images, strides))
    if x.depth is not None:
        y = _interleave_slices(x, [y.images, *[ops.zeros_like(y.images)] * (strides - 1)])
    y = _without_last(y, strides - 1)
    return y.replace(y.images + bias.astype("float32"))


def _without_last(x: Features, number: int) -> Features:
    """Leave out the last pixels along every axis in space."""
    images, depth = x.images[:, :-number, :-number], x.depth
    if depth is not None:
        _, height, width, channels = images.shape
        volumes = ops.reshape(images, (-1, depth, height * width, channels))
        images = ops.reshape(volumes[:, :-number], (-1, height, width, channels))
        depth -= number
    return Features(images, depth)
