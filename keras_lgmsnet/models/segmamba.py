"""SegMamba: voxels scanned in three orders by selective state spaces, decoded as by UNETR."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers import (
    ConvNormActivation,
    GroupedConv,
    GroupNormalization,
    PatchEmbedding,
    SelectiveScan,
)
from keras_lgmsnet.layers.base import SpatialLayer, positive_integers, require_positive
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

# How many times as wide as its input a mixer is inside, and how many tokens its convolutions join.
EXPANSION = 2
TAPS = 4
# What the program adds to the names of what belongs to an order.
ORDERS = {"forward": "", "backward": "_b", "sliced": "_s"}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class SegMamba3D(SegmentationNetwork):
    """SegMamba for volumes: 67,363,262 parameters and 615 G multiply-adds at 96 × 96 × 96.

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
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        _check_slices(tuple(input_shape)[:-1], num_slices)

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


def _check_slices(sides: Sequence[int], num_slices: Sequence[int]) -> None:
    """Raise unless each level's voxels fall into its slices."""
    voxels = tuple(math.prod(side // 2**level for side in sides) for level in (1, 2, 3, 4))
    if any(number % slices for number, slices in zip(voxels, num_slices, strict=True)):
        raise ValueError(
            "num_slices must divide the numbers of voxels of the four levels, whose sides are 2, "
            f"4, 8 and 16 times as small: {voxels}. Received: num_slices={tuple(num_slices)}, "
            f"sides {tuple(sides)}"
        )


def _mixer_parts(mixer: "ThreeOrderMamba", name: str) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = [("in_proj", mixer.widen), ("out_proj", mixer.narrow)]
    for suffix, convolution, scan in zip(
        ORDERS.values(), mixer.convolutions, mixer.scans, strict=True
    ):
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


# === Layers of this network ===


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ThreeOrderMamba(SpatialLayer):
    """SegMamba's mixer of voxels: one Mamba, of which three orders of the voxels share the ends.

    The voxels, row by row, are a sequence; two dense layers make of it what is scanned and what the
    result is multiplied by. In each order, a convolution of a voxel and the three before it,
    SiLU and a selective scan follow, with weights of its own. The third order has the first voxels
    of all slices first, then the second ones.

    Args:
        num_slices: How many parts the sequence falls into for the third order.
        states: Those that each channel has.
        **kwargs: `name` and `dtype`, as for any Keras layer.

    Raises:
        ValueError: If an argument is not positive, a side is unknown, or `num_slices` divides the
            voxels with a remainder.
    """

    def __init__(self, num_slices: int, states: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_positive(num_slices=num_slices)
        self.num_slices = num_slices
        self.states = states

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        if None in input_shape[1:]:
            raise ValueError(
                f"{self.name} needs known sides: name them in the network's input_shape. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.tokens = math.prod(input_shape[1:-1])
        if self.tokens % self.num_slices:
            raise ValueError(
                f"{self.name}: num_slices must divide the number of voxels. Received: "
                f"num_slices={self.num_slices}, input_shape={tuple(input_shape)}"
            )
        self.width = EXPANSION * self.channels
        inside = (None, self.tokens, self.width)
        self.widen = self._dense(2 * self.width, self.channels, "widen")
        self.narrow = self._dense(self.channels, self.width, "narrow")
        self.convolutions = [
            CausalDepthwiseConv(TAPS, dtype=self.dtype_policy, name=f"{order}_convolution")
            for order in ORDERS
        ]
        self.scans = [
            SelectiveScan(
                self.states, -(-self.channels // 16), dtype=self.dtype_policy, name=f"{order}_scan"
            )
            for order in ORDERS
        ]
        for layer in (*self.convolutions, *self.scans):
            layer.build(inside)

    def _dense(self, units: int, inputs: int, name: str) -> keras.layers.Dense:
        layer = keras.layers.Dense(
            units,
            use_bias=False,
            kernel_initializer=FanInUniform(),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, None, inputs))
        return layer

    def call(self, inputs: Any) -> Any:
        """Scan in the three orders, and add up."""
        tokens = ops.reshape(inputs, (-1, self.tokens, self.channels))
        tokens, gate = ops.split(self.widen(tokens), 2, axis=-1)
        length = self.tokens // self.num_slices
        scanned = [
            self._mix(0, tokens),
            ops.flip(self._mix(1, ops.flip(tokens, axis=1)), axis=1),
            self._exchange(
                self._mix(2, self._exchange(tokens, self.num_slices, length)),
                length,
                self.num_slices,
            ),
        ]
        # Each is multiplied by the gate of its order, which is to multiply the sum.
        mixed = self.narrow((scanned[0] + scanned[1] + scanned[2]) * ops.silu(gate))
        return ops.reshape(mixed, (-1, *inputs.shape[1:]))

    def _mix(self, number: int, tokens: Any) -> Any:
        return self.scans[number](ops.silu(self.convolutions[number](tokens)))

    def _exchange(self, tokens: Any, rows: int, columns: int) -> Any:
        """Return the tokens by columns, which stand by rows."""
        tokens = ops.transpose(ops.reshape(tokens, (-1, rows, columns, self.width)), (0, 2, 1, 3))
        return ops.reshape(tokens, (-1, self.tokens, self.width))

    def multiply_adds(self, input_shape: tuple[int, ...]) -> int:
        """Count those of the dense layers, the convolutions and the scans."""
        dense = 3 * self.channels * self.width
        inside = (None, self.tokens, self.width)
        scans = sum(scan.multiply_adds(inside) for scan in self.scans)
        return self.tokens * (dense + len(ORDERS) * TAPS * self.width) + scans

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"num_slices": self.num_slices, "states": self.states}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class CausalDepthwiseConv(keras.layers.Layer):
    """Depthwise convolution of each token and those before it, with zeros before the first.

    Args:
        taps: How many tokens, the present one included.
        **kwargs: `name` and `dtype`, as for any Keras layer.
    """

    def __init__(self, taps: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.taps = taps

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel, `(taps, 1, channels)`, and the bias."""
        shape = (self.taps, 1, input_shape[-1])
        initializer = FanInUniform()
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=initializer)
        self.bias = self.add_weight(
            name="bias", shape=shape[-1:], initializer=FanInUniform().for_bias_of(shape)
        )

    def call(self, inputs: Any) -> Any:
        """Convolve."""
        length = inputs.shape[1]
        padded = ops.pad(inputs, [(0, 0), (self.taps - 1, 0), (0, 0)])
        kernel = ops.convert_to_tensor(self.kernel)
        outputs = self.bias
        for tap in range(self.taps):
            outputs = outputs + padded[:, tap : tap + length] * kernel[tap]
        return outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"taps": self.taps}
