"""How single layers are rewritten: a rule for each type, all exact.

A rule takes a layer and the values that it reads, images or volumes of known sides in floating
point, and returns the value that the layer makes of them in inference. Where the layer is set up in
a way that the rule does not know, it returns `None`, and the layer itself is called.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.export.rewriting import attention, blocks, flat, norms, resampling, scans
from keras_lgmsnet.export.rewriting.flat import Features
from keras_lgmsnet.export.rewriting.folding import (
    Affine,
    fold_before,
    kernel_and_bias,
    to_affine,
    to_array,
)
from keras_lgmsnet.export.rewriting.values import Value, convolve
from keras_lgmsnet.layers import (
    AtrousPyramidPooling,
    AxialShift,
    ChannelwiseFeedForward,
    ConvNormActivation,
    CubicUpsampling,
    DepthwiseConv,
    DepthwiseResidual,
    FusionBlock,
    GhostBatchNormalization,
    GlobalResponseNormalization,
    GMSBlock,
    GroupedConv,
    GroupNormalization,
    LayerScale,
    LinearUpsampling,
    LMSBlock,
    MaxPooling,
    MultiHeadAttention,
    NearestUpsampling,
    ParallelDepthwiseConv,
    PatchEmbedding,
    PatchExpansion,
    PatchMerging,
    PositionEmbedding,
    ResidualBlock,
    SparseTransformer,
    SqueezeExcitation,
    StandardizedConv,
    ThreeOrderMamba,
    TransposedConv,
    TransposedDepthwiseConv,
    TransposedPointwiseConv,
    WindowAttention,
)
from keras_lgmsnet.layers.normalization import BatchNormalization

Rule = Callable[..., Value | None]


# === Convolutions ===


def _grouped_conv(layer: GroupedConv, value: Value) -> Value | None:
    kernel, bias = kernel_and_bias(layer)
    if isinstance(layer, StandardizedConv):
        kernel = to_array(layer.standardized())
    return _convolution(
        layer,
        value,
        kernel,
        bias,
        groups=layer.groups,
        strides=layer.strides,
        dilation=layer.dilation,
    )


def _depthwise_conv(layer: DepthwiseConv, value: Value) -> Value | None:
    return _convolution(
        layer,
        value,
        *kernel_and_bias(layer),
        groups=value.features.channels,
        strides=layer.strides,
        dilation=layer.dilation,
    )


def _parallel_depthwise_conv(layer: ParallelDepthwiseConv, value: Value) -> Value | None:
    kernel, bias = map(to_array, layer.merged())
    return _convolution(layer, value, kernel, bias, groups=value.features.channels)


def _dense(layer: keras.layers.Dense, value: Value) -> Value | None:
    if not _has_own_weights_only(layer):
        return None
    kernel, bias = kernel_and_bias(layer)
    kernel = kernel.reshape((1,) * (len(value.tensor.shape) - 2) + kernel.shape)
    return _convolution(layer, value, kernel, bias)


def _keras_conv(layer: Any, value: Value) -> Value | None:
    """Apply `Conv2D` or `Conv3D`."""
    sizes = set(layer.kernel_size)
    if (
        {*layer.strides, *layer.dilation_rate} != {1}
        or any(size % 2 == 0 for size in sizes)
        or (layer.padding != "same" and sizes != {1})
        or (layer.groups > 1 and len(sizes) > 1)
        or not _has_own_weights_only(layer)
    ):
        return _copied(layer, value, lambda kernel, scale: kernel * scale)
    return _convolution(layer, value, *kernel_and_bias(layer), groups=layer.groups)


def _keras_depthwise_conv(layer: keras.layers.DepthwiseConv2D, value: Value) -> Value | None:
    return _copied(layer, value, lambda kernel, scale: kernel * scale.reshape(kernel.shape[-2:]))


def _keras_transposed_conv(layer: Any, value: Value) -> Value | None:
    """Apply `Conv2DTranspose` or `Conv3DTranspose`."""
    if (
        {*layer.strides, *layer.kernel_size} != {2}
        or layer.output_padding is not None
        or not _has_own_weights_only(layer)
    ):
        return _copied(layer, value, lambda kernel, scale: kernel * scale[:, None])
    return _doubled_by_matrices(layer, value)


def _transposed_depthwise_conv(layer: TransposedDepthwiseConv, value: Value) -> Value:
    kernel, bias = to_array(layer.kernel), to_array(layer.bias)
    x = resampling.convolve_transposed(value.settled, kernel, bias, layer.name)
    return Value(layer.name, x)


def _transposed_pointwise_conv(layer: TransposedPointwiseConv, value: Value) -> Value | None:
    kernel, bias = np.swapaxes(to_array(layer.kernel), -1, -2), to_array(layer.bias)
    if layer.strides == 1:
        return _convolution(layer, value, kernel, bias)
    x = flat.pointwise(value.features, kernel, None, layer.name)
    return Value(layer.name, resampling.spread(x, layer.strides, bias))


def _convolution(
    layer: Any,
    value: Value,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    groups: int = 1,
    strides: int = 1,
    dilation: int = 1,
) -> Value | None:
    def call(kernel: np.ndarray, bias: np.ndarray | None, activation: Any) -> Features:
        return convolve(value, kernel, bias, layer.name, groups, activation, strides, dilation)

    return _foldable(layer, call, kernel, bias)


def _doubled_by_matrices(layer: Any, value: Value) -> Value | None:
    def call(kernel: np.ndarray, bias: np.ndarray | None, activation: Any) -> Features:
        return resampling.double_by_matrices(value.features, kernel, bias, layer.name, activation)

    kernel, bias = kernel_and_bias(layer)
    return _foldable(layer, call, np.swapaxes(kernel, -1, -2), bias)


def _foldable(
    layer: Any, call: Callable[..., Features], kernel: np.ndarray, bias: np.ndarray | None
) -> Value | None:
    """Call a convolution that a norm after it can be folded into, if no activation is between.

    Args:
        layer: The layer, of which ours have no activation.
        call: Convolves, given a kernel, whose last axis is the filters', a bias and an activation.
        kernel: The layer's.
        bias: The layer's.
    """
    activation = getattr(layer, "activation", keras.activations.linear)
    if not flat.is_elementwise(activation):
        return None

    def refold(affine: Affine) -> Features:
        return call(*fold_before(affine, kernel, bias), activation)

    is_linear = activation is keras.activations.linear
    outputs = call(kernel, bias, activation)
    return Value(layer.name, outputs, refold=refold if is_linear else None)


def _copied(
    layer: Any, value: Value, multiply: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Value | None:
    """Apply a copy of a layer of Keras, into which a batch norm can be folded.

    Args:
        layer: A convolution.
        value: What it is applied to.
        multiply: From its kernel and factors by output channel to the kernel times the factors.
    """
    if not _has_own_weights_only(layer):
        return None

    def call(kernel: np.ndarray, bias: np.ndarray | None) -> keras.KerasTensor:
        changes = {"dtype": "float32", "use_bias": bias is not None}
        copy = type(layer).from_config(layer.get_config() | changes)
        outputs = copy(value.tensor)
        copy.set_weights([weight for weight in (kernel, bias) if weight is not None])
        return outputs

    def refold(affine: Affine) -> Features:
        _, offset = fold_before(affine, np.zeros(1), bias)
        return Features.from_input(call(multiply(kernel, affine.scale), offset))

    kernel, bias = kernel_and_bias(layer)
    outputs = call(kernel, bias)
    is_linear = layer.activation is keras.activations.linear
    return Value(
        layer.name, Features.from_input(outputs), outputs, refold=refold if is_linear else None
    )


def _has_own_weights_only(layer: Any) -> bool:
    """Say whether a layer of Keras has kernel and bias, and is neither quantized nor adapted."""
    return len(layer.weights) == 1 + layer.use_bias and layer.quantization_mode is None


# === Norms ===


def _batch_normalization(layer: keras.layers.BatchNormalization, value: Value) -> Value | None:
    return _mapped(layer, value, to_affine(layer)) if _is_last_axis(layer.axis, value) else None


def _layer_scale(layer: LayerScale, value: Value) -> Value:
    scale = to_array(layer.gamma)
    return _mapped(layer, value, Affine(scale, np.zeros_like(scale)))


def _mapped(layer: Any, value: Value, affine: Affine) -> Value:
    """Apply a map that is a layer, in the convolution before it or, if it can be, in the next."""
    refold = value.refold
    if refold is None:
        return Value(layer.name, flat.defer(value.features, affine))
    return Value(layer.name, refold(affine), refold=lambda next_: refold(next_.after(affine)))


def _group_normalization(layer: Any, value: Value) -> Value | None:
    """Apply ours or Keras's."""
    if not _is_last_axis(getattr(layer, "axis", -1), value):
        return None
    x = value.settled
    groups = x.channels if layer.groups == -1 else layer.groups
    gamma, beta = (
        None if weight is None else to_array(weight) for weight in (layer.gamma, layer.beta)
    )
    return Value(layer.name, x.replace(norms.normalize(x, groups, layer.epsilon, gamma, beta)))


