"""MADGNet: ResNet-50, and a decoder that attends at several scales and in several frequencies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.layers import ConvNormActivation, GroupedConv, LinearUpsampling
from keras_lgmsnet.layers.base import (
    ChannelsLastLayer,
    SpatialLayer,
    float32_at_least,
    over_pixels,
    positive_integers,
    require_positive,
)
from keras_lgmsnet.layers.forms.interpolation import averaging_matrix, multiply_axis
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import BatchNormalization
from keras_lgmsnet.models import resnet
from keras_lgmsnet.models.base import SegmentationNetwork

SKIP_FILTERS = 64
GROUPS = 32
# A map is pooled for a scale if it is as high as that afterwards.
LEAST_HEIGHT = 8
# How many half periods cosines have in 7 pixels of the height and of the width, by their use.
FREQUENCIES = tuple(
    zip(
        (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2),
        (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2),
        strict=True,
    )
)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class MADGNet2D(SegmentationNetwork):
    """MADGNet for images: 31,554,331 parameters and 10.1 G multiply-adds at 256 × 256.

    Its encoder is ResNet-50. Each stage of the decoder looks at its map at three scales; channels
    are weighted by the means and extremes of the map times cosines, then what seems to be
    foreground and background by a number each. Heads make a border of features, a distance map of
    border and features, and of all logits. The network of Nam et al. (MADGNet, CVPR 2024), which
    LGMSNet's paper compares (Table 1: 31.56 M, 10.08 G), in the form of the program published with
    LGMSNet, where the class is called MFMSNet: the authors' own has ResNeSt-50 and fewer channels
    (33.4 M), and is trained on distances and borders, too. It returns logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    With `auxiliary_outputs` the deeper stages have heads as well, as in the program; their logits
    are trained by the same loss, and those of the last stage alone are used afterwards.

    Initial weights are torchvision's in the encoder, PyTorch's defaults elsewhere. With
    `encoder_weights` the encoder starts as one trained on ImageNet, as the program's does by
    default, for images normalized as there (`preprocessing="imagenet"`). The file is read once:
    neither the network's config nor a saved network depends on it.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 32. A single channel is
            repeated to three, as in the published program.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the encoder's stem and its four stages, these divisible by 4.
        depths: How many blocks each of the four stages has.
        decoder_filters: Widths of the decoder's four stages, the deepest first, divisible by 32.
        scales: At how many scales a stage of the decoder looks at its map.
        frequencies: How many cosines it is multiplied by, 16 at most.
        least_filters: Least width of a scale's branch, which otherwise has half as many channels
            as the one before; divisible by 16, as the decoder's are.
        auxiliary_outputs: Whether there are logits of the deeper stages to train by.
        encoder_weights: A `.pth` or `.safetensors` file of torchvision's ResNet-50; the images need
            3 channels then, or 1.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits are float32 at
            least).

    Raises:
        FileNotFoundError: If there is no file `encoder_weights`.
        ValueError: If an argument is out of range, a side is not divisible by 32, or the file does
            not fit.

    Example:
    ```python
    model = kl.models.create("madgnet", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (64, 256, 512, 1024, 2048),
        depths: Sequence[int] = (3, 4, 6, 3),
        decoder_filters: Sequence[int] = (256, 128, 64, 32),
        scales: int = 3,
        frequencies: int = 16,
        least_filters: int = 64,
        auxiliary_outputs: bool = False,
        encoder_weights: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        decoder_filters = positive_integers(decoder_filters=decoder_filters)
        require_positive(scales=scales, frequencies=frequencies, least_filters=least_filters)
        if (len(filters), len(depths)) != (5, 4) or any(width % 4 for width in filters[1:]):
            raise ValueError(
                "filters must be of the stem and the four stages, these divisible by 4, and depths "
                f"the four stages'. Received: filters={filters}, depths={depths}"
            )
        if len(decoder_filters) != 4 or any(width % GROUPS for width in decoder_filters):
            raise ValueError(
                f"decoder_filters must be the four stages', divisible by {GROUPS}. "
                f"Received: decoder_filters={decoder_filters}"
            )
        widths = {
            max(width >> scale, least_filters)
            for width in decoder_filters
            for scale in range(scales)
        }
        if any(width % 16 for width in widths):
            raise ValueError(
                "The widths of the scales, decoder_filters halved again and again down to "
                "least_filters, must be divisible by 16. Received: "
                f"decoder_filters={decoder_filters}, scales={scales}, least_filters={least_filters}"
            )
        if frequencies > len(FREQUENCIES):
            raise ValueError(
                f"frequencies must be {len(FREQUENCIES)} at most. Received: {frequencies}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        # In half precision a loss of logits would lose its small differences.
        logits_dtype = keras.backend.result_type(dtype.compute_dtype, "float32")
        biased = {"bias_initializer": FanInUniform()}

        # === Layers ===
        def step(x: Any, filters: int, kernel_size: int, name: str, use_bias: bool = True) -> Any:
            return ConvNormActivation(
                filters,
                kernel_size,
                "relu",
                use_bias=use_bias,
                normalization="batch",
                dtype=dtype,
                name=name,
                **biased,
            )(x)

        def look(x: Any, scale: int, side: int, name: str) -> Any:
            """Return what a scale adds to a map."""
            width, factor = x.shape[-1], 2**scale
            height, *_ = sides = x.shape[1:3]
            # The program fails where pooling leaves a remainder.
            is_pooled = (
                scale > 0
                and height // factor >= LEAST_HEIGHT
                and not any(side % factor for side in sides)
            )
            y = x
            if is_pooled:
                y = keras.layers.AveragePooling2D(factor, dtype=dtype, name=f"{name}_pooling")(y)
            y = GroupedConv(
                width,
                3,
                groups=GROUPS,
                use_bias=False,
                dilation=1 + scale,
                dtype=dtype,
                name=f"{name}_grouped",
            )(y)
            y = BatchNormalization(dtype=dtype, name=f"{name}_norm")(y)
            y = keras.layers.Activation("relu", dtype=dtype, name=f"{name}_activation")(y)
            y = step(y, max(width >> scale, least_filters), 1, f"{name}_narrow", use_bias=False)
            y = _FrequencyAttention(side, frequencies, dtype=dtype, name=f"{name}_frequencies")(y)
            foreground = GroupedConv(1, 1, use_bias=False, dtype=dtype, name=f"{name}_foreground")(
                y
            )
            y = _Balance(dtype=dtype, name=f"{name}_balance")([y, foreground])
            y = step(y, width, 3, f"{name}_widen", use_bias=False)
            if is_pooled:
                y = LinearUpsampling(factor, dtype=dtype, name=f"{name}_upsampling")(y)
            return y

        def attend(x: Any, side: int, name: str) -> Any:
            looks = [look(x, scale, side, f"{name}_{scale}") for scale in range(scales)]
            y = looks[0]
            if scales > 1:
                y = keras.layers.Average(dtype=dtype, name=f"{name}_average")(looks)
            return keras.layers.Add(dtype=dtype, name=f"{name}_attention")([x, y])

        def decode(skip: Any, x: Any, filters: int, level: int) -> Any:
            name = f"decoder{level}"
            x = LinearUpsampling(dtype=dtype, name=f"{name}_upsampling")(x)
            skip = step(skip, SKIP_FILTERS, 1, f"skip{level}")
            x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([x, skip])
            x = step(x, filters, 3, f"{name}_fusion")
            x = attend(x, 112 >> level, name)
            return step(x, filters, 3, name)

        def head(x: Any, level: int) -> Any:
            name = _head_name(level)
            common = {"dtype": logits_dtype}

            def convolve(part: str) -> Any:
                name_ = f"{name}_{part}"
                return GroupedConv(num_classes, 1, name=name_, **common, **biased)(x)

            def upsample(x: Any, part: str) -> Any:
                upsampling = LinearUpsampling(
                    2 ** (level + 1), True, name=f"{name}_{part}_upsampling", **common
                )
                return upsampling(x)

            def sigmoid(x: Any, part: str) -> Any:
                name_ = f"{name}_{part}_sigmoid"
                return keras.layers.Activation("sigmoid", name=name_, **common)(x)

            def gate(x: Any, y: Any, part: str) -> Any:
                gate = sigmoid(y, f"{part}_gate")
                return keras.layers.Multiply(name=f"{name}_{part}_gated", **common)([x, gate])

            def refine(x: Any, y: Any, part: str, output_name: str) -> Any:
                y = sigmoid(y, f"{part}_refinement")
                return keras.layers.Add(name=output_name, **common)([upsample(x, part), y])

            map_ = convolve("map")
            distance = gate(convolve("distance"), map_, "distance")
            border = upsample(gate(convolve("border"), distance, "border"), "border")
            distance = refine(distance, border, "distance", f"{name}_distance_refined")
            return refine(map_, distance, "map", name)

        # === Functional model ===
        x = image
        if x.shape[-1] == 1:
            x = keras.layers.Concatenate(dtype=dtype, name="repeated_channel")([x, x, x])
        *skips, x = resnet.encode(x, filters, depths, dtype, bottlenecks=True)
        stages = []
        for level, width in zip((3, 2, 1, 0), decoder_filters, strict=True):
            x = decode(skips[level], x, width, level)
            stages.append(x)
        logits = head(x, 0)
        auxiliary = []
        if auxiliary_outputs:
            auxiliary = [head(x, level) for level, x in zip((3, 2, 1), stages[:-1], strict=True)]

        super().__init__(image, logits, num_classes, dtype, auxiliary, **kwargs)
        if encoder_weights is not None:
            resnet.load_weights(self, depths, encoder_weights)

        # === Config ===
        self.filters = filters
        self.depths = depths
        self.decoder_filters = decoder_filters
        self.scales = scales
        self.frequencies = frequencies
        self.least_filters = least_filters
        self.auxiliary_outputs = auxiliary_outputs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the file that weights were read from."""
        return super().get_config() | {
            "filters": self.filters,
            "depths": self.depths,
            "decoder_filters": self.decoder_filters,
            "scales": self.scales,
            "frequencies": self.frequencies,
            "least_filters": self.least_filters,
            "auxiliary_outputs": self.auxiliary_outputs,
            "encoder_weights": None,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        encoder = [f"feature_encoding.{part}" for part in ("conv1", "bn1", "layer")]
        parts: list[tuple[str, Any]] = resnet.parts(self, self.depths, *encoder)
        for number, level in enumerate((3, 2, 1, 0), start=1):
            name = f"decoder_stage{number}"
            parts += [
                (f"skip_connection{number}", self.get_layer(f"skip{level}")),
                (f"{name}.conv1", self.get_layer(f"decoder{level}_fusion")),
                *(
                    (f"{name}.attention_layer.{theirs}", ours)
                    for scale in range(self.scales)
                    for theirs, ours in self._scale_parts(f"decoder{level}_{scale}", scale)
                ),
                (f"{name}.conv2", self.get_layer(f"decoder{level}")),
            ]
            if level == 0 or self.auxiliary_outputs:
                parts += [
                    (f"sub_decoder_stage{number}.output_{theirs}_conv", self.get_layer(ours))
                    for theirs, ours in _head_convolutions(level)
                ]
        return parts

    def _scale_parts(self, branch: str, scale: int) -> list[tuple[str, Any]]:
        def layer(step: str) -> Any:
            return self.get_layer(f"{branch}_{step}")

        return [
            (f"multi_scale_branches.{scale}.0", layer("grouped")),
            (f"multi_scale_branches.{scale}.1", layer("norm")),
            (f"multi_scale_branches.{scale}.3", layer("narrow").convolution),
            (f"multi_scale_branches.{scale}.4", layer("narrow").norm),
            (f"multi_frequency_branches.{scale}.0.fc.0", layer("frequencies").reduce),
            (f"multi_frequency_branches.{scale}.0.fc.2", layer("frequencies").expand),
            (f"multi_frequency_branches_conv1.{scale}.0", layer("foreground")),
            (f"multi_frequency_branches_conv2.{scale}", layer("widen")),
            (f"alpha_list.{scale}", layer("balance").background),
            (f"beta_list.{scale}", layer("balance").foreground),
        ]

    def idle_parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Return those of the heads of deeper stages, if there are none here."""
        if self.auxiliary_outputs:
            return {}
        return {
            f"sub_decoder_stage{number}.output_{part}_conv.{name}": shape
            for number, width in enumerate(self.decoder_filters[:-1], start=1)
            for part, _ in _head_convolutions(0)
            for name, shape in (
                ("weight", (self.num_classes, width, 1, 1)),
                ("bias", (self.num_classes,)),
            )
        }

    def recomputed_buffers(self) -> Mapping[str, np.ndarray]:
        """Return the cosines, which the published program holds for each channel."""
        buffers = {}
        for number, level in enumerate((3, 2, 1, 0), start=1):
            for scale in range(self.scales):
                layer = self.get_layer(f"decoder{level}_{scale}_frequencies")
                name = f"decoder_stage{number}.attention_layer.multi_frequency_branches.{scale}.0"
                for frequency, cosines in enumerate(layer.cosines):
                    buffers[f"{name}.dct_weight_{frequency}"] = np.repeat(
                        cosines[None], layer.channels, axis=0
                    )
        return buffers


def _head_name(level: int) -> str:
    return f"auxiliary{level}" if level else "logits"


def _head_convolutions(level: int) -> list[tuple[str, str]]:
    """Return what a head's convolutions are for, in the program's word, and their names."""
    name = _head_name(level)
    return [
        ("map", f"{name}_map"),
        ("distance", f"{name}_distance"),
        ("boundary", f"{name}_border"),
    ]


class _FrequencyAttention(SpatialLayer):
    """Channels weighted by how a map of a fixed size resembles cosines.

    The input's sides are averaged, or repeated, to those of the cosines. Mean, maximum and minimum
    of the map times each cosine, averaged over the cosines, pass through the same two pointwise
    convolutions; their sum, through a sigmoid, multiplies the channels.

    Args:
        side: Of the cosines.
        frequencies: How many of `FREQUENCIES` there are.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.
    """

    def __init__(self, side: int, frequencies: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.side = side
        self.frequencies = frequencies
        self.cosines = _cosines(side, frequencies)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the convolutions."""
        super().build(input_shape)
        ones = (input_shape[0], 1, 1)
        common = {"use_bias": False, "dtype": self.dtype_policy}
        self.reduce = GroupedConv(self.channels // 16, 1, name="reduce", **common)
        self.reduce.build((*ones, self.channels))
        self.expand = GroupedConv(self.channels, 1, name="expand", **common)
        self.expand.build((*ones, self.channels // 16))

    def call(self, inputs: Any) -> Any:
        """Weight the channels."""
        x = inputs
        for axis in (1, 2):
            if x.shape[axis] != self.side:
                matrix = averaging_matrix(x.shape[axis], self.side)
                x = multiply_axis(x, axis, matrix, self.side)

        def multiply(x: Any, cosines: np.ndarray) -> Any:
            dtype = keras.backend.standardize_dtype(x.dtype)
            return x * ops.cast(cosines[None, :, :, None], dtype)

        # The mean of means is that of the map times the mean of the cosines.
        mean = over_pixels(ops.mean, multiply(float32_at_least(x), self.cosines.mean(axis=0)))
        maxima, minima = 0.0, 0.0
        for cosines in self.cosines:
            product = multiply(x, cosines)
            maxima += float32_at_least(ops.max(product, axis=(1, 2), keepdims=True))
            minima += float32_at_least(ops.min(product, axis=(1, 2), keepdims=True))
        statistics = [mean, maxima / self.frequencies, minima / self.frequencies]
        # Side by side, as if they were pixels, which the convolutions see one by one.
        y = ops.cast(ops.concatenate(statistics, axis=1), self.compute_dtype)
        y = self.expand(ops.relu(self.reduce(y)))
        return inputs * ops.sigmoid(ops.sum(y, axis=1, keepdims=True))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"side": self.side, "frequencies": self.frequencies}


def _cosines(side: int, frequencies: int) -> np.ndarray:
    """Return cosines over a map, `(frequencies, side, side)`, rounded as the program's are."""
    centres = (np.arange(side) + 0.5) / side

    def along(frequency: int) -> np.ndarray:
        frequency *= side // 7
        return np.cos(np.pi * frequency * centres) * np.sqrt((2 if frequency else 1) / side)

    maps = [np.outer(along(row), along(column)) for row, column in FREQUENCIES[:frequencies]]
    return np.array(maps, "float32")


class _Balance(ChannelsLastLayer):
    """Features times a learned number where they are of the foreground, else times another."""

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Create the numbers."""
        self.background = self.add_weight(name="background", shape=(1,), initializer="ones")
        self.foreground = self.add_weight(name="foreground", shape=(1,), initializer="ones")

    def call(self, inputs: list[Any]) -> Any:
        """Return features weighted by logits that tell the foreground."""
        features, logits = inputs
        foreground = ops.sigmoid(logits)
        return features * ((1 - foreground) * self.background + foreground * self.foreground)

    def compute_output_shape(
        self, input_shape: list[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Return the features' shape."""
        return tuple(input_shape[0])

    def multiply_adds(self, input_shape: list[tuple[int, ...]]) -> int:
        """Count none: factors by pixel do not."""
        return 0
