"""Deploy form: the trained network rewritten, exactly, for the runtimes of phones and browsers.

`deploy` builds a second Keras model of the same function from stock layers and operations. What
it changes, and why (LiteRT on the CPU, one thread of a shared 2-core machine, 256 × 256):

- Batch norms, the depthwise residuals, the affine parts of group and layer norms and the scale
  of the attention go into the kernels beside them.
- LMS: a large depthwise kernel on few channels leaves most of a vector register empty. One dense
  convolution that computes a run of neighbouring pixels at once fills it: kernel 9 on 4 channels
  takes 3.0 ms for 16.0, although it multiplies by zeros. The runs stay side by side on the channels
  until the squeeze, so that norm and activation see full registers as well.
- GMS: attention by sequence and, where the weights are large (1024 × 1024), by head, so that they
  stay in the cache: 18.0 ms for 25.2. Reshapes and splits of four axes at most lead there and back.
- Fusion: its two groups are two dense convolutions, of the skip connection and of the decoder.
- Volumes: everything is two-dimensional, the slices on the batch axis.

Together 138 ms for 182 by the plain conversion, of which the arithmetic alone takes 96 at the rate
of XNNPACK's own dense convolutions; in int8, with attention, norms and GELU in float32, 60 ms.
"""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.layers import ConvNormActivation, FusionBlock, GMSBlock, LMSBlock
from keras_lgmsnet.layers.gms import HEAD_DIM, NUM_HEADS, DepthwiseResidual, SparseTransformer
from keras_lgmsnet.layers.normalization import EPSILON, BatchNormalization
from keras_lgmsnet.models import LGMSNet2D, LGMSNet3D

# Floats in the widest vector registers there are; on shorter ones a multiple is as good.
_LANES = 16
# Output slices that one banded convolution of a volume computes, and pixels along the width.
_BAND = (4, 4)
# Attention weights of one head, beyond which the heads are computed one after the other.
_WEIGHTS_IN_CACHE = 256**2


def deploy(model: keras.Model) -> keras.Model:
    """Return a faster network of the same function, for inference only.

    The result is a functional Keras model in float32 of stock layers and operations: it can be
    saved, loaded without this package, exported, and run on every backend. Its name, input and
    output shapes are the given model's. Inside, an image's tensors have four axes at most, and so
    do a volume's but for the input and the logits; every operation has a LiteRT builtin.

    Args:
        model: An `LGMSNet2D` or `LGMSNet3D` with known sides.

    Returns:
        A model from images `(batch, height, width, channels)` or volumes `(batch, depth, height,
        width, channels)` to logits that differ from `model`'s by float32 rounding. It is not
        compiled; training it would not be training `model`, since no norm adapts.

    Raises:
        ValueError: If `model` is another one, or a side is `None`.

    Example:
    >>> model = LGMSNet2D(input_shape=(64, 64, 3), dims=(4, 4, 4, 4, 4))
    >>> deploy(model).output_shape
    (None, 64, 64, 1)
    """
    if not isinstance(model, LGMSNet2D | LGMSNet3D):
        raise ValueError(
            f"deploy rewrites an LGMSNet2D or LGMSNet3D. Received: {type(model).__name__}"
        )
    if None in model.input_shape[1:]:
        raise ValueError(
            "deploy needs known sides: build the network with them in input_shape and copy the "
            f"weights with set_weights. Received: input_shape={model.input_shape[1:]}"
        )

    def stage(name: str) -> Any:
        return model.get_layer(name)

    def local_stage(x: "_Features", name: str) -> "_Features":
        return _conv_norm_activation(stage(name), _lms(stage(f"{name}_lms"), x, name), name)

    def up(x: "_Features", name: str) -> "_Features":
        return _conv_norm_activation(stage(name), _double(_settle(x, f"{name}_norm")), name)

    image = keras.Input(model.input_shape[1:], dtype="float32", name="image")
    stem = _conv_norm_activation(stage("stem"), _Features.of(image), "stem")
    encoder1 = local_stage(stem, "encoder1")
    encoder2 = local_stage(_halve(encoder1), "encoder2")
    encoder3 = local_stage(_halve(encoder2), "encoder3")
    encoder4 = _gms(stage("encoder4"), [_halve(encoder3)], "encoder4")
    encoder5 = _gms(stage("encoder5"), [_halve(encoder4)], "encoder5")
    decoder5 = _gms(stage("decoder5"), [encoder4, up(encoder5, "up5")], "decoder5")
    decoder4 = _fusion(stage("decoder4_fusion"), [encoder3, up(decoder5, "up4")], "decoder4_fusion")
    decoder4 = _gms(stage("decoder4"), [_settle(decoder4, "decoder4_fusion_norm")], "decoder4")
    decoder3 = _fusion(stage("decoder3"), [encoder2, up(decoder4, "up3")], "decoder3")
    decoder2 = _fusion(stage("decoder2"), [encoder1, up(decoder3, "up2")], "decoder2")
    head = stage("logits")
    logits = _pointwise(decoder2, _array(head.kernel), _array(head.bias), name="logits")
    outputs = logits.images
    if model.rank == 3:
        outputs = ops.reshape(outputs, (-1, *model.output_shape[1:]))
    return keras.Model(image, outputs, name=model.name)


