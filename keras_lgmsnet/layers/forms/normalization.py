"""Group and batch normalization by different operations: the same results and gradients.

Every form takes the layer, built, the inputs `(batch, *sides, channels)` and whether to train, and
returns what the layer does. Statistics are computed in float32. What each is good for stands in
`keras_lgmsnet.layers.forms`.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import float32_at_least, over_pixels
from keras_lgmsnet.layers.forms import choose, form

Normalize = Callable[[Any, Any, bool], Any]
Mean = Callable[[Any], Any]


def choose_normalization(kind: str, rank: int, dtype: str) -> Normalize:
    """Return the form of `"group"` or `"batch"` normalization."""
    return choose(f"{kind} normalization", rank=rank, dtype=dtype)


# === Both ===


def _normalize(layer: Any, inputs: Any, mean_of: Mean) -> tuple[Any, Any, Any]:
    """Normalize, scale and shift; return the outputs, and the means and variances taken.

    Nothing but the inputs is kept for the gradient, in their own dtype. It is factor · (g - mean(g)
    - y · mean(g · y)), where y are the standardized images, g is their upstream gradient, and
    `factor` is 1 / their standard deviation (Ioffe and Szegedy 2015, section 3).

    Args:
        layer: Has `gamma` and `beta`, `None` where there is none, and `epsilon`.
        inputs: Shape `(batch, *sides, channels)`.
        mean_of: Takes the means that are subtracted, of a tensor in float32.
    """
    channels = inputs.shape[-1]

    @ops.custom_gradient
    def normalize(inputs: Any, gamma: Any, beta: Any) -> tuple[Any, Callable[..., Any]]:
        images = ops.cast(inputs, "float32")
        mean = mean_of(images)
        variance = mean_of(ops.square(images - mean))
        factor = ops.rsqrt(variance + layer.epsilon)
        outputs = ops.cast((images - mean) * (factor * gamma) + beta, inputs.dtype)

        def gradient(*upstream: Any) -> tuple[Any, Any, Any]:
            # JAX gives one tuple of all outputs' gradients, TensorFlow an argument each.
            of_outputs = ops.cast(keras.tree.flatten(upstream)[0], "float32")
            standardized = (ops.cast(inputs, "float32") - mean) * factor
            pixels = tuple(range(inputs.ndim - 1))
            for_gamma = ops.sum(of_outputs * standardized, axis=pixels)
            for_beta = ops.sum(of_outputs, axis=pixels)
            scaled = of_outputs * gamma
            others = mean_of(scaled) + standardized * mean_of(scaled * standardized)
            return ops.cast(factor * (scaled - others), inputs.dtype), for_gamma, for_beta

        return (outputs, mean, variance), gradient

    gamma = ops.ones(channels) if layer.gamma is None else ops.cast(layer.gamma, "float32")
    beta = ops.zeros(channels) if layer.beta is None else ops.cast(layer.beta, "float32")
    return normalize(inputs, gamma, beta)


# === Groups ===


@form("group normalization", "by axis", made=True)
def group_form_by_axis() -> Normalize:
    """Return the form whose means are taken axis by axis."""
    return _written_out(functools.partial(over_pixels, ops.mean))


@form("group normalization", "at once", made=True)
def group_form_at_once() -> Normalize:
    """Return the form whose means are taken of all axes at once."""
    return _written_out(_mean_at_once)


@form("group normalization", "whole", backends=("tensorflow", "jax"))
def normalize_groups_whole(layer: Any, inputs: Any, training: bool) -> Any:
    """Normalize, scale and shift as one operation, which keeps no float32 copy for the gradient."""
    outputs, _, _ = _normalize(
        layer, inputs, lambda images: _mean_of_groups(images, layer, _mean_at_once)
    )
    return outputs


@form("group normalization", "native", backends=("torch",))
def normalize_groups_natively(layer: Any, inputs: Any, training: bool) -> Any:
    """Normalize by PyTorch's own operation, which takes and returns half precision."""
    import torch

    groups = inputs.shape[-1] if layer.groups == -1 else layer.groups
    gamma, beta = (
        None if weight is None else ops.cast(weight, inputs.dtype)
        for weight in (layer.gamma, layer.beta)
    )
    outputs = torch.group_norm(inputs.movedim(-1, 1), groups, gamma, beta, layer.epsilon)
    return outputs.movedim(1, -1)


