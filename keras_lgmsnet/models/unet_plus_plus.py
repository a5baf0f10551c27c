"""U-Net++: a pyramid of nodes between encoder and decoder, each of which sees all before it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_lgmsnet.layers import (
    ConvNormActivation,
    GroupedConv,
    LinearUpsampling,
    NearestUpsampling,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.models import resnet
from keras_lgmsnet.models.base import SegmentationNetwork


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class UNetPlusPlus2D(SegmentationNetwork):
    """U-Net++ for images: 26,904,137 parameters and 37.6 G multiply-adds at 256 × 256.

    Its encoder is ResNet-34. A node joins all that its level has made so far with what the level
    below made last, upsampled; nodes follow on each level until the lowest one has reached the
    first. Logits of the first level's four nodes, at half the image's sides, are added up with
    learned weights and upsampled. The form that LGMSNet's paper compares (Table 1: 26.90 M,
    37.62 G), as in the published program, differs from Zhou et al.'s (UNet++, 2018), whose encoder
    is plain (9.0 M) and whose first level has the image's sides. It returns logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are torchvision's in the encoder, PyTorch's defaults elsewhere. With
    `encoder_weights` the encoder starts as one trained on ImageNet, for images normalized as there
    (`preprocessing="imagenet"`); the paper's did not. The file is read once: neither the network's
    config nor a saved network depends on it.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 32, or `None`.
        num_classes: Number of independent masks, one logit each.
        filters: Even widths of the encoder's stem and its four stages.
        depths: How many blocks each of the four stages has.
        encoder_weights: A `.pth` or `.safetensors` file of torchvision's ResNet-34; the images need
            3 channels then.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        FileNotFoundError: If there is no file `encoder_weights`.
        ValueError: If an argument is out of range, a side is not divisible by 32, or the file does
            not fit.

    Example:
    ```python
    model = kl.models.create("unet_plus_plus", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (64, 64, 128, 256, 512),
        depths: Sequence[int] = (3, 4, 6, 3),
        encoder_weights: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        if (len(filters), len(depths)) != (5, 4) or any(width % 2 for width in filters):
            raise ValueError(
                "filters must be even, of the stem and the four stages, and depths the four "
                f"stages'. Received: filters={filters}, depths={depths}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)

        # === Layers ===
        def node(same_level: list[Any], below: Any, width: int, name: str) -> Any:
            x = NearestUpsampling(dtype=dtype, name=f"{name}_upsampling")(below)
            x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([*same_level, x])
            for step, step_name in enumerate(_steps(name), start=1):
                x = ConvNormActivation(
                    width // 2 if step < 3 else width,
                    3,
                    "relu",
                    normalization="batch",
                    dtype=dtype,
                    name=step_name,
                )(x)
            return x

        # === Functional model ===
        levels = [[x] for x in resnet.encode(image, filters, depths, dtype)]
        for distance in range(1, 5):
            for level in range(5 - distance):
                name = f"decoder{level}_{distance}"
                width = filters[level + distance - 1]
                levels[level].append(node(levels[level], levels[level + 1][-1], width, name))
        # In half precision a loss of logits would lose its small differences.
        logits = [
            GroupedConv(
                num_classes,
                1,
                bias_initializer=FanInUniform(),
                dtype="float32",
                name=f"logits{number}",
            )(x)
            for number, x in enumerate(levels[0][1:], start=1)
        ]
        mixed = _WeightedSum(dtype="float32", name="mix")(logits)
        logits = LinearUpsampling(dtype="float32", name="logits")(mixed)

        super().__init__(image, logits, num_classes, dtype, **kwargs)
        if encoder_weights is not None:
            resnet.load_weights(self, depths, encoder_weights)

        # === Config ===
        self.filters = filters
        self.depths = depths

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the file that weights were read from."""
        return super().get_config() | {
            "filters": self.filters,
            "depths": self.depths,
            "encoder_weights": None,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        nodes = [
            f"decoder{level}_{distance}"
            for distance in range(1, 5)
            for level in range(5 - distance)
        ]
        return [
            ("mix", layer("mix").factors),
            *resnet.parts(self, self.depths, "firstconv", "firstbn", "encoder"),
            *(
                part
                for name in nodes
                for step, step_name in enumerate(_steps(name), start=1)
                for part in (
                    (f"{name}.conv{step}", layer(step_name).convolution),
                    (f"{name}.norm{step}", layer(step_name).norm),
                )
            ),
            *((f"logit{number}", layer(f"logits{number}")) for number in range(1, 5)),
        ]


def _steps(node: str) -> tuple[str, str, str]:
    """Return the names of a node's layers."""
    return (f"{node}_1", f"{node}_2", node)


class _WeightedSum(keras.layers.Layer):
    """The sum of tensors, each times a learned number.

    The first number belongs to none of them, as in the published program.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Create the numbers."""
        self.factors = self.add_weight(
            name="factors", shape=(1 + len(input_shape),), initializer="ones"
        )

    def call(self, inputs: list[Any]) -> Any:
        """Return the sum."""
        return sum(self.factors[number] * x for number, x in enumerate(inputs, start=1))

    def compute_output_shape(
        self, input_shape: list[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Return the shape of one of them."""
        return input_shape[0]

    def multiply_adds(self, input_shape: list[tuple[int, ...]]) -> int:
        """Count one for each value."""
        return sum(math.prod(shape[1:]) for shape in input_shape)
