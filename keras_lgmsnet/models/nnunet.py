"""nnU-Net for images: a deep U-Net with instance normalization."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import GroupedConv, GroupNormalization, LinearUpsampling, MaxPooling
from keras_lgmsnet.layers.base import NEGATIVE_SLOPE
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.unet import check_filters


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class NNUNet2D(SegmentationNetwork):
    """nnU-Net's network for images: 26,100,992 parameters, 12.72 G multiply-adds at 256 × 256.

    A U-Net of seven levels, whose convolutions are followed by instance norms and leaky ReLU, as
    version 1 of Isensee et al. (nnU-Net, Nature Methods 2021) has it with max pooling and bilinear
    upsampling: this is what the numbers in LGMSNet's Table 1 (26.10 M, 12.67 G) belong to, and not
    to version 2. It returns logits.

    The published program has 26,101,952 parameters: it also has a head for each level of the
    decoder but the last, for deep supervision, which is not built here. Nor is what nnU-Net is
    beside its network: it plans network, patches, augmentation and training by the dataset.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial kernels are He et al.'s (normal, by fan-in, for the leaky ReLU), biases 0.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 2 for every level below
            the first, that is by 64 with seven, and twice as much at least, since an instance norm
            over a single pixel leaves nothing of it; or `None`.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the levels, two at least.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible or too short.

    Example:
    ```python
    model = kl.models.create("nnunet", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (32, 64, 128, 256, 480, 480, 480),
        **kwargs: Any,
    ) -> None:
        filters = check_filters(filters)
        image, dtype = self.begin(input_shape, num_classes, kwargs, filters=filters)
        levels = range(1, len(filters) + 1)

        # === Layers ===
        def convolve(x: Any, filters: int, name: str) -> Any:
            convolution = GroupedConv(
                filters,
                3,
                kernel_initializer=_he_normal(),
                dtype=dtype,
                name=f"{name}_convolution",
            )
            x = GroupNormalization(-1, dtype=dtype, name=f"{name}_norm")(convolution(x))
            return keras.layers.LeakyReLU(NEGATIVE_SLOPE, dtype=dtype, name=name)(x)

        def encode(x: Any, level: int) -> Any:
            width, name = filters[level - 1], f"encoder{level}"
            return convolve(convolve(x, width, f"{name}_first"), width, name)

        def decode(skip: Any, x: Any, level: int) -> Any:
            name, width = f"decoder{level}", filters[level - 2]
            x = LinearUpsampling(dtype=dtype, name=f"up{level}")(x)
            x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([x, skip])
            x = convolve(x, width, f"{name}_first")
            # Already as wide as the next skip connection, since the upsampling narrows nothing.
            return convolve(x, filters[max(level - 3, 0)], name)

        # === Functional model ===
        x = encode(image, 1)
        skips = [x]
        for level in levels[1:]:
            pooled = MaxPooling(dtype=dtype, name=f"encoder{level}_pooling")(x)
            x = encode(pooled, level)
            skips.append(x)
        for level in reversed(levels[1:]):
            x = decode(skips[level - 2], x, level)
        logits = GroupedConv(
            num_classes,
            1,
            use_bias=False,
            kernel_initializer=_he_normal(),
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

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        bottom = len(self.filters)
        parts: list[tuple[str, Any]] = []
        for level in range(1, bottom):
            name = f"conv_blocks_context.{level - 1}.blocks"
            parts += self._double_convolution(f"encoder{level}", f"{name}.0", f"{name}.1")
        name = f"conv_blocks_context.{bottom - 1}"
        parts += self._double_convolution(
            f"encoder{bottom}", f"{name}.0.blocks.0", f"{name}.1.blocks.0"
        )
        for number, level in enumerate(range(bottom, 1, -1)):
            name = f"conv_blocks_localization.{number}"
            parts += self._double_convolution(
                f"decoder{level}", f"{name}.0.blocks.0", f"{name}.1.blocks.0"
            )
        return [*parts, (f"seg_outputs.{bottom - 2}", self.get_layer("logits"))]

    def idle_parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Return those of the heads for deep supervision."""
        return {
            f"seg_outputs.{number}.weight": (
                self.num_classes,
                self.get_layer(f"decoder{level}").output.shape[-1],
                1,
                1,
            )
            for number, level in enumerate(range(len(self.filters), 2, -1))
        }

    def _double_convolution(self, stage: str, *names: str) -> list[tuple[str, Any]]:
        return [
            (f"{name}.{theirs}", self.get_layer(f"{step}_{ours}"))
            for step, name in zip((f"{stage}_first", stage), names, strict=True)
            for theirs, ours in (("conv", "convolution"), ("instnorm", "norm"))
        ]


def _he_normal() -> keras.initializers.Initializer:
    # An object draws the same numbers for the same shape: each kernel has its own.
    return keras.initializers.VarianceScaling(
        2 / (1 + NEGATIVE_SLOPE**2), mode="fan_in", distribution="untruncated_normal"
    )
