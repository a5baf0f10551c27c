"""Medical Transformer: gated axial attention over the image, and plain one within patches of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.layers import (
    AxialAttention,
    GhostBatchNormalization,
    GroupedConv,
    LinearUpsampling,
)
from keras_lgmsnet.layers.base import (
    ChannelsLastLayer,
    SpatialLayer,
    positive_integers,
    require_positive,
)
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.complexity import count

PATCH = 32
# Names of attention within the published program's blocks, by the axis; they are spelt so.
_AXES = {1: "hight_block", 2: "width_block"}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class MedT2D(SegmentationNetwork):
    """Medical Transformer for images: 1,528,625 parameters and 2.82 G multiply-adds at 256 × 256.

    Every pixel attends along its column, then along its row. A global branch of few such blocks,
    with learned positions under gates, sees the image; a local branch of more blocks without
    positions sees patches of 32 × 32, each by itself. What they make is added up. The network of
    Valanarasu et al. (Medical Transformer, MICCAI 2021), which LGMSNet's paper compares (Table 1:
    1.37 M, 2.40 G), as in the published program. It returns logits.

    The program differs from the paper, whose patches cover the image: it cuts 4 × 4 of them from
    the top left corner, whatever the image's sides, and takes the global branch's features a second
    time where there are none. It trains no gates. Each patch passes through the local branch by
    itself: its batch norms train with one patch's statistics at a time, and here so too, see
    `keras_lgmsnet.layers.GhostBatchNormalization`.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are the program's: normal ones in the attention, PyTorch's defaults elsewhere.

    Args:
        input_shape: `(height, width, channels)`; the sides, which are fixed, divisible by 4 and of
            32 × `patches` at least.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the first convolution of the global branch, of that of the local one, and
            of the second one of both; and of the four levels' attention, of which the global branch
            has two. Twice `num_heads` divides these four.
        depths: Blocks of the four levels.
        num_heads: Heads of the attention.
        patches: How many patches there are along each side.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is none that the network takes.

    Example:
    ```python
    model = kl.models.create("medt", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (8, 64, 128, 16, 32, 64, 128),
        depths: Sequence[int] = (1, 2, 4, 1),
        num_heads: int = 8,
        patches: int = 4,
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        require_positive(num_heads=num_heads, patches=patches)
        if len(filters) != 7 or any(width % (2 * num_heads) for width in filters[3:]):
            raise ValueError(
                "filters are the widths of the two branches' first convolutions, of their second "
                "ones, and of four levels, these divisible by twice num_heads. "
                f"Received: filters={filters}, num_heads={num_heads}"
            )
        if len(depths) != 4:
            raise ValueError(f"depths are the four levels' blocks. Received: depths={depths}")
        image, dtype = self.begin(input_shape, num_classes, kwargs, patches=patches)

        # === Functional model ===
        overview = _branch(
            image, (filters[0], filters[2]), filters[3:5], depths[:2], num_heads, True, 1, dtype, ""
        )
        local = _LocalBranch(filters[1:], depths, num_heads, patches, dtype=dtype, name="local")
        x = keras.layers.Add(dtype=dtype, name="sum")([overview, local(image, overview)])
        x = _convolve(x, filters[3], "fusion_convolution", dtype)
        x = keras.layers.Activation("relu", dtype=dtype, name="fusion")(x)
        # In half precision a loss of logits would lose its small differences.
        logits = GroupedConv(
            num_classes, 1, bias_initializer=FanInUniform(), dtype="float32", name="logits"
        )(x)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.filters = filters
        self.depths = depths
        self.num_heads = num_heads
        self.patches = patches

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "depths": self.depths,
            "num_heads": self.num_heads,
            "patches": self.patches,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer = self.get_layer
        parts: list[tuple[str, Any]] = []
        for step in (1, 2, 3):
            for end, branch, prefix in self._branches():
                parts += [
                    (f"conv{step}{end}", branch.get_layer(f"{prefix}stem{step}_convolution")),
                    (f"bn{step}{end}", branch.get_layer(f"{prefix}stem{step}_norm")),
                ]
        for name, block in self._blocks():
            parts += [
                (f"{name}.conv_down", block.reduce),
                (f"{name}.bn1", block.reduce_norm),
                *((f"{name}.{_AXES[axis]}", block.attention[axis]) for axis in _AXES),
                (f"{name}.conv_up", block.expand),
                (f"{name}.bn2", block.expand_norm),
                (f"{name}.downsample.0", block.shortcut),
                (f"{name}.downsample.1", block.shortcut_norm),
            ]
        local = layer("local").network
        for number, level in enumerate((4, 3, 2, 1), start=1):
            name = f"local_decoder{level}_convolution"
            parts.append((f"decoder{number}_p", local.get_layer(name)))
        return [
            *parts,
            ("decoder5_p", local.get_layer("local_map_convolution")),
            ("decoder4", layer("decoder1_convolution")),
            ("decoder5", layer("map_convolution")),
            ("decoderf", layer("fusion_convolution")),
            ("adjust", layer("logits")),
        ]

    def idle_parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Return a convolution in each local block, and a second last one."""
        idle: dict[str, tuple[int, ...]] = {
            "adjust_p.weight": (self.num_classes, self.filters[3], 1, 1),
            "adjust_p.bias": (self.num_classes,),
        }
        for name, block in self._blocks():
            if not block.positions:
                idle[f"{name}.conv1.weight"] = (block.filters, block.filters, 1, 1)
                idle[f"{name}.conv1.bias"] = (block.filters,)
        return idle

    def recomputed_buffers(self) -> Mapping[str, np.ndarray]:
        """Return the indices by which positions are looked up."""
        return {
            f"{name}.{_AXES[axis]}.flatten_index": attention.distances()
            for name, block in self._blocks()
            if block.positions
            for axis, attention in block.attention.items()
        }

    def _branches(self) -> list[tuple[str, keras.Model, str]]:
        """Return the ends of names in the program, the branches, and the beginnings of names."""
        return [("", self, ""), ("_p", self.get_layer("local").network, "local_")]

    def _blocks(self) -> Iterator[tuple[str, "_AxialBlock"]]:
        """Yield the published names of the blocks of attention, and the blocks."""
        for end, branch, prefix in self._branches():
            for level, depth in enumerate(self.depths if end else self.depths[:2], start=1):
                for number in range(depth):
                    name = _block_name(f"{prefix}encoder{level}", number, depth)
                    yield f"layer{level}{end}.{number}", branch.get_layer(name)


def _branch(
    image: Any,
    stem: Sequence[int],
    filters: Sequence[int],
    depths: Sequence[int],
    num_heads: int,
    positions: bool,
    parts: int,
    dtype: Any,
    prefix: str,
) -> Any:
    """Return the features, as large as the image, that a branch makes of it.

    Args:
        image: A symbolic tensor.
        stem: Widths of the first and third convolution, and of the second.
        filters: Widths of the levels' attention.
        depths: Blocks of the levels.
        num_heads: Heads of the attention.
        positions: Whether the attention has positions, as in the global branch; without them there
            is one more halving after the deepest level, as in the local branch.
        parts: Into how many parts the norms cut the batch.
        dtype: A policy.
        prefix: What layers' names begin with.
    """

    def add(x: Any, y: Any, name: str) -> Any:
        return keras.layers.Add(dtype=dtype, name=name)([x, y])

    def decode(x: Any, filters: int, name: str, relu_name: str, strides: int = 1) -> Any:
        x = _convolve(x, filters, f"{name}_convolution", dtype, strides=strides)
        x = LinearUpsampling(dtype=dtype, name=f"{name}_upsampling")(x)
        return keras.layers.Activation("relu", dtype=dtype, name=relu_name)(x)

    x = image
    for step, (width, taps) in enumerate(((stem[0], 7), (stem[1], 3), (stem[0], 3)), start=1):
        name, strides = f"{prefix}stem{step}", 2 if step == 1 else 1
        x = GroupedConv(
            width, taps, use_bias=False, strides=strides, dtype=dtype, name=f"{name}_convolution"
        )(x)
        x = GhostBatchNormalization(parts, dtype=dtype, name=f"{name}_norm")(x)
        name = f"{prefix}stem" if step == 3 else f"{name}_activation"
        x = keras.layers.Activation("relu", dtype=dtype, name=name)(x)
    levels = []
    for level, (width, depth) in enumerate(zip(filters, depths, strict=True), start=1):
        for number in range(depth):
            x = _AxialBlock(
                width,
                2 if level > 1 and number == 0 else 1,
                num_heads,
                positions,
                parts,
                dtype=dtype,
                name=_block_name(f"{prefix}encoder{level}", number, depth),
            )(x)
        levels.append(x)
    if not positions:
        name = f"{prefix}decoder{len(levels)}"
        x = add(decode(x, 2 * filters[-1], name, f"{name}_activation", strides=2), x, name)
    for level in range(len(levels) - 1, 0, -1):
        name, skip = f"{prefix}decoder{level}", levels[level - 1]
        x = add(decode(x, 2 * filters[level - 1], name, f"{name}_activation"), skip, name)
    return decode(x, filters[0], f"{prefix}map", f"{prefix}map")


def _convolve(x: Any, filters: int, name: str, dtype: Any, strides: int = 1) -> Any:
    return GroupedConv(
        filters, 3, strides=strides, bias_initializer=FanInUniform(), dtype=dtype, name=name
    )(x)


def _block_name(level: str, number: int, depth: int) -> str:
    return level if number == depth - 1 else f"{level}_{number}"


class _LocalBranch(ChannelsLastLayer):
    """The features of an image, those in the top left corner exchanged for those of patches.

    Called with the image and its features. All patches pass through the branch at once, one after
    the other on the batch axis, row by row.

    Args:
        filters: Those of `MedT2D` without the first.
        depths: Those of `MedT2D`.
        num_heads: Heads of the attention.
        patches: How many patches there are along each side.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.
    """

    def __init__(
        self,
        filters: Sequence[int],
        depths: Sequence[int],
        num_heads: int,
        patches: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.depths = depths
        self.num_heads = num_heads
        self.patches = patches

    def build(
        self, image_shape: tuple[int | None, ...], features_shape: tuple[int | None, ...]
    ) -> None:
        """Create the branch."""
        patch = keras.Input((PATCH, PATCH, image_shape[-1]), dtype=self.compute_dtype, name="patch")
        features = _branch(
            patch,
            self.filters[:2],
            self.filters[2:],
            self.depths,
            self.num_heads,
            False,
            self.patches**2,
            self.dtype_policy,
            "local_",
        )
        self.network = keras.Model(patch, features, name="network")

    def call(self, image: Any, features: Any, training: bool | None = None) -> Any:
        """Cut patches, pass them through the branch, and put what comes out in their places."""
        side = self.patches * PATCH
        x = image[:, :side, :side]
        for axis in (2, 1):  # so rows are the outer ones
            x = ops.concatenate(_cut(x, axis), axis=0)
        x = self.network(x, training=training)
        for axis in (1, 2):
            x = ops.concatenate(ops.split(x, self.patches, axis=0), axis=axis)
        x = ops.concatenate([x, features[:, :side, side:]], axis=2)
        return ops.concatenate([x, features[:, side:]], axis=1)

    def compute_output_shape(
        self, image_shape: tuple[int | None, ...], features_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the features' shape."""
        return tuple(features_shape)

    def multiply_adds(self, image_shape: tuple[int, ...], features_shape: tuple[int, ...]) -> int:
        """Count those of all patches."""
        return self.patches**2 * count(self.network).multiply_adds

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "depths": self.depths,
            "num_heads": self.num_heads,
            "patches": self.patches,
        }


def _cut(x: Any, axis: int) -> list[Any]:
    before = (slice(None),) * axis
    return [x[(*before, slice(start, start + PATCH))] for start in range(0, x.shape[axis], PATCH)]


class _AxialBlock(SpatialLayer):
    """Attention along the height, then along the width, between pointwise convolutions; residual.

    Args:
        filters: Width of the attention; the output has twice as many channels.
        strides: The distance between outputs, which means are taken over after the attention.
        num_heads: Heads of the attention.
        positions: Whether the attention has positions.
        parts: Into how many parts the norms cut the batch.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.
    """

    def __init__(
        self,
        filters: int,
        strides: int,
        num_heads: int,
        positions: bool,
        parts: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.num_heads = num_heads
        self.positions = positions
        self.parts = parts

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights, and the convolution of the input if there is to be one."""
        super().build(input_shape)
        self.reduce, self.reduce_norm = self._convolution(input_shape, self.filters, "reduce")
        narrow = (*input_shape[:-1], self.filters)
        self.attention = {}
        for axis, name in ((1, "height"), (2, "width")):
            self.attention[axis] = AxialAttention(
                axis,
                self.num_heads,
                self.positions,
                self.parts,
                dtype=self.dtype_policy,
                name=name,
            )
            self.attention[axis].build(narrow)
        self.pooling = None
        if self.strides > 1:
            self.pooling = keras.layers.AveragePooling2D(
                self.strides, dtype=self.dtype_policy, name="pooling"
            )
            self.pooling.build(narrow)
        outputs = self.compute_output_shape(input_shape)
        self.expand, self.expand_norm = self._convolution(
            (*outputs[:-1], self.filters), outputs[-1], "expand"
        )
        self.shortcut: Any = None
        self.shortcut_norm: Any = None
        if self.strides > 1 or self.channels != outputs[-1]:
            self.shortcut, self.shortcut_norm = self._convolution(
                input_shape, outputs[-1], "shortcut", self.strides
            )

    def _convolution(
        self, input_shape: tuple[int | None, ...], filters: Any, name: str, strides: int = 1
    ) -> tuple[GroupedConv, GhostBatchNormalization]:
        """Return a pointwise convolution and the norm after it, built."""
        common = {"dtype": self.dtype_policy}
        convolution = GroupedConv(filters, 1, use_bias=False, strides=strides, name=name, **common)
        norm = GhostBatchNormalization(self.parts, name=f"{name}_norm", **common)
        convolution.build(input_shape)
        norm.build(convolution.compute_output_shape(input_shape))
        return convolution, norm

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the block."""
        x = ops.relu(self.reduce_norm(self.reduce(inputs), training=training))
        for axis in (1, 2):
            x = self.attention[axis](x, training=training)
        if self.pooling is not None:
            x = self.pooling(x)
        x = self.expand_norm(self.expand(ops.relu(x)), training=training)
        if self.shortcut is not None:
            inputs = self.shortcut_norm(self.shortcut(inputs), training=training)
        return ops.relu(x + inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with strided sides and twice as many channels as `filters`."""
        sides = (None if side is None else side // self.strides for side in input_shape[1:-1])
        return (input_shape[0], *sides, 2 * self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "strides": self.strides,
            "num_heads": self.num_heads,
            "positions": self.positions,
            "parts": self.parts,
        }