@dataclasses.dataclass(frozen=True)
class _Features:
    """Images, or the slices of volumes as images: `(batch * depth, height, width, channels)`.

    Their value is `images * scale + offset` by channel where those are given: a norm that is yet
    to be applied, or to be folded into what comes next.
    """

    images: Any
    depth: int | None
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None

    @classmethod
    def of(cls, inputs: Any) -> "_Features":
        """Return the network's input in this form."""
        if len(inputs.shape) == 4:
            return cls(inputs, None)
        _, depth, *slice_shape = inputs.shape
        return cls(ops.reshape(inputs, (-1, *slice_shape)), depth)

    @property
    def sides(self) -> tuple[int, int]:
        return self.images.shape[1:3]

    @property
    def channels(self) -> int:
        return self.images.shape[-1]

    def settled(self) -> Any:
        """Return the images, of which no norm may be yet to be applied."""
        if self.scale is not None:
            raise ValueError("A norm is yet to be applied here: _settle the features first.")
        return self.images

    def replace(self, images: Any) -> "_Features":
        return _Features(images, self.depth)


# === Blocks ===


def _conv_norm_activation(layer: ConvNormActivation, x: _Features, name: str) -> _Features:
    kernel, bias = _array(layer.convolution.kernel), _array(layer.convolution.bias)
    return _finish(_convolve(x, *_fold_before(kernel, bias, layer.norm), name=name), layer, name)


def _finish(x: _Features, layer: ConvNormActivation, name: str) -> _Features:
    """Apply what of norm and activation is not in the convolution."""
    return x.replace(_activate(_normalize_unless_folded(x, layer.norm).images, layer.activation))