def _layer_normalization(layer: keras.layers.LayerNormalization, value: Value) -> Value | None:
    axes = keras.tree.flatten(layer.axis)
    if len(axes) > 1 or not _is_last_axis(axes[0], value):
        return None
    x = value.settled
    normalized = x.replace(norms.normalize_pixels(x.images, layer.epsilon))
    scale = np.ones(x.channels) if layer.gamma is None else to_array(layer.gamma)
    offset = np.zeros(x.channels) if layer.beta is None else to_array(layer.beta)
    return Value(layer.name, flat.defer(normalized, Affine(scale, offset)))


def _global_response_normalization(layer: GlobalResponseNormalization, value: Value) -> Value:
    x = value.settled
    images = norms.by_image(x)
    responses = ops.sqrt(norms.over_pixels(ops.sum, ops.square(images)))
    relative = responses / (ops.mean(responses, axis=-1, keepdims=True) + layer.epsilon)
    gamma, beta = (to_array(weight).reshape(-1) for weight in (layer.gamma, layer.beta))
    outputs = images * (relative * gamma.astype("float32") + 1)
    scaled = x.replace(norms.by_slice(outputs, x))
    return Value(layer.name, flat.defer(scaled, Affine(np.ones_like(beta), beta)))


def _position_embedding(layer: PositionEmbedding, value: Value) -> Value:
    x = value.settled
    images = norms.by_image(x)
    table = to_array(layer.table).reshape(1, *images.shape[1:]).astype("float32")
    return Value(layer.name, x.replace(norms.by_slice(images + table, x)))


