"""Attention within windows, and the patches that go with it, in two dimensions as `flat` is."""

from typing import Any

import numpy as np
from keras import KerasTensor, ops

from keras_lgmsnet.export.rewriting import flat, norms
from keras_lgmsnet.export.rewriting.flat import Features
from keras_lgmsnet.export.rewriting.folding import Affine, fold_after, kernel_and_bias, to_array
from keras_lgmsnet.export.rewriting.values import Value
from keras_lgmsnet.layers import PatchEmbedding, PatchExpansion, PatchMerging, WindowAttention
from keras_lgmsnet.layers.attention.patches import spread_patches
from keras_lgmsnet.layers.attention.windows import Tiling, cut_windows


def window_attention(layer: WindowAttention, value: Value) -> Value:
    """Apply the layer; the map of a norm before it goes into its first kernel."""
    name, x = layer.name, value.features
    tiling = layer.tiling((None, *_sides(x), x.channels))
    if tiling.filled != tiling.sides:
        x = value.settled  # filled up with zeros, which the map would change
    tokens = Features(_as_images(tiling.cut(x.images)), None, x.pending)

    features = x.channels // layer.num_heads
    kernel, bias = kernel_and_bias(layer.query_key_value)
    for weight in (kernel, bias):
        if weight is not None:
            weight[..., : x.channels] *= features**-0.5
    tokens = flat.pointwise(tokens, kernel, bias, f"{name}-query_key_value")
    shape = (-1, tiling.length, 3 * layer.num_heads, features)
    heads = ops.transpose(ops.reshape(tokens.images, shape), (0, 2, 1, 3))
    query, key, value_of_keys = ops.split(heads, 3, axis=1)
    if x.depth is not None and (mask := tiling.mask_features()) is not None:
        query, key = map(_append, (query, key), mask)
    attended = _attend(query, key, value_of_keys, _added_to_scores(layer, tiling, x.depth is None))
    attended = ops.reshape(
        ops.transpose(attended, (0, 2, 1, 3)), (-1, 1, tiling.length, x.channels)
    )
    tokens = flat.pointwise(
        tokens.replace(attended), *kernel_and_bias(layer.project), f"{name}-project"
    )
    tokens = ops.reshape(tokens.images, (-1, tiling.length, x.channels))
    return Value(name, x.replace(ops.reshape(tiling.join(tokens), (-1, *x.images.shape[1:]))))


def _added_to_scores(layer: WindowAttention, tiling: Tiling, with_mask: bool) -> np.ndarray:
    """Return what is added to the scores, `(heads, length, length)`, or that of each window.

    Args:
        layer: Has the biases of positions.
        tiling: Has the mask of shifted windows.
        with_mask: Whether to add the mask. Of volumes it would be hundreds of megabytes, so that
            their queries and keys get features for it. Of images it is small, and those would leave
            an int8 file few levels for the others.
    """
    index = layer.position_index[: tiling.length, : tiling.length]
    bias = to_array(layer.position_bias).T[:, index].astype("float32")
    mask = tiling.mask() if with_mask else None
    return bias if mask is None else (bias + mask[:, None]).reshape(-1, *mask.shape[1:])


def _append(tokens: KerasTensor, features: np.ndarray) -> KerasTensor:
    """Return `(batch * windows, heads, length, features)` with more features, those of windows.

    So does the layer, but with five axes.
    """
    _, heads, length, width = tokens.shape
    number, _, more = features.shape
    added = np.zeros((number, heads * length, width + more), "float32")
    added[..., width:] = np.tile(features, (1, heads, 1))
    tokens = ops.pad(tokens, ((0, 0), (0, 0), (0, 0), (0, more)))
    windows = ops.reshape(tokens, (-1, *added.shape)) + added
    return ops.reshape(windows, (-1, heads, length, width + more))


def _attend(query: KerasTensor, key: KerasTensor, value: KerasTensor, bias: Any) -> KerasTensor:
    """Return softmax(QKᵀ + bias)V of `(windows, heads, length, features)`."""
    _, num_heads, length, _ = value.shape
    if length == 1:
        return value  # a pixel alone attends to itself; Keras would warn of the softmax
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
    if len(bias) == num_heads:
        return ops.matmul(ops.softmax(scores + bias), value)
    weights = ops.softmax(ops.reshape(scores, (-1, *bias.shape)) + bias)
    return ops.matmul(ops.reshape(weights, (-1, num_heads, length, length)), value)


def patch_embedding(layer: PatchEmbedding, value: Value) -> Value:
    """Apply the layer, to images as a convolution."""
    name, x = layer.name, value.settled
    kernel, bias = kernel_and_bias(layer)
    if x.depth is None:
        kernel = kernel.reshape(layer.size, layer.size, x.channels, -1)
        images = flat.conv_2d(x.images, kernel, bias, name, (layer.size,) * 2, "valid")
        return Value(name, x.replace(images))
    sides = _sides(x)
    patches = cut_windows(x.images, sides, (layer.size,) * len(sides), x.channels)
    depth, *smaller = (side // layer.size for side in sides)
    width = layer.size ** len(sides) * x.channels
    patches = Features(ops.reshape(patches, (-1, *smaller, width)), depth)
    return Value(name, flat.pointwise(patches, kernel.reshape(width, -1), bias, name))


def patch_merging(layer: PatchMerging, value: Value) -> Value:
    """Apply the layer; its norm's map goes into its kernel."""
    x = value.settled
    depth = None if x.depth is None else x.depth // 2
    parts = []
    for *slices, row, column in layer.places():
        part = x.images[:, row::2, column::2]
        if depth is not None:
            _, height, width, channels = part.shape
            pairs = ops.reshape(part, (-1, 2, height * width, channels))
            part = ops.reshape(pairs[:, slices[0]], (-1, height, width, channels))
        parts.append(part)
    joined = Features(flat.join(parts, axis=-1), depth)
    y = joined.replace(norms.normalize_pixels(joined.images, layer.norm.epsilon))
    affine = Affine(to_array(layer.norm.gamma), to_array(layer.norm.beta))
    kernel, bias = fold_after(affine, *kernel_and_bias(layer.reduction))
    return Value(layer.name, flat.pointwise(y, kernel, bias, layer.name))


def patch_expansion(layer: PatchExpansion, value: Value) -> Value:
    """Apply the layer; its norm's map is left pending."""
    x, name = value.features, layer.name
    y = flat.pointwise(x, *kernel_and_bias(layer.expand), name)
    patches = spread_patches(y.images, _sides(x), layer.factor)
    height, width = x.sides
    shape = (-1, layer.factor * height, layer.factor * width, layer.filters)
    images = norms.normalize_pixels(ops.reshape(patches, shape), layer.norm.epsilon)
    depth = None if x.depth is None else layer.factor * x.depth
    affine = Affine(to_array(layer.norm.gamma), to_array(layer.norm.beta))
    return Value(name, flat.defer(Features(images, depth), affine))


def _sides(x: Features) -> tuple[int, ...]:
    return x.sides if x.depth is None else (x.depth, *x.sides)


def _as_images(tokens: KerasTensor) -> KerasTensor:
    """Return sequences as images of one row."""
    return ops.reshape(tokens, (-1, 1, *tokens.shape[1:]))
