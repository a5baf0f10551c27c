"""MobileViT: an encoder of inverted residuals and transformers, with DeepLabV3's head."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import ConvNormActivation, DepthwiseConv, SparseTransformer
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import BatchNormalization
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.deeplab import add_head, head_parts

# By which the feed-forward layers of each stage's transformers are wider than their tokens.
FEED_FORWARD_FACTORS = {3: 2, 4: 4, 5: 4}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class MobileViT2D(SegmentationNetwork):
    """MobileViT for images: 10,669,425 parameters and 2.14 G multiply-adds at 256 × 256.

    Inverted residuals halve the sides five times; at the three deepest levels transformers attend
    over the image in sparse sequences, the pixels at one position of all 2 × 2 patches. On the
    features stands the head of DeepLabV3, `keras_lgmsnet.layers.AtrousPyramidPooling`, and bilinear
    upsampling by 32. The network of Mehta and Rastegari (MobileViT, ICLR 2022), which LGMSNet's
    paper compares (Table 1: 10.66 M, 2.13 G). It returns logits.

    The encoder is that of the published program of LGMSNet, which differs from MobileViT's paper:
    attention is 32 wide at all levels, and the feed-forward layers are twice as wide as the tokens
    at the first level with transformers, four times at the others. So no weights published for
    MobileViT fit. The head is not published: DeepLabV3's gives both of the paper's numbers.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are PyTorch's defaults. Train with two images a batch at least, see
    `AtrousPyramidPooling`.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 64, or `None`.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the first convolution, of the five levels, of the last convolution, and
            of the head. Transformers are half as wide again as their level.
        depths: Transformers at the three deepest levels.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible by 64.

    Example:
    ```python
    model = kl.models.create("mobilevit", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (16, 32, 64, 96, 128, 160, 640, 256),
        depths: Sequence[int] = (2, 4, 3),
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        if len(filters) != 8 or any(width % 2 for width in filters[3:6]):
            raise ValueError(
                "filters are the widths of the first convolution, of five levels, the last three "
                f"of them even, of the last convolution and of the head. Received: {filters=}"
            )
        if len(depths) != 3:
            raise ValueError(
                f"depths are the transformers at the three deepest levels. Received: {depths=}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)

        # === Layers ===
        def convolve(x: Any, filters: int, taps: int, name: str, **options: Any) -> Any:
            options = {"normalization": "batch", "dtype": dtype, "name": name} | options
            return ConvNormActivation(filters, taps, **options)(x)

        def invert(x: Any, filters: int, name: str, strides: int = 1) -> Any:
            channels = x.shape[-1]
            y = convolve(x, 4 * channels, 1, f"{name}_expand")
            y = DepthwiseConv(
                3, use_bias=False, strides=strides, dtype=dtype, name=f"{name}_depthwise"
            )(y)
            y = BatchNormalization(dtype=dtype, name=f"{name}_norm")(y)
            y = keras.layers.Activation("silu", dtype=dtype, name=f"{name}_activation")(y)
            if strides > 1 or channels != filters:
                return convolve(y, filters, 1, name, activation="linear")
            y = convolve(y, filters, 1, f"{name}_reduce", activation="linear")
            return keras.layers.Add(dtype=dtype, name=name)([x, y])

        def attend(x: Any, level: int) -> Any:
            channels, name = x.shape[-1], f"encoder{level}"
            width = 3 * channels // 2
            y = convolve(x, channels, 3, f"{name}_local")
            y = convolve(y, width, 1, f"{name}_widen")
            for number in range(depths[level - 3]):
                y = SparseTransformer(
                    FEED_FORWARD_FACTORS[level] * width,
                    bias_initializer=FanInUniform(),
                    dtype=dtype,
                    name=f"{name}_transformer{number}",
                )(y)
            y = convolve(y, channels, 1, f"{name}_narrow")
            y = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([y, x])
            return convolve(y, channels, 3, name)

        # === Functional model ===
        x = convolve(image, filters[0], 3, "stem", strides=2)
        x = invert(x, filters[1], "encoder1")
        x = invert(x, filters[2], "encoder2_down", strides=2)
        x = invert(x, filters[2], "encoder2_block")
        x = invert(x, filters[2], "encoder2")
        for level in (3, 4, 5):
            x = invert(x, filters[level], f"encoder{level}_down", strides=2)
            x = attend(x, level)
        x = convolve(x, filters[6], 1, "features")
        logits = add_head(x, num_classes, filters[7], 32, dtype)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.depths = depths

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters, "depths": self.depths}

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published programs."""
        layer = self.get_layer
        parts: list[tuple[str, Any]] = [("backbone.conv1", layer("stem"))]
        stem = ("encoder1", "encoder2_down", "encoder2_block", "encoder2")
        for number, name in enumerate(stem):
            parts += self._inverted(f"backbone.stem.{number}", name)
        for number, level in enumerate((3, 4, 5)):
            theirs, name = f"backbone.trunk.{number}", f"encoder{level}"
            parts += [
                *self._inverted(f"{theirs}.0", f"{name}_down"),
                (f"{theirs}.1.conv1", layer(f"{name}_local")),
                (f"{theirs}.1.conv2", layer(f"{name}_widen")),
                *(
                    (f"{theirs}.1.transformer.layers.{block}", layer(f"{name}_transformer{block}"))
                    for block in range(self.depths[number])
                ),
                (f"{theirs}.1.conv3", layer(f"{name}_narrow")),
                (f"{theirs}.1.conv4", layer(name)),
            ]
        return [*parts, ("backbone.to_logits.0", layer("features")), *head_parts(self)]

    def _inverted(self, theirs: str, name: str) -> list[tuple[str, Any]]:
        expand, reduce = self.get_layer(f"{name}_expand"), self.get_layer(name)
        if isinstance(reduce, keras.layers.Add):  # that of a residual, which follows
            reduce = self.get_layer(f"{name}_reduce")
        return [
            (f"{theirs}.conv.0", expand.convolution),
            (f"{theirs}.conv.1", expand.norm),
            (f"{theirs}.conv.3", self.get_layer(f"{name}_depthwise")),
            (f"{theirs}.conv.4", self.get_layer(f"{name}_norm")),
            (f"{theirs}.conv.6", reduce.convolution),
            (f"{theirs}.conv.7", reduce.norm),
        ]
