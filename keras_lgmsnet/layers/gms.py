"""The global multiscale block: a sparse transformer beside a convolution."""

from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, require_positive
from keras_lgmsnet.layers.conv_norm_activation import ConvNormActivation
from keras_lgmsnet.layers.convolution import DepthwiseConv
from keras_lgmsnet.layers.forms.attention import choose_attention
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON, BatchNormalization
from keras_lgmsnet.layers.resampling import PatchFold, PatchUnfold

NUM_HEADS = 4
HEAD_DIM = 8


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class GMSBlock(SpatialLayer):
    """Global multiscale block (paper, section 3.2, equations 5 to 8), 2D or 3D.

    Two convolutions bring the input to `filters` channels. A share of them, `transformer_ratio`,
    attends over the whole image in sparse sequences (the pixels at one position of all 2 × 2 (× 2)
    patches); the others pass through depthwise convolutions. Both are joined, mixed, and merged
    with the block's input.

    Args:
        filters: Output channels. The transformer takes `round(transformer_ratio * filters)`.
        transformer_ratio: From 0 (all convolution, no transformer at all) to 1 (all transformer).
        normalization: `"batch"`, `"instance"`, or `None`: batch in 2D, instance in 3D. The
            depthwise branch is batch-normalized always, as in the published program.
        feed_forward_dim: Width of the transformer's feed-forward layer; by default `2 * filters`.
        bias_initializer: That of the transformer, as for `SparseTransformer`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is out of range, or a known side of the input is odd.

    Example:
    >>> GMSBlock(64)(keras.ops.ones((1, 16, 16, 32))).shape
    (1, 16, 16, 64)
    """

    def __init__(
        self,
        filters: int,
        transformer_ratio: float = 0.75,
        normalization: str | None = None,
        feed_forward_dim: int | None = None,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_positive(filters=filters)
        if not isinstance(transformer_ratio, int | float) or not 0 <= transformer_ratio <= 1:
            raise ValueError(
                "transformer_ratio is the transformer's share of the channels, from 0 to 1. "
                f"Received: transformer_ratio={transformer_ratio!r}"
            )
        self.filters = filters
        self.transformer_ratio = transformer_ratio
        self.normalization = normalization
        self.feed_forward_dim = feed_forward_dim
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.transformer_filters = round(transformer_ratio * filters)
        common = {"normalization": normalization, "dtype": self.dtype_policy}
        self.local = ConvNormActivation(filters, 3, name="local", **common)
        self.project = ConvNormActivation(filters, 1, name="project", **common)
        self.transformer = self.depthwise = None
        if self.transformer_filters > 0:
            self.transformer = SparseTransformer(
                feed_forward_dim=2 * filters if feed_forward_dim is None else feed_forward_dim,
                bias_initializer=self.bias_initializer,
                dtype=self.dtype_policy,
                name="transformer",
            )
        if self.transformer_filters < filters:
            self.depthwise = DepthwiseResidual(dtype=self.dtype_policy, name="depthwise")
        self.mix = ConvNormActivation(filters, 1, name="mix", **common)
        self.merge = ConvNormActivation(filters, 3, name="merge", **common)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        self.local.build(input_shape)
        shape = self.compute_output_shape(input_shape)
        self.project.build(shape)
        if self.transformer is not None:
            self.transformer.build((*shape[:-1], self.transformer_filters))
        if self.depthwise is not None:
            self.depthwise.build((*shape[:-1], self.filters - self.transformer_filters))
        self.mix.build(shape)
        self.merge.build((*shape[:-1], self.filters + self.channels))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the block."""
        x = self.project(self.local(inputs, training=training), training=training)
        # Either branch may be absent; the transformer has the first channels.
        branches = []
        if self.transformer is not None:
            branches.append(self.transformer(x[..., : self.transformer_filters]))
        if self.depthwise is not None:
            convolved = self.depthwise(x[..., self.transformer_filters :], training=training)
            branches.append(convolved)
        x = self.mix(ops.concatenate(branches, axis=-1), training=training)
        return self.merge(ops.concatenate([x, inputs], axis=-1), training=training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape with `filters` channels."""
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "transformer_ratio": self.transformer_ratio,
            "normalization": self.normalization,
            "feed_forward_dim": self.feed_forward_dim,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class SparseTransformer(SpatialLayer):
    """One pre-norm transformer layer over the sequences of `PatchUnfold` (paper, section 3.2).

    Four heads of eight features, whatever the width, as in the published program.

    Args:
        feed_forward_dim: Width of the feed-forward layer.
        bias_initializer: Name of a Keras initializer, or an object of one; `FanInUniform()` goes by
            each kernel's fan-in.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Example:
    >>> SparseTransformer(64)(keras.ops.ones((1, 8, 8, 16))).shape
    (1, 8, 8, 16)
    """

    def __init__(
        self, feed_forward_dim: int, bias_initializer: Any = "zeros", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        require_positive(feed_forward_dim=feed_forward_dim)
        self.feed_forward_dim = feed_forward_dim
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.unfold = PatchUnfold(dtype=self.dtype_policy, name="unfold")
        self.fold = PatchFold(dtype=self.dtype_policy, name="fold")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        self.unfold.build(input_shape)
        sequences_shape = self.unfold.compute_output_shape(input_shape)
        self.fold.build(sequences_shape, input_shape)

        def layer_norm(name: str) -> keras.layers.Layer:
            layer = keras.layers.LayerNormalization(
                epsilon=EPSILON, dtype=self.dtype_policy, name=name
            )
            layer.build(sequences_shape)
            return layer

        def dense(channels: int, units: int, name: str, **options: Any) -> keras.layers.Layer:
            bias_initializer = self.bias_initializer
            if isinstance(bias_initializer, FanInUniform):
                bias_initializer = bias_initializer.for_bias_of((channels, units))
            layer = keras.layers.Dense(
                units,
                kernel_initializer=FanInUniform(),
                bias_initializer=bias_initializer,
                dtype=self.dtype_policy,
                name=name,
                **options,
            )
            layer.build((*sequences_shape[:-1], channels))
            return layer

        # In the order in which optimizers in files count their weights.
        channels, width, features = self.channels, self.feed_forward_dim, NUM_HEADS * HEAD_DIM
        self.attention_norm = layer_norm("attention_norm")
        self.query_key_value = dense(channels, 3 * features, "query_key_value", use_bias=False)
        self.feed_forward_norm = layer_norm("feed_forward_norm")
        self.feed_forward = dense(channels, width, "feed_forward", activation="silu")
        self.attention_output = dense(features, channels, "attention_output")
        self.feed_forward_output = dense(width, channels, "feed_forward_output")
        self._attention = choose_attention(self.rank, self.compute_dtype)

    def call(self, inputs: Any) -> Any:
        """Attend within every sequence, then transform every pixel."""
        x = self.unfold(inputs)
        x = x + self.attention_output(self._attend(self.query_key_value(self.attention_norm(x))))
        x = x + self.feed_forward_output(self.feed_forward(self.feed_forward_norm(x)))
        return self.fold(x, inputs)

    def _attend(self, query_key_value: Any) -> Any:
        batch, length, _ = ops.shape(query_key_value)
        query, key, value = (
            ops.reshape(part, (batch, length, NUM_HEADS, HEAD_DIM))
            for part in ops.split(query_key_value, 3, axis=-1)
        )
        attended = self._attention(query, key, value)
        return ops.reshape(attended, (batch, length, NUM_HEADS * HEAD_DIM))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "feed_forward_dim": self.feed_forward_dim,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class DepthwiseResidual(SpatialLayer):
    """The convolutional branch: 3-wide and 1-wide depthwise convolutions around the identity.

    Example:
    >>> DepthwiseResidual()(keras.ops.ones((1, 8, 8, 16))).shape
    (1, 8, 8, 16)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        common = {"dtype": self.dtype_policy}
        self.depthwise = DepthwiseConv(3, use_bias=False, name="depthwise", **common)
        self.norm = BatchNormalization(name="norm", **common)
        self.scale = DepthwiseConv(1, use_bias=False, name="scale", **common)
        self.scale_norm = BatchNormalization(name="scale_norm", **common)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        for layer in (self.depthwise, self.norm, self.scale, self.scale_norm):
            layer.build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the branch."""
        x = ops.relu(self.norm(self.depthwise(inputs), training=training))
        return self.scale_norm(self.scale(x), training=training) + inputs
