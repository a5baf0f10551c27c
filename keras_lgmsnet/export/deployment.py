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

Here is what belongs to LGMSNet; `keras_lgmsnet.export.flat` has the layers that it is made of.
"""

from typing import Any

import keras
import numpy as np
from keras import KerasTensor, ops

from keras_lgmsnet.export import flat
from keras_lgmsnet.export.flat import Affine, Features, to_array
from keras_lgmsnet.layers import ConvNormActivation, FusionBlock, GMSBlock, LMSBlock
from keras_lgmsnet.layers.gms import HEAD_DIM, NUM_HEADS, DepthwiseResidual, SparseTransformer
from keras_lgmsnet.layers.normalization import BatchNormalization
from keras_lgmsnet.models.lgmsnet import LGMSNet2D, LGMSNet3D


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

    def local_stage(x: Features, name: str) -> Features:
        return _conv_norm_activation(stage(name), _lms(stage(f"{name}_lms"), x, name), name)

    def up(x: Features, name: str) -> Features:
        doubled = flat.double(flat.settle(x, f"{name}_norm"))
        return _conv_norm_activation(stage(name), doubled, name)

    image = keras.Input(model.input_shape[1:], dtype="float32", name="image")
    stem = _conv_norm_activation(stage("stem"), Features.from_input(image), "stem")
    encoder1 = local_stage(stem, "encoder1")
    encoder2 = local_stage(flat.halve(encoder1), "encoder2")
    encoder3 = local_stage(flat.halve(encoder2), "encoder3")
    encoder4 = _gms(stage("encoder4"), [flat.halve(encoder3)], "encoder4")
    encoder5 = _gms(stage("encoder5"), [flat.halve(encoder4)], "encoder5")
    decoder5 = _gms(stage("decoder5"), [encoder4, up(encoder5, "up5")], "decoder5")
    decoder4 = _fusion(stage("decoder4_fusion"), [encoder3, up(decoder5, "up4")], "decoder4_fusion")
    decoder4 = _gms(stage("decoder4"), [flat.settle(decoder4, "decoder4_fusion_norm")], "decoder4")
    decoder3 = _fusion(stage("decoder3"), [encoder2, up(decoder4, "up3")], "decoder3")
    decoder2 = _fusion(stage("decoder2"), [encoder1, up(decoder3, "up2")], "decoder2")
    logits = flat.pointwise(decoder2, *flat.kernel_and_bias(stage("logits")), name="logits")
    return keras.Model(image, logits.to_output(), name=model.name)


def _conv_norm_activation(layer: ConvNormActivation, x: Features, name: str) -> Features:
    kernel, bias = flat.fold_before(layer.convolution, layer.norm)
    return _finish(layer, flat.convolve(x, kernel, bias, name))


def _finish(layer: ConvNormActivation, x: Features) -> Features:
    """Apply what of norm and activation is not in the convolution."""
    normalized = flat.normalize_unless_folded(x, layer.norm)
    return x.replace(flat.activate(normalized.images, layer.activation))


def _lms(block: LMSBlock, x: Features, name: str) -> Features:
    groups, width = len(block.depthwise), x.channels // len(block.depthwise)
    run = flat.run_length(x, width)
    scales = []
    for group, layer in enumerate(block.depthwise):
        kernel, bias = to_array(layer.kernel), to_array(layer.bias)
        kernel[tuple(taps // 2 for taps in kernel.shape[:-2])] += 1  # the residual
        part = x.replace(x.images[..., group * width : (group + 1) * width])
        part_name = f"{name}_depthwise_{group}"
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
    normalized = flat.normalize(y, groups, norm.epsilon, gamma, beta)
    y = y.replace(flat.activate(normalized, block.activation))

    squeeze = block.squeeze
    kernel, squeeze_bias = flat.fold_before(squeeze.convolution, squeeze.norm)
    filters = kernel.shape[-1]
    kernel = spread(kernel.reshape(-1, filters))  # (group, pixel, channel, filter)
    kernel = np.einsum("gpcf,pq->gpcqf", kernel, np.eye(run)).reshape(-1, run * filters)
    if squeeze_bias is not None:
        squeeze_bias = np.tile(squeeze_bias, run)
    y = flat.pointwise(y, kernel, squeeze_bias, f"{name}_squeeze")
    # A run's pixels become pixels again: before an instance norm, which counts on that, but after
    # the activation where it is all that is left to do.
    activate_runs = run > 1 and isinstance(squeeze.norm, BatchNormalization)
    if activate_runs:
        y = _finish(squeeze, y)
    y = y.replace(ops.reshape(y.images, (-1, *x.sides, filters)))
    if not activate_runs:
        y = _finish(squeeze, y)
    y = _conv_norm_activation(block.expand, y, f"{name}_expand")
    return x.replace(y.images + x.images)


def _gms(block: GMSBlock, inputs: list[Features], name: str) -> Features:
    """Apply the block to the inputs' concatenation."""
    x = flat.concatenate(inputs)
    x = _conv_norm_activation(block.local, x, f"{name}_local")
    project = block.project
    kernel, bias = flat.fold_before(project.convolution, project.norm)

    def projected(part: slice, branch_name: str) -> Features:
        part_bias = None if bias is None else bias[part]
        y = flat.pointwise(x, kernel[..., part], part_bias, f"{branch_name}_project")
        return _finish(project, y)

    # Either branch may be absent; the transformer has the first channels.
    branches, split = [], block.transformer_filters
    if block.transformer is not None:
        branch_name = f"{name}_{block.transformer.name}"
        y = projected(slice(None, split), branch_name)
        branches.append(_transformer(block.transformer, y, branch_name))
    if block.depthwise is not None:
        branch_name = f"{name}_{block.depthwise.name}"
        y = projected(slice(split, None), branch_name)
        branches.append(_depthwise_residual(block.depthwise, y, branch_name))
    y = _conv_norm_activation(block.mix, flat.concatenate(branches), f"{name}_mix")
    return _conv_norm_activation(block.merge, flat.concatenate([y, *inputs]), f"{name}_merge")


