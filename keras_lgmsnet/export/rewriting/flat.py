"""Layers in two dimensions, of images and of volumes slice by slice, as LiteRT computes them best.

Each function adds to a functional Keras model: it takes `Features` and weights as NumPy arrays, and
returns the features that stock layers and operations make of them. Tensors have four axes at most,
and every operation has a LiteRT builtin. `keras_lgmsnet.export.deployment` says what is gained.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, ops

from keras_lgmsnet.export.rewriting.folding import Affine, fold_after
from keras_lgmsnet.layers.base import NEGATIVE_SLOPE, leaky_relu

# Floats in the widest vector registers there are; on shorter ones a multiple is as good.
LANES = 16
# Output slices that one banded convolution of a volume computes, and pixels along the width.
BAND = (4, 4)
# Attention weights of one head, beyond which the heads are computed one after the other.
WEIGHTS_IN_CACHE = 256**2


@dataclasses.dataclass(frozen=True)
class Features:
    """Images, or the slices of volumes as images, and perhaps a batch norm yet to be applied.

    Args:
        images: Shape `(batch, height, width, channels)`; of volumes `(batch * depth, height, width,
            channels)`.
        depth: How many slices make a volume; `None` of images.
        pending: What is yet to be applied to the images, and may be folded into the layer that
            comes next; `None` for nothing.
    """

    images: KerasTensor
    depth: int | None
    pending: Affine | None = None

    @classmethod
    def from_input(cls, inputs: KerasTensor) -> "Features":
        """Return a network's input, images or volumes, in this form."""
        if len(inputs.shape) == 4:
            return cls(inputs, None)
        _, depth, *slice_shape = inputs.shape
        return cls(ops.reshape(inputs, (-1, *slice_shape)), depth)

    def to_output(self) -> KerasTensor:
        """Return the images, or the volumes that the slices make."""
        if self.depth is None:
            return self.settled()
        return ops.reshape(self.settled(), (-1, self.depth, *self.images.shape[1:]))

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[1:3]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.images.shape[-1]

    def settled(self) -> KerasTensor:
        """Return the images, to which nothing may be yet to be applied."""
        if self.pending is not None:
            raise ValueError("A norm is yet to be applied here: settle the features first.")
        return self.images

    def replace(self, images: KerasTensor) -> "Features":
        """Return other images, or slices of volumes, to which nothing is yet to be applied."""
        return Features(images, self.depth)


# === Maps by channel ===


def defer(x: Features, affine: Affine) -> Features:
    """Note a map as `pending`.

    A pointwise convolution that comes next folds it into its kernel, at no cost; before anything
    else, `settle` applies it.
    """
    pending = affine if x.pending is None else affine.after(x.pending)
    return dataclasses.replace(x, pending=pending)


def settle(x: Features, name: str) -> Features:
    """Apply what is pending, if anything.

    A convolution with a border cannot fold it: beyond the border is 0, not the offset.
    """
    if x.pending is None:
        return x
    return depthwise_2d(x, x.pending.scale.reshape(1, 1, -1, 1), x.pending.offset, name)


# === Activations ===


# Those of Keras, and ours, that map each value by itself, however the values are arranged.
_ELEMENTWISE = tuple(
    keras.activations.get(name)
    for name in (
        *("linear", "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish"),
        *("sigmoid", "hard_sigmoid", "hard_silu", "log_sigmoid", "tanh", "hard_tanh"),
        *("tanh_shrink", "exponential", "softplus", "softsign", "squareplus", "hard_shrink"),
        "soft_shrink",
    )
)


def is_elementwise(activation: Any) -> bool:
    """Say whether an activation is known to map each value by itself."""
    return any(activation is known for known in (*_ELEMENTWISE, leaky_relu))


def activate(images: KerasTensor, activation: Any) -> KerasTensor:
    """Apply an activation that maps each value by itself; `"gelu"` is the exact one."""
    if activation is keras.activations.linear:
        return images
    if activation is leaky_relu:  # which would need this package wherever the result is loaded
        return keras.layers.LeakyReLU(NEGATIVE_SLOPE, dtype="float32")(images)
    return keras.layers.Activation(activation, dtype="float32")(images)


# === Attention ===


def attend(query: KerasTensor, key: KerasTensor, value: KerasTensor) -> KerasTensor:
    """Return softmax(QKᵀ)V of `(batch, heads, tokens, features)`, the queries scaled already."""
    parts = (query, key, value)
    if query.shape[2] * key.shape[2] <= WEIGHTS_IN_CACHE:
        return _attention(*parts)
    heads = zip(*(ops.split(part, query.shape[1], axis=1) for part in parts), strict=True)
    return join([_attention(*head) for head in heads], axis=1)


def _attention(query: KerasTensor, key: KerasTensor, value: KerasTensor) -> KerasTensor:
    if key.shape[2] == 1:  # all attend to a token alone; Keras would warn of the softmax
        return value if query.shape[2] == 1 else ops.repeat(value, query.shape[2], axis=2)
    weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))))
    return ops.matmul(weights, value)


# === Convolutions ===


