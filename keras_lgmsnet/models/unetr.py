"""UNETR: a transformer on patches of a volume, and convolutions that decode what it tells."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    MultiHeadAttention,
    PatchEmbedding,
    PositionEmbedding,
    TransposedConv,
)
from keras_lgmsnet.layers.base import require_positive
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.unetr_blocks import (
    block_parts,
    classify,
    decode,
    decoder_parts,
    logits_parts,
    residual,
    residual_parts,
)

# Of the volume, that are one token each.
PATCH = 16
# How often the tokens of a skip connection are doubled and convolved, once they are doubled.
REPEATS = {2: 2, 3: 1, 4: 0}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class UNETR3D(SegmentationNetwork):
    """UNETR for volumes: 92,784,046 parameters and 72.6 G multiply-adds at 96³.

    A vision transformer attends over patches of 16³ voxels. What it made of them after a quarter,
    a half and three quarters of its blocks is upsampled to skip connections of a decoder, which
    begins with what came out of it and ends with the volume itself. The network of Hatamizadeh et
    al. (UNETR, WACV 2022), which LGMSNet's paper compares (Table 3: 92.61 M), as in the published
    program and MONAI 0.9.0. It returns logits.

    The paper draws skip connections after the transformer's 3rd, 6th and 9th block; the program,
    and this network, take them after the 4th, 7th and 10th. It learns a vector for each position
    of a patch, so it takes volumes of one size only.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are the program's: normal ones of deviation 0.02 for patches and positions,
    PyTorch's defaults elsewhere.

    Args:
        input_shape: `(depth, height, width, channels)`; the sides divisible by 16.
        num_classes: Number of exclusive classes, background included, one logit each.
        filters: Width of the last level; each level below has twice as many as the one above.
        hidden_filters: Width of the transformer.
        depth: How many blocks it has. Skip connections begin after those of index `depth // 4`,
            `depth // 2` and `3 * depth // 4`, counted from 0.
        num_heads: Heads of its attention, a divisor of `hidden_filters`.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is unknown or not divisible by 16.

    Example:
    ```python
    model = kl.models.create("unetr", input_shape=(96, 96, 96, 1), num_classes=14)
    model.fit(dataset)  # of (volume, labels)
    ```
    """

    rank = 3

    def __init__(
        self,
        input_shape: Sequence[int | None] = (96, 96, 96, 1),
        num_classes: int = 14,
        filters: int = 16,
        hidden_filters: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        **kwargs: Any,
    ) -> None:
        require_positive(
            filters=filters, hidden_filters=hidden_filters, depth=depth, num_heads=num_heads
        )
        if hidden_filters % num_heads:
            raise ValueError(
                "num_heads must divide hidden_filters. "
                f"Received: num_heads={num_heads}, hidden_filters={hidden_filters}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        common = {"dtype": dtype}

        # === Layers ===
        def normalize(x: Any, name: str) -> Any:
            return keras.layers.LayerNormalization(epsilon=EPSILON, name=name, **common)(x)

        def dense(x: Any, width: int, name: str) -> Any:
            layer = keras.layers.Dense(
                width,
                kernel_initializer=FanInUniform(),
                bias_initializer=FanInUniform(fan_in=x.shape[-1]),
                name=name,
                **common,
            )
            return layer(x)

        def add(x: Any, y: Any, name: str) -> Any:
            return keras.layers.Add(name=name, **common)([x, y])

        def transform(x: Any, name: str) -> Any:
            attention = MultiHeadAttention(
                num_heads,
                joined="query_key_value",
                use_bias=False,
                bias_initializer=FanInUniform(),
                name=f"{name}_attention",
                **common,
            )
            y = attention(normalize(x, f"{name}_attention_norm"))
            x = add(x, y, f"{name}_attention_add")
            y = dense(normalize(x, f"{name}_norm"), 4 * hidden_filters, f"{name}_widen")
            y = keras.layers.Activation("gelu", name=f"{name}_gelu", **common)(y)
            return add(x, dense(y, hidden_filters, f"{name}_narrow"), name)

        def double(x: Any, width: int, name: str) -> Any:
            return TransposedConv(width, name=name, **common)(x)

        def encode(tokens: Any, level: int) -> Any:
            width, name = 2 ** (level - 1) * filters, f"encoder{level}"
            first, *others = _doublings(level)
            x = double(tokens, width, first)
            for number, doubling in enumerate(others, start=1):
                block = name if number == len(others) else f"{name}_{number}"
                x = residual(double(x, width, doubling), width, block, dtype)
            return x

        # === Functional model ===
        x = PatchEmbedding(
            hidden_filters,
            PATCH,
            kernel_initializer=_normal(),
            flat_kernel=True,
            name="embedding",
            **common,
        )(image)
        x = PositionEmbedding(_normal(), name="positions", **common)(x)
        tokens = []
        for number in range(depth):
            x = transform(x, f"transformer{number}")
            tokens.append(x)
        x = normalize(x, "transformer")
        skips = [residual(image, filters, "encoder1", dtype)]
        for level in (2, 3, 4):
            skips.append(encode(tokens[(level - 1) * depth // 4], level))
        for level in (5, 4, 3, 2):
            width = 2 ** (level - 2) * filters
            x = decode(x, skips[level - 2], width, f"decoder{level}", dtype)
        logits = classify(x, num_classes)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.hidden_filters = hidden_filters
        self.depth = depth
        self.num_heads = num_heads

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "hidden_filters": self.hidden_filters,
            "depth": self.depth,
            "num_heads": self.num_heads,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        parts: list[tuple[str, Any]] = [
            ("vit.patch_embedding.position_embeddings", layer("positions").table),
            ("vit.patch_embedding.patch_embeddings.1", layer("embedding")),
        ]
        for number in range(self.depth):
            theirs, ours = f"vit.blocks.{number}", f"transformer{number}"
            attention = layer(f"{ours}_attention")
            parts += [
                (f"{theirs}.norm1", layer(f"{ours}_attention_norm")),
                (f"{theirs}.attn.qkv", attention.projections[0]),
                (f"{theirs}.attn.out_proj", attention.project),
                (f"{theirs}.norm2", layer(f"{ours}_norm")),
                (f"{theirs}.mlp.linear1", layer(f"{ours}_widen")),
                (f"{theirs}.mlp.linear2", layer(f"{ours}_narrow")),
            ]
        parts += [("vit.norm", layer("transformer")), *residual_parts(self, "encoder1")]
        for level in (2, 3, 4):
            name = f"encoder{level}"
            first, *others = _doublings(level)
            parts.append((f"{name}.transp_conv_init.conv", layer(first)))
            for number, doubling in enumerate(others):
                block = layer(name if number == len(others) - 1 else f"{name}_{number + 1}")
                parts.append((f"{name}.blocks.{number}.0.conv", layer(doubling)))
                parts += block_parts(block, f"{name}.blocks.{number}.1")
        for level in (5, 4, 3, 2):
            parts += decoder_parts(self, f"decoder{level}")
        return [*parts, *logits_parts(self)]


def _doublings(level: int) -> list[str]:
    """Return the names of the layers that double the sides of a skip connection's tokens."""
    name, repeats = f"encoder{level}", REPEATS[level]
    if repeats == 0:
        return [name]
    return [f"{name}_upsampling", *(f"{name}_{n}_upsampling" for n in range(1, repeats + 1))]


def _normal() -> keras.initializers.Initializer:
    # An object draws the same numbers for the same shape: each weight has its own. The program
    # cuts the distribution at 100 deviations.
    return keras.initializers.RandomNormal(stddev=0.02)
