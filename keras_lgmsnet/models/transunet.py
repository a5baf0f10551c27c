"""TransUNet: a transformer between the convolutions of a ResNet and of a decoder."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    ConvNormActivation,
    GroupedConv,
    GroupNormalization,
    LinearUpsampling,
    MultiHeadAttention,
    PositionEmbedding,
    StandardizedConv,
)
from keras_lgmsnet.layers.base import positive_integers, require_positive
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.models.base import SegmentationNetwork

DROPOUT = 0.1
# Of norms, but for those of projections and of the decoder.
EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class TransUNet2D(SegmentationNetwork):
    """TransUNet for images: 105,322,001 parameters and 37.3 G multiply-adds at 256 × 256.

    A ResNet of three stages, its kernels standardized and its norms over groups of channels, brings
    the image to a sixteenth of its sides; there a vision transformer attends over all pixels. The
    decoder upsamples, and joins what the stem and two of the stages made. The network of Chen et
    al. (TransUNet, 2021) with the transformer ViT-B/16, which LGMSNet's paper compares (Table 1:
    105.3 M, 38.52 G), as in the published program of LGMSNet. It returns logits.

    Chen et al. start with weights that were trained on ImageNet; here none are read. The network
    learns a vector for each position of the deepest level, so it takes images of one size only.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are the program's: uniform by Glorot's rule in the transformer's feed-forward
    layers, with biases of next to nothing, zero for the positions, PyTorch's defaults elsewhere.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 16. A single channel is
            repeated to three, as in the published program.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the stem, of the three stages, these divisible by 4, and of the
            transformer.
        decoder_filters: Widths of the decoder, from the deepest level to the image's sides.
        depths: Blocks of the three stages, and of the transformer.
        num_heads: Heads of the attention, a divisor of the transformer's width.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits are float32 at
            least).

    Raises:
        ValueError: If an argument is out of range, or a side is unknown or not divisible by 16.

    Example:
    ```python
    model = kl.models.create("transunet", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (64, 256, 512, 1024, 768),
        decoder_filters: Sequence[int] = (512, 256, 128, 64, 16),
        depths: Sequence[int] = (3, 4, 9, 12),
        num_heads: int = 12,
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        decoder_filters = positive_integers(decoder_filters=decoder_filters)
        require_positive(num_heads=num_heads)
        if (len(filters), len(depths)) != (5, 4) or any(width % 4 for width in filters[1:4]):
            raise ValueError(
                "filters are the widths of the stem, of three stages, divisible by 4, and of the "
                "transformer, depths the blocks of the stages and of the transformer. "
                f"Received: filters={filters}, depths={depths}"
            )
        if len(decoder_filters) != 5:
            raise ValueError(
                "decoder_filters are the widths of the decoder's five levels. "
                f"Received: decoder_filters={decoder_filters}"
            )
        if filters[4] % num_heads:
            raise ValueError(
                "num_heads must divide the transformer's width, the last of filters. "
                f"Received: num_heads={num_heads}, filters={filters}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        common = {"dtype": dtype}

        # === Layers ===
        def convolve(x: Any, width: int, taps: int, name: str, strides: int = 1) -> Any:
            layer = StandardizedConv(
                width, taps, use_bias=False, strides=strides, name=f"{name}_convolution", **common
            )
            return layer(x)

        def normalize(x: Any, name: str) -> Any:
            # 32 groups, or fewer if a group were a single channel, of which offsets are no use.
            groups = math.gcd(32, max(x.shape[-1] // 2, 1))
            return GroupNormalization(groups, epsilon=EPSILON, name=f"{name}_norm", **common)(x)

        def activate(x: Any, name: str, activation: str = "relu") -> Any:
            return keras.layers.Activation(activation, name=name, **common)(x)

        def add(x: Any, y: Any, name: str) -> Any:
            return keras.layers.Add(name=name, **common)([x, y])

        def step(x: Any, width: int, taps: int, name: str, strides: int = 1) -> Any:
            return activate(normalize(convolve(x, width, taps, name, strides), name), name)

        def unit(x: Any, width: int, strides: int, name: str) -> Any:
            y = step(x, width // 4, 1, f"{name}_first")
            y = step(y, width // 4, 3, f"{name}_second", strides)
            y = normalize(convolve(y, width, 1, f"{name}_third"), f"{name}_third")
            if strides > 1 or x.shape[-1] != width:
                x = convolve(x, width, 1, f"{name}_shortcut", strides)
                x = GroupNormalization(-1, name=f"{name}_shortcut_norm", **common)(x)
            return activate(add(x, y, f"{name}_add"), name)

        def dense(x: Any, width: int, name: str) -> Any:
            layer = keras.layers.Dense(
                width,
                kernel_initializer="glorot_uniform",
                bias_initializer=keras.initializers.RandomNormal(stddev=1e-6),
                name=name,
                **common,
            )
            return layer(x)

        def layer_norm(x: Any, name: str) -> Any:
            return keras.layers.LayerNormalization(epsilon=EPSILON, name=name, **common)(x)

        def drop(x: Any, name: str) -> Any:
            return keras.layers.Dropout(DROPOUT, name=name, **common)(x)

        def transform(x: Any, name: str) -> Any:
            y = layer_norm(x, f"{name}_attention_norm")
            attention = MultiHeadAttention(
                num_heads, bias_initializer=FanInUniform(), name=f"{name}_attention", **common
            )
            x = add(x, attention(y), f"{name}_attention_add")
            y = layer_norm(x, f"{name}_feed_forward_norm")
            y = dense(y, 4 * x.shape[-1], f"{name}_feed_forward_wide")
            y = drop(activate(y, f"{name}_gelu", "gelu"), f"{name}_dropout_wide")
            y = dense(y, x.shape[-1], f"{name}_feed_forward")
            return add(x, drop(y, f"{name}_dropout"), name)

        def decode(x: Any, width: int, name: str) -> Any:
            layer = ConvNormActivation(width, 3, "relu", normalization="batch", name=name, **common)
            return layer(x)

        # === Functional model ===
        x = image
        if x.shape[-1] == 1:
            x = keras.layers.Concatenate(name="repeated_channel", **common)([x, x, x])
        x = step(x, filters[0], 7, "encoder1", strides=2)
        skips = [x]
        # Nothing beyond the border, so of 128 pixels 63 are left.
        x = keras.layers.MaxPooling2D(3, 2, name="encoder2_pooling", **common)(x)
        for level, (width, depth) in enumerate(zip(filters[1:4], depths, strict=False), start=2):
            for number in range(depth):
                strides = 2 if level > 2 and number == 0 else 1
                x = unit(x, width, strides, _unit_name(level, number, depth))
            if level == 2:
                padding = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="encoder2", **common)
                skips.append(padding(x))
            else:
                skips.append(x)
        biased = {"bias_initializer": FanInUniform()}
        x = GroupedConv(filters[4], 1, name="patches", **biased, **common)(x)
        x = drop(PositionEmbedding(name="positions", **common)(x), "positions_dropout")
        for number in range(depths[3]):
            x = transform(x, f"transformer{number}")
        x = layer_norm(x, "transformer")
        x = decode(x, decoder_filters[0], "decoder4")
        for level, width in zip((3, 2, 1, 0), decoder_filters[1:], strict=True):
            name = f"decoder{level}"
            x = LinearUpsampling(align_corners=True, name=f"{name}_upsampling", **common)(x)
            if level > 0:
                joined = [x, skips[level - 1]]
                x = keras.layers.Concatenate(name=f"{name}_concatenate", **common)(joined)
            x = decode(decode(x, width, f"{name}_first"), width, name)
        # In half precision a loss of logits would lose its small differences.
        at_least = keras.backend.result_type(dtype.compute_dtype, "float32")
        logits = GroupedConv(num_classes, 3, dtype=at_least, name="logits", **biased)(x)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.decoder_filters = decoder_filters
        self.depths = depths
        self.num_heads = num_heads

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "decoder_filters": self.decoder_filters,
            "depths": self.depths,
            "num_heads": self.num_heads,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        embeddings = "net.transformer.embeddings"
        resnet = f"{embeddings}.hybrid_model"
        parts: list[tuple[str, Any]] = [
            (f"{resnet}.root.conv", layer("encoder1_convolution")),
            (f"{resnet}.root.gn", layer("encoder1_norm")),
        ]
        for level, depth in enumerate(self.depths[:3], start=2):
            for number in range(depth):
                theirs = f"{resnet}.body.block{level - 1}.unit{number + 1}"
                parts += self._unit(theirs, _unit_name(level, number, depth))
        parts += [
            (f"{embeddings}.patch_embeddings", layer("patches")),
            (f"{embeddings}.position_embeddings", layer("positions").table),
        ]
        for number in range(self.depths[3]):
            theirs, ours = f"net.transformer.encoder.layer.{number}", f"transformer{number}"
            attention = layer(f"{ours}_attention")
            parts += [
                (f"{theirs}.attention_norm", layer(f"{ours}_attention_norm")),
                (f"{theirs}.ffn_norm", layer(f"{ours}_feed_forward_norm")),
                (f"{theirs}.ffn.fc1", layer(f"{ours}_feed_forward_wide")),
                (f"{theirs}.ffn.fc2", layer(f"{ours}_feed_forward")),
                *(
                    (f"{theirs}.attn.{name}", projection)
                    for name, projection in zip(
                        ("query", "key", "value"), attention.projections, strict=True
                    )
                ),
                (f"{theirs}.attn.out", attention.project),
            ]
        parts += [
            ("net.transformer.encoder.encoder_norm", layer("transformer")),
            ("net.decoder.conv_more", layer("decoder4")),
        ]
        for number, level in enumerate((3, 2, 1, 0)):
            parts += [
                (f"net.decoder.blocks.{number}.conv1", layer(f"decoder{level}_first")),
                (f"net.decoder.blocks.{number}.conv2", layer(f"decoder{level}")),
            ]
        return [*parts, ("net.segmentation_head.0", layer("logits"))]

    def _unit(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        layers = {layer.name: layer for layer in self.layers}
        names = {
            **{"conv1": "first_convolution", "gn1": "first_norm"},
            **{"conv2": "second_convolution", "gn2": "second_norm"},
            **{"conv3": "third_convolution", "gn3": "third_norm"},
            **{"downsample": "shortcut_convolution", "gn_proj": "shortcut_norm"},
        }
        return [
            (f"{theirs}.{their_part}", layers[f"{ours}_{our_part}"])
            for their_part, our_part in names.items()
            if f"{ours}_{our_part}" in layers
        ]


def _unit_name(level: int, number: int, depth: int) -> str:
    """Return the name of a unit; the last one of a stage has the stage's, if that is no skip's."""
    return f"encoder{level}" if number == depth - 1 and level > 2 else f"encoder{level}_{number}"
