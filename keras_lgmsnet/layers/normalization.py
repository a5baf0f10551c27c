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
        epsilon: Added to the variance; by default PyTorch's.
        center: Whether to learn an offset per channel, `beta`.
        scale: Whether to learn a scale per channel, `gamma`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If `groups` does not divide the input's channels.

    Example:
    >>> GroupNormalization(4)(keras.ops.ones((1, 32, 32, 16))).shape
    (1, 32, 32, 16)
    """

    def __init__(
        self,
        groups: int,
        *,
        epsilon: float = EPSILON,
        center: bool = True,
        scale: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if groups != -1:
            require_positive(groups=groups)
        self.groups = groups
        self.epsilon = epsilon
        self.center = center
        self.scale = scale

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the scale and the offset."""
        super().build(input_shape)
        if self.channels % self.groups:
            raise ValueError(
                f"{self.name}: groups must divide the input's channels. "
                f"Received: groups={self.groups}, input_shape={tuple(input_shape)}"
            )
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(name="gamma", shape=(self.channels,), initializer="ones")
        if self.center:
            self.beta = self.add_weight(name="beta", shape=(self.channels,), initializer="zeros")
        if keras.backend.backend() == "torch":
            # Not in `call`: `torch.compile` can trace the use of an autograd function, but not the
            # `class` statement that defines it.
            self._torch_standardize = _torch_standardization()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Normalize each image's groups of channels."""
        if training:
            outputs = self._standardize_in_training(inputs)
            if self.scale:
                outputs = outputs * ops.cast(self.gamma, "float32")
        else:
            # This is also what is exported: no gradient of our own, and as few steps as possible.
            outputs, _, factor = self._moments(inputs)
            if self.scale:
                factor = factor * ops.cast(self.gamma, "float32")
            outputs = outputs * factor
        if self.center:
            outputs = outputs + ops.cast(self.beta, "float32")
        return ops.cast(outputs, self.compute_dtype)

    def _standardize_in_training(self, inputs: Any) -> Any:
        """Bring each group to mean 0 and variance 1, with a gradient of few tensors."""
        if keras.backend.backend() == "torch":
            # On PyTorch `ops.custom_gradient` keeps the tensors of every layer until the whole
            # backward pass is over; an autograd function frees them layer by layer.
            return self._torch_standardize(inputs, self)

        @ops.custom_gradient
        def standardize(inputs: Any) -> tuple[Any, Callable[[Any], Any]]:
            centred, mean, factor = self._moments(inputs)
            return centred * factor, lambda upstream: self._gradient(inputs, mean, factor, upstream)

        return standardize(inputs)

    def _moments(self, inputs: Any) -> tuple[Any, Any, Any]:
        """Return the images less their groups' means, these means, and 1 / standard deviations."""
        # Sums over 256² pixels overflow in float16.
        images = ops.cast(inputs, "float32")
        mean = self._mean_of_groups(images)
        centred = images - mean
        variance = self._mean_of_groups(ops.square(centred))
        return centred, mean, ops.rsqrt(variance + self.epsilon)

    def _gradient(self, inputs: Any, mean: Any, factor: Any, upstream: Any) -> Any:
        """Return the inputs' gradient: factor · (g - mean(g) - y · mean(g · y)).

        Here g is the upstream gradient of the standardized images y, and `factor` 1 / the standard
        deviation. It is the gradient of batch normalization (Ioffe and Szegedy 2015, section 3),
        for groups.
        """
        # On PyTorch `*=` and the like write in place; `gradient * …` would make a volume each time.
        gradient = ops.cast(inputs, "float32") - mean
        gradient *= factor
        gradient *= self._mean_of_groups(upstream * gradient)
        gradient -= upstream
        gradient += self._mean_of_groups(upstream)
        gradient *= -factor
        return ops.cast(gradient, inputs.dtype)

    def _mean_of_groups(self, images: Any) -> Any:
        """Return the means over pixels and a group's channels, repeated for every channel."""
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

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "groups": self.groups,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GroupNormalization":
        """Build the layer from what `get_config` returned.

        In version 0.1 it had one entry for both `center` and `scale`: `affine`.
        """
        config = dict(config)
        if "affine" in config:
            config["center"] = config["scale"] = config.pop("affine")
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization, by the fused kernels of TensorFlow and PyTorch.

    By Keras's own operations a training step of the layer takes 2.6 times as long on TensorFlow and
    5 times on PyTorch, where inference takes 3 times as long, too (two cores, 256² × 64 channels).
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
            self.axis in (-1, len(inputs.shape) - 1)
            and self.center
            and self.scale
            and not (self.synchronized or self.renorm or mask is not None)
        )
        in_training = bool(training and self.trainable)
        match keras.backend.backend():
            case "tensorflow" if fused and in_training:
                return self._train_in_tensorflow(inputs)
            case "torch" if fused:
                return self._call_in_torch(inputs, in_training)
        return super().call(inputs, training=training, mask=mask)

    def _train_in_tensorflow(self, inputs: Any) -> Any:
        import tensorflow as tf

        shape = ops.shape(inputs)
        # The kernel takes images only; how pixels are arranged does not matter to the statistics.
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
        self._move(mean, variance * (ops.maximum(pixels - 1, 1) / pixels))
        return ops.cast(ops.reshape(outputs, shape), self.compute_dtype)

    def _call_in_torch(self, inputs: Any, in_training: bool) -> Any:
        import torch

        weights = (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        gamma, beta, *moving = (ops.cast(weight, "float32") for weight in weights)
        moving_mean, moving_variance = (None, None) if in_training else moving
        outputs, mean, factor = torch.native_batch_norm(
            ops.cast(inputs, "float32").movedim(-1, 1),
            gamma,
            beta,
            moving_mean,
            moving_variance,
            in_training,
            0.0,  # the moving statistics are Keras's to move
            self.epsilon,
        )
        if in_training:
            # It tells 1 / the standard deviation.
            self._move(mean.detach(), factor.detach() ** -2 - self.epsilon)
        return ops.cast(outputs.movedim(1, -1), self.compute_dtype)

    def _move(self, mean: Any, variance: Any) -> None:
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))


