"""UCTransNet: a U-Net whose skip connections attend over the channels of all levels."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers import (
    ConvNormActivation,
    GroupedConv,
    MaxPooling,
    NearestUpsampling,
    PatchEmbedding,
    PositionEmbedding,
)
from keras_lgmsnet.layers.base import (
    ChannelsLastLayer,
    float32_at_least,
    over_pixels,
    positive_integers,
    rank_and_channels,
    require_positive,
)
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON
from keras_lgmsnet.models.base import SegmentationNetwork

DROPOUT = 0.1
LAYER_NORM_EPSILON = 1e-6
LEVELS = (1, 2, 3, 4)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class UCTransNet2D(SegmentationNetwork):
    """UCTransNet for images: 66,488,257 parameters and 42.1 G multiply-adds at 256 × 256.

    Patches bring all four levels of a U-Net's encoder to a sixteenth of the image's sides, where a
    transformer attends from the channels of each level to those of all levels. What it made of a
    level is upsampled and added to the level's features; and before the decoder joins these, it
    weights their channels by what it has itself. The network of Wang et al. (UCTransNet, AAAI
    2022), which LGMSNet's paper compares (Table 1: 66.24 M, 43.06 G), as in the published program,
    in which each head has as many channels as the level. It returns logits; the program's sigmoid
    is left to the loss.

    Where the program upsamples tokens and then mixes their channels, this network mixes them first:
    of repeated pixels that gives the same. It learns a vector for each position of the transformer,
    so it takes images of one size only.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are the program's: uniform by Glorot's rule in the transformer's feed-forward
    layers, with biases of next to nothing, zero for the positions, PyTorch's defaults elsewhere.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 16.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the first four levels; the fifth is as wide as the fourth.
        depth: Layers of the transformer.
        num_heads: Heads of its attention.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is unknown or not divisible by 16.

    Example:
    ```python
    model = kl.models.create("uctransnet", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (64, 128, 256, 512),
        depth: int = 4,
        num_heads: int = 4,
        **kwargs: Any,
    ) -> None:
        filters = positive_integers(filters=filters)
        require_positive(depth=depth, num_heads=num_heads)
        if len(filters) != len(LEVELS):
            raise ValueError(f"filters are the four levels' widths. Received: filters={filters}")
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        common = {"dtype": dtype}
        total = sum(filters)

        # === Layers ===
        def convolve(x: Any, width: int, taps: int, name: str) -> Any:
            layer = ConvNormActivation(
                width,
                taps,
                "relu",
                use_bias=True,
                normalization="batch",
                bias_initializer=FanInUniform(),
                name=name,
                **common,
            )
            return layer(x)

        def convolve_twice(x: Any, width: int, name: str) -> Any:
            return convolve(convolve(x, width, 3, f"{name}_first"), width, 3, name)

        def concatenate(parts: list[Any], name: str) -> Any:
            return keras.layers.Concatenate(name=f"{name}_concatenate", **common)(parts)

        def add(x: Any, y: Any, name: str) -> Any:
            return keras.layers.Add(name=name, **common)([x, y])

        def drop(x: Any, name: str) -> Any:
            return keras.layers.Dropout(DROPOUT, name=f"{name}_dropout", **common)(x)

        def normalize(x: Any, name: str) -> Any:
            layer = keras.layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=name, **common)
            return layer(x)

        def project(x: Any, width: int, name: str) -> Any:
            layer = keras.layers.Dense(
                width, use_bias=False, kernel_initializer=FanInUniform(), name=name, **common
            )
            return layer(x)

        def dense(x: Any, width: int, name: str) -> Any:
            layer = keras.layers.Dense(
                width,
                kernel_initializer="glorot_uniform",
                bias_initializer=keras.initializers.RandomNormal(stddev=1e-6),
                name=name,
                **common,
            )
            return layer(x)

        def embed(x: Any, level: int) -> Any:
            name = f"positions{level}"
            x = PatchEmbedding(
                x.shape[-1],
                _patch_size(level),
                bias_initializer=FanInUniform(),
                name=f"patches{level}",
                **common,
            )(x)
            return drop(PositionEmbedding(name=name, **common)(x), name)

        def transform(tokens: list[Any], name: str) -> list[Any]:
            heads = range(num_heads)
            joined = normalize(concatenate(tokens, name), f"{name}_norm")
            keys = [project(joined, total, f"{name}_key_{head}") for head in heads]
            values = [project(joined, total, f"{name}_value_{head}") for head in heads]
            outputs = []
            for level, x in zip(LEVELS, tokens, strict=True):
                width, level_name = x.shape[-1], f"{name}_level{level}"
                y = normalize(x, f"{level_name}_attention_norm")
                queries = [project(y, width, f"{level_name}_query_{head}") for head in heads]
                attention = ChannelAttention(DROPOUT, name=f"{level_name}_attention", **common)
                y = attention([*queries, *keys, *values])
                y = drop(project(y, width, f"{level_name}_project"), f"{level_name}_project")
                x = add(x, y, f"{level_name}_attention_add")
                y = normalize(x, f"{level_name}_feed_forward_norm")
                y = dense(y, 4 * width, f"{level_name}_feed_forward_wide")
                y = keras.layers.Activation("gelu", name=f"{level_name}_gelu", **common)(y)
                outputs.append(add(x, dense(y, width, f"{level_name}_feed_forward"), level_name))
            return outputs

        # === Functional model ===
        x = convolve(image, filters[0], 3, "encoder1")
        features = [x]
        for level, width in zip((2, 3, 4, 5), (*filters[1:], filters[-1]), strict=True):
            x = MaxPooling(name=f"encoder{level}_pooling", **common)(x)
            x = convolve_twice(x, width, f"encoder{level}")
            features.append(x)
        tokens = [embed(x, level) for x, level in zip(features, LEVELS, strict=False)]
        for number in range(depth):
            tokens = transform(tokens, f"transformer{number}")
        skips = []
        for level, y in zip(LEVELS, tokens, strict=True):
            y = normalize(y, f"transformer_level{level}")
            y = convolve(y, y.shape[-1], 1, f"skip{level}_mix")
            y = keras.layers.UpSampling2D(
                _patch_size(level), name=f"skip{level}_upsampling", **common
            )(y)
            skips.append(add(y, features[level - 1], f"skip{level}"))
        for level in reversed(LEVELS):
            name = f"decoder{level}"
            x = NearestUpsampling(name=f"{name}_upsampling", **common)(x)
            skip = ChannelGate(name=f"{name}_gate", **common)(skips[level - 1], x)
            x = concatenate([skip, x], name)
            x = convolve_twice(x, filters[max(level - 2, 0)], name)
        # In half precision a loss of logits would lose its small differences.
        logits = GroupedConv(
            num_classes, 1, bias_initializer=FanInUniform(), dtype="float32", name="logits"
        )(x)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.depth = depth
        self.num_heads = num_heads

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "depth": self.depth,
            "num_heads": self.num_heads,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        parts = self._step("inc", "encoder1")
        for level in (2, 3, 4, 5):
            parts += self._two_steps(f"down{level - 1}", f"encoder{level}")
        for level in LEVELS:
            theirs = f"mtc.embeddings_{level}"
            parts += [
                (f"{theirs}.position_embeddings", layer(f"positions{level}").table),
                (f"{theirs}.patch_embeddings", layer(f"patches{level}")),
            ]
        for number in range(self.depth):
            parts += self._transformer_layer(number)
        for level in LEVELS:
            parts += [
                (f"mtc.encoder.encoder_norm{level}", layer(f"transformer_level{level}")),
                *self._step(f"mtc.reconstruct_{level}", f"skip{level}_mix"),
            ]
        for level in reversed(LEVELS):
            gate = layer(f"decoder{level}_gate")
            parts += [
                (f"up{level}.coatt.mlp_x.1", gate.of_skip),
                (f"up{level}.coatt.mlp_g.1", gate.of_upsampled),
                *self._two_steps(f"up{level}", f"decoder{level}"),
            ]
        return [*parts, ("outc", layer("logits"))]

    def _step(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        step = self.get_layer(ours)
        return [(f"{theirs}.conv", step.convolution), (f"{theirs}.norm", step.norm)]

    def _two_steps(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        return [
            *self._step(f"{theirs}.nConvs.0", f"{ours}_first"),
            *self._step(f"{theirs}.nConvs.1", ours),
        ]

    def _transformer_layer(self, number: int) -> list[tuple[str, Any]]:
        theirs, ours = f"mtc.encoder.layer.{number}", f"transformer{number}"
        attention = f"{theirs}.channel_attn"
        parts = [(f"{theirs}.attn_norm", f"{ours}_norm")]
        for head in range(self.num_heads):
            parts += [
                (f"{attention}.key.{head}", f"{ours}_key_{head}"),
                (f"{attention}.value.{head}", f"{ours}_value_{head}"),
                *(
                    (f"{attention}.query{level}.{head}", f"{ours}_level{level}_query_{head}")
                    for level in LEVELS
                ),
            ]
        for level in LEVELS:
            name = f"{ours}_level{level}"
            parts += [
                (f"{theirs}.attn_norm{level}", f"{name}_attention_norm"),
                (f"{attention}.out{level}", f"{name}_project"),
                (f"{theirs}.ffn_norm{level}", f"{name}_feed_forward_norm"),
                (f"{theirs}.ffn{level}.fc1", f"{name}_feed_forward_wide"),
                (f"{theirs}.ffn{level}.fc2", f"{name}_feed_forward"),
            ]
        return [(their_name, self.get_layer(name)) for their_name, name in parts]


def _patch_size(level: int) -> int:
    """Return by how much a level's sides exceed the transformer's."""
    return 2 ** (5 - level)


class ChannelAttention(keras.layers.Layer):
    """Attention of channels to channels, by the products of their maps.

    Of each head the products of all queries' and keys' channels are one matrix, which is brought to
    mean 0 and variance 1 before the softmax, all in float32. The heads' outputs are averaged.

    Called with a list: the queries of all heads, the keys, and the values, each `(batch, height,
    width, channels)`. Outputs have the queries' shape.

    Args:
        dropout: Share of the weights that is dropped in training.
        **kwargs: `name` and `dtype`, as for any Keras layer.
    """

    def __init__(self, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Do nothing: there is no weight."""

    def call(self, inputs: list[Any], training: bool | None = None) -> Any:
        """Attend to the channels."""
        count = len(inputs) // 3
        query, key, value = (
            _by_head(inputs[start : start + count]) for start in (0, count, 2 * count)
        )
        query, key = (float32_at_least(part) for part in (query, key))
        scores = ops.matmul(ops.transpose(query, (0, 1, 3, 2)), key) * key.shape[-1] ** -0.5
        centred = scores - _mean(scores)
        normalized = centred * ops.rsqrt(_mean(ops.square(centred)) + EPSILON)
        weights = self.dropout(ops.cast(ops.softmax(normalized), value.dtype), training=training)
        attended = ops.matmul(value, ops.transpose(weights, (0, 1, 3, 2)))
        return ops.reshape(ops.mean(attended, axis=1), (-1, *inputs[0].shape[1:]))

    def compute_output_shape(
        self, input_shape: list[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Return the queries' shape."""
        return tuple(input_shape[0])

    def multiply_adds(self, input_shape: list[tuple[int, ...]]) -> int:
        """Count those of norm and softmax, not of the products, as of other attention."""
        count = len(input_shape) // 3
        keys = input_shape[count][-1]
        return count * input_shape[0][-1] * ((2 + 3) * keys - 1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"dropout": self.dropout.rate}


def _by_head(parts: list[Any]) -> Any:
    """Return `(batch, heads, pixels, channels)`."""
    _, height, width, channels = parts[0].shape
    return ops.concatenate(
        [ops.reshape(part, (-1, 1, height * width, channels)) for part in parts], axis=1
    )


def _mean(scores: Any) -> Any:
    """Return the mean of each matrix."""
    # Axis by axis, as `over_pixels` does.
    return ops.mean(ops.mean(scores, axis=-1, keepdims=True), axis=-2, keepdims=True)


class ChannelGate(ChannelsLastLayer):
    """A skip connection whose channels are weighted by its own means and the decoder's.

    Called with the skip connection and the decoder's features, which have as many channels.

    Args:
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.
    """

    def build(
        self, skip_shape: tuple[int | None, ...], upsampled_shape: tuple[int | None, ...]
    ) -> None:
        """Create the dense layers, one of each."""
        self.rank, self.channels = rank_and_channels(skip_shape, self.name)
        self.of_skip = self._dense(skip_shape, "of_skip")
        self.of_upsampled = self._dense(upsampled_shape, "of_upsampled")

    def _dense(self, shape: tuple[int | None, ...], name: str) -> keras.layers.Layer:
        layer = keras.layers.Dense(
            self.channels,
            kernel_initializer=FanInUniform(),
            bias_initializer=FanInUniform(fan_in=shape[-1]),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((shape[0], *(1,) * self.rank, shape[-1]))
        return layer

    def call(self, skip: Any, upsampled: Any) -> Any:
        """Weight the channels."""
        means = (
            ops.cast(over_pixels(ops.mean, float32_at_least(inputs)), self.compute_dtype)
            for inputs in (skip, upsampled)
        )
        of_skip, of_upsampled = means
        gate = ops.sigmoid((self.of_skip(of_skip) + self.of_upsampled(of_upsampled)) / 2)
        return ops.relu(skip * gate)

    def compute_output_shape(
        self, skip_shape: tuple[int | None, ...], upsampled_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the skip connection's shape."""
        return tuple(skip_shape)
