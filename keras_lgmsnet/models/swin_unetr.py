"""Swin UNETR: a Swin Transformer of volumes, whose features UNETR's decoder segments by."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.layers import PatchEmbedding, PatchMerging
from keras_lgmsnet.layers.base import require_positive
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.swin_blocks import (
    attentions,
    check_levels,
    position_indices,
    stage_parts,
    transform,
    uniform,
)
from keras_lgmsnet.models.unetr_blocks import (
    classify,
    decode,
    decoder_parts,
    logits_parts,
    residual,
    residual_parts,
)

# Of the volume, that are one voxel of the first level.
PATCH = 2
# The order in which the program joins the voxels of a patch; those that its version 0.9.0 names.
OCTANTS = (
    *((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
    *((1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
)
DISTINCT_OCTANTS = (
    *((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
    *((1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)),
)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class SwinUNETR3D(SegmentationNetwork):
    """Swin UNETR for volumes: 62,187,296 parameters, 308.90 G multiply-adds at 96 × 96 × 96.

    Patches of 2 × 2 × 2 voxels become voxels of the first of four levels. On each, blocks attend
    within windows, every second one within windows shifted by half their side, and the voxels are
    merged. What each level makes is normalized and, by residual blocks of convolutions, decoded to
    the volume's own voxels. The network of Hatamizadeh et al. (Swin UNETR, MICCAI BrainLes 2021),
    which LGMSNet's paper compares (Table 3: 61.98 M), as in MONAI 0.9.0. It returns logits.

    By a slip, that version joins two of a patch's eight voxels twice and two never, and so do all
    before 1.5.0 under that name; pretrained weights belong to it. `distinct_octants` joins each
    once, in the order of version 1.5.0. The numbers of parameters are the same.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are the program's: tables of positions normal, of deviation 0.02, PyTorch's
    defaults elsewhere. Of a volume of 32 × 32 × 32 the deepest level has one voxel, of which an
    instance norm leaves nothing: `encoder10` learns nothing there, and its input passes it.

    Args:
        input_shape: `(depth, height, width, channels)`; the sides divisible by 32.
        num_classes: Number of classes, background included.
        filters: Width of the first level, which doubles with each.
        depths: How many blocks the levels have.
        num_heads: How many heads attend at the levels; divisors of their widths.
        window: Side of the windows, two at least.
        distinct_octants: Whether all voxels of a patch are merged, each once.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is unknown or not divisible by 32.

    Example:
    ```python
    model = kl.models.create("swin_unetr", input_shape=(96, 96, 96, 1), num_classes=14)
    model.fit(dataset)  # of (volume, label_map)
    ```
    """

    rank = 3

    def __init__(
        self,
        input_shape: Sequence[int | None] = (96, 96, 96, 1),
        num_classes: int = 14,
        filters: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        distinct_octants: bool = False,
        **kwargs: Any,
    ) -> None:
        require_positive(filters=filters)
        widths = tuple(2**number * filters for number in range(4))
        _, depths, num_heads = check_levels(widths, depths, num_heads, window)
        if not isinstance(distinct_octants, bool):
            raise ValueError(
                f"distinct_octants must be true or false. Received: {distinct_octants!r}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        octants = DISTINCT_OCTANTS if distinct_octants else OCTANTS

        # === Layers ===
        def transform_and_merge(x: Any, level: int) -> Any:
            stage, heads = f"transformer{level}", num_heads[level - 1]
            never = [0.0] * depths[level - 1]
            x = transform(x, stage, heads, window, uniform, dtype, never)
            width = 2 * widths[level - 1]
            return PatchMerging(width, octants, dtype=dtype, name=f"{stage}_merging")(x)

        def normalize(x: Any, name: str) -> Any:
            return keras.layers.LayerNormalization(
                epsilon=EPSILON, center=False, scale=False, dtype=dtype, name=name
            )(x)

        # === Functional model ===
        x = PatchEmbedding(
            filters, PATCH, bias_initializer=FanInUniform(), dtype=dtype, name="embedding"
        )(image)
        features = [normalize(x, "embedding_norm")]
        for level in (1, 2, 3, 4):
            x = transform_and_merge(x, level)
            features.append(normalize(x, f"transformer{level}_merging_norm"))
        skips = [
            residual(x, x.shape[-1] if level > 1 else filters, f"encoder{level}", dtype)
            for level, x in enumerate((image, *features[:3]), start=1)
        ]
        x = residual(features[4], 2 * widths[3], "encoder10", dtype)
        skips.append(features[3])
        for level in (5, 4, 3, 2, 1):
            width = widths[max(level - 2, 0)]
            x = decode(x, skips[level - 1], width, f"decoder{level}", dtype)
        logits = classify(x, num_classes)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.depths = depths
        self.num_heads = num_heads
        self.window = window
        self.distinct_octants = distinct_octants

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "depths": self.depths,
            "num_heads": self.num_heads,
            "window": self.window,
            "distinct_octants": self.distinct_octants,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        parts = [("swinViT.patch_embed.proj", self.get_layer("embedding"))]
        for theirs, stage, depth in self._stages():
            parts += [
                *stage_parts(self, theirs, stage, depth, ("linear1", "linear2")),
                (f"{theirs}.downsample", self.get_layer(f"{stage}_merging")),
            ]
        for level in (1, 2, 3, 4, 10):
            parts += residual_parts(self, f"encoder{level}")
        for level in (5, 4, 3, 2, 1):
            parts += decoder_parts(self, f"decoder{level}")
        return [*parts, *logits_parts(self)]

    def recomputed_buffers(self) -> Mapping[str, np.ndarray]:
        """Return the program's tables of positions."""
        buffers: dict[str, np.ndarray] = {}
        for stage in self._stages():
            buffers |= position_indices(attentions(self, *stage))
        return buffers

    def _stages(self) -> list[tuple[str, str, int]]:
        """Return what the program calls the stages with blocks, our names, and their depths."""
        return [
            (f"swinViT.layers{level}.0", f"transformer{level}", depth)
            for level, depth in enumerate(self.depths, start=1)
        ]