@functools.cache
def _torch_standardization() -> Callable[[Any, GroupNormalization], Any]:
    """Return an autograd function of PyTorch that standardizes a tensor by the layer's groups.

    It is defined in a function, once, since PyTorch is imported only where it is the backend.
    """
    import torch

    class Standardization(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, inputs: Any, layer: GroupNormalization) -> Any:
            centred, mean, factor = layer._moments(inputs)
            context.save_for_backward(inputs, mean, factor)
            context.layer = layer
            centred *= factor
            return centred

        @staticmethod
        def backward(context: Any, upstream: Any) -> tuple[Any, None]:
            return context.layer._gradient(*context.saved_tensors, upstream), None

    return Standardization.apply


def normalization_layer(normalization: str | None, rank: int, **kwargs: Any) -> keras.layers.Layer:
    """Return the normalization named, or the published one for a rank.

    Args:
        normalization: `"batch"` (epsilon 1e-5, momentum 0.9: PyTorch's 0.1), `"instance"` (without
            scale, offset or running statistics), or `None`: batch in 2D, instance in 3D.
        rank: 2 for images, 3 for volumes.
        **kwargs: `name` and `dtype`, passed to the layer.

    Raises:
        ValueError: If `normalization` is another one.
    """
    if normalization is None:
        normalization = "batch" if rank == 2 else "instance"
    if normalization == "batch":
        return BatchNormalization(**kwargs)
    if normalization == "instance":
        return GroupNormalization(-1, center=False, scale=False, **kwargs)
    raise ValueError(
        "normalization must be 'batch', 'instance' or None (batch in 2D, instance in 3D). "
        f"Received: normalization={normalization!r}"
    )
