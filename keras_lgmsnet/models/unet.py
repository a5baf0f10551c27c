"""U-Net for images and for volumes: convolutions down, convolutions up, and skip connections."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    ConvNormActivation,
    GMSBlock,
    GroupedConv,
    LMSBlock,
    MaxPooling,
    NearestUpsampling,
    TransposedConv,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.models.base import SegmentationNetwork

BLOCKS = (None, "lms", "gms")


class _UNet(SegmentationNetwork):
    """The network for images or volumes; `UNet2D` and `UNet3D` document its arguments."""

    def __init__(
        self,
        input_shape: Sequence[int | None],
        num_classes: int,
        filters: Sequence[int],
        block: str | None = None,
        **kwargs: Any,
    ) -> None:
        filters = check_filters(filters)
        if block not in BLOCKS:
            raise ValueError(f"block must be 'lms', 'gms' or None. Received: block={block!r}")
        if block == "gms" and len(filters) < 3:
            raise ValueError(
                "block='gms' takes the last encoder stage but one, which is the first of two: give "
                f"three filters or more. Received: filters={filters}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs, filters=filters)
        common = {"normalization": "batch", "bias_initializer": FanInUniform(), "dtype": dtype}
        levels = range(1, len(filters) + 1)

        # === Layers ===
        def convolve(x: Any, filters: int, name: str) -> Any:
            return ConvNormActivation(
                filters,
                3,
                activation="relu",
                use_bias=True,
                name=name,
                **common,
            )(x)

        def encode(x: Any, level: int) -> Any:
            width, name = filters[level - 1], f"encoder{level}"
            if block is not None and level > 1:
                if block == "gms" and level == levels[-2]:
                    ratio = {"transformer_ratio": 0.75, "feed_forward_dim": x.shape[-1]}
                    x = GMSBlock(x.shape[-1], name=f"{name}_gms", **ratio, **common)(x)
                else:
                    x = LMSBlock(name=f"{name}_lms", **common)(x)
                return ConvNormActivation(width, 1, name=name, **common)(x)
            x = convolve(x, width if self.rank == 2 else width // 2, f"{name}_first")
            return convolve(x, width, name)

        def upsample(x: Any, level: int) -> Any:
            name = f"up{level}"
            if self.rank == 3:
                return TransposedConv(x.shape[-1], dtype=dtype, name=name)(x)
            x = NearestUpsampling(dtype=dtype, name=f"{name}_upsampling")(x)
            return convolve(x, filters[level - 2], name)

        def decode(skip: Any, x: Any, level: int) -> Any:
            width, name = filters[level - 2], f"decoder{level}"
            join = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")
            skip = self.gate(skip, x, level, dtype)
            x = convolve(join([skip, x]), width, f"{name}_first")
            return convolve(x, width, name)

        # === Functional model ===
        x = encode(image, 1)
        skips = [x]
        for level in levels[1:]:
            pooled = MaxPooling(dtype=dtype, name=f"encoder{level}_pooling")(x)
            x = encode(pooled, level)
            skips.append(x)
        for level in reversed(levels[1:]):
            x = decode(skips[level - 2], upsample(x, level), level)
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

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters}

    def gate(self, skip: Any, x: Any, level: int, dtype: Any) -> Any:
        """Return what a decoder that has come to `x` gets of a skip connection: all of it."""
        return skip

    def _step(self, layer: str, convolution: str, norm: str) -> list[tuple[str, Any]]:
        """Return the published names of the convolution and the norm of a layer."""
        step = self.get_layer(layer)
        return [(convolution, step.convolution), (norm, step.norm)]


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class UNet2D(_UNet):
    """U-Net for images: 34,527,041 parameters and 65.5 G multiply-adds at 256 × 256.

    The form that LGMSNet's paper compares (Table 1: 34.52 M, 65.52 G), widely used as "U-Net",
    differs from Ronneberger et al.'s (MICCAI 2015): convolutions are padded and batch-normalized,
    and the decoder repeats pixels and convolves where theirs is a transposed convolution. It
    returns logits.

    With `block`, LGMSNet's blocks replace the encoder's convolutions but for the first stage's, as
    in the paper's Table 6. The wiring is not published. For `"lms"` (17,330,081 parameters;
    printed 17.33 M) it follows LGMSNet's own encoder stages: an LMS block at the incoming width,
    then a pointwise convolution that widens. `"gms"` (19,182,113; printed 19.18 M) is a proposal:
    a GMS block in the place of the last LMS block but one. Other wirings have as many parameters.

    It arrives compiled with the published training, see `SegmentationNetwork`. Initial weights
    are PyTorch's defaults.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 2 for every level below
            the first, that is by 16 with five, or `None`.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the levels, two at least.
        block: `None`, `"lms"` or, with three levels at least, `"gms"`.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible.

    Example:
    ```python
    model = kl.models.create("unet", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (64, 128, 256, 512, 1024),
        block: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, num_classes, filters, block, **kwargs)
        self.block = block

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"block": self.block}

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the stages in the published program."""
        parts: list[tuple[str, Any]] = []
        levels = range(1, len(self.filters) + 1)
        for level in levels:
            stage = f"encoder{level}"
            if self.block is None or level == 1:
                parts += self._double_convolution(stage, f"Conv{level}")
                continue
            is_global = self.block == "gms" and level == levels[-2]
            inner = self.get_layer(f"{stage}_{'gms' if is_global else 'lms'}")
            parts += [(f"Conv{level}.0", inner), (f"Conv{level}.1", self.get_layer(stage))]
        for level in reversed(levels[1:]):
            parts += self._step(f"up{level}", f"Up{level}.up.1", f"Up{level}.up.2")
            parts += self._double_convolution(f"decoder{level}", f"Up_conv{level}")
        return [*parts, ("Conv_1x1", self.get_layer("logits"))]

    def _double_convolution(self, stage: str, name: str) -> list[tuple[str, Any]]:
        first = self._step(f"{stage}_first", f"{name}.conv.0", f"{name}.conv.1")
        return first + self._step(stage, f"{name}.conv.3", f"{name}.conv.4")


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class UNet3D(_UNet):
    """U-Net for volumes (Çiçek et al., MICCAI 2016): 19,073,614 parameters for 14 classes.

    Of its paper but for the padding, which keeps the sides (there is none in the paper, whose
    network maps 132 × 132 × 116 voxels to 44 × 44 × 28), the order of the concatenation (the skip
    connection first) and the batch norms' epsilon (1e-5), which are ours. It returns logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are PyTorch's defaults.

    Args:
        input_shape: `(depth, height, width, channels)`; the sides divisible by 2 for every level
            below the first, that is by 8 with four, or `None`.
        num_classes: Number of exclusive classes, the background included; or 1 for one mask.
        filters: Widths of the levels after their second convolution, two at least, all even; the
            first convolution of a level of the encoder has half of it.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible.

    Example:
    ```python
    model = kl.models.create("unet", input_shape=(96, 96, 96, 1), num_classes=14)
    model.fit(dataset)  # of (volume, labels)
    ```
    """

    rank = 3

    def __init__(
        self,
        input_shape: Sequence[int | None] = (96, 96, 96, 1),
        num_classes: int = 14,
        filters: Sequence[int] = (64, 128, 256, 512),
        **kwargs: Any,
    ) -> None:
        if any(width % 2 for width in check_filters(filters)):
            raise ValueError(
                "filters must be even, since the first convolution of a level has half of them. "
                f"Received: filters={tuple(filters)}"
            )
        super().__init__(input_shape, num_classes, filters, **kwargs)

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return names of the stages that are usual in PyTorch; no program is published."""
        bottom = len(self.filters)
        parts: list[tuple[str, Any]] = []
        for level in range(1, bottom + 1):
            name = "bottom" if level == bottom else f"enc{level}"
            parts += self._double_convolution(f"encoder{level}", name)
        for level in range(bottom, 1, -1):
            parts.append((f"up{level - 1}", self.get_layer(f"up{level}")))
            parts += self._double_convolution(f"decoder{level}", f"dec{level - 1}")
        return [*parts, ("out", self.get_layer("logits"))]

    def _double_convolution(self, stage: str, name: str) -> list[tuple[str, Any]]:
        first = self._step(f"{stage}_first", f"{name}.conv1", f"{name}.bn1")
        return first + self._step(stage, f"{name}.conv2", f"{name}.bn2")


def check_filters(filters: Sequence[int]) -> tuple[int, ...]:
    """Return the widths of a network's levels, or raise unless they are."""
    filters = positive_integers(filters=filters)
    if len(filters) < 2:
        raise ValueError(
            f"filters are the widths of the levels, two at least. Received: filters={filters}"
        )
    return filters