def convolve(
    x: Features,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    name: str,
    strides: int = 1,
    dilation: int = 1,
) -> Features:
    """Apply a dense convolution of odd sizes; of volumes, slice by slice, neighbours joined."""
    if math.prod(kernel.shape[:-2]) == 1:
        return pointwise(thin(x, strides), kernel, bias, name)
    images, depth = x.settled(), x.depth
    if depth is not None:
        taps, *sizes, _, filters = kernel.shape
        images = join(_slices_by_tap(x, taps, strides, dilation), axis=-1)
        images = ops.reshape(images, (-1, *x.sides, images.shape[-1]))
        kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(*sizes, -1, filters)
        depth = -(-depth // strides)
    images, padding = _with_padding(images, kernel, strides)
    images = conv_2d(images, kernel, bias, name, (strides, strides), padding, dilation)
    return Features(images, depth)


def thin(x: Features, strides: int) -> Features:
    """Keep one pixel of so many along every axis."""
    if strides == 1:
        return x
    images, depth = x.images[:, ::strides, ::strides], x.depth
    if depth is not None:
        sides = images.shape[1:3]
        volumes = ops.reshape(images, (-1, depth, math.prod(sides), x.channels))
        images = ops.reshape(volumes[:, ::strides], (-1, *sides, x.channels))
        depth = -(-depth // strides)
    return Features(images, depth, x.pending)


def _slices_by_tap(x: Features, taps: int, strides: int, dilation: int) -> list[KerasTensor]:
    """Return for each tap along the depth the slices it meets, `(batch, depth, pixels, channels)`.

    Beyond the volume they are zeros.
    """
    assert x.depth is not None
    reach = dilation * (taps // 2)
    padded = pad_depth(x, reach, reach)
    starts = range(0, dilation * taps, dilation)
    return [padded[:, start : start + x.depth : strides] for start in starts]


def _with_padding(images: KerasTensor, kernel: np.ndarray, strides: int) -> tuple[KerasTensor, str]:
    """Return the images and the padding that a layer of Keras is to add.

    Its "same" puts as much on every side where nothing is strided only.
    """
    if strides == 1:
        return images, "same"
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    return ops.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0))), "valid"


def pointwise(x: Features, kernel: np.ndarray, bias: np.ndarray | None, name: str) -> Features:
    """Apply a convolution of one tap, with what is pending folded in."""
    kernel = kernel.reshape(kernel.shape[-2:])
    if x.pending is not None:
        kernel, bias = fold_after(x.pending, kernel, bias)
    return x.replace(conv_2d(x.images, kernel[None, None], bias, name))


