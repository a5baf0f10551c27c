"""Norms, and means over the pixels of an image or a volume, in two dimensions as `flat` is."""

import math

import keras
import numpy as np
from keras import KerasTensor, ops

from keras_lgmsnet.export.rewriting import flat
from keras_lgmsnet.export.rewriting.flat import Features
from keras_lgmsnet.export.rewriting.folding import to_affine
from keras_lgmsnet.layers.base import over_pixels
from keras_lgmsnet.layers.normalization import EPSILON


def normalize_unless_folded(x: Features, norm: keras.layers.Layer) -> Features:
    """Apply an instance norm; a batch norm is in the convolution before it, by `fold_norm`."""
    if isinstance(norm, keras.layers.BatchNormalization):
        return x
    return x.replace(normalize(x, x.channels, norm.epsilon))


def normalize_or_defer(x: Features, norm: keras.layers.Layer) -> Features:
    """Apply an instance norm; a batch norm is only noted, as `pending`."""
    if isinstance(norm, keras.layers.BatchNormalization):
        return flat.defer(x, to_affine(norm))
    return normalize_unless_folded(x, norm)


def normalize(
    x: Features,
    groups: int,
    epsilon: float,
    gamma: np.ndarray | None = None,
    beta: np.ndarray | None = None,
) -> KerasTensor:
    """Apply group norm over all pixels of an image or a volume; a group's channels adjoin."""
    images, group = by_image(x), x.channels // groups
    is_row = 1 in images.shape[1:3]  # of which tf2onnx confuses the axes unless they are one
    if is_row:
        images = ops.reshape(images, (-1, math.prod(images.shape[1:3]), x.channels))
    average = np.kron(np.eye(groups), np.full((group, group), 1 / group)).astype("float32")

    def mean(images: KerasTensor) -> KerasTensor:
        means = over_pixels(ops.mean, images)
        return means if group == 1 else ops.matmul(means, average)

    centred = images - mean(images)
    scale = ops.rsqrt(mean(centred * centred) + epsilon)
    outputs = centred * (scale if gamma is None else scale * gamma.astype("float32"))
    if beta is not None:
        outputs = outputs + beta.astype("float32")
    return ops.reshape(outputs, (-1, *x.images.shape[1:])) if is_row else by_slice(outputs, x)


def normalize_pixels(images: KerasTensor, epsilon: float = EPSILON) -> KerasTensor:
    """Apply layer norm without scale and offset, to each pixel."""
    if 1 in images.shape[1:3]:
        # Of a row of pixels, or a single one, tf2onnx confuses the axes unless they are one.
        pixels = ops.reshape(images, (-1, images.shape[-1]))
        return ops.reshape(normalize_pixels(pixels, epsilon), (-1, *images.shape[1:]))
    centred = images - ops.mean(images, axis=-1, keepdims=True)
    variance = ops.mean(centred * centred, axis=-1, keepdims=True)
    return centred * ops.rsqrt(variance + epsilon)


def by_image(x: Features) -> KerasTensor:
    """Return the features with all pixels of an image, or of a volume, on the two middle axes."""
    if x.depth is None:
        return x.images
    return ops.reshape(x.images, (-1, x.depth, math.prod(x.sides), x.channels))


def by_slice(images: KerasTensor, x: Features) -> KerasTensor:
    """Return what `by_image` made of the features, or what was computed of it, as they are."""
    return images if x.depth is None else ops.reshape(images, (-1, *x.images.shape[1:]))