def _mean_at_once(images: Any) -> Any:
    return ops.mean(images, axis=tuple(range(images.ndim - 2, 0, -1)), keepdims=True)


def _written_out(mean_of_pixels: Mean) -> Normalize:
    """Return a form of few operations, and a gradient of few tensors.

    A gradient derived step by step keeps and makes several times as many: with that, a training
    step of `LGMSNet3D` on PyTorch, 96³ on two cores, took 12 s, and 6 s with this.
    """
    # PyTorch's is made here, not when it is called: `torch.compile` can trace the use of an
    # autograd function, but not the `class` statement that defines it.
    on_torch = keras.backend.backend() == "torch"
    standardize = _torch_standardization() if on_torch else _standardize

    def normalize(layer: Any, inputs: Any, training: bool) -> Any:
        if training:
            outputs = standardize(inputs, layer, mean_of_pixels)
            if layer.scale:
                outputs = outputs * float32_at_least(layer.gamma)
        else:
            # This is also what is exported: no gradient of our own, and as few steps as possible.
            centred, _, factor = _moments(inputs, layer, mean_of_pixels)
            if layer.scale:
                factor = factor * float32_at_least(layer.gamma)
            outputs = _times(centred, factor)
        if layer.center:
            outputs += float32_at_least(layer.beta)  # in place on PyTorch
        return ops.cast(outputs, layer.compute_dtype)

    return normalize


def _times(images: Any, factor: Any) -> Any:
    """Return images times a factor; on PyTorch, where no gradient needs the images, in place."""
    if keras.backend.backend() == "torch":
        import torch

        if not torch.is_grad_enabled():
            return images.mul_(factor)
    return images * factor


def _standardize(inputs: Any, layer: Any, mean_of_pixels: Mean) -> Any:
    """Bring each group to mean 0 and variance 1, with a gradient of few tensors."""

    @ops.custom_gradient
    def standardize(inputs: Any) -> tuple[Any, Callable[[Any], Any]]:
        centred, mean, factor = _moments(inputs, layer, mean_of_pixels)

        def gradient(upstream: Any) -> Any:
            return _gradient(inputs, mean, factor, upstream, layer, mean_of_pixels)

        return centred * factor, gradient

    return standardize(inputs)


@functools.cache
def _torch_standardization() -> Callable[[Any, Any, Mean], Any]:
    """Return what `_standardize` is on PyTorch.

    There `ops.custom_gradient` keeps the tensors of every layer until the whole backward pass is
    over; an autograd function frees them layer by layer. It is defined in a function, once, since
    PyTorch is imported only where it is the backend.
    """
    import torch

    class Standardization(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, inputs: Any, layer: Any, mean_of_pixels: Mean) -> Any:
            centred, mean, factor = _moments(inputs, layer, mean_of_pixels)
            context.save_for_backward(inputs, mean, factor)
            context.settings = (layer, mean_of_pixels)
            centred *= factor
            return centred

        @staticmethod
        def backward(context: Any, upstream: Any) -> tuple[Any, None, None]:
            inputs, mean, factor = context.saved_tensors
            return _gradient(inputs, mean, factor, upstream, *context.settings), None, None

    return Standardization.apply


def _moments(inputs: Any, layer: Any, mean_of_pixels: Mean) -> tuple[Any, Any, Any]:
    """Return the images less their groups' means, these means, and 1 / standard deviations."""
    # Sums over 256² pixels overflow in float16.
    images = float32_at_least(inputs)
    mean = _mean_of_groups(images, layer, mean_of_pixels)
    centred = images - mean
    # A product, since PyTorch takes squares as powers.
    variance = _mean_of_groups(centred * centred, layer, mean_of_pixels)
    return centred, mean, ops.rsqrt(variance + layer.epsilon)


def _gradient(
    inputs: Any, mean: Any, factor: Any, upstream: Any, layer: Any, mean_of_pixels: Mean
) -> Any:
    """Return the inputs' gradient: factor · (g - mean(g) - y · mean(g · y)).

    Here g is the upstream gradient of the standardized images y, and `factor` 1 / the standard
    deviation. It is the gradient of batch normalization (Ioffe and Szegedy 2015, section 3), for
    groups.
    """
    # On PyTorch `*=` and the like write in place; `gradient * …` would make a volume each time.
    gradient = float32_at_least(inputs) - mean
    gradient *= factor
    gradient *= _mean_of_groups(upstream * gradient, layer, mean_of_pixels)
    gradient -= upstream
    gradient += _mean_of_groups(upstream, layer, mean_of_pixels)
    gradient *= -factor
    return ops.cast(gradient, inputs.dtype)