def _lms(block: LMSBlock, x: _Features, name: str) -> _Features:
    kernels = [_array(layer.kernel) for layer in block.depthwise]
    for kernel in kernels:  # the residual
        kernel[tuple(taps // 2 for taps in kernel.shape[:-2])] += 1
    biases = [_array(layer.bias) for layer in block.depthwise]
    groups, width = len(kernels), x.channels // len(kernels)
    # Pixels side by side on the channels.
    run = _run(width, x.sides[1]) if x.depth is None and 2 * width <= _LANES else 1
    scales = []
    for group, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        part = x.replace(x.images[..., group * width : (group + 1) * width])
        convolve = _depthwise if run == 1 else _depthwise_by_runs(run)
        scales.append(convolve(part, kernel, bias, f"{name}_depthwise_{group}").images)
    y = x.replace(_join(scales, axis=-1))

    # The channels are now (group, pixel of the run, channel of the group).
    def spread(values: np.ndarray) -> np.ndarray:
        values = values.reshape(groups, 1, width, *values.shape[1:])
        return np.repeat(values, run, axis=1)

    norm = block.group_normalization
    gamma, beta = (spread(_array(weight)).reshape(-1) for weight in (norm.gamma, norm.beta))
    y = y.replace(_activate(_normalize(y, groups, norm.epsilon, gamma, beta), block.activation))

    squeeze = block.squeeze
    kernel, bias = _fold_before(_array(squeeze.convolution.kernel), None, squeeze.norm)
    filters = kernel.shape[-1]
    kernel = spread(kernel.reshape(-1, filters))  # (group, pixel, channel, filter)
    kernel = np.einsum("gpcf,pq->gpcqf", kernel, np.eye(run)).reshape(-1, run * filters)
    bias = None if bias is None else np.tile(bias, run)
    y = _pointwise(y, kernel, bias, name=f"{name}_squeeze")
    if run > 1 and isinstance(squeeze.norm, BatchNormalization):
        y = _finish(y, squeeze, name)
        y = y.replace(ops.reshape(y.images, (-1, *x.sides, filters)))
    else:
        y = _finish(y.replace(ops.reshape(y.images, (-1, *x.sides, filters))), squeeze, name)
    y = _conv_norm_activation(block.expand, y, f"{name}_expand")
    return x.replace(y.images + x.images)


def _gms(block: GMSBlock, inputs: list[_Features], name: str) -> _Features:
    """The block of the inputs' concatenation."""
    x = _concatenate(inputs)
    x = _conv_norm_activation(block.local, x, f"{name}_local")
    project = block.project
    kernel, bias = _fold_before(_array(project.convolution.kernel), None, project.norm)
    branches = []
    split = block.transformer_filters
    for branch, layer, part in (
        (_transformer, block.transformer, slice(None, split)),
        (_depthwise_residual, block.depthwise, slice(split, None)),
    ):
        if layer is not None:
            its_bias = None if bias is None else bias[part]
            its_name = f"{name}_{layer.name}"
            y = _pointwise(x, kernel[..., part], its_bias, name=f"{its_name}_project")
            branches.append(branch(layer, _finish(y, project, name), its_name))
    y = _conv_norm_activation(block.mix, _concatenate(branches), f"{name}_mix")
    return _conv_norm_activation(block.merge, _concatenate([y, *inputs]), f"{name}_merge")


def _depthwise_residual(layer: DepthwiseResidual, x: _Features, name: str) -> _Features:
    kernel, bias = _fold_before(_array(layer.depthwise.kernel), None, layer.norm)
    y = _depthwise(x, kernel, bias, f"{name}_depthwise", activation="relu")
    scale, offset = _affine_of(layer.scale_norm)
    y = _settle(
        dataclasses.replace(y, scale=scale * _array(layer.scale.kernel).reshape(-1), offset=offset),
        f"{name}_scale",
    )
    return x.replace(y.images + x.images)


def _transformer(layer: SparseTransformer, x: _Features, name: str) -> _Features:
    def dense(inputs: _Features, dense: Any, its_name: str, norm: Any = None) -> _Features:
        kernel, bias = _array(dense.kernel), _array(dense.bias)
        if its_name == "query_key_value":
            kernel[:, : NUM_HEADS * HEAD_DIM] *= HEAD_DIM**-0.5
        if norm is not None:
            kernel, bias = _fold_after(kernel, bias, _array(norm.gamma), _array(norm.beta))
        return _pointwise(inputs, kernel, bias, name=f"{name}_{its_name}")

    y = x.replace(_normalize_pixels(x.images))
    y = dense(y, layer.query_key_value, "query_key_value", layer.attention_norm)
    y = dense(y.replace(_attend(y)), layer.attention_output, "attention_output")
    x = x.replace(x.images + y.images)
    y = x.replace(_normalize_pixels(x.images))
    y = dense(y, layer.feed_forward, "feed_forward", layer.feed_forward_norm)
    y = y.replace(_activate(y.images, layer.feed_forward.activation))
    y = dense(y, layer.feed_forward_output, "feed_forward_output")
    return x.replace(x.images + y.images)


def _fusion(block: FusionBlock, halves: list[_Features], name: str) -> _Features:
    """The block of the halves' concatenation, its last norm yet to be applied."""
    grouped, widen, narrow = block.convolutions
    parts = []
    for number, half in enumerate(halves):
        part = slice(number * half.channels, (number + 1) * half.channels)
        kernel, bias = _array(grouped.kernel)[..., part], _array(grouped.bias)[part]
        y = _convolve(half, kernel, bias, name=f"{name}_grouped_{number}")
        parts.append(y.replace(_gelu(y.images)))
    x = _concatenate(parts)
    for convolution, norm, its_name in zip(
        (widen, narrow), block.norms[:-1], ("widen", "narrow"), strict=True
    ):
        x = _pointwise(
            _after_activation(x, norm),
            _array(convolution.kernel),
            _array(convolution.bias),
            name=f"{name}_{its_name}",
        )
        x = x.replace(_gelu(x.images))
    return _after_activation(x, block.norms[-1])


# === Norms ===


def _affine_of(norm: BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and the offset that a batch norm amounts to in inference."""
    mean, variance = _array(norm.moving_mean), _array(norm.moving_variance)
    scale = _array(norm.gamma) / np.sqrt(variance + norm.epsilon)
    return scale, _array(norm.beta) - mean * scale


def _fold_before(
    kernel: np.ndarray, bias: np.ndarray | None, norm: keras.layers.Layer
) -> tuple[np.ndarray, np.ndarray | None]:
    """Fold a batch norm into the convolution before it; another norm stays where it is."""
    if not isinstance(norm, BatchNormalization):
        return kernel, bias
    scale, offset = _affine_of(norm)
    return kernel * scale, offset if bias is None else bias * scale + offset


def _fold_after(
    kernel: np.ndarray, bias: np.ndarray | None, scale: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fold an affine map into the pointwise convolution after it."""
    matrix = kernel.reshape(kernel.shape[-2:])
    return scale[:, None] * matrix, offset @ matrix + (0 if bias is None else bias)


def _normalize_unless_folded(x: _Features, norm: keras.layers.Layer) -> _Features:
    if isinstance(norm, BatchNormalization):
        return x
    return x.replace(_normalize(x, x.channels, norm.epsilon))


def _after_activation(x: _Features, norm: keras.layers.Layer) -> _Features:
    """Apply a norm, a batch norm only in the promise."""
    if not isinstance(norm, BatchNormalization):
        return _normalize_unless_folded(x, norm)
    scale, offset = _affine_of(norm)
    return dataclasses.replace(x, scale=scale, offset=offset)


def _settle(x: _Features, name: str) -> _Features:
    """Apply the scale and the offset yet to be applied.

    Before a convolution with a border they cannot be folded: beyond the border is 0, not the
    offset.
    """
    if x.scale is None:
        return x
    return _depthwise_2d(x, x.scale.reshape(1, 1, -1, 1), x.offset, name)


def _normalize(
    x: _Features,
    groups: int,
    epsilon: float,
    gamma: np.ndarray | None = None,
    beta: np.ndarray | None = None,
) -> Any:
    """Group norm over all pixels of an image or a volume; the channels of a group adjoin."""
    shape = (-1, *x.images.shape[1:])
    images = x.images
    if x.depth is not None:
        images = ops.reshape(images, (-1, x.depth, math.prod(x.sides), x.channels))
    group = x.channels // groups
    average = np.kron(np.eye(groups), np.full((group, group), 1 / group)).astype("float32")

    def mean(images: Any) -> Any:
        # One axis after the other: one sum over 256² pixels would be less exact.
        means = ops.mean(ops.mean(images, axis=2, keepdims=True), axis=1, keepdims=True)
        return means if group == 1 else ops.matmul(means, average)

    centred = images - mean(images)
    scale = ops.rsqrt(mean(centred * centred) + epsilon)
    outputs = centred * (scale if gamma is None else scale * gamma.astype("float32"))
    if beta is not None:
        outputs = outputs + beta.astype("float32")
    return outputs if x.depth is None else ops.reshape(outputs, shape)


def _normalize_pixels(images: Any) -> Any:
    """Layer norm without scale and offset."""
    centred = images - ops.mean(images, axis=-1, keepdims=True)
    variance = ops.mean(centred * centred, axis=-1, keepdims=True)
    return centred * ops.rsqrt(variance + EPSILON)


# === Attention ===


def _attend(x: _Features) -> Any:
    """Attend by head within the pixels at equal position in all 2 × 2 (× 2) patches."""
    height, width = x.sides
    features = NUM_HEADS * HEAD_DIM
    if x.depth is None:
        return _attend_by_rows(x.images, height, width, height * width // 4)
    pairs = ops.reshape(x.images, (-1, 2, height * width, 3 * features))
    tokens = x.depth * height * width // 8
    attended = [
        _attend_by_rows(pairs[:, start : start + 1], height, width, tokens) for start in (0, 1)
    ]
    attended = [ops.reshape(slices, (-1, 1, height * width, features)) for slices in attended]
    return ops.reshape(_join(attended, axis=1), (-1, height, width, features))


def _attend_by_rows(images: Any, height: int, width: int, tokens: int) -> Any:
    """Attend within the four positions of slices, `tokens` to a sequence."""
    features = NUM_HEADS * HEAD_DIM
    # (batch * pairs of rows, row, pairs of columns, column and feature)
    pairs = ops.reshape(images, (-1, 2, width // 2, 2 * 3 * features))
    rows = []
    for row in ops.split(pairs, 2, axis=1):
        columns = []
        for sequences in ops.split(row, 2, axis=3):
            sequences = ops.reshape(sequences, (-1, tokens, 3 * NUM_HEADS, HEAD_DIM))
            attended = _attend_by_heads(ops.transpose(sequences, (0, 2, 1, 3)))
            attended = ops.transpose(attended, (0, 2, 1, 3))
            columns.append(ops.reshape(attended, (-1, 1, width // 2, features)))
        rows.append(_join(columns, axis=-1))
    return ops.reshape(_join(rows, axis=1), (-1, height, width, features))


def _attend_by_heads(sequences: Any) -> Any:
    """softmax(QKᵀ)V of `(batch, [queries | keys | values] by head, tokens, features)`."""
    parts = ops.split(sequences, 3, axis=1)
    if sequences.shape[2] ** 2 <= _WEIGHTS_IN_CACHE:
        return _attention(*parts)
    heads = zip(*(ops.split(part, NUM_HEADS, axis=1) for part in parts), strict=True)
    return _join([_attention(*head) for head in heads], axis=1)


def _attention(query: Any, key: Any, value: Any) -> Any:
    """softmax(QKᵀ)V of `(batch, heads, tokens, features)`."""
    if value.shape[2] == 1:
        return value  # a token alone attends to itself; Keras would warn of the softmax
    weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))))
    return ops.matmul(weights, value)


# === Convolutions ===


def _convolve(x: _Features, kernel: np.ndarray, bias: np.ndarray | None, name: str) -> _Features:
    """A dense convolution; of volumes, of every slice with its neighbours on the channels."""
    taps = kernel.shape[0]
    if taps == 1:
        return _pointwise(x, kernel, bias, name)
    images = x.settled()
    if x.depth is not None:
        padded = _pad_depth(x, taps // 2, taps // 2)
        slices = [padded[:, tap : tap + x.depth] for tap in range(taps)]
        images = _join(slices, axis=-1)
        images = ops.reshape(images, (-1, *x.sides, images.shape[-1]))
        kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(taps, taps, -1, kernel.shape[-1])
    return x.replace(_conv_2d(images, kernel, bias, name))


def _pointwise(x: _Features, kernel: np.ndarray, bias: np.ndarray | None, name: str) -> _Features:
    """A convolution of one tap, with the norm yet to be applied folded in."""
    kernel = kernel.reshape(kernel.shape[-2:])
    if x.scale is not None:
        kernel, bias = _fold_after(kernel, bias, x.scale, x.offset)
    return x.replace(_conv_2d(x.images, kernel[None, None], bias, name))


def _depthwise(
    x: _Features,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    name: str,
    activation: str | None = None,
) -> _Features:
    """A depthwise convolution with a kernel `(*taps, 1, channels)`."""
    kernel = np.swapaxes(kernel, -1, -2)
    if x.depth is None:
        return _depthwise_2d(x, kernel, bias, name, activation)
    taps = kernel.shape[0]
    if taps > 3 or x.channels <= 4:
        y = _depthwise_banded(x, kernel[..., 0], bias, name)
    else:
        padded = _pad_depth(x, taps // 2, taps // 2)
        images = [
            ops.reshape(padded[:, tap : tap + x.depth], (-1, *x.sides, x.channels))
            for tap in range(taps)
        ]
        y = [
            _depthwise_2d(
                x.replace(part), kernel[tap], bias if tap == 0 else None, f"{name}_tap_{tap}"
            ).images
            for tap, part in enumerate(images)
        ]
        y = x.replace(sum(y[1:], y[0]))
    return y if activation is None else y.replace(_activate(y.images, activation))


def _depthwise_by_runs(run: int) -> Any:
    """Return the depthwise convolution that leaves `run` pixels side by side on the channels.

    It is a dense convolution with that stride along the width, zeros in its kernel.
    """

    def convolve(x: _Features, kernel: np.ndarray, bias: np.ndarray, name: str) -> _Features:
        height, width, _, channels = kernel.shape
        dense = np.zeros((height, width + run - 1, channels, run, channels), kernel.dtype)
        for pixel in range(run):
            for channel in range(channels):
                dense[:, pixel : pixel + width, channel, pixel, channel] = kernel[:, :, 0, channel]
        dense = dense.reshape(*dense.shape[:3], run * channels)
        return x.replace(_conv_2d(x.images, dense, np.tile(bias, run), name, strides=(1, run)))

    return convolve


def _depthwise_banded(
    x: _Features, kernel: np.ndarray, bias: np.ndarray | None, name: str
) -> _Features:
    """A depthwise convolution of volumes: a 2D convolution per channel, slices on its channels.

    From `band + taps - 1` input slices it computes `band` output slices, and a run of pixels.
    """
    taps, channels = kernel.shape[0], x.channels
    band = math.gcd(_BAND[0], x.depth)
    run = math.gcd(_BAND[1], x.sides[1])
    pixels = math.prod(x.sides)
    bands = x.depth // band
    further = -(-(taps - 1) // band)  # bands that a band sees beyond itself
    padded = _pad_depth(x, taps // 2, further * band - taps // 2)
    padded = ops.reshape(padded, (-1, band, pixels * channels))
    padded = ops.reshape(
        ops.transpose(padded, (0, 2, 1)), (-1, bands + further, pixels * channels, band)
    )
    windows = [padded[:, first : first + bands] for first in range(further + 1)]
    windows = _join(windows, axis=-1)
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
        its_bias = None if bias is None else np.full(run * band, bias[channel])
        images = ops.reshape(windows[:, :, channel : channel + 1], (-1, *x.sides, dense.shape[2]))
        images = _conv_2d(images, dense, its_bias, f"{name}_{channel}", strides=(1, run))
        outputs.append(ops.reshape(images, (-1, pixels, 1, band)))
    outputs = ops.transpose(_join(outputs, axis=2), (0, 3, 1, 2))
    return x.replace(ops.reshape(outputs, (-1, *x.sides, channels)))


def _conv_2d(
    images: Any,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    name: str,
    strides: tuple[int, int] = (1, 1),
) -> Any:
    layer = keras.layers.Conv2D(
        kernel.shape[-1],
        kernel.shape[:2],
        strides=strides,
        padding="same",
        use_bias=bias is not None,
        kernel_initializer="zeros",  # random numbers, soon overwritten, would take JAX seconds
        dtype="float32",
        name=name,
    )
    return _call_with(layer, images, kernel, bias)


def _depthwise_2d(
    x: _Features,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    name: str,
    activation: str | None = None,
) -> _Features:
    layer = keras.layers.DepthwiseConv2D(
        kernel.shape[:2],
        padding="same",
        use_bias=bias is not None,
        activation=activation,
        depthwise_initializer="zeros",
        dtype="float32",
        name=name,
    )
    return x.replace(_call_with(layer, x.images, kernel, bias))


def _call_with(
    layer: keras.layers.Layer, images: Any, kernel: np.ndarray, bias: np.ndarray | None
) -> Any:
    outputs = layer(images)
    layer.set_weights([weight for weight in (kernel, bias) if weight is not None])
    return outputs


def _run(channels: int, width: int) -> int:
    """Return how many neighbouring pixels of so many channels fill a register and divide a row.

    A row has two runs at least: of one run of a single channel, oneDNN (TensorFlow's and
    PyTorch's kernels on the CPU) computes wrong values.
    """
    return math.gcd(2 ** int(math.log2(_LANES // channels)), width // 2)


# === Rearrangements ===


def _halve(x: _Features) -> _Features:
    """Max pooling by 2 along every axis."""
    images = keras.layers.MaxPooling2D(2, dtype="float32")(x.images)
    if x.depth is None:
        return x.replace(images)
    _, height, width, channels = images.shape
    pairs = ops.reshape(images, (-1, 2, height * width, channels))
    images = keras.layers.MaxPooling2D((2, 1), dtype="float32")(pairs)
    return _Features(ops.reshape(images, (-1, height, width, channels)), x.depth // 2)


def _double(x: _Features) -> _Features:
    """Linear upsampling by 2 along every axis."""
    images = _double_images(x.images, (2, 2))
    if x.depth is None:
        return x.replace(images)
    _, height, width, channels = images.shape
    images = ops.reshape(images, (-1, x.depth, height * width, channels))
    images = _double_images(images, (2, 1))
    return _Features(ops.reshape(images, (-1, height, width, channels)), 2 * x.depth)


def _double_images(images: Any, factors: tuple[int, int]) -> Any:
    return keras.layers.UpSampling2D(factors, interpolation="bilinear", dtype="float32")(images)


def _pad_depth(x: _Features, before: int, after: int) -> Any:
    """Return `(batch, before + depth + after, height * width, channels)`, zeros around."""
    volumes = ops.reshape(x.images, (-1, x.depth, math.prod(x.sides), x.channels))
    return ops.pad(volumes, ((0, 0), (before, after), (0, 0), (0, 0)))


def _concatenate(parts: list[_Features]) -> _Features:
    return parts[0].replace(_join([part.settled() for part in parts], axis=-1))


def _join(parts: list[Any], axis: int) -> Any:
    """Concatenate; LiteRT's fast kernel takes five at most."""
    while len(parts) > 1:
        parts = [
            ops.concatenate(some, axis=axis) if len(some) > 1 else some[0]
            for some in (parts[start : start + 4] for start in range(0, len(parts), 4))
        ]
    return parts[0]


def _activate(images: Any, activation: Any) -> Any:
    return keras.layers.Activation(activation, dtype="float32")(images)


def _gelu(images: Any) -> Any:
    return _activate(images, "gelu")  # exact by default


def _array(weight: Any) -> np.ndarray | None:
    """Return a weight in float64, so that folding rounds once."""
    if weight is None:
        return None
    return np.array(ops.convert_to_numpy(ops.cast(weight, "float32")), dtype="float64")
