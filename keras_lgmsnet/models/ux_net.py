"""3D UX-Net: depthwise kernels of 7³ where Swin UNETR attends within windows."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    ChannelwiseFeedForward,
    DepthwiseConv,
    GroupedConv,
    LayerScale,
    PatchEmbedding,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.unetr_blocks import (
    classify,
    decode,
    decoder_parts,
    logits_parts,
    residual,
    residual_parts,
)

# Of the norms over channels.
EPSILON = 1e-6
STAGES = (1, 2, 3, 4)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class UXNet3D(SegmentationNetwork):
    """3D UX-Net for volumes: 53,006,510 parameters and 578.8 G multiply-adds at 96³.

    ConvNeXt for volumes: on each of four stages, blocks convolve with a depthwise kernel of 7³, and
    widen and narrow each channel by itself. Residual blocks of the volume and of every stage are
    the skip connections of UNETR's decoder. The network of Lee et al. (3D UX-Net, ICLR 2023), which
    LGMSNet's paper compares (Table 3: 53.01 M), as in the published program. It returns logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are PyTorch's defaults; what a block adds to its input starts at a millionth.

    Args:
        input_shape: `(depth, height, width, channels)`; the sides divisible by 16, or `None`. With
            16 everywhere the deepest level is one voxel, of which its norms leave nothing.
        num_classes: Number of exclusive classes, background included, one logit each.
        filters: Widths of the four stages. The level above them is as wide as the first, the
            deepest one twice as wide as the last.
        depths: How many blocks each stage has.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible by 16.

    Example:
    ```python
    model = kl.models.create("ux_net", input_shape=(96, 96, 96, 1), num_classes=14)
    model.fit(dataset)  # of (volume, labels)
    ```
    """

    rank = 3

    def __init__(
        self,
        input_shape: Sequence[int | None] = (96, 96, 96, 1),
        num_classes: int = 14,
        filters: Sequence[int] = (48, 96, 192, 384),
        depths: Sequence[int] = (2, 2, 2, 2),
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        if {len(filters), len(depths)} != {len(STAGES)}:
            raise ValueError(
                "filters and depths are the four stages'. "
                f"Received: filters={filters}, depths={depths}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        common = {"dtype": dtype}
        biased = {"bias_initializer": FanInUniform()} | common

        # === Layers ===
        def normalize(x: Any, name: str) -> Any:
            return keras.layers.LayerNormalization(epsilon=EPSILON, name=name, **common)(x)

        def enter(x: Any, stage: int) -> Any:
            name, width = f"stage{stage}", filters[stage - 1]
            if stage == 1:
                x = GroupedConv(width, 7, strides=2, name=f"{name}_halving", **biased)(x)
                return normalize(x, f"{name}_entry_norm")
            x = normalize(x, f"{name}_entry_norm")
            return PatchEmbedding(width, 2, name=f"{name}_halving", **biased)(x)

        def mix(x: Any, name: str, output_name: str) -> Any:
            y = DepthwiseConv(7, name=f"{name}_depthwise", **biased)(x)
            y = normalize(y, f"{name}_norm")
            y = ChannelwiseFeedForward(name=f"{name}_feed_forward", **common)(y)
            y = LayerScale(name=f"{name}_scale", **common)(y)
            return keras.layers.Add(name=output_name, **common)([x, y])

        # === Functional model ===
        x = image
        skips = [residual(image, filters[0], "encoder1", dtype)]
        for stage, depth in zip(STAGES, depths, strict=True):
            x = enter(x, stage)
            for number in range(depth):
                x = mix(x, f"stage{stage}_{number}", _block_name(stage, number, depth))
            width = filters[stage] if stage < len(STAGES) else 2 * filters[-1]
            y = normalize(x, f"stage{stage}_norm")
            skips.append(residual(y, width, f"encoder{stage + 1}", dtype))
        x = skips.pop()
        for level, width in zip((5, 4, 3, 2), reversed(filters), strict=True):
            x = decode(x, skips.pop(), width, f"decoder{level}", dtype)
        logits = classify(residual(x, filters[0], "decoder1", dtype), num_classes)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.depths = depths

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters, "depths": self.depths}

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        parts: list[tuple[str, Any]] = []
        for stage, depth in zip(STAGES, self.depths, strict=True):
            ours, number = f"stage{stage}", stage - 1
            entry = [layer(f"{ours}_entry_norm"), layer(f"{ours}_halving")]
            for place, part in enumerate(entry[::-1] if stage == 1 else entry):
                parts.append((f"uxnet_3d.downsample_layers.{number}.{place}", part))
            for block in range(depth):
                parts += self._block(f"{ours}_{block}", f"uxnet_3d.stages.{number}.{block}")
            parts.append((f"uxnet_3d.norm{number}", layer(f"{ours}_norm")))
        for name in ("encoder1", "encoder2", "encoder3", "encoder4", "encoder5", "decoder1"):
            parts += residual_parts(self, name)
        for level in (5, 4, 3, 2):
            parts += decoder_parts(self, f"decoder{level}")
        return [*parts, *logits_parts(self)]

    def _block(self, ours: str, theirs: str) -> list[tuple[str, Any]]:
        return [
            (f"{theirs}.gamma", self.get_layer(f"{ours}_scale").gamma),
            (f"{theirs}.dwconv", self.get_layer(f"{ours}_depthwise")),
            (f"{theirs}.norm", self.get_layer(f"{ours}_norm")),
            (theirs, self.get_layer(f"{ours}_feed_forward")),
        ]


def _block_name(stage: int, number: int, depth: int) -> str:
    """Return the name of a block's output; the last one's is the stage's."""
    return f"stage{stage}" if number == depth - 1 else f"stage{stage}_{number}"
