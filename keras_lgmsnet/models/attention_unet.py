"""Attention U-Net for images: U-Net with a gate on each skip connection."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import ConvNormActivation
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.models.unet import UNet2D, check_filters


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class AttentionUNet2D(UNet2D):
    """Attention U-Net for images: 34,878,573 parameters and 66.6 G multiply-adds at 256 × 256.

    `UNet2D` with an additive gate on each skip connection: what the decoder has come to decides,
    pixel by pixel, how much of the encoder's features it gets. The form that LGMSNet's paper
    compares (Table 1: 34.87 M, 66.63 G), widely used as "Attention U-Net", differs from Oktay et
    al.'s (Attention U-Net, 2018): the gating signal is the decoder's, upsampled to the skip
    connection's own size, so that nothing is strided and no map resampled; the gate of the first
    level is not left out; and there is no deep supervision. It returns logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are PyTorch's defaults.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 2 for every level below
            the first, that is by 16 with five, or `None`.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the levels, two at least, and even but for the deepest level's.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible.

    Example:
    ```python
    model = kl.models.create("attention_unet", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (64, 128, 256, 512, 1024),
        **kwargs: Any,
    ) -> None:
        if any(width % 2 for width in check_filters(filters)[:-1]):
            raise ValueError(
                "filters must be even but for the deepest level's, since a gate has half of them. "
                f"Received: filters={tuple(filters)}"
            )
        super().__init__(input_shape, num_classes, filters, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        del config["block"]  # it has none
        return config

    def gate(self, skip: Any, x: Any, level: int, dtype: Any) -> Any:
        """Return the skip connection times a map between 0 and 1, of one channel."""
        name, width = f"gate{level}", skip.shape[-1] // 2

        def convolve(x: Any, filters: int, activation: str, name: str) -> Any:
            return ConvNormActivation(
                filters,
                1,
                activation=activation,
                use_bias=True,
                normalization="batch",
                bias_initializer=FanInUniform(),
                dtype=dtype,
                name=name,
            )(x)

        both = [
            convolve(x, width, "linear", f"{name}_signal"),
            convolve(skip, width, "linear", f"{name}_skip"),
        ]
        both = keras.layers.Add(dtype=dtype, name=f"{name}_add")(both)
        both = keras.layers.Activation("relu", dtype=dtype, name=f"{name}_activation")(both)
        share = convolve(both, 1, "sigmoid", f"{name}_map")
        return keras.layers.Multiply(dtype=dtype, name=name)([skip, share])

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the stages in the published program."""
        gates = [
            (f"Att{level}.{theirs}", self.get_layer(f"gate{level}_{ours}"))
            for level in range(len(self.filters), 1, -1)
            for theirs, ours in (("W_g", "signal"), ("W_x", "skip"), ("psi", "map"))
        ]
        return super().published_parts() + gates