def depthwise(
    x: Features,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    name: str,
    activation: str | None = None,
    strides: int = 1,
    dilation: int = 1,
) -> Features:
    """Apply a depthwise convolution with a kernel `(*taps, 1, channels)`."""
    kernel = np.swapaxes(kernel, -1, -2)
    if x.depth is None:
        return depthwise_2d(x, kernel, bias, name, activation, strides, dilation)
    taps = kernel.shape[0]
    if strides == dilation == 1 and x.channels <= (LANES if taps > 3 else 4):
        y = _depthwise_banded(x, kernel[..., 0], bias, name)
    else:
        depth = -(-x.depth // strides)
        parts = []
        for tap, part in enumerate(_slices_by_tap(x, taps, strides, dilation)):
            images = Features(ops.reshape(part, (-1, *x.sides, x.channels)), depth)
            tap_bias, tap_name = bias if tap == 0 else None, f"{name}-tap_{tap}"
            y = depthwise_2d(
                images, kernel[tap], tap_bias, tap_name, strides=strides, dilation=dilation
            )
            parts.append(y.images)
        y = y.replace(sum(parts[1:], parts[0]))
    return y if activation is None else y.replace(activate(y.images, activation))


def run_length(x: Features, channels: int) -> int:
    """Return how many neighbouring pixels `depthwise_by_runs` is to compute at once.

    They fill a vector register with so many channels of the features, and divide a row. It is 1
    where that form does not pay: of volumes, and where two pixels do not fit into a register.

    A row has two runs at least: of one run of a single channel, oneDNN (TensorFlow's and
    PyTorch's kernels on the CPU) computes wrong values.
    """
    if x.depth is not None or 2 * channels > LANES:
        return 1
    return math.gcd(2 ** int(math.log2(LANES // channels)), x.sides[1] // 2)


def depthwise_by_runs(
    x: Features, kernel: np.ndarray, bias: np.ndarray, name: str, run: int
) -> Features:
    """Apply a depthwise convolution, and leave `run` pixels side by side on the channels.

    It is a dense convolution with that stride along the width, zeros in its kernel.
    """
    height, width, _, channels = kernel.shape
    dense = np.zeros((height, width + run - 1, channels, run, channels), kernel.dtype)
    for pixel in range(run):
        for channel in range(channels):
            dense[:, pixel : pixel + width, channel, pixel, channel] = kernel[:, :, 0, channel]
    dense = dense.reshape(*dense.shape[:3], run * channels)
    return x.replace(conv_2d(x.images, dense, np.tile(bias, run), name, strides=(1, run)))


def _depthwise_banded(
    x: Features, kernel: np.ndarray, bias: np.ndarray | None, name: str
) -> Features:
    """Apply it to volumes as a 2D convolution per channel, with slices on its channels.

    From `band + taps - 1` input slices it computes `band` output slices, and a run of pixels.
    """
    assert x.depth is not None
    taps, channels = kernel.shape[0], x.channels
    band = math.gcd(BAND[0], x.depth)
    run = math.gcd(BAND[1], x.sides[1])
    pixels = math.prod(x.sides)
    bands = x.depth // band
    further = -(-(taps - 1) // band)  # bands that a band sees beyond itself
    padded = pad_depth(x, taps // 2, further * band - taps // 2)
    padded = ops.reshape(padded, (-1, band, pixels * channels))
    padded = ops.reshape(
        ops.transpose(padded, (0, 2, 1)), (-1, bands + further, pixels * channels, band)
    )
    windows = join([padded[:, first : first + bands] for first in range(further + 1)], axis=-1)
    windows = ops.reshape(windows, (-1, pixels, channels, (further + 1) * band))

    outputs = []
    for channel in range(channels):
        dense = np.zeros((taps, taps + run - 1, (further + 1) * band, run, band), kernel.dtype)
        for pixel in range(run):
            for slice_ in range(band):
                dense[:, pixel : pixel + taps, slice_ : slice_ + taps, pixel, slice_] = kernel[
                    ..., channel
                ].transpose(1, 2, 0)
        dense = dense.reshape(*dense.shape[:3], run * band)
        channel_bias = None if bias is None else np.full(run * band, bias[channel])
        images = ops.reshape(windows[:, :, channel : channel + 1], (-1, *x.sides, dense.shape[2]))
        images = conv_2d(images, dense, channel_bias, f"{name}-{channel}", strides=(1, run))
        outputs.append(ops.reshape(images, (-1, pixels, 1, band)))
    slices = ops.transpose(join(outputs, axis=2), (0, 3, 1, 2))
    return x.replace(ops.reshape(slices, (-1, *x.sides, channels)))


def depthwise_2d(
    x: Features,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    name: str,
    activation: str | None = None,
    strides: int = 1,
    dilation: int = 1,
    padding: str = "same",
) -> Features:
    """Apply a depthwise convolution with a kernel `(height, width, channels, 1)` to every image."""
    images = x.images
    if padding == "same":
        images, padding = _with_padding(images, kernel, strides)
    layer = keras.layers.DepthwiseConv2D(
        kernel.shape[:2],
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        use_bias=bias is not None,
        activation=activation,
        depthwise_initializer="zeros",
        dtype="float32",
        name=name,
    )
    return x.replace(_call_with(layer, images, kernel, bias))


def conv_2d(
    images: KerasTensor,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    name: str,
    strides: tuple[int, int] = (1, 1),
    padding: str = "same",
    dilation: int = 1,
) -> KerasTensor:
    """Apply a dense convolution with a kernel `(height, width, channels, filters)` to images."""
    layer = keras.layers.Conv2D(
        kernel.shape[-1],
        kernel.shape[:2],
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        use_bias=bias is not None,
        kernel_initializer="zeros",  # random numbers, soon overwritten, would take JAX seconds
        dtype="float32",
        name=name,
    )
    return _call_with(layer, images, kernel, bias)


def _call_with(
    layer: keras.layers.Layer, images: KerasTensor, kernel: np.ndarray, bias: np.ndarray | None
) -> KerasTensor:
    outputs = layer(images)
    layer.set_weights([weight for weight in (kernel, bias) if weight is not None])
    return outputs


# === Rearrangements ===


def concatenate(parts: list[Features]) -> Features:
    """Concatenate features along their channels."""
    return parts[0].replace(join([part.settled() for part in parts], axis=-1))


def join(parts: list[KerasTensor], axis: int) -> KerasTensor:
    """Concatenate tensors; LiteRT's fast kernel takes five at most."""
    while len(parts) > 1:
        parts = [
            ops.concatenate(some, axis=axis) if len(some) > 1 else some[0]
            for some in (parts[start : start + 4] for start in range(0, len(parts), 4))
        ]
    return parts[0]


def pad(x: Features, widths: Sequence[tuple[int, int]]) -> Features:
    """Put zeros before and after every axis in space."""
    images, depth = x.settled(), x.depth
    if depth is not None:
        volumes = pad_depth(x, *widths[0])
        images = ops.reshape(volumes, (-1, *x.images.shape[1:]))
        depth = volumes.shape[1]
    return Features(ops.pad(images, ((0, 0), *widths[-2:], (0, 0))), depth)


def pad_depth(x: Features, before: int, after: int) -> KerasTensor:
    """Return volumes `(batch, before + depth + after, height * width, channels)`, zeros around."""
    volumes = ops.reshape(x.images, (-1, x.depth, math.prod(x.sides), x.channels))
    return ops.pad(volumes, ((0, 0), (before, after), (0, 0), (0, 0)))