def _is_last_axis(axis: int, value: Value) -> bool:
    return axis in (-1, len(value.tensor.shape) - 1)


# === Rearrangements ===


def _max_pooling(layer: MaxPooling, value: Value) -> Value:
    return Value(layer.name, resampling.halve(value.settled, layer.kernel_size))


def _keras_max_pooling_3d(layer: keras.layers.MaxPooling3D, value: Value) -> Value | None:
    sides = value.tensor.shape[1:-1]
    if {*layer.pool_size, *layer.strides} != {2} or any(side % 2 for side in sides):
        return None
    return Value(layer.name, resampling.halve(value.settled))


def _interpolation(layer: LinearUpsampling | CubicUpsampling, value: Value) -> Value:
    images = resampling.interpolate(
        value.settled, layer.kind, layer.factor, layer.align_corners, layer.name
    )
    return Value(layer.name, images)


def _keras_upsampling(layer: Any, value: Value) -> Value | None:
    """Apply `UpSampling2D` or `UpSampling3D`."""
    if set(layer.size) != {2} or getattr(layer, "interpolation", "nearest") != "nearest":
        return None
    return _repeated(layer, value)


def _repeated(layer: Any, value: Value) -> Value:
    return Value(layer.name, resampling.repeat(value.settled), repeated=value.settled)


