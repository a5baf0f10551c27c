"""MISSFormer: a U of transformers that attend to a smaller map, and a bridge over all levels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.layers import (
    DepthwiseConv,
    GroupedConv,
    MultiHeadAttention,
    PatchEmbedding,
    PatchExpansion,
)
from keras_lgmsnet.layers.base import positive_integers, require_positive
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON
from keras_lgmsnet.models.base import SegmentationNetwork

# By which the sides of each level are divided to make what its blocks attend to: all alike then.
REDUCTIONS = {1: 8, 2: 4, 3: 2, 4: 1}
# Sides of the first level's pixels, in the image's.
PATCH = 4
# Blocks at a level of the decoder.
DECODER_DEPTH = 2


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class MISSFormer2D(SegmentationNetwork):
    """MISSFormer for images: 35,452,225 parameters and 5.54 G multiply-adds at 224 × 224.

    Four levels of transformer blocks, whose pixels attend to those of a smaller map, and whose
    feed-forward layers convolve. Before the decoder a bridge reads all four maps as tokens of one
    width, which attend to each other; what leaves it are the skip connections. The network of Huang
    et al. (MISSFormer, 2021), which LGMSNet's paper compares (Table 1: 35.45 M, 7.25 G), as in the
    published program. It returns logits.

    The program has 7,009,792 parameters more that it never uses: two norms in each feed-forward
    layer, and at the deepest level of the decoder a dense layer and two blocks. It computes one
    dense layer of each feed-forward layer twice, to the same end. And it takes images of 224 × 224
    only, though nothing in it depends on that.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are the program's: Xavier's uniform ones in the decoder, PyTorch's defaults
    elsewhere.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 32. Of one channel three
            equal ones are made, as in the program.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the four levels; the first one, of the bridge's tokens, too, divides the
            others.
        depths: How many blocks the levels of the encoder have.
        num_heads: How many heads attend at the levels; divisors of `filters`.
        bridge_depth: How many layers the bridge has.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is unknown or not divisible by 32.

    Example:
    ```python
    model = kl.models.create("missformer", input_shape=(224, 224, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (224, 224, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        bridge_depth: int = 4,
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        num_heads = positive_integers(num_heads=num_heads)
        if {len(filters), len(depths), len(num_heads)} != {4}:
            raise ValueError(
                "filters, depths and num_heads are the four levels'. "
                f"Received: filters={filters}, depths={depths}, num_heads={num_heads}"
            )
        if any(width % heads for width, heads in zip(filters, num_heads, strict=True)):
            raise ValueError(
                "filters must be divisible by their level's num_heads. "
                f"Received: filters={filters}, num_heads={num_heads}"
            )
        token = filters[0]  # the width of the bridge's tokens
        if any(width % token or width % 2 for width in filters[1:]):
            raise ValueError(
                "filters but the first must be even, and divisible by the first. "
                f"Received: filters={filters}"
            )
        require_positive(bridge_depth=bridge_depth)
        image, dtype = self.begin(input_shape, num_classes, kwargs)

        # === Layers ===
        def initial(in_decoder: bool, fan_in: int | None = None) -> dict[str, Any]:
            if in_decoder:
                return {"kernel_initializer": "glorot_uniform", "dtype": dtype}
            bias = FanInUniform(fan_in=fan_in)
            return {"kernel_initializer": FanInUniform(), "bias_initializer": bias, "dtype": dtype}

        def normalize(x: Any, name: str) -> Any:
            return keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype, name=name)(x)

        def add(x: Any, y: Any, name: str) -> Any:
            return keras.layers.Add(dtype=dtype, name=name)([x, y])

        def dense(x: Any, width: int, name: str, in_decoder: bool) -> Any:
            common = initial(in_decoder, x.shape[-1])
            return keras.layers.Dense(width, name=name, **common)(x)

        def feed_forward(x: Any, name: str, in_decoder: bool = False) -> Any:
            y = dense(x, 4 * x.shape[-1], f"{name}_widen", in_decoder)
            z = DepthwiseConv(3, name=f"{name}_depthwise", **initial(in_decoder))(y)
            y = normalize(add(z, y, f"{name}_depthwise_add"), f"{name}_depthwise_norm")
            y = keras.layers.Activation("gelu", dtype=dtype, name=f"{name}_gelu")(y)
            return dense(y, x.shape[-1], f"{name}_narrow", in_decoder)

        def block(x: Any, level: int, name: str, output_name: str, in_decoder: bool = False) -> Any:
            tokens = [normalize(x, f"{name}_attention_norm")]
            if REDUCTIONS[level] > 1:
                layer = PatchEmbedding(
                    x.shape[-1],
                    REDUCTIONS[level],
                    name=f"{name}_reduction",
                    **initial(in_decoder),
                )
                tokens.append(normalize(layer(tokens[0]), f"{name}_reduction_norm"))
            attention = MultiHeadAttention(
                num_heads[level - 1], "key_value", name=f"{name}_attention", **initial(in_decoder)
            )
            x = add(x, attention(*tokens), f"{name}_attention_add")
            y = feed_forward(normalize(x, f"{name}_norm"), name, in_decoder)
            return add(x, y, output_name)

        def encode(x: Any, level: int) -> Any:
            name = f"encoder{level}"
            taps, strides = (7, PATCH) if level == 1 else (3, 2)
            x = GroupedConv(
                filters[level - 1],
                taps,
                strides=strides,
                name=f"{name}_embedding",
                **initial(False),
            )(x)
            x = normalize(x, f"{name}_embedding_norm")
            for number in range(depths[level - 1]):
                x = block(x, level, f"{name}_{number}", f"{name}_{number}")
            return normalize(x, name)

        def reshape(x: Any, *shape: int) -> Any:
            return keras.layers.Reshape(shape, dtype=dtype)(x)

        def join(maps: list[Any], name: str) -> Any:
            """Return tokens, `(batch, 1, length, channels)`, that maps are read as."""
            tokens = [reshape(x, 1, -1, token) for x in maps]
            return keras.layers.Concatenate(axis=2, dtype=dtype, name=name)(tokens)

        def split(x: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
            """Return the maps of such shapes that tokens are read as."""
            ends = np.cumsum([0, *(math.prod(shape) // token for shape in shapes)]).tolist()
            return [
                reshape(x[:, :, start:end], *shape)
                for start, end, shape in zip(ends[:-1], ends[1:], shapes, strict=True)
            ]

        def channels_first(x: Any) -> Any:
            """Return a map in the order that a reading with the channels first gives its tokens."""
            height, width, channels = x.shape[1:]
            x = reshape(x, height * width, token, channels // token)
            return keras.layers.Permute((3, 1, 2), dtype=dtype)(x)

        def bridge(x: Any, shapes: list[tuple[int, ...]], name: str) -> Any:
            y = normalize(x, f"{name}_attention_norm")
            *maps, deepest = split(y, shapes)
            reduced = []
            for level, feature in enumerate(maps, start=1):
                layer = PatchEmbedding(
                    feature.shape[-1],
                    REDUCTIONS[level],
                    name=f"{name}_reduction{level}",
                    **initial(False),
                )
                reduced.append(channels_first(layer(feature)))
            source = join([*reduced, deepest], f"{name}_source")
            source = normalize(source, f"{name}_reduction_norm")
            attention = MultiHeadAttention(
                1, "key_value", name=f"{name}_attention", **initial(False)
            )
            x = add(x, attention(y, source), f"{name}_attention_add")
            maps = split(normalize(x, f"{name}_norm"), shapes)
            mixed = [
                feed_forward(feature, f"{name}_level{level}")
                for level, feature in enumerate(maps, start=1)
            ]
            return add(x, join(mixed, f"{name}_mixed"), name)

        def expand(x: Any, filters: int, factor: int, name: str) -> Any:
            return PatchExpansion(filters, factor, name=name, **initial(True))(x)

        def decode(skip: Any, x: Any, level: int) -> Any:
            name = f"decoder{level}"
            x = expand(x, x.shape[-1] // 2, 2, f"decoder{level + 1}_expansion")
            x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([x, skip])
            x = dense(x, skip.shape[-1], f"{name}_dense", True)
            for number in range(DECODER_DEPTH):
                is_last = number == DECODER_DEPTH - 1
                block_name = f"{name}_{number}"
                x = block(x, level, block_name, name if is_last else block_name, True)
            return x

        # === Functional model ===
        x = image
        if x.shape[-1] == 1:
            x = keras.layers.Concatenate(dtype=dtype, name="repeated_channel")([x, x, x])
        features = []
        for level in (1, 2, 3, 4):
            x = encode(x, level)
            features.append(x)
        shapes = [feature.shape[1:] for feature in features]
        x = join(features, "tokens")
        for number in range(1, bridge_depth + 1):
            x = bridge(x, shapes, f"bridge{number}")
        *skips, x = split(x, shapes)
        for level in (3, 2, 1):
            x = decode(skips[level - 1], x, level)
        x = expand(x, token, PATCH, "expansion")
        # In half precision a loss of logits would lose its small differences.
        logits = GroupedConv(
            num_classes, 1, kernel_initializer="glorot_uniform", dtype="float32", name="logits"
        )(x)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.depths = depths
        self.num_heads = num_heads
        self.bridge_depth = bridge_depth

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "depths": self.depths,
            "num_heads": self.num_heads,
            "bridge_depth": self.bridge_depth,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        parts: list[tuple[str, Any]] = []
        for level in (1, 2, 3, 4):
            name = f"encoder{level}"
            parts += [
                (f"backbone.patch_embed{level}.proj", layer(f"{name}_embedding")),
                (f"backbone.patch_embed{level}.norm", layer(f"{name}_embedding_norm")),
                (f"backbone.norm{level}", layer(name)),
            ]
            for number in range(self.depths[level - 1]):
                parts += self._block(f"backbone.block{level}.{number}", f"{name}_{number}", level)
        for number in range(1, self.bridge_depth + 1):
            parts += self._bridge(f"bridge.bridge_layer{number}", f"bridge{number}")
        for level in (4, 3, 2, 1):
            theirs, name = f"decoder_{level - 1}", f"decoder{level}"
            expansion = layer("expansion" if level == 1 else f"{name}_expansion")
            parts.append((f"{theirs}.layer_up", expansion))
            if level == 4:
                continue
            parts.append((f"{theirs}.concat_linear", layer(f"{name}_dense")))
            for number in range(DECODER_DEPTH):
                block = f"{theirs}.layer_former_{number + 1}"
                parts += self._block(block, f"{name}_{number}", level)
        return [*parts, ("decoder_0.last_layer", layer("logits"))]

    def _block(self, theirs: str, name: str, level: int) -> list[tuple[str, Any]]:
        reduction = [
            (f"{theirs}.attn.{part}", self.get_layer(f"{name}_{ours}"))
            for part, ours in (("sr", "reduction"), ("norm", "reduction_norm"))
            if REDUCTIONS[level] > 1
        ]
        return [
            (f"{theirs}.norm1", self.get_layer(f"{name}_attention_norm")),
            *reduction,
            *self._attention(f"{theirs}.attn", f"{name}_attention"),
            (f"{theirs}.norm2", self.get_layer(f"{name}_norm")),
            *self._feed_forward(f"{theirs}.mlp", name),
        ]

    def _bridge(self, theirs: str, name: str) -> list[tuple[str, Any]]:
        reduction = f"{theirs}.attn.scale_reduce"
        parts = [
            (f"{theirs}.norm1", self.get_layer(f"{name}_attention_norm")),
            *(
                (f"{reduction}.sr{level - 1}", self.get_layer(f"{name}_reduction{level}"))
                for level in (1, 2, 3)
            ),
            (f"{reduction}.norm", self.get_layer(f"{name}_reduction_norm")),
            *self._attention(f"{theirs}.attn", f"{name}_attention"),
            (f"{theirs}.norm2", self.get_layer(f"{name}_norm")),
        ]
        for level in (1, 2, 3, 4):
            parts += self._feed_forward(f"{theirs}.mixffn{level}", f"{name}_level{level}")
        return parts

    def _attention(self, theirs: str, name: str) -> list[tuple[str, Any]]:
        attention = self.get_layer(name)
        query, key_value = attention.projections
        return [
            (f"{theirs}.q", query),
            (f"{theirs}.kv", key_value),
            (f"{theirs}.proj", attention.project),
        ]

    def _feed_forward(self, theirs: str, name: str) -> list[tuple[str, Any]]:
        return [
            (f"{theirs}.{part}", self.get_layer(f"{name}_{ours}"))
            for part, ours in (
                ("fc1", "widen"),
                ("dwconv.dwconv", "depthwise"),
                ("norm1", "depthwise_norm"),
                ("fc2", "narrow"),
            )
        ]

    def idle_parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of two norms of each feed-forward layer, and of most of a level."""
        idle: dict[str, tuple[int, ...]] = {}
        for name, part in self.published_parts():
            if name.endswith("fc1"):
                for norm in ("norm2", "norm3"):
                    theirs = f"{name.removesuffix('fc1')}{norm}"
                    idle |= {f"{theirs}.weight": (part.units,), f"{theirs}.bias": (part.units,)}
        width = self.filters[3]

        def dense(name: str, inputs: int, outputs: int) -> None:
            idle[f"{name}.weight"], idle[f"{name}.bias"] = (outputs, inputs), (outputs,)

        dense("decoder_3.concat_linear", 2 * width, width)
        for number in range(DECODER_DEPTH):
            block = f"decoder_3.layer_former_{number + 1}"
            for name, inputs, outputs in (
                ("attn.q", width, width),
                ("attn.kv", width, 2 * width),
                ("attn.proj", width, width),
                ("mlp.fc1", width, 4 * width),
                ("mlp.fc2", 4 * width, width),
            ):
                dense(f"{block}.{name}", inputs, outputs)
            convolution = f"{block}.mlp.dwconv.dwconv"
            idle |= {f"{convolution}.weight": (4 * width, 1, 3, 3)}
            idle |= {f"{convolution}.bias": (4 * width,)}
            for name, values in (
                *(("norm1", width), ("norm2", width)),
                *((f"mlp.norm{norm}", 4 * width) for norm in (1, 2, 3)),
            ):
                idle |= {f"{block}.{name}.{part}": (values,) for part in ("weight", "bias")}
        return idle
