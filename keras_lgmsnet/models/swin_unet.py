"""Swin-Unet: a U of transformers whose attention stays within shifted windows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.layers import GroupedConv, PatchEmbedding, PatchExpansion, PatchMerging
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON
from keras_lgmsnet.models import torch_weights
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.published_names import variables_within
from keras_lgmsnet.models.swin_blocks import (
    attentions,
    check_levels,
    normal,
    position_indices,
    stage_parts,
    transform,
)

# Of the image, that are one pixel of the first level.
PATCH = 4


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class SwinUNet2D(SegmentationNetwork):
    """Swin-Unet for images: 27,168,132 parameters and 5.91 G multiply-adds at 224 × 224.

    Patches of 4 × 4 pixels become pixels of the first of four levels. On each, blocks attend within
    windows, every second one within windows shifted by half their side, and between levels pixels
    are merged on the way down and expanded to patches on the way up; skip connections bring what
    each level was given. The network of Cao et al. (Swin-Unet, ECCVW 2022), which LGMSNet's paper
    compares (Table 1: 27.14 M, 5.91 G), as in the published program, whose decoder has as many
    blocks a level as the encoder, though its configuration asks for one at the last. It returns
    logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are the program's: normal ones of deviation 0.02 in dense layers and tables of
    positions, PyTorch's defaults elsewhere. With `encoder_weights` the encoder and, as in the
    program, the decoder's blocks at the same levels start as a Swin-T trained on ImageNet, for
    images normalized as there (`preprocessing="imagenet"`); the paper's did not. The file is read
    once: neither the network's config nor a saved network depends on it.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 32 times `window`.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the four levels.
        depths: How many blocks the levels have, in the encoder and again in the decoder, whose
            deepest level is the encoder's.
        num_heads: How many heads attend at the levels; divisors of `filters`.
        window: Side of the windows, two at least.
        drop_rate: How often in training the two branches of the deepest block are left out, of an
            image at a time; of the blocks above it less often, evenly so, and of the first never.
        encoder_weights: A `.pth` or `.safetensors` file of `swin_tiny_patch4_window7_224`, timm's
            or Swin Transformer's own; the images need 3 channels then. Of blocks more than `depths`
            the first are taken.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        FileNotFoundError: If there is no file `encoder_weights`.
        ValueError: If an argument is out of range, a side is unknown or not divisible by 32 times
            `window`, or the file does not fit.

    Example:
    ```python
    model = kl.models.create("swin_unet", input_shape=(224, 224, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (224, 224, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        drop_rate: float = 0.2,
        encoder_weights: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        filters, depths, num_heads = check_levels(filters, depths, num_heads, window)
        if not isinstance(drop_rate, int | float) or not 0 <= drop_rate < 1:
            raise ValueError(
                f"drop_rate must be from 0 to less than 1. Received: drop_rate={drop_rate!r}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs, window=window)
        rates = np.linspace(0, drop_rate, sum(depths)).tolist()

        # === Layers ===
        def normalize(x: Any, name: str) -> Any:
            return keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype, name=name)(x)

        def dense(x: Any, width: int, name: str) -> Any:
            return keras.layers.Dense(width, **normal(x.shape[-1]), dtype=dtype, name=name)(x)

        def blocks(x: Any, level: int, stage: str) -> Any:
            first = sum(depths[: level - 1])
            own_rates = rates[first : first + depths[level - 1]]
            return transform(x, stage, num_heads[level - 1], window, normal, dtype, own_rates)

        def merge(x: Any, level: int) -> Any:
            layer = PatchMerging(
                filters[level - 1],
                **normal(x.shape[-1]),
                dtype=dtype,
                name=f"encoder{level}_merging",
            )
            return layer(x)

        def expand(x: Any, filters: int, factor: int, name: str) -> Any:
            start = normal(x.shape[-1])
            return PatchExpansion(filters, factor, **start, dtype=dtype, name=name)(x)

        def decode(skip: Any, x: Any, level: int) -> Any:
            name, width = f"decoder{level}", filters[level - 1]
            x = expand(x, width, 2, f"{name}_expansion")
            x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([x, skip])
            return blocks(dense(x, width, f"{name}_dense"), level, name)

        # === Functional model ===
        x = PatchEmbedding(
            filters[0], PATCH, bias_initializer=FanInUniform(), dtype=dtype, name="embedding"
        )(image)
        x = normalize(x, "embedding_norm")
        skips = [x]
        x = blocks(x, 1, "encoder1")
        for level in (2, 3, 4):
            x = merge(x, level)
            skips.append(x)
            x = blocks(x, level, f"encoder{level}")
        x = normalize(x, "encoder4_norm")
        for level in (3, 2, 1):
            x = decode(skips[level - 1], x, level)
        x = normalize(x, "decoder1_norm")
        x = expand(x, filters[0], PATCH, "expansion")
        # In half precision a loss of logits would lose its small differences.
        logits = GroupedConv(num_classes, 1, use_bias=False, dtype="float32", name="logits")(x)

        super().__init__(image, logits, num_classes, dtype, **kwargs)
        if encoder_weights is not None:
            _load_weights(self, depths, encoder_weights)

        # === Config ===
        self.filters = filters
        self.depths = depths
        self.num_heads = num_heads
        self.window = window
        self.drop_rate = drop_rate

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the file that weights were read from."""
        return super().get_config() | {
            "filters": self.filters,
            "depths": self.depths,
            "num_heads": self.num_heads,
            "window": self.window,
            "drop_rate": self.drop_rate,
            "encoder_weights": None,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        parts = _encoder_parts(self, self.depths)
        for theirs, stage, level in _DECODER_STAGES:
            parts += stage_parts(self, theirs, stage, self.depths[level - 1])
        for number, level in enumerate((3, 2, 1)):
            name = f"layers_up.{number}" + (".upsample" if number else "")
            parts += [
                (name, layer(f"decoder{level}_expansion")),
                (f"concat_back_dim.{number + 1}", layer(f"decoder{level}_dense")),
            ]
        parts += [
            ("norm_up", layer("decoder1_norm")),
            ("up", layer("expansion")),
            ("output", layer("logits")),
        ]
        return [(f"swin_unet.{name}", part) for name, part in parts]

    def recomputed_buffers(self) -> Mapping[str, np.ndarray]:
        """Return the program's tables of positions and its masks."""
        buffers: dict[str, np.ndarray] = {}
        for theirs, stage, level in (*_ENCODER_STAGES, *_DECODER_STAGES):
            name = f"swin_unet.{theirs}"
            blocks = attentions(self, name, stage, self.depths[level - 1])
            buffers |= position_indices(blocks)
            for block, attention in blocks.items():
                mask = attention.tiling(attention.input.shape).mask()
                if mask is not None:
                    buffers[f"{block}.attn_mask"] = mask
        return buffers


# What the program calls the stages with blocks, our names, and their levels.
_ENCODER_STAGES = tuple((f"layers.{level - 1}", f"encoder{level}", level) for level in (1, 2, 3, 4))
_DECODER_STAGES = tuple((f"layers_up.{4 - level}", f"decoder{level}", level) for level in (3, 2, 1))


def _encoder_parts(network: SwinUNet2D, depths: Sequence[int]) -> list[tuple[str, Any]]:
    """Return the encoder's layers with their names in Swin Transformer."""
    layer = network.get_layer
    parts = [
        ("patch_embed.proj", layer("embedding")),
        ("patch_embed.norm", layer("embedding_norm")),
    ]
    for theirs, stage, level in _ENCODER_STAGES:
        parts += stage_parts(network, theirs, stage, depths[level - 1])
        if level < 4:
            parts.append((f"{theirs}.downsample", layer(f"encoder{level + 1}_merging")))
    return [*parts, ("norm", layer("encoder4_norm"))]


def _load_weights(network: SwinUNet2D, depths: Sequence[int], path: str | Path) -> None:
    """Set the weights of the encoder, and of the decoder's blocks, to those of a Swin Transformer.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not fit.
    """
    weights = torch_weights.read(path)
    for wrapper in ("model", "state_dict"):  # the former of Swin Transformer's authors
        if isinstance(weights.get(wrapper), Mapping):
            weights = weights[wrapper]
    weights = {str(name).removeprefix("module."): value for name, value in weights.items()}
    if "layers.0.downsample.reduction.weight" not in weights:
        # timm's of today has the merging in the level that follows it.
        for level in (1, 2, 3):
            weights = {
                name.replace(f"layers.{level}.downsample", f"layers.{level - 1}.downsample"): value
                for name, value in weights.items()
            }
    unused = [
        name
        for name in weights
        if name.startswith("head.")
        or name.endswith(("relative_position_index", "attn_mask"))
        or any(
            name.startswith(f"{stage}.blocks.")
            and (number := name.split(".")[3]).isdigit()
            and int(number) >= depths[level - 1]
            for stage, _, level in _ENCODER_STAGES
        )
    ]
    variables = dict(variables_within(_encoder_parts(network, depths)))
    arrays, misfits = torch_weights.fit(weights, variables, unused=tuple(unused))
    if misfits:
        raise ValueError(
            "encoder_weights must be those of a Swin Transformer with these filters, num_heads and "
            "window, and depths at least, for images of 3 channels. "
            f"Received: {path}, with {torch_weights.tell(misfits)}"
        )
    torch_weights.assign(variables, arrays)
    for _, stage, level in _DECODER_STAGES:
        blocks = stage_parts(network, f"layers.{level - 1}", stage, depths[level - 1])
        torch_weights.assign(dict(variables_within(blocks)), arrays)