def _concatenate(layer: keras.layers.Concatenate, *values: Value) -> Value | None:
    if not _is_last_axis(layer.axis, values[0]):
        return None
    parts = [value.settled for value in values]
    return Value(layer.name, flat.concatenate(parts), parts=parts)


def _zero_padding(layer: Any, value: Value) -> Value:
    """Apply `ZeroPadding2D` or `ZeroPadding3D`."""
    return Value(layer.name, flat.pad(value.settled, layer.padding))


def _axial_shift(layer: AxialShift, value: Value) -> Value:
    return Value(layer.name, Features.from_input(layer.call(value.tensor)))


def _nothing(layer: keras.layers.Layer, value: Value) -> Value:
    """Apply a layer that does something in training only."""
    return Value(layer.name, value.settled, value.tensor, value.parts)


# By exact type: a class that inherits from one of these may compute something else.
RULES: dict[type, Rule] = {
    ConvNormActivation: blocks.conv_norm_activation,
    LMSBlock: blocks.lms_block,
    GMSBlock: blocks.gms_block,
    FusionBlock: blocks.fusion_block,
    AtrousPyramidPooling: blocks.atrous_pyramid_pooling,
    ResidualBlock: blocks.residual_block,
    MultiHeadAttention: blocks.multi_head_attention,
    SparseTransformer: blocks.sparse_transformer,
    SqueezeExcitation: blocks.squeeze_excitation,
    ChannelwiseFeedForward: blocks.channelwise_feed_forward,
    DepthwiseResidual: blocks.depthwise_residual,
    WindowAttention: attention.window_attention,
    PatchEmbedding: attention.patch_embedding,
    PatchMerging: attention.patch_merging,
    PatchExpansion: attention.patch_expansion,
    ThreeOrderMamba: scans.three_order_mamba,
    GroupedConv: _grouped_conv,
    StandardizedConv: _grouped_conv,
    DepthwiseConv: _depthwise_conv,
    ParallelDepthwiseConv: _parallel_depthwise_conv,
    TransposedConv: _doubled_by_matrices,
    TransposedDepthwiseConv: _transposed_depthwise_conv,
    TransposedPointwiseConv: _transposed_pointwise_conv,
    keras.layers.Dense: _dense,
    keras.layers.Conv2D: _keras_conv,
    keras.layers.Conv3D: _keras_conv,
    keras.layers.DepthwiseConv2D: _keras_depthwise_conv,
    keras.layers.Conv2DTranspose: _keras_transposed_conv,
    keras.layers.Conv3DTranspose: _keras_transposed_conv,
    BatchNormalization: _batch_normalization,
    GhostBatchNormalization: _batch_normalization,
    keras.layers.BatchNormalization: _batch_normalization,
    GroupNormalization: _group_normalization,
    keras.layers.GroupNormalization: _group_normalization,
    keras.layers.LayerNormalization: _layer_normalization,
    GlobalResponseNormalization: _global_response_normalization,
    LayerScale: _layer_scale,
    PositionEmbedding: _position_embedding,
    AxialShift: _axial_shift,
    MaxPooling: _max_pooling,
    keras.layers.MaxPooling3D: _keras_max_pooling_3d,
    LinearUpsampling: _interpolation,
    CubicUpsampling: _interpolation,
    NearestUpsampling: _repeated,
    keras.layers.UpSampling2D: _keras_upsampling,
    keras.layers.UpSampling3D: _keras_upsampling,
    keras.layers.Concatenate: _concatenate,
    keras.layers.ZeroPadding2D: _zero_padding,
    keras.layers.ZeroPadding3D: _zero_padding,
    keras.layers.Dropout: _nothing,
    keras.layers.SpatialDropout2D: _nothing,
    keras.layers.SpatialDropout3D: _nothing,
    keras.layers.GaussianNoise: _nothing,
    keras.layers.GaussianDropout: _nothing,
}
