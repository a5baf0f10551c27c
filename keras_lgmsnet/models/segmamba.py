"""SegMamba: voxels scanned in three orders by selective state spaces, decoded as by UNETR."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    ConvNormActivation,
    GroupedConv,
    GroupNormalization,
    PatchEmbedding,
    ThreeOrderMamba,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.unetr_blocks import (
    classify,
    decode,
    decoder_parts,
    logits_parts,
    residual,
    residual_parts,
)

# What the program adds to the names of what belongs to an order, in that of `ThreeOrderMamba`.
SUFFIXES = ("", "_b", "_s")


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class SegMamba3D(SegmentationNetwork):
    """SegMamba for volumes: 67,363,262 parameters, 616.05 G multiply-adds at 96 × 96 × 96.

    On each of four levels a block of convolutions is followed by layers that take the voxels for a
    sequence and pass states along it, in three orders: forward, backward, and slice by slice, the
    first voxels of all slices first. What they make is normalized, widened and narrowed, and
    decoded as UNETR's features are, with a fifth level below. The network of Xing et al. (SegMamba,
    MICCAI 2024), which LGMSNet's paper compares, as in the published program; the paper draws a
    layer norm and a perceptron after each scan, where the program has the perceptron on the way to
    the decoder only. It returns logits.

    LGMSNet's paper prints 65.18 M parameters (Table 3). So many finds its tool, which sees some
    layers of a Mamba only, if that has one order; with three and all seen, as here, it would be
    67.36 M.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are the program's: PyTorch's defaults, and those of `SelectiveScan`.

    Args:
        input_shape: `(depth, height, width, channels)`; the sides divisible by 16, and the numbers
            of voxels of the levels, which have sides 2, 4, 8 and 16 times as small, by
            `num_slices`. With sides divisible by 32, they are.
        num_classes: Number of classes, background included.
        filters: Widths of the four levels.
        depths: How many layers scan at the levels.
        num_slices: Into how many slices the levels' voxels fall.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is unknown or does not fit.

    Example:
    ```python
    model = kl.models.create("segmamba", input_shape=(96, 96, 96, 1), num_classes=14)
    model.fit(dataset)  # of (volume, label_map)
    ```
    """

    rank = 3

    def __init__(
        self,
        input_shape: Sequence[int | None] = (96, 96, 96, 1),
        num_classes: int = 14,
        filters: Sequence[int] = (48, 96, 192, 384),
        depths: Sequence[int] = (2, 2, 2, 2),
        num_slices: Sequence[int] = (64, 32, 16, 8),
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        num_slices = positive_integers(num_slices=num_slices)
        if {len(filters), len(depths), len(num_slices)} != {4}:
            raise ValueError(
                "filters, depths and num_slices are the four levels'. "
                f"Received: filters={filters}, depths={depths}, num_slices={num_slices}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs, num_slices=num_slices)

        # === Layers ===
        def normalize(x: Any, name: str) -> Any:
            return GroupNormalization(-1, center=False, scale=False, dtype=dtype, name=name)(x)

        def enter(x: Any, level: int) -> Any:
            if level == 1:
                return GroupedConv(
                    filters[0],
                    7,
                    strides=2,
                    bias_initializer=FanInUniform(),
                    dtype=dtype,
                    name="entry1",
                )(x)
            x = normalize(x, f"entry{level}_norm")
            return PatchEmbedding(
                filters[level - 1],
                2,
                bias_initializer=FanInUniform(),
                dtype=dtype,
                name=f"entry{level}",
            )(x)

        def convolve(x: Any, kernel_size: int, name: str) -> Any:
            return ConvNormActivation(
                x.shape[-1],
                kernel_size,
                "relu",
                use_bias=True,
                normalization="instance",
                bias_initializer=FanInUniform(),
                dtype=dtype,
                name=name,
            )(x)

        def add(x: Any, y: Any, name: str) -> Any:
            return keras.layers.Add(dtype=dtype, name=name)([x, y])

        def convolve_around(x: Any, name: str) -> Any:
            y = convolve(convolve(x, 3, f"{name}_first"), 3, f"{name}_second")
            y = add(y, convolve(x, 1, f"{name}_third"), f"{name}_branches")
            return add(x, convolve(y, 1, f"{name}_fourth"), name)

        def scan(x: Any, level: int, number: int) -> Any:
            name = f"scan{level}_{number}"
            y = keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype, name=f"{name}_norm")(
                x
            )
            y = ThreeOrderMamba(num_slices[level - 1], dtype=dtype, name=f"{name}_mixer")(y)
            return add(x, y, f"scan{level}" if number == depths[level - 1] - 1 else name)

        def narrow(x: Any, name: str) -> Any:
            width = x.shape[-1]
            x = normalize(x, f"{name}_norm")
            x = pointwise(x, 2 * width, f"{name}_widen")
            x = keras.layers.Activation("gelu", dtype=dtype, name=f"{name}_gelu")(x)
            return pointwise(x, width, name)

        def pointwise(x: Any, width: int, name: str) -> Any:
            return GroupedConv(width, 1, bias_initializer=FanInUniform(), dtype=dtype, name=name)(x)

        # === Functional model ===
        x, features = image, [image]
        for level in (1, 2, 3, 4):
            x = convolve_around(enter(x, level), f"convolved{level}")
            for number in range(depths[level - 1]):
                x = scan(x, level, number)
            features.append(narrow(x, f"narrow{level}"))
        widths = (*filters, 2 * filters[-1])
        *skips, x = (
            residual(x, width, f"encoder{level}", dtype)
            for level, (x, width) in enumerate(zip(features, widths, strict=True), start=1)
        )
        for level in (5, 4, 3, 2):
            x = decode(x, skips[level - 2], filters[level - 2], f"decoder{level}", dtype)
        x = residual(x, filters[0], "decoder1", dtype)
        logits = classify(x, num_classes)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.depths = depths
        self.num_slices = num_slices

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "depths": self.depths,
            "num_slices": self.num_slices,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        parts: list[tuple[str, Any]] = []
        for level, depth in enumerate(self.depths, start=1):
            number = level - 1
            parts.append((f"downsample_layers.{number}.{min(number, 1)}", layer(f"entry{level}")))
            convolved = ("first", "second", "third", "fourth")
            for theirs, ours in zip(("proj", "proj2", "proj3", "proj4"), convolved, strict=True):
                step = layer(f"convolved{level}_{ours}")
                parts.append((f"gscs.{number}.{theirs}", step.convolution))
            for place in range(depth):
                theirs, ours = f"stages.{number}.{place}", f"scan{level}_{place}"
                parts += [
                    (f"{theirs}.norm", layer(f"{ours}_norm")),
                    *_mixer_parts(layer(f"{ours}_mixer"), f"{theirs}.mamba"),
                ]
            parts += [
                (f"mlps.{number}.fc1", layer(f"narrow{level}_widen")),
                (f"mlps.{number}.fc2", layer(f"narrow{level}")),
            ]
        parts = [(f"vit.{name}", part) for name, part in parts]
        for level in (1, 2, 3, 4, 5):
            parts += residual_parts(self, f"encoder{level}")
        for level in (5, 4, 3, 2):
            parts += decoder_parts(self, f"decoder{level}")
        return [*parts, *residual_parts(self, "decoder1"), *logits_parts(self)]


def _mixer_parts(mixer: ThreeOrderMamba, name: str) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = [("in_proj", mixer.widen), ("out_proj", mixer.narrow)]
    for suffix, convolution, scan in zip(SUFFIXES, mixer.convolutions, mixer.scans, strict=True):
        parts += [
            (f"conv1d{suffix}.weight", convolution.kernel),
            (f"conv1d{suffix}.bias", convolution.bias),
            (f"x_proj{suffix}", scan.projection),
            (f"dt_proj{suffix}", scan.step_projection),
            (f"dt_proj{suffix}.bias", scan.step_bias),
            (f"A{suffix}_log", scan.log_rates),
            (f"D{suffix}", scan.passed),
        ]
    return [(f"{name}.{theirs}", part) for theirs, part in parts]
