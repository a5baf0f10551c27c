"""TinyU-Net: a U-Net whose levels reuse cheap features of several receptive fields."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    ConvNormActivation,
    CubicUpsampling,
    DepthwiseConv,
    GMSBlock,
    GroupedConv,
    LMSBlock,
    MaxPooling,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import BatchNormalization
from keras_lgmsnet.models.base import SegmentationNetwork

BLOCKS = (None, "lms", "gms")
LEVELS = (1, 2, 3, 4)
# Depthwise convolutions of a block, one after the other: each sees 2 pixels more than the last.
CASCADE = 7
BOTTLENECK_WIDTH = 16


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class TinyUNet2D(SegmentationNetwork):
    """TinyU-Net for images: 481,105 parameters and 1.78 G multiply-adds at 256 × 256.

    A U-Net of blocks that narrow to an eighth, filter one half of that by a cascade of depthwise
    convolutions, concatenate what each of these makes, and widen; the decoder upsamples by bicubic
    interpolation. The network of Chen et al. (TinyU-Net, MICCAI 2024), which LGMSNet's paper
    compares (Table 1: 0.48 M, 1.66 G), as in the published program; paper and program do not
    differ. It returns logits.

    With `block`, LGMSNet's blocks replace the encoder's but for the first stage's, as in the
    paper's ablation. The wiring is not published. For `"lms"` (690,937 parameters; printed 0.69 M)
    it follows LGMSNet's own encoder stages: an LMS block at the incoming width, then a pointwise
    convolution that widens. `"gms"` (718,393; printed 0.71 M) is a proposal, and has 8 thousand
    parameters more than printed: that, and a GMS block 16 wide in the bottleneck, where TinyU-Net
    has no layer at all.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are PyTorch's defaults.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 16, with `block="gms"` by
            32, or `None`.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the four levels, divisible by 16.
        block: `None`, `"lms"` or `"gms"`.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible.

    Example:
    ```python
    model = kl.models.create("tinyunet", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (64, 128, 256, 512),
        block: str | None = None,
        **kwargs: Any,
    ) -> None:
        filters = positive_integers(filters=filters)
        if len(filters) != len(LEVELS) or any(width % 16 for width in filters):
            raise ValueError(
                f"filters are the four levels' widths, divisible by 16. Received: filters={filters}"
            )
        if block not in BLOCKS:
            raise ValueError(f"block must be 'lms', 'gms' or None. Received: block={block!r}")
        image, dtype = self.begin(input_shape, num_classes, kwargs, block=block)
        common = {"normalization": "batch", "bias_initializer": FanInUniform(), "dtype": dtype}

        # === Layers ===
        def normalize(x: Any, name: str) -> Any:
            return BatchNormalization(epsilon=1e-3, momentum=0.97, dtype=dtype, name=name)(x)

        def convolve(x: Any, filters: int, name: str, activation_name: str) -> Any:
            x = GroupedConv(filters, 1, use_bias=False, dtype=dtype, name=f"{name}_convolution")(x)
            x = normalize(x, f"{name}_norm")
            return keras.layers.Activation("gelu", dtype=dtype, name=activation_name)(x)

        def reuse(x: Any, width: int, name: str) -> Any:
            x = convolve(x, width // 8, f"{name}_narrow", f"{name}_narrow")
            x, kept = x[..., 1::2], x[..., ::2]
            features = [keras.layers.Add(dtype=dtype, name=f"{name}_add")([kept, x])]
            for number in range(CASCADE):
                step = f"{name}_{number}"
                x = DepthwiseConv(3, use_bias=False, dtype=dtype, name=f"{step}_depthwise")(x)
                x = normalize(x, f"{step}_norm")
                features.append(x)
            x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_features")(features)
            return convolve(x, width, f"{name}_widen", name)

        def encode(x: Any, level: int) -> Any:
            width, name = filters[level - 1], f"encoder{level}"
            if level == 1 or block is None:
                return reuse(x, width, name)
            x = LMSBlock(name=f"{name}_lms", **common)(x)
            return ConvNormActivation(width, 1, name=name, **common)(x)

        def pool(x: Any, name: str) -> Any:
            return MaxPooling(dtype=dtype, name=f"{name}_pooling")(x)

        def decode(skip: Any, x: Any, level: int) -> Any:
            name = f"decoder{level}"
            x = CubicUpsampling(dtype=dtype, name=f"up{level}")(x)
            x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([x, skip])
            return reuse(x, skip.shape[-1], name)

        # === Functional model ===
        x = encode(image, 1)
        skips = [x]
        for level in LEVELS[1:]:
            x = encode(pool(x, f"encoder{level}"), level)
            skips.append(x)
        x = pool(x, "bottleneck")
        if block == "gms":
            x = ConvNormActivation(BOTTLENECK_WIDTH, 1, name="bottleneck_narrow", **common)(x)
            x = GMSBlock(
                BOTTLENECK_WIDTH,
                transformer_ratio=0.75,
                feed_forward_dim=2 * BOTTLENECK_WIDTH,
                name="bottleneck_gms",
                **common,
            )(x)
            x = ConvNormActivation(filters[-1], 1, name="bottleneck", **common)(x)
        for level in reversed(LEVELS):
            x = decode(skips[level - 1], x, level)
        logits = GroupedConv(
            num_classes,
            1,
            bias_initializer=FanInUniform(),
            # In half precision a loss of logits would lose its small differences.
            dtype="float32",
            name="logits",
        )(x)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.block = block

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters, "block": self.block}

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        parts: list[tuple[str, Any]] = []
        for level in LEVELS:
            stage = f"encoder{level}"
            if level == 1 or self.block is None:
                parts += self._reuse(stage)
            else:
                parts += [
                    (f"{stage}.cmrf.0", layer(f"{stage}_lms")),
                    (f"{stage}.cmrf.1", layer(stage)),
                ]
        if self.block == "gms":
            steps = ("bottleneck_narrow", "bottleneck_gms", "bottleneck")
            parts += [(f"bottleneck.{number}", layer(name)) for number, name in enumerate(steps)]
        for level in reversed(LEVELS):
            parts += self._reuse(f"decoder{level}")
        return [*parts, ("final_conv", layer("logits"))]

    def _reuse(self, stage: str) -> list[tuple[str, Any]]:
        steps = [("pwconv1", "narrow_convolution", "narrow_norm")]
        steps += [(f"m.{step}", f"{step}_depthwise", f"{step}_norm") for step in range(CASCADE)]
        steps.append(("pwconv2", "widen_convolution", "widen_norm"))
        return [
            (f"{stage}.cmrf.{name}.{theirs}", self.get_layer(f"{stage}_{ours}"))
            for name, *layers in steps
            for theirs, ours in zip(("conv", "bn"), layers, strict=True)
        ]
