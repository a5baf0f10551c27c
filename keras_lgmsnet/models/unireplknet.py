"""UniRepLKNet in a U: depthwise kernels of 13 × 13, trained beside smaller dilated ones."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    ConvNormActivation,
    DepthwiseConv,
    GlobalResponseNormalization,
    GroupedConv,
    LayerScale,
    LinearUpsampling,
    MaxPooling,
    ParallelDepthwiseConv,
    SqueezeExcitation,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import BatchNormalization
from keras_lgmsnet.models.base import SegmentationNetwork

# Kernel size and dilation of the depthwise convolutions that are added up, but for the first stage.
BRANCHES = ((13, 1), (5, 1), (7, 2), (3, 3), (3, 4), (3, 5))


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class UniRepLKNet2D(SegmentationNetwork):
    """UniRepLKNet for images: 5,852,509 parameters and 9.40 G multiply-adds at 256 × 256.

    In inference, and so in its exports, the depthwise convolutions of a block are one, of 13 × 13.
    The network is built of the blocks of Ding et al. (UniRepLKNet, CVPR 2024), which LGMSNet's
    paper compares (Table 1: 5.83 M, 9.39 G), as in the program published with LGMSNet. Of that
    program are the stem in full resolution, the poolings between the stages (where the paper has
    strided convolutions with norms) and the decoder. It returns logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    Initial weights are PyTorch's defaults; what a block adds to its input starts at a millionth.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 16, or `None`. A single
            channel is repeated to three, as in the published program.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the stem and of the four stages, these divisible by 4.
        depths: How many blocks each of the four stages has.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible by 16.

    Example:
    ```python
    model = kl.models.create("unireplknet", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (16, 40, 80, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        if (len(filters), len(depths)) != (5, 4):
            raise ValueError(
                "filters are the widths of the stem and of four stages, depths the stages' numbers "
                f"of blocks. Received: filters={filters}, depths={depths}"
            )
        if any(width % 4 for width in filters[1:]):
            raise ValueError(
                "filters must be divisible by 4 but for the stem's, since squeeze-excitation "
                f"leaves a quarter. Received: filters={filters}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        biased = {"bias_initializer": FanInUniform()}
        common = biased | {"dtype": dtype}

        # === Layers ===
        def convolve(x: Any, filters: int, kernel_size: int, name: str) -> Any:
            return GroupedConv(filters, kernel_size, name=name, **common)(x)

        def normalize(x: Any, name: str) -> Any:
            return BatchNormalization(dtype=dtype, name=name)(x)

        def activate(x: Any, name: str) -> Any:
            return keras.layers.Activation("gelu", dtype=dtype, name=name)(x)

        def add(x: Any, y: Any, name: str) -> Any:
            return keras.layers.Add(dtype=dtype, name=name)([x, y])

        def dense(x: Any, width: int, use_bias: bool, name: str) -> Any:
            layer = keras.layers.Dense(
                width,
                use_bias=use_bias,
                kernel_initializer=FanInUniform(),
                bias_initializer=FanInUniform(fan_in=x.shape[-1]),
                dtype=dtype,
                name=name,
            )
            return layer(x)

        def stem(x: Any) -> Any:
            if x.shape[-1] == 1:
                x = keras.layers.Concatenate(dtype=dtype, name="repeated_channel")([x, x, x])
            # In this order: the norm after the activation.
            x = activate(convolve(x, filters[0], 3, "stem"), "stem_activation")
            x = normalize(x, "stem_norm")
            y = DepthwiseConv(3, name="stem_depthwise", **common)(x)
            y = normalize(activate(y, "stem_depthwise_activation"), "stem_depthwise_norm")
            x = convolve(add(x, y, "stem_add"), filters[0], 1, "stem_pointwise")
            return normalize(activate(x, "stem_pointwise_activation"), "encoder1")

        def mix(x: Any, stage: int, name: str, output_name: str) -> Any:
            width = x.shape[-1]
            if stage == 2:
                y = DepthwiseConv(3, use_bias=False, dtype=dtype, name=f"{name}_depthwise")(x)
            else:
                y = ParallelDepthwiseConv(BRANCHES, dtype=dtype, name=f"{name}_depthwise")(x)
            y = normalize(y, f"{name}_depthwise_norm")
            y = SqueezeExcitation(width // 4, name=f"{name}_excitation", **common)(y)
            y = activate(dense(y, 4 * width, True, f"{name}_widen"), f"{name}_activation")
            y = GlobalResponseNormalization(dtype=dtype, name=f"{name}_response_norm")(y)
            y = normalize(dense(y, width, False, f"{name}_narrow"), f"{name}_narrow_norm")
            y = LayerScale(dtype=dtype, name=f"{name}_scale")(y)
            return add(x, y, output_name)

        def encode(x: Any, stage: int) -> Any:
            name, depth = f"encoder{stage}", depths[stage - 2]
            x = convolve(x, filters[stage - 1], 3, f"{name}_convolution")
            x = MaxPooling(dtype=dtype, name=f"{name}_pooling")(x)
            for number in range(depth):
                block = f"{name}_{number}"
                x = mix(x, stage, block, name if number == depth - 1 else f"{block}_add")
            return x

        def step(x: Any, filters: int, name: str) -> Any:
            layer = ConvNormActivation(
                filters, 3, activation="relu", use_bias=True, name=name, **common
            )
            return layer(x)

        def decode(skip: Any, x: Any, stage: int) -> Any:
            width, name = skip.shape[-1], f"decoder{stage}"
            upsampling = LinearUpsampling(2, True, dtype=dtype, name=f"{name}_upsampling")
            x = step(upsampling(x), width, f"up{stage}")
            x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([x, skip])
            return step(step(x, width, f"{name}_fusion"), width, name)

        # === Functional model ===
        x = stem(image)
        skips = [x]
        for stage in (2, 3, 4, 5):
            x = encode(x, stage)
            skips.append(x)
        for stage in (5, 4, 3, 2):
            x = decode(skips[stage - 2], x, stage)
        # In half precision a loss of logits would lose its small differences.
        logits = GroupedConv(num_classes, 1, dtype="float32", name="logits", **biased)(x)

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
        parts: list[tuple[str, Any]] = [
            (f"encoder.stem.{theirs}", layer(ours))
            for theirs, ours in (
                ("0", "stem"),
                ("2", "stem_norm"),
                ("3.fn.0", "stem_depthwise"),
                ("3.fn.2", "stem_depthwise_norm"),
                ("4", "stem_pointwise"),
                ("6", "encoder1"),
            )
        ]
        for stage, depth in enumerate(self.depths, start=2):
            name, number = f"encoder{stage}", stage - 2
            parts.append((f"encoder.downsample_layers.{number}.0", layer(f"{name}_convolution")))
            for block in range(depth):
                parts += self._block(f"{name}_{block}", f"encoder.stages.{number}.{block}")
        for stage in (5, 4, 3, 2):
            for ours, theirs, first in (
                (f"up{stage}", f"Up{stage - 1}.up", 1),
                (f"decoder{stage}_fusion", f"fusion_conv{stage - 1}.conv", 0),
                (f"decoder{stage}", f"fusion_conv{stage - 1}.conv", 3),
            ):
                parts += [
                    (f"{theirs}.{first}", layer(ours).convolution),
                    (f"{theirs}.{first + 1}", layer(ours).norm),
                ]
        return [*parts, ("head", layer("logits"))]

    def _block(self, block: str, name: str) -> list[tuple[str, Any]]:
        def layer(step: str) -> Any:
            return self.get_layer(f"{block}_{step}")

        depthwise, excitation = layer("depthwise"), layer("excitation")
        parts = [("dwconv", depthwise)]
        if isinstance(depthwise, ParallelDepthwiseConv):
            suffixes = [f"k{size}_{dilation}" for size, dilation in BRANCHES[1:]]
            kernels = ["lk_origin", *(f"dil_conv_{suffix}" for suffix in suffixes)]
            norms = ["origin_bn", *(f"dil_bn_{suffix}" for suffix in suffixes)]
            branches = zip(kernels, depthwise.convolutions, norms, depthwise.norms, strict=True)
            parts = [
                (f"dwconv.{theirs}", ours)
                for kernel, convolution, norm_name, norm in branches
                for theirs, ours in ((kernel, convolution), (norm_name, norm))
            ]
        parts = [
            ("gamma", layer("scale").gamma),
            *parts,
            ("norm", layer("depthwise_norm")),
            ("se.down", excitation.reduce),
            ("se.up", excitation.expand),
            ("pwconv1.1", layer("widen")),
            ("act.1", layer("response_norm")),
            ("pwconv2.0", layer("narrow")),
            ("pwconv2.2", layer("narrow_norm")),
        ]
        return [(f"{name}.{theirs}", ours) for theirs, ours in parts]
