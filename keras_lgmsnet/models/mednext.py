"""MedNeXt: a U of ConvNeXt's blocks for volumes, which halve and double its sides, too."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    DepthwiseConv,
    GroupedConv,
    GroupNormalization,
    TransposedDepthwiseConv,
    TransposedPointwiseConv,
)
from keras_lgmsnet.layers.base import positive_integers, require_positive
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.models.base import SegmentationNetwork

# Of the encoder and of the decoder, the bottleneck between them.
LEVELS = 4


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class MedNeXt3D(SegmentationNetwork):
    """MedNeXt for volumes: 10,526,702 parameters and 71.1 G multiply-adds at 96 × 96 × 96.

    A block convolves each channel by itself, normalizes it over the volume, and leads each voxel
    through a wider layer; blocks with strides lead from level to level, and skip connections are
    added. The network of Roy et al. (MedNeXt, MICCAI 2023) in the size B with kernels 3 wide, which
    LGMSNet's paper compares (Table 3: 10.51 M), as in the published program. It returns logits.

    The program has one parameter more, which never touches the result, and for the deep supervision
    that its paper trains with a head for each deeper level. These are not built here.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are PyTorch's defaults.

    Args:
        input_shape: `(depth, height, width, channels)`; the sides divisible by 16, or `None`.
        num_classes: Number of exclusive classes, the background included; or 1 for one mask.
        filters: Width of the first level; each deeper one has twice as much.
        depths: How many blocks the four levels of the encoder have, the bottleneck, and the levels
            of the decoder from the deepest up.
        expansions: By how much the blocks of these levels widen inside; so do those that lead to a
            level.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible by 16.

    Example:
    ```python
    model = kl.models.create("mednext", input_shape=(96, 96, 96, 1), num_classes=14)
    model.fit(dataset)  # of (volume, labels)
    ```
    """

    rank = 3

    def __init__(
        self,
        input_shape: Sequence[int | None] = (96, 96, 96, 1),
        num_classes: int = 14,
        filters: int = 32,
        depths: Sequence[int] = (2, 2, 2, 2, 2, 2, 2, 2, 2),
        expansions: Sequence[int] = (2, 3, 4, 4, 4, 4, 4, 3, 2),
        **kwargs: Any,
    ) -> None:
        require_positive(filters=filters)
        depths, expansions = (
            positive_integers(depths=depths),
            positive_integers(expansions=expansions),
        )
        if {len(depths), len(expansions)} != {2 * LEVELS + 1}:
            raise ValueError(
                "depths and expansions are those of four levels of the encoder, of the bottleneck "
                f"and of four levels of the decoder. Received: depths={depths}, "
                f"expansions={expansions}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        biased = {"bias_initializer": FanInUniform()}
        common = biased | {"dtype": dtype}
        widths = [filters * 2**level for level in range(LEVELS + 1)]

        # === Layers ===
        def mix(
            x: Any, depthwise: type, filters: int, expansion: int, name: str, **spacing: Any
        ) -> Any:
            width = expansion * x.shape[-1]
            x = depthwise(**spacing, name=f"{name}_depthwise", **common)(x)
            x = GroupNormalization(-1, dtype=dtype, name=f"{name}_norm")(x)
            x = GroupedConv(width, 1, name=f"{name}_widen", **common)(x)
            x = keras.layers.Activation("gelu", dtype=dtype, name=f"{name}_activation")(x)
            return GroupedConv(filters, 1, name=f"{name}_narrow", **common)(x)

        def add(x: Any, y: Any, name: str) -> Any:
            return keras.layers.Add(dtype=dtype, name=name)([x, y])

        def level(x: Any, number: int, name: str) -> Any:
            """Apply the blocks of a level, whose place in `depths` is given."""
            for block in range(depths[number]):
                step = f"{name}_{block}"
                y = mix(x, DepthwiseConv, x.shape[-1], expansions[number], step, kernel_size=3)
                x = add(x, y, name if block == depths[number] - 1 else f"{step}_add")
            return x

        def halve(x: Any, filters: int, expansion: int, name: str) -> Any:
            y = mix(x, DepthwiseConv, filters, expansion, name, kernel_size=3, strides=2)
            shortcut = GroupedConv(filters, 1, strides=2, name=f"{name}_shortcut", **common)
            return add(shortcut(x), y, name)

        def double(x: Any, filters: int, expansion: int, name: str) -> Any:
            y = mix(x, TransposedDepthwiseConv, filters, expansion, name)
            shortcut = TransposedPointwiseConv(filters, 2, name=f"{name}_shortcut", **common)
            # Of `s` voxels `2 * s - 1` have become.
            pad = keras.layers.ZeroPadding3D(((1, 0),) * 3, dtype=dtype, name=name)
            return pad(add(shortcut(x), y, f"{name}_add"))

        # === Functional model ===
        x = GroupedConv(filters, 1, name="stem", **common)(image)
        skips = []
        for number in range(LEVELS):
            x = level(x, number, f"encoder{number + 1}")
            skips.append(x)
            x = halve(x, widths[number + 1], expansions[number + 1], f"down{number + 1}")
        x = level(x, LEVELS, "bottleneck")
        for number in reversed(range(LEVELS)):
            place, name = 2 * LEVELS - number, f"decoder{number + 1}"
            x = double(x, widths[number], expansions[place], f"up{number + 1}")
            x = level(add(skips[number], x, f"{name}_sum"), place, name)
        # In half precision a loss of logits would lose its small differences.
        logits = TransposedPointwiseConv(num_classes, dtype="float32", name="logits", **biased)(x)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.depths = depths
        self.expansions = expansions

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "depths": self.depths,
            "expansions": self.expansions,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        levels = range(1, LEVELS + 1)
        parts: list[tuple[str, Any]] = [("stem", self.get_layer("stem"))]
        names = [
            *((f"encoder{level}", f"enc_block_{level - 1}") for level in levels),
            ("bottleneck", "bottleneck"),
            *((f"decoder{level}", f"dec_block_{level - 1}") for level in reversed(levels)),
        ]
        for (ours, theirs), depth in zip(names, self.depths, strict=True):
            for block in range(depth):
                parts += self._block(f"{ours}_{block}", f"{theirs}.{block}")
        for level in levels:
            for ours, theirs in (
                (f"down{level}", f"down_{level - 1}"),
                (f"up{level}", f"up_{level - 1}"),
            ):
                parts += self._block(ours, theirs)
                parts.append((f"{theirs}.res_conv", self.get_layer(f"{ours}_shortcut")))
        return [*parts, ("out_0.conv_out", self.get_layer("logits"))]

    def idle_parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Return one for recomputation in the backward pass, which has no part in the result."""
        return {"dummy_tensor": (1,)}

    def _block(self, block: str, name: str) -> list[tuple[str, Any]]:
        steps = {"conv1": "depthwise", "norm": "norm", "conv2": "widen", "conv3": "narrow"}
        return [
            (f"{name}.{theirs}", self.get_layer(f"{block}_{ours}"))
            for theirs, ours in steps.items()
        ]
