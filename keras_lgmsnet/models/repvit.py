"""RepViT under DeepLabV3's head: mobile blocks whose depthwise convolutions become one."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    ConvNormActivation,
    DepthwiseConv,
    GroupedConv,
    ParallelDepthwiseConv,
    SqueezeExcitation,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import BatchNormalization
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.deeplab import add_head, head_parts

# Kernel size and dilation of the depthwise convolutions that are added up with their input.
BRANCHES = ((3, 1), (1, 1))
HEAD_FILTERS = 256


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class RepViT2D(SegmentationNetwork):
    """RepViT-m3 for images: 14,377,217 parameters and 2.80 G multiply-adds at 256 × 256.

    Its blocks mix pixels by depthwise convolutions of 3 × 3 and of 1 × 1, which are one in
    inference, and so in exports; then channels by two pointwise convolutions. The encoder of Wang
    et al. (RepViT, CVPR 2024), as in the first release of their program, bears DeepLabV3's head.
    LGMSNet's paper compares it (Table 1: 14.37 M, 2.79 G), but does not publish which head it has:
    this one has both of these numbers. It returns logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are PyTorch's defaults; what a block's mixing of channels adds starts at zero.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 32, or `None`.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the encoder's four stages, all divisible by 4.
        depths: How many blocks each stage has beside the one that halves the sides.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible by 32.

    Example:
    ```python
    model = kl.models.create("repvit", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (5, 5, 19, 2),
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        if (len(filters), len(depths)) != (4, 4) or any(width % 4 for width in filters):
            raise ValueError(
                "filters and depths must have a value for each of the four stages, and filters be "
                f"divisible by 4. Received: filters={filters}, depths={depths}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        unbiased = {"use_bias": False, "dtype": dtype}

        # === Layers ===
        def convolve(
            x: Any, filters: int, size: int, activation: Any, name: str, strides: int = 1
        ) -> Any:
            step = ConvNormActivation(
                filters, size, activation, strides=strides, dtype=dtype, name=name
            )
            return step(x)

        def mix_channels(x: Any, name: str, output_name: str) -> Any:
            width = x.shape[-1]
            y = convolve(x, 2 * width, 1, "gelu", f"{name}_widen")
            y = GroupedConv(width, 1, name=f"{name}_narrow", **unbiased)(y)
            y = BatchNormalization(
                gamma_initializer="zeros", dtype=dtype, name=f"{name}_narrow_norm"
            )(y)
            return keras.layers.Add(dtype=dtype, name=output_name)([x, y])

        def halve(x: Any, filters: int, name: str) -> Any:
            x = DepthwiseConv(3, strides=2, name=f"{name}_depthwise", **unbiased)(x)
            x = BatchNormalization(dtype=dtype, name=f"{name}_depthwise_norm")(x)
            x = convolve(x, filters, 1, "linear", f"{name}_pointwise")
            return mix_channels(x, name, f"{name}_add")

        def mix(x: Any, has_excitation: bool, name: str, output_name: str) -> Any:
            x = ParallelDepthwiseConv(
                BRANCHES, identity=True, dtype=dtype, name=f"{name}_depthwise"
            )(x)
            if has_excitation:
                x = SqueezeExcitation(
                    x.shape[-1] // 4,
                    bias_initializer=FanInUniform(),
                    dtype=dtype,
                    name=f"{name}_excitation",
                )(x)
            return mix_channels(x, name, output_name)

        def encode(x: Any, stage: int) -> Any:
            name, depth = f"encoder{stage}", depths[stage - 1]
            if stage > 1:
                x = halve(x, filters[stage - 1], f"{name}_halving")
            for number in range(depth):
                block, is_last = f"{name}_{number}", number == depth - 1
                output_name = name if is_last else f"{block}_add"
                x = mix(x, _has_excitation(number, depth), block, output_name)
            return x

        # === Functional model ===
        x = convolve(image, filters[0] // 2, 3, "gelu", "stem_first", strides=2)
        x = convolve(x, filters[0], 3, "linear", "stem", strides=2)
        for stage in (1, 2, 3, 4):
            x = encode(x, stage)
        logits = add_head(x, num_classes, HEAD_FILTERS, 32, dtype)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.depths = depths

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters, "depths": self.depths}

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        blocks = [[("0", self.get_layer("stem_first")), ("2", self.get_layer("stem"))]]
        for stage, depth in enumerate(self.depths, start=1):
            if stage > 1:
                blocks.append(self._halving(f"encoder{stage}_halving"))
            blocks += [
                self._block(f"encoder{stage}_{number}", _has_excitation(number, depth))
                for number in range(depth)
            ]
        parts: list[tuple[str, Any]] = []
        for number, block in enumerate(blocks):
            for name, step in block:
                name = f"backbone.features.{number}.{name}"
                if isinstance(step, ConvNormActivation):
                    step = (step.convolution, step.norm)
                if isinstance(step, tuple):
                    parts += [(f"{name}.c", step[0]), (f"{name}.bn", step[1])]
                else:
                    parts.append((name, step))
        return [*parts, *head_parts(self)]

    def _halving(self, block: str) -> list[tuple[str, Any]]:
        layer = self.get_layer
        depthwise = layer(f"{block}_depthwise"), layer(f"{block}_depthwise_norm")
        return [
            ("token_mixer.0", depthwise),
            ("token_mixer.2", layer(f"{block}_pointwise")),
            *self._channel_mixer(block),
        ]

    def _block(self, block: str, has_excitation: bool) -> list[tuple[str, Any]]:
        depthwise = self.get_layer(f"{block}_depthwise")
        branches = zip(depthwise.convolutions, depthwise.norms, strict=True)
        steps = [
            (f"token_mixer.0.{name}", branch)
            for name, branch in zip(("conv", "conv1"), branches, strict=True)
        ]
        if has_excitation:
            excitation = self.get_layer(f"{block}_excitation")
            steps += [
                ("token_mixer.1.fc1", excitation.reduce),
                ("token_mixer.1.fc2", excitation.expand),
            ]
        return [*steps, *self._channel_mixer(block)]

    def _channel_mixer(self, block: str) -> list[tuple[str, Any]]:
        layer = self.get_layer
        narrow = layer(f"{block}_narrow"), layer(f"{block}_narrow_norm")
        return [("channel_mixer.m.0", layer(f"{block}_widen")), ("channel_mixer.m.2", narrow)]


def _has_excitation(number: int, depth: int) -> bool:
    """Say whether a block of a stage weights its channels: every second one, but not the last."""
    return number % 2 == 0 and number < depth - 1
