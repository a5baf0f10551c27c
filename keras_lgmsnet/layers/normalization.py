"""Batch, instance and group normalization with the published epsilon and momentum."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, require_positive

EPSILON = 1e-5
MOMENTUM = 0.9


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class GroupNormalization(SpatialLayer):
    """Group normalization of images or volumes, computed in float32 and never beyond their axes.

    Each image's channels fall into `groups` runs of neighbours; each run is brought to mean 0 and
    variance 1 over its channels and pixels, then scaled and shifted by channel. Keras's layer of
    that name makes a tensor of one axis more, which phones' GPUs refuse; this one reduces over
    the pixels first and over the few remaining channels afterwards. Its gradient is written out,
    since one derived step by step keeps and makes several times as many tensors: with that, a
    training step of `LGMSNet3D` on PyTorch, 96³ on two cores, took 12 s, and 6 s with this.

    Args:
        groups: Number of groups, a divisor of the channels; `-1` gives every channel a group of
            its own (instance normalization).
        affine: Whether to learn a scale and an offset per channel.
        epsilon: Added to the variance; PyTorch's default.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If `groups` does not divide the input's channels.

    Example:
    >>> GroupNormalization(4)(keras.ops.ones((1, 32, 32, 16))).shape
    (1, 32, 32, 16)
    """

    def __init__(
        self, groups: int, affine: bool = True, epsilon: float = EPSILON, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if groups != -1:
            require_positive(groups=groups)
        self.groups = groups
        self.affine = affine
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the scale and the offset."""
        super().build(input_shape)
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(
                f"{self.name}: groups must divide the input's channels. "
                f"Received: groups={self.groups}, input_shape={tuple(input_shape)}"
            )
        self.gamma = self.beta = None
        if self.affine:
            self.gamma = self.add_weight(name="gamma", shape=(channels,), initializer="ones")
            self.beta = self.add_weight(name="beta", shape=(channels,), initializer="zeros")
        if (
            keras.backend.backend() == "torch"
        ):  # here, since `torch.compile` traces no class's making
            self._torch_standardize = _torch_standardization()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Normalize each image's groups of channels."""
        if training:
            outputs = self._standardize_in_training(inputs)
            if self.affine:
                outputs = outputs * ops.cast(self.gamma, "float32")
        else:  # what is exported, without anything for gradients, in as few steps as it takes
            outputs, _, scale = self._moments(inputs)
            if self.affine:
                scale = scale * ops.cast(self.gamma, "float32")
            outputs = outputs * scale
        if self.affine:
            outputs = outputs + ops.cast(self.beta, "float32")
        return ops.cast(outputs, self.compute_dtype)

    def _standardize_in_training(self, inputs: Any) -> Any:
        """Bring each group to mean 0 and variance 1, with a gradient of few tensors."""
        if keras.backend.backend() == "torch":
            # Keras's form for PyTorch holds on to the tensors until the whole gradient is done.
            return self._torch_standardize(inputs, self)

        @ops.custom_gradient
        def standardize(inputs: Any) -> tuple[Any, Callable[[Any], Any]]:
            centred, mean, scale = self._moments(inputs)
            return centred * scale, lambda upstream: self._gradient(inputs, mean, scale, upstream)

        return standardize(inputs)

    def _moments(self, inputs: Any) -> tuple[Any, Any, Any]:
        """Return the images less their groups' means, those, and 1 / the standard deviations."""
        # Sums over 256² pixels overflow in float16.
        images = ops.cast(inputs, "float32")
        mean = self._mean_of_groups(images)
        centred = images - mean
        variance = self._mean_of_groups(ops.square(centred))
        return centred, mean, ops.rsqrt(variance + self.epsilon)

    def _gradient(self, inputs: Any, mean: Any, scale: Any, upstream: Any) -> Any:
        """Return the gradient of the standardized y: scale · (g - mean(g) - y · mean(g · y)).

        It is that of batch normalization (Ioffe and Szegedy 2015, section 3) for any group.
        """
        # `*=` and the like write in place on PyTorch, which would make a volume each time.
        gradient = ops.cast(inputs, "float32") - mean
        gradient *= scale
        gradient *= self._mean_of_groups(upstream * gradient)
        gradient -= upstream
        gradient += self._mean_of_groups(upstream)
        gradient *= -scale
        return ops.cast(gradient, inputs.dtype)

    def _mean_of_groups(self, images: Any) -> Any:
        """Mean over the pixels and the group's channels, broadcast back to every channel."""
        means, axes = images, tuple(range(self.rank, 0, -1))
        if keras.backend.backend() == "jax":
            # Axis by axis, XLA takes 50 times as long for means of products, and writes out copies.
            means = ops.mean(means, axis=axes, keepdims=True)
        else:
            # TensorFlow and LiteRT add 256² numbers up less exactly than twice 256.
            for axis in axes:
                means = ops.mean(means, axis=axis, keepdims=True)
        channels = images.shape[-1]
        if self.groups in (-1, channels):
            return means
        grouped = ops.reshape(means, (-1, self.groups, channels // self.groups))
        grouped = ops.mean(grouped, axis=-1, keepdims=True)
        grouped = ops.repeat(grouped, channels // self.groups, axis=-1)
        return ops.reshape(grouped, (-1, *(1,) * self.rank, channels))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "groups": self.groups,
            "affine": self.affine,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization, with TensorFlow's fused kernel where that trains.

    On two cores a training step of the layer takes 2.6 times as long by Keras's own operations.
    The moving variance is the batch's own (not Bessel-corrected), as on every backend.

    Args:
        **kwargs: As for `keras.layers.BatchNormalization`, whose `epsilon` and `momentum` are by
            default 1e-5 and 0.9 (PyTorch's 0.1) here, as published.

    Example:
    >>> BatchNormalization()(keras.ops.ones((1, 32, 32, 16))).shape
    (1, 32, 32, 16)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"momentum": MOMENTUM, "epsilon": EPSILON} | kwargs))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize by the batch's statistics in training, else by the moving ones."""
        fused = (
            keras.backend.backend() == "tensorflow"
            and training
            and self.trainable
            and self.axis in (-1, len(inputs.shape) - 1)
            and self.center
            and self.scale
            and not (self.synchronized or self.renorm or mask is not None)
        )
        if not fused:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        shape = ops.shape(inputs)
        # The kernel takes images only; the statistics do not mind how pixels are arranged.
        images = ops.reshape(ops.cast(inputs, "float32"), (shape[0], -1, 1, shape[-1]))
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=ops.cast(self.gamma, "float32"),
            offset=ops.cast(self.beta, "float32"),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        pixels = ops.cast(tf.size(images) // shape[-1], "float32")
        variance = variance * (ops.maximum(pixels - 1, 1) / pixels)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return ops.cast(ops.reshape(outputs, shape), self.compute_dtype)


@functools.cache
def _torch_standardization() -> Callable[[Any, GroupNormalization], Any]:
    import torch

    class Standardization(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, inputs: Any, layer: GroupNormalization) -> Any:
            centred, mean, scale = layer._moments(inputs)
            context.save_for_backward(inputs, mean, scale)
            context.layer = layer
            centred *= scale
            return centred

        @staticmethod
        def backward(context: Any, upstream: Any) -> tuple[Any, None]:
            return context.layer._gradient(*context.saved_tensors, upstream), None

    return Standardization.apply


def normalization_layer(kind: str | None, rank: int, **kwargs: Any) -> keras.layers.Layer:
    """Return the published normalization for a rank, or the one named.

    Args:
        kind: `"batch"` (epsilon 1e-5, momentum 0.9: PyTorch's 0.1), `"instance"` (without scale,
            offset or running statistics), or `None`: batch in 2D, instance in 3D.
        rank: 2 for images, 3 for volumes.
        **kwargs: `name` and `dtype`, passed to the layer.

    Raises:
        ValueError: If `kind` is another one.
    """
    if kind is None:
        kind = "batch" if rank == 2 else "instance"
    if kind == "batch":
        return BatchNormalization(**kwargs)
    if kind == "instance":
        return GroupNormalization(-1, affine=False, **kwargs)
    raise ValueError(
        "normalization must be 'batch', 'instance' or None (batch in 2D, instance in 3D). "
        f"Received: normalization={kind!r}"
    )
