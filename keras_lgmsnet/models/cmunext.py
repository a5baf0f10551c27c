"""CMUNeXt: large depthwise kernels, then pointwise convolutions, in a U of convolutions."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    ConvNormActivation,
    DepthwiseConv,
    FusionBlock,
    GroupedConv,
    LinearUpsampling,
    MaxPooling,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import BatchNormalization
from keras_lgmsnet.models.base import SegmentationNetwork

# Of the depthwise convolutions, stage by stage.
KERNEL_SIZES = (3, 3, 7, 7, 7)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class CMUNeXt2D(SegmentationNetwork):
    """CMUNeXt for images: 3,149,185 parameters and 7.42 G multiply-adds at 256 × 256.

    Its encoder mixes pixels by large depthwise kernels and channels by pointwise convolutions; its
    decoder fuses each skip connection by a convolution in two groups. LGMSNet is built on it. The
    network of Tang et al. (CMUNeXt, ISBI 2024) in its base size, which LGMSNet's paper compares
    (Table 1: 3.14 M, 7.41 G), as in the published program; paper and program do not differ. It
    returns logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are PyTorch's defaults.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 16, or `None`.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the five stages. The first one's is also the stem's.
        depths: How many blocks each of the five stages of the encoder has.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible by 16.

    Example:
    ```python
    model = kl.models.create("cmunext", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (16, 32, 128, 160, 256),
        depths: Sequence[int] = (1, 1, 1, 3, 1),
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        if (len(filters), len(depths)) != (5, 5):
            raise ValueError(
                "filters and depths must have a value for each of the five stages. "
                f"Received: filters={filters}, depths={depths}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        biased = {"bias_initializer": FanInUniform()}
        common = biased | {"dtype": dtype}

        # === Layers ===
        def convolve(x: Any, filters: int, name: str) -> Any:
            step = ConvNormActivation(
                filters, 3, activation="relu", use_bias=True, name=name, **common
            )
            return step(x)

        def activate(x: Any, name: str) -> Any:
            # In this order, here and in the fusion.
            x = keras.layers.Activation("gelu", dtype=dtype, name=f"{name}_activation")(x)
            return BatchNormalization(dtype=dtype, name=f"{name}_norm")(x)

        def mix(x: Any, kernel_size: int, name: str) -> Any:
            channels = x.shape[-1]
            y = DepthwiseConv(kernel_size, name=f"{name}_depthwise", **common)(x)
            y = activate(y, f"{name}_depthwise")
            y = keras.layers.Add(dtype=dtype, name=f"{name}_add")([x, y])
            for step, width in (("widen", 4 * channels), ("narrow", channels)):
                y = GroupedConv(width, 1, name=f"{name}_{step}", **common)(y)
                y = activate(y, f"{name}_{step}")
            return y

        def encode(x: Any, stage: int) -> Any:
            for number in range(depths[stage - 1]):
                x = mix(x, KERNEL_SIZES[stage - 1], f"encoder{stage}_{number}")
            return convolve(x, filters[stage - 1], f"encoder{stage}")

        def decode(skip: Any, x: Any, stage: int) -> Any:
            width, name = filters[stage - 2], f"decoder{stage}"
            x = LinearUpsampling(dtype=dtype, name=f"up{stage}_upsampling")(x)
            x = convolve(x, width, f"up{stage}")
            x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([skip, x])
            return FusionBlock(width, normalization="batch", name=name, **common)(x)

        # === Functional model ===
        x = convolve(image, filters[0], "stem")
        x = encode(x, 1)
        skips = [x]
        for stage in (2, 3, 4, 5):
            x = encode(MaxPooling(dtype=dtype, name=f"encoder{stage}_pooling")(x), stage)
            skips.append(x)
        for stage in (5, 4, 3, 2):
            x = decode(skips[stage - 2], x, stage)
        # In half precision a loss of logits would lose its small differences.
        logits = GroupedConv(num_classes, 1, dtype="float32", name="logits", **biased)(x)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.depths = depths

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters, "depths": self.depths}

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        stage = self.get_layer
        parts: list[tuple[str, Any]] = [("stem.conv", stage("stem"))]
        for number, depth in enumerate(self.depths, start=1):
            name = f"encoder{number}"
            for block in range(depth):
                ours, theirs = f"{name}_{block}", f"{name}.block.{block}"
                parts += [
                    (f"{theirs}.0.fn.0", stage(f"{ours}_depthwise")),
                    (f"{theirs}.0.fn.2", stage(f"{ours}_depthwise_norm")),
                    (f"{theirs}.1", stage(f"{ours}_widen")),
                    (f"{theirs}.3", stage(f"{ours}_widen_norm")),
                    (f"{theirs}.4", stage(f"{ours}_narrow")),
                    (f"{theirs}.6", stage(f"{ours}_narrow_norm")),
                ]
            parts.append((f"{name}.up.conv", stage(name)))
        for number in (5, 4, 3, 2):
            up = stage(f"up{number}")
            parts += [
                (f"Up{number}.up.1", up.convolution),
                (f"Up{number}.up.2", up.norm),
                (f"Up_conv{number}", stage(f"decoder{number}")),
            ]
        return [*parts, ("Conv_1x1", stage("logits"))]
