"""UNeXt: a U of convolutions whose deep levels shift channels and mix them by dense layers."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    AxialShift,
    DepthwiseConv,
    GroupedConv,
    LinearUpsampling,
    MaxPooling,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON, BatchNormalization
from keras_lgmsnet.models.base import SegmentationNetwork


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class UNeXt2D(SegmentationNetwork):
    """UNeXt for images: 1,471,921 parameters and 0.59 G multiply-adds at 256 × 256.

    Three levels of convolutions, then two of dense layers over the channels, before each of which
    parts of the channels are shifted, along the height and along the width: so neighbours are mixed
    at next to no cost. Skip connections are added. The network of Valanarasu and Patel (UNeXt,
    MICCAI 2022), which LGMSNet's paper compares (Table 1: 1.47 M, 0.58 G), as in the published
    program; paper and program do not differ. It returns logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are the program's: normal ones in the blocks of dense layers and where they
    begin, PyTorch's defaults elsewhere.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 32, or `None`.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the five levels.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible by 32.

    Example:
    ```python
    model = kl.models.create("unext", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (16, 32, 128, 160, 256),
        **kwargs: Any,
    ) -> None:
        filters = positive_integers(filters=filters)
        if len(filters) != 5:
            raise ValueError(f"filters are the five levels' widths. Received: filters={filters}")
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        biased = {"bias_initializer": FanInUniform()}

        # === Layers ===
        def convolve(x: Any, filters: int, name: str) -> Any:
            name = f"{name}_convolution"
            return GroupedConv(filters, 3, dtype=dtype, name=name, **biased)(x)

        def normalize(x: Any, name: str) -> Any:
            return keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype, name=name)(x)

        def add(x: Any, y: Any, name: str) -> Any:
            return keras.layers.Add(dtype=dtype, name=name)([x, y])

        def mix(x: Any, name: str) -> Any:
            width = x.shape[-1]

            def shift_and_mix(y: Any, axis: int, name: str) -> Any:
                y = AxialShift(axis, dtype=dtype, name=f"{name}_shift")(y)
                initial = keras.initializers.RandomNormal(stddev=0.02)
                return keras.layers.Dense(
                    width, kernel_initializer=initial, dtype=dtype, name=f"{name}_dense"
                )(y)

            y = normalize(x, f"{name}_block_norm")
            y = shift_and_mix(y, 1, f"{name}_height")
            y = DepthwiseConv(
                3, kernel_initializer=_he_normal(9), dtype=dtype, name=f"{name}_depthwise"
            )(y)
            y = keras.layers.Activation("gelu", dtype=dtype, name=f"{name}_gelu")(y)
            return add(x, shift_and_mix(y, 2, f"{name}_width"), f"{name}_block")

        def encode(x: Any, level: int) -> Any:
            width, name = filters[level - 1], f"encoder{level}"
            if level > 3:
                x = GroupedConv(
                    width,
                    3,
                    strides=2,
                    kernel_initializer=_he_normal(9 * width),
                    dtype=dtype,
                    name=f"{name}_embedding",
                )(x)
                x = normalize(x, f"{name}_embedding_norm")
                return normalize(mix(x, name), name)
            x = convolve(x, width, name)
            x = BatchNormalization(dtype=dtype, name=f"{name}_norm")(x)
            x = MaxPooling(dtype=dtype, name=f"{name}_pooling")(x)
            return keras.layers.Activation("relu", dtype=dtype, name=name)(x)

        def upsample(x: Any, name: str, activation_name: str) -> Any:
            x = LinearUpsampling(dtype=dtype, name=f"{name}_upsampling")(x)
            return keras.layers.Activation("relu", dtype=dtype, name=activation_name)(x)

        def decode(skip: Any, x: Any, level: int) -> Any:
            name = f"decoder{level}"
            x = convolve(x, skip.shape[-1], name)
            x = BatchNormalization(dtype=dtype, name=f"{name}_norm")(x)
            x = upsample(x, name, f"{name}_activation")
            if level < 4:
                return add(x, skip, name)
            x = add(x, skip, f"{name}_add")
            return normalize(mix(x, name), name)

        # === Functional model ===
        x = encode(image, 1)
        skips = [x]
        for level in (2, 3, 4, 5):
            x = encode(x, level)
            skips.append(x)
        for level in (5, 4, 3, 2):
            x = decode(skips[level - 2], x, level)
        x = upsample(convolve(x, filters[0], "decoder1"), "decoder1", "decoder1")
        # In half precision a loss of logits would lose its small differences.
        logits = GroupedConv(num_classes, 1, dtype="float32", name="logits", **biased)(x)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters}

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        parts: list[tuple[str, Any]] = []
        for level in (1, 2, 3):
            parts += [
                (f"encoder{level}", layer(f"encoder{level}_convolution")),
                (f"ebn{level}", layer(f"encoder{level}_norm")),
            ]
        for level in (4, 5):
            name, number = f"encoder{level}", level - 1
            parts += [
                (f"patch_embed{number}.proj", layer(f"{name}_embedding")),
                (f"patch_embed{number}.norm", layer(f"{name}_embedding_norm")),
                *self._block(name, f"block{level - 3}.0"),
                (f"norm{number}", layer(name)),
            ]
        for number, level in enumerate((5, 4, 3, 2), start=1):
            name = f"decoder{level}"
            parts += [
                (f"decoder{number}", layer(f"{name}_convolution")),
                (f"dbn{number}", layer(f"{name}_norm")),
            ]
            if level > 3:
                parts += self._block(name, f"dblock{number}.0")
                parts.append((f"dnorm{number + 2}", layer(name)))
        parts.append(("decoder5", layer("decoder1_convolution")))
        return [*parts, ("final", layer("logits"))]

    def _block(self, stage: str, name: str) -> list[tuple[str, Any]]:
        return [
            (f"{name}.{theirs}", self.get_layer(f"{stage}_{ours}"))
            for theirs, ours in (
                ("norm2", "block_norm"),
                ("mlp.fc1", "height_dense"),
                ("mlp.dwconv.dwconv", "depthwise"),
                ("mlp.fc2", "width_dense"),
            )
        ]


def _he_normal(fan_out: int) -> keras.initializers.Initializer:
    # An object draws the same numbers for the same shape: each kernel has its own.
    return keras.initializers.RandomNormal(stddev=(2 / fan_out) ** 0.5)
