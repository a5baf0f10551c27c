"""Blocks of layers as LiteRT computes them best, made of the functions in `flat`.

What is gained (LiteRT on the CPU, one thread of a shared 2-core machine, `LGMSNet2D` at 256 × 256):

- Depthwise residuals, the affine parts of group and layer norms and the scale of the attention go
  into the kernels beside them.
- LMS: a large depthwise kernel on few channels leaves most of a vector register empty. One dense
  convolution that computes a run of neighbouring pixels at once fills it: kernel 9 on 4 channels
  takes 3.0 ms for 16.0, although it multiplies by zeros. The runs stay side by side on the channels
  until the squeeze, so that norm and activation see full registers as well.
- GMS: attention by sequence and, where the weights are large (1024 × 1024), by head, so that they
  stay in the cache: 18.0 ms for 25.2. Reshapes and splits of four axes at most lead there and back.
- Fusion: its two groups are two dense convolutions, of the skip connection and of the decoder.

Together 138 ms for 182 by the plain conversion, of which the arithmetic alone takes 96 at the rate
of XNNPACK's own dense convolutions; in int8, with attention, norms and GELU in float32, 60 ms.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, ops

from keras_lgmsnet.export.rewriting import flat, norms
from keras_lgmsnet.export.rewriting.flat import Features
from keras_lgmsnet.export.rewriting.folding import (
    Affine,
    fold_after,
    fold_before,
    fold_norm,
    kernel_and_bias,
    to_affine,
    to_array,
)
from keras_lgmsnet.export.rewriting.values import Value, convolve
from keras_lgmsnet.layers import (
    AtrousPyramidPooling,
    ChannelwiseFeedForward,
    ConvNormActivation,
    DepthwiseResidual,
    FusionBlock,
    GMSBlock,
    LMSBlock,
    MultiHeadAttention,
    ResidualBlock,
    SparseTransformer,
    SqueezeExcitation,
)
from keras_lgmsnet.layers.gms import HEAD_DIM, NUM_HEADS
from keras_lgmsnet.layers.normalization import BatchNormalization


def conv_norm_activation(layer: ConvNormActivation, value: Value) -> Value | None:
    """Apply the layer, unless its activation is an unknown one."""
    if not flat.is_elementwise(layer.activation):
        return None
    return Value(layer.name, _step(layer, value, layer.name))


def _step(layer: ConvNormActivation, value: Value, name: str) -> Features:
    kernel, bias = fold_norm(layer.convolution, layer.norm)
    spacing = {"strides": layer.convolution.strides, "dilation": layer.convolution.dilation}
    if isinstance(layer.norm, BatchNormalization):
        return convolve(value, kernel, bias, name, activation=layer.activation, **spacing)
    return _finish(layer, convolve(value, kernel, bias, name, **spacing))


def _conv_norm_activation(layer: ConvNormActivation, x: Features, name: str) -> Features:
    return _finish(layer, flat.convolve(x, *fold_norm(layer.convolution, layer.norm), name))


def _finish(layer: ConvNormActivation, x: Features) -> Features:
    """Apply what of norm and activation is not in the convolution."""
    normalized = norms.normalize_unless_folded(x, layer.norm)
    return x.replace(flat.activate(normalized.images, layer.activation))


def residual_block(block: ResidualBlock, value: Value) -> Value | None:
    """Apply the block, unless its activation is an unknown one."""
    if not flat.is_elementwise(block.activation):
        return None
    name = block.name
    step, *others = block.steps
    x = _step(step, value, f"{name}-{step.name}")
    for step in others:
        x = _step(step, Value(name, x), f"{name}-{step.name}")
    shortcut = value.settled
    if block.shortcut is not None:
        shortcut = _step(block.shortcut, value, f"{name}-shortcut")
    return Value(name, x.replace(flat.activate(x.images + shortcut.images, block.activation)))


def lms_block(block: LMSBlock, value: Value) -> Value | None:
    """Apply the block, unless its activation is an unknown one."""
    if not flat.is_elementwise(block.activation):
        return None
    name, x = block.name, value.settled
    groups, width = len(block.depthwise), x.channels // len(block.depthwise)
    run = flat.run_length(x, width)
    scales = []
    for group, layer in enumerate(block.depthwise):
        kernel, bias = to_array(layer.kernel), to_array(layer.bias)
        kernel[tuple(taps // 2 for taps in kernel.shape[:-2])] += 1  # the residual
        part = x.replace(x.images[..., group * width : (group + 1) * width])
        part_name = f"{name}-depthwise_{group}"
        if run == 1:
            part = flat.depthwise(part, kernel, bias, part_name)
        else:
            part = flat.depthwise_by_runs(part, kernel, bias, part_name, run)
        scales.append(part.images)
    y = x.replace(flat.join(scales, axis=-1))

    # The channels are now (group, pixel of the run, channel of the group).
    def spread(values: np.ndarray) -> np.ndarray:
        values = values.reshape(groups, 1, width, *values.shape[1:])
        return np.repeat(values, run, axis=1)

    norm = block.group_normalization
    gamma, beta = (spread(to_array(weight)).reshape(-1) for weight in (norm.gamma, norm.beta))
    normalized = norms.normalize(y, groups, norm.epsilon, gamma, beta)
    y = y.replace(flat.activate(normalized, block.activation))

    squeeze = block.squeeze
    kernel, squeeze_bias = fold_norm(squeeze.convolution, squeeze.norm)
    filters = kernel.shape[-1]
    kernel = spread(kernel.reshape(-1, filters))  # (group, pixel, channel, filter)
    kernel = np.einsum("gpcf,pq->gpcqf", kernel, np.eye(run)).reshape(-1, run * filters)
    if squeeze_bias is not None:
        squeeze_bias = np.tile(squeeze_bias, run)
    y = flat.pointwise(y, kernel, squeeze_bias, f"{name}-squeeze")
    # A run's pixels become pixels again: before an instance norm, which counts on that, but after
    # the activation where it is all that is left to do.
    activate_runs = run > 1 and isinstance(squeeze.norm, BatchNormalization)
    if activate_runs:
        y = _finish(squeeze, y)
    y = y.replace(ops.reshape(y.images, (-1, *x.sides, filters)))
    if not activate_runs:
        y = _finish(squeeze, y)
    y = _conv_norm_activation(block.expand, y, f"{name}-expand")
    return Value(name, x.replace(y.images + x.images))


def gms_block(block: GMSBlock, value: Value) -> Value:
    """Apply the block."""
    name = block.name
    x = _conv_norm_activation(block.local, value.settled, f"{name}-local")
    project = block.project
    kernel, bias = fold_norm(project.convolution, project.norm)

    def projected(part: slice, branch_name: str) -> Features:
        part_bias = None if bias is None else bias[part]
        y = flat.pointwise(x, kernel[..., part], part_bias, f"{branch_name}-project")
        return _finish(project, y)

    # Either branch may be absent; the transformer has the first channels.
    branches, split = [], block.transformer_filters
    if block.transformer is not None:
        branch_name = f"{name}-{block.transformer.name}"
        y = projected(slice(None, split), branch_name)
        branches.append(_transformer(block.transformer, y, branch_name))
    if block.depthwise is not None:
        branch_name = f"{name}-{block.depthwise.name}"
        y = projected(slice(split, None), branch_name)
        branches.append(_depthwise_residual(block.depthwise, y, branch_name))
    y = _conv_norm_activation(block.mix, flat.concatenate(branches), f"{name}-mix")
    merged = flat.concatenate([y, *(value.parts or [value.settled])])
    return Value(name, _conv_norm_activation(block.merge, merged, f"{name}-merge"))


def depthwise_residual(layer: DepthwiseResidual, value: Value) -> Value:
    """Apply the layer."""
    return Value(layer.name, _depthwise_residual(layer, value.settled, layer.name))


def _depthwise_residual(layer: DepthwiseResidual, x: Features, name: str) -> Features:
    kernel, bias = fold_norm(layer.depthwise, layer.norm)
    y = flat.depthwise(x, kernel, bias, f"{name}-depthwise", activation="relu")
    scale, offset = to_affine(layer.scale_norm)
    scale = scale * to_array(layer.scale.kernel).reshape(-1)
    y = flat.settle(Features(y.images, y.depth, Affine(scale, offset)), f"{name}-scale")
    return x.replace(y.images + x.images)


def squeeze_excitation(layer: SqueezeExcitation, value: Value) -> Value:
    """Apply the layer."""
    x = value.settled
    images = norms.by_image(x)
    y = Features(norms.over_pixels(ops.mean, images), None)
    for convolution, activation in ((layer.reduce, "relu"), (layer.expand, "sigmoid")):
        name = f"{layer.name}-{convolution.name}"
        y = flat.pointwise(y, *kernel_and_bias(convolution), name)
        y = y.replace(flat.activate(y.images, activation))
    return Value(layer.name, x.replace(norms.by_slice(images * y.images, x)))


def sparse_transformer(layer: SparseTransformer, value: Value) -> Value:
    """Apply the layer."""
    return Value(layer.name, _transformer(layer, value.settled, layer.name))


def _transformer(layer: SparseTransformer, x: Features, name: str) -> Features:
    def dense(x: Features, layer: Any, norm: Any = None) -> Features:
        kernel, bias = kernel_and_bias(layer)
        if layer.name == "query_key_value":
            kernel[:, : NUM_HEADS * HEAD_DIM] *= HEAD_DIM**-0.5
        if norm is not None:
            affine = Affine(to_array(norm.gamma), to_array(norm.beta))
            kernel, bias = fold_after(affine, kernel, bias)
        return flat.pointwise(x, kernel, bias, f"{name}-{layer.name}")

    y = x.replace(norms.normalize_pixels(x.images))
    y = dense(y, layer.query_key_value, layer.attention_norm)
    y = dense(y.replace(_attend(y)), layer.attention_output)
    x = x.replace(x.images + y.images)
    y = x.replace(norms.normalize_pixels(x.images))
    y = dense(y, layer.feed_forward, layer.feed_forward_norm)
    y = y.replace(flat.activate(y.images, layer.feed_forward.activation))
    y = dense(y, layer.feed_forward_output)
    return x.replace(x.images + y.images)


def _attend(x: Features) -> KerasTensor:
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
    return ops.reshape(flat.join(attended, axis=1), (-1, height, width, features))


def _attend_by_rows(images: KerasTensor, height: int, width: int, tokens: int) -> KerasTensor:
    """Attend within the four positions of slices, `tokens` to a sequence."""
    features = NUM_HEADS * HEAD_DIM
    # (batch * pairs of rows, row, pairs of columns, column and feature)
    pairs = ops.reshape(images, (-1, 2, width // 2, 2 * 3 * features))
    rows = []
    for row in ops.split(pairs, 2, axis=1):
        columns = []
        for sequences in ops.split(row, 2, axis=3):
            sequences = ops.reshape(sequences, (-1, tokens, 3 * NUM_HEADS, HEAD_DIM))
            parts = ops.split(ops.transpose(sequences, (0, 2, 1, 3)), 3, axis=1)
            attended = flat.attend(*parts)
            attended = ops.transpose(attended, (0, 2, 1, 3))
            columns.append(ops.reshape(attended, (-1, 1, width // 2, features)))
        rows.append(flat.join(columns, axis=-1))
    return ops.reshape(flat.join(rows, axis=1), (-1, height, width, features))


def multi_head_attention(
    layer: MultiHeadAttention, value: Value, source: Value | None = None
) -> Value:
    """Apply the layer; queries, keys and values of the same tokens are made at once."""
    name, channels = layer.name, layer.channels
    features = channels // layer.num_heads

    def project(value: Value, dense: list[Any], name: str, is_query: bool) -> list[KerasTensor]:
        kernels, biases = zip(*map(kernel_and_bias, dense), strict=True)
        kernel = np.concatenate(kernels, axis=-1)
        bias = np.concatenate(biases) if layer.use_bias else None
        for weight in (kernel, bias):
            if is_query and weight is not None:
                weight[..., :channels] *= features**-0.5
        images = flat.pointwise(value.features, kernel, bias, name).images
        heads = ops.reshape(images, (-1, _tokens(value), images.shape[-1] // features, features))
        return ops.split(ops.transpose(heads, (0, 2, 1, 3)), images.shape[-1] // channels, axis=1)

    if source is None:
        parts = project(value, layer.projections, f"{name}-query_key_value", True)
    else:
        parts = project(value, layer.projections[:1], f"{name}-query", True)
        parts += project(source, layer.projections[1:], f"{name}-key_value", False)
    attended = ops.transpose(flat.attend(*parts), (0, 2, 1, 3))
    x = value.features.replace(ops.reshape(attended, (-1, *value.features.sides, channels)))
    return Value(name, flat.pointwise(x, *kernel_and_bias(layer.project), f"{name}-project"))


def _tokens(value: Value) -> int:
    """Return the number of pixels of an image or a volume."""
    return math.prod(value.tensor.shape[1:-1])


def channelwise_feed_forward(layer: ChannelwiseFeedForward, value: Value) -> Value:
    """Apply the layer, with maps before and after it in its kernels."""
    name, x = layer.name, value.features
    shape = (x.channels, layer.factor)
    into, offset = (to_array(w).reshape(shape) for w in (layer.widen.kernel, layer.widen.bias))
    if x.pending is not None:
        offset = offset + into * x.pending.offset[:, None]
        into = into * x.pending.scale[:, None]
    out_of, bias = kernel_and_bias(layer.narrow)
    out_of = out_of.reshape(shape[::-1])

    def feed(affine: Affine) -> Features:
        kernels, last = fold_before(affine, out_of, bias)
        parts = []
        for place in range(layer.factor):
            part, part_name = x.replace(x.images), f"{name}-{place}"
            kernel = into[:, place].reshape(1, 1, -1, 1)
            part = flat.depthwise_2d(part, kernel, offset[:, place], f"{part_name}-widen")
            part = x.replace(flat.activate(part.images, keras.activations.gelu))
            kernel, part_bias = kernels[place].reshape(1, 1, -1, 1), None if place else last
            part = flat.depthwise_2d(part, kernel, part_bias, f"{part_name}-narrow")
            parts.append(part.images)
        return x.replace(sum(parts[1:], parts[0]))

    return Value(name, feed(Affine(np.ones(1), np.zeros(1))), refold=feed)


def fusion_block(block: FusionBlock, value: Value) -> Value:
    """Apply the block; a batch norm at its end is left pending."""
    name = block.name
    grouped, widen, narrow = block.convolutions
    grouped_norm, widen_norm, narrow_norm = block.norms
    kernel, bias = kernel_and_bias(grouped)
    x = convolve(value, kernel, bias, f"{name}-grouped", groups=2, activation="gelu")
    x = norms.normalize_or_defer(x, grouped_norm)
    for convolution, norm in ((widen, widen_norm), (narrow, narrow_norm)):
        x = flat.pointwise(x, *kernel_and_bias(convolution), f"{name}-{convolution.name}")
        x = norms.normalize_or_defer(x.replace(flat.activate(x.images, "gelu")), norm)
    return Value(name, x)


def atrous_pyramid_pooling(layer: AtrousPyramidPooling, value: Value) -> Value:
    """Apply the layer; what the mean tells is added after the projection, and never spread."""
    name, x = layer.name, value.settled
    branches = [
        _step(branch, value, f"{name}-{branch.name}")
        for branch in (layer.pointwise, *layer.dilated)
    ]
    mean = Features(norms.over_pixels(ops.mean, norms.by_image(x)), None)
    context = _conv_norm_activation(layer.context, mean, f"{name}-{layer.context.name}")
    kernel, bias = fold_norm(layer.project.convolution, layer.project.norm)
    of_branches, of_context = np.split(kernel, [-context.channels], axis=-2)
    added = flat.pointwise(context, of_context, bias, f"{name}-added").images
    y = flat.pointwise(flat.concatenate(branches), of_branches, None, f"{name}-project")
    y = y.replace(norms.by_slice(norms.by_image(y) + added, y))
    return Value(name, y.replace(flat.activate(y.images, layer.project.activation)))