def _depthwise_residual(layer: DepthwiseResidual, x: Features, name: str) -> Features:
    kernel, bias = flat.fold_before(layer.depthwise, layer.norm)
    y = flat.depthwise(x, kernel, bias, f"{name}_depthwise", activation="relu")
    scale, offset = flat.to_affine(layer.scale_norm)
    scale = scale * to_array(layer.scale.kernel).reshape(-1)
    y = flat.settle(Features(y.images, y.depth, Affine(scale, offset)), f"{name}_scale")
    return x.replace(y.images + x.images)


def _transformer(layer: SparseTransformer, x: Features, name: str) -> Features:
    def dense(x: Features, layer: Any, norm: Any = None) -> Features:
        kernel, bias = flat.kernel_and_bias(layer)
        if layer.name == "query_key_value":
            kernel[:, : NUM_HEADS * HEAD_DIM] *= HEAD_DIM**-0.5
        if norm is not None:
            affine = Affine(to_array(norm.gamma), to_array(norm.beta))
            kernel, bias = flat.fold_after(affine, kernel, bias)
        return flat.pointwise(x, kernel, bias, f"{name}_{layer.name}")

    y = x.replace(flat.normalize_pixels(x.images))
    y = dense(y, layer.query_key_value, layer.attention_norm)
    y = dense(y.replace(_attend(y)), layer.attention_output)
    x = x.replace(x.images + y.images)
    y = x.replace(flat.normalize_pixels(x.images))
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
            attended = flat.attend(ops.transpose(sequences, (0, 2, 1, 3)), NUM_HEADS)
            attended = ops.transpose(attended, (0, 2, 1, 3))
            columns.append(ops.reshape(attended, (-1, 1, width // 2, features)))
        rows.append(flat.join(columns, axis=-1))
    return ops.reshape(flat.join(rows, axis=1), (-1, height, width, features))


def _fusion(block: FusionBlock, halves: list[Features], name: str) -> Features:
    """Apply the block to the halves' concatenation; a batch norm at its end is left pending."""
    grouped, widen, narrow = block.convolutions
    grouped_norm, widen_norm, narrow_norm = block.norms
    parts = []
    for number, half in enumerate(halves):
        part = slice(number * half.channels, (number + 1) * half.channels)
        kernel, bias = to_array(grouped.kernel)[..., part], to_array(grouped.bias)[part]
        y = flat.convolve(half, kernel, bias, f"{name}_grouped_{number}")
        parts.append(y.replace(flat.activate(y.images, "gelu")))
    x = flat.normalize_or_defer(flat.concatenate(parts), grouped_norm)
    for convolution, norm in ((widen, widen_norm), (narrow, narrow_norm)):
        x = flat.pointwise(x, *flat.kernel_and_bias(convolution), f"{name}_{convolution.name}")
        x = flat.normalize_or_defer(x.replace(flat.activate(x.images, "gelu")), norm)
    return x