def _mean_of_groups(images: Any, layer: Any, mean_of_pixels: Mean) -> Any:
    """Return the means over pixels and a group's channels, repeated for every channel."""
    means, channels = mean_of_pixels(images), images.shape[-1]
    if layer.groups in (-1, channels):
        return means
    grouped = ops.reshape(means, (-1, layer.groups, channels // layer.groups))
    grouped = ops.mean(grouped, axis=-1, keepdims=True)
    grouped = ops.repeat(grouped, channels // layer.groups, axis=-1)
    return ops.reshape(grouped, (-1, *(1,) * (images.ndim - 2), channels))


# === Batches ===


@form("batch normalization", "keras")
def normalize_by_keras(layer: Any, inputs: Any, training: bool) -> Any:
    """Normalize by Keras's own layer."""
    return keras.layers.BatchNormalization.call(layer, inputs, training=training)


@form("batch normalization", "whole", backends=("jax",))
def normalize_batch_whole(layer: Any, inputs: Any, training: bool) -> Any:
    """Normalize in training as one operation, which keeps no float32 copy for the gradient."""
    if not training:
        return normalize_by_keras(layer, inputs, training)
    axes = tuple(range(inputs.ndim - 1))
    outputs, mean, variance = _normalize(
        layer, inputs, lambda images: ops.mean(images, axis=axes, keepdims=True)
    )
    layer.move(ops.ravel(mean), ops.ravel(variance))
    return outputs


@form("batch normalization", "fused", backends=("tensorflow", "torch"))
def normalize_fused(layer: Any, inputs: Any, training: bool) -> Any:
    """Normalize by the backend's kernel, which takes and returns half precision."""
    if keras.backend.backend() == "torch":
        return _normalize_in_torch(layer, inputs, training)
    return _normalize_in_tensorflow(layer, inputs, training)


@form("batch normalization", "fused in float32", backends=("tensorflow", "torch"))
def normalize_fused_in_float32(layer: Any, inputs: Any, training: bool) -> Any:
    """Normalize by the backend's kernel, in float32."""
    outputs = normalize_fused(layer, ops.cast(inputs, "float32"), training)
    return ops.cast(outputs, layer.compute_dtype)


@form("batch normalization", "fused in training", backends=("tensorflow", "torch"))
def normalize_fused_in_training(layer: Any, inputs: Any, training: bool) -> Any:
    """Normalize in training by the backend's kernel, in float32, and else by Keras's own layer."""
    if training:
        return normalize_fused_in_float32(layer, inputs, training)
    return normalize_by_keras(layer, inputs, training)


def _normalize_in_tensorflow(layer: Any, inputs: Any, training: bool) -> Any:
    import tensorflow as tf

    shape = ops.shape(inputs)
    # The kernel takes images only; how pixels are arranged does not matter to the statistics.
    images = ops.reshape(inputs, (shape[0], -1, 1, shape[-1]))
    none = tf.zeros(0)
    moving = (ops.cast(w, "float32") for w in (layer.moving_mean, layer.moving_variance))
    known_mean, known_variance = (none, none) if training else moving
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=images,
        scale=ops.cast(layer.gamma, "float32"),
        offset=ops.cast(layer.beta, "float32"),
        mean=known_mean,
        variance=known_variance,
        epsilon=layer.epsilon,
        is_training=training,
    )
    if training:
        pixels = ops.cast(tf.size(images) // shape[-1], "float32")
        layer.move(mean, variance * (ops.maximum(pixels - 1, 1) / pixels))
    return ops.reshape(outputs, shape)


def _normalize_in_torch(layer: Any, inputs: Any, training: bool) -> Any:
    import torch

    weights = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    gamma, beta, *moving = (ops.cast(weight, "float32") for weight in weights)
    known_mean, known_variance = (None, None) if training else moving
    outputs, mean, factor = torch.native_batch_norm(
        inputs.movedim(-1, 1),
        gamma,
        beta,
        known_mean,
        known_variance,
        training,
        0.0,  # the moving statistics are Keras's to move
        layer.epsilon,
    )
    if training:
        # It tells 1 / the standard deviation.
        layer.move(mean.detach(), factor.detach() ** -2 - layer.epsilon)
    return outputs.movedim(1, -1)
