"""Weights as arrays, and what of neighbouring layers can be multiplied into them beforehand."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops


class Affine(NamedTuple):
    """A map `images * scale + offset`, by channel."""

    scale: np.ndarray
    offset: np.ndarray

    def after(self, first: "Affine") -> "Affine":
        """Return the map that applies `first`, then this one."""
        return Affine(first.scale * self.scale, first.offset * self.scale + self.offset)


def to_array(weight: Any) -> np.ndarray:
    """Return a weight in float64, so that folding rounds once."""
    return np.array(ops.convert_to_numpy(ops.cast(weight, "float32")), dtype="float64")


def kernel_and_bias(layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the weights of a convolution or a dense layer, which may have no bias."""
    bias = getattr(layer, "bias", None)
    return to_array(layer.kernel), None if bias is None else to_array(bias)


def to_affine(norm: keras.layers.BatchNormalization) -> Affine:
    """Return what a batch norm amounts to in inference."""
    mean, variance = to_array(norm.moving_mean), to_array(norm.moving_variance)
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * to_array(norm.gamma)
    return Affine(scale, (0 if norm.beta is None else to_array(norm.beta)) - mean * scale)


def fold_norm(
    convolution: keras.layers.Layer, norm: keras.layers.Layer
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the kernel and the bias of a convolution with the batch norm after it in them.

    Another norm depends on the image; `norms.normalize_unless_folded` applies it.
    """
    kernel, bias = kernel_and_bias(convolution)
    if not isinstance(norm, keras.layers.BatchNormalization):
        return kernel, bias
    return fold_before(to_affine(norm), kernel, bias)


def fold_before(
    affine: Affine, kernel: np.ndarray, bias: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel and the bias of a convolution with the map after it in them.

    The kernel's last axis is that of the output channels.
    """
    return kernel * affine.scale, affine.offset + (0 if bias is None else bias * affine.scale)


def fold_after(
    affine: Affine, kernel: np.ndarray, bias: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel and the bias of a pointwise convolution with the map before it in them."""
    matrix = kernel.reshape(kernel.shape[-2:])
    return affine.scale[:, None] * matrix, affine.offset @ matrix + (0 if bias is None else bias)
