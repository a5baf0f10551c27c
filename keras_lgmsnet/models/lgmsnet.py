"""LGMSNet for images and for volumes, one network read from top to bottom."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from keras_lgmsnet.layers import (
    ConvNormActivation,
    FusionBlock,
    GMSBlock,
    GroupedConv,
    LinearUpsampling,
    LMSBlock,
    MaxPooling,
)
from keras_lgmsnet.layers.base import get_activation, positive_integers
from keras_lgmsnet.models.base import SegmentationNetwork


class _LGMSNet(SegmentationNetwork):
    """The network for images or volumes; `LGMSNet2D` and `LGMSNet3D` document its arguments."""

    default_input_shape: ClassVar[tuple[int, ...]]
    default_num_classes: ClassVar[int]

    def __init__(
        self,
        input_shape: Sequence[int | None] | None = None,
        num_classes: int | None = None,
        dims: Sequence[int] = (16, 32, 64, 128, 128),
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        transformer_ratio: float = 0.75,
        activation: Any = "gelu",
        normalization: str | None = None,
        **kwargs: Any,
    ) -> None:
        if input_shape is None:
            input_shape = self.default_input_shape
        if num_classes is None:
            num_classes = self.default_num_classes
        dims = positive_integers(dims=dims)
        kernel_sizes = positive_integers(kernel_sizes=kernel_sizes)
        if len(dims) != 5:
            raise ValueError(
                f"dims are the widths of the five encoder stages. Received: dims={dims}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)

        # === Layers ===
        common = {"normalization": normalization, "dtype": dtype}
        local = common | {"kernel_sizes": kernel_sizes, "activation": activation}
        across = common | {"transformer_ratio": transformer_ratio}

        def convolve(filters: int, name: str) -> keras.layers.Layer:
            # 3 wide, after the image and after every upsampling.
            return ConvNormActivation(
                filters, 3, activation="relu", use_bias=True, name=name, **common
            )

        def local_stage(x: Any, filters: int, name: str) -> Any:
            x = LMSBlock(name=f"{name}_lms", **local)(x)
            return ConvNormActivation(filters, 1, name=name, **common)(x)

        def pool(x: Any, name: str) -> Any:
            return MaxPooling(dtype=dtype, name=f"{name}_pooling")(x)

        def upsample(x: Any, filters: int, name: str) -> Any:
            x = LinearUpsampling(dtype=dtype, name=f"{name}_upsampling")(x)
            return convolve(filters, name)(x)

        def join(skip: Any, x: Any, name: str) -> Any:
            return keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([skip, x])

        # === Functional model ===
        stem = convolve(dims[0], "stem")(image)
        encoder1 = local_stage(stem, dims[0], "encoder1")
        encoder2 = local_stage(pool(encoder1, "encoder2"), dims[1], "encoder2")
        encoder3 = local_stage(pool(encoder2, "encoder3"), dims[2], "encoder3")
        encoder4 = GMSBlock(dims[3], name="encoder4", **across)(pool(encoder3, "encoder4"))
        encoder5 = GMSBlock(dims[4], name="encoder5", **across)(pool(encoder4, "encoder5"))

        up5 = upsample(encoder5, dims[3], "up5")
        decoder5 = join(encoder4, up5, "decoder5")
        decoder5 = GMSBlock(dims[3], name="decoder5", **across)(decoder5)

        up4 = upsample(decoder5, dims[2], "up4")
        decoder4 = join(encoder3, up4, "decoder4")
        decoder4 = FusionBlock(dims[2], name="decoder4_fusion", **common)(decoder4)
        decoder4 = GMSBlock(dims[2], name="decoder4", **across)(decoder4)

        up3 = upsample(decoder4, dims[1], "up3")
        decoder3 = join(encoder2, up3, "decoder3")
        decoder3 = FusionBlock(dims[1], name="decoder3", **common)(decoder3)

        up2 = upsample(decoder3, dims[0], "up2")
        decoder2 = join(encoder1, up2, "decoder2")
        decoder2 = FusionBlock(dims[0], name="decoder2", **common)(decoder2)

        # In half precision a loss of logits would lose its small differences.
        logits = GroupedConv(num_classes, 1, dtype="float32", name="logits")(decoder2)

        super().__init__(image, logits, num_classes, dtype, **kwargs)

        # === Config ===
        self.dims = dims
        self.kernel_sizes = kernel_sizes
        self.transformer_ratio = transformer_ratio
        self.activation = get_activation(activation)
        self.normalization = normalization

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "dims": self.dims,
            "kernel_sizes": self.kernel_sizes,
            "transformer_ratio": self.transformer_ratio,
            "activation": keras.activations.serialize(self.activation),
            "normalization": self.normalization,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the stages in the published program."""
        stage = self.get_layer
        stem, *ups = (
            [
                (f"{name}.{step}.{first}", stage(layer).convolution),
                (f"{name}.{step}.{first + 1}", stage(layer).norm),
            ]
            for name, layer, step, first in (
                ("stem", "stem", "conv", 0),
                *((f"Up{level}", f"up{level}", "up", 1) for level in (5, 4, 3, 2)),
            )
        )
        return [
            *stem,
            ("encoder1.0", stage("encoder1_lms")),
            ("encoder1.1", stage("encoder1")),
            ("encoder2.0", stage("encoder2_lms")),
            ("encoder2.1", stage("encoder2")),
            ("encoder3.0", stage("encoder3_lms")),
            ("encoder3.1", stage("encoder3")),
            ("encoder4.0", stage("encoder4")),
            ("encoder5.0", stage("encoder5")),
            *(part for up in ups for part in up),
            ("Up_conv5", stage("decoder5")),
            ("Up_conv4.0", stage("decoder4_fusion")),
            ("Up_conv4.1", stage("decoder4")),
            ("Up_conv3", stage("decoder3")),
            ("Up_conv2", stage("decoder2")),
            ("Conv_1x1", stage("logits")),
        ]


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class LGMSNet2D(_LGMSNet):
    """LGMSNet for images: 2,321,393 parameters for three channels and one class.

    A U-shaped network of local multiscale blocks at high resolution and global multiscale blocks
    at low resolution (paper, section 3.3; the widths and details of the published program). It
    returns logits; `keras.ops.sigmoid` makes probabilities of them.

    It arrives compiled with the published training, see `SegmentationNetwork`.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 32, or `None`. By default
            `(256, 256, 3)`.
        num_classes: Number of independent masks, one logit each; by default 1.
        dims: Widths of the five encoder stages.
        kernel_sizes: Odd kernel sizes of the LMS blocks, one per group of channels.
        transformer_ratio: Share of the GMS blocks' channels that the transformer has, 0 to 1.
        activation: Activation inside the LMS blocks: `"gelu"` as published, `"silu"` as printed.
        normalization: `"batch"`, `"instance"`, or `None` for the published one.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible by 32.

    Example:
    ```python
    model = LGMSNet2D(input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    probabilities = keras.ops.sigmoid(model.predict(images))
    ```
    """

    rank = 2
    default_input_shape = (256, 256, 3)
    default_num_classes = 1


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class LGMSNet3D(_LGMSNet):
    """LGMSNet for volumes: 6,193,742 parameters for one channel and 14 classes.

    The network of `LGMSNet2D` with three spatial axes and instance normalization. It returns
    logits; `keras.ops.softmax` makes probabilities of them.

    It arrives compiled with the published training, see `SegmentationNetwork`.

    Args:
        input_shape: `(depth, height, width, channels)`; the sides divisible by 32, or `None`. By
            default `(96, 96, 96, 1)`.
        num_classes: Number of exclusive classes, the background included, by default 14; or 1 for
            one mask.
        dims: Widths of the five encoder stages.
        kernel_sizes: Odd kernel sizes of the LMS blocks, one per group of channels.
        transformer_ratio: Share of the GMS blocks' channels that the transformer has, 0 to 1.
        activation: Activation inside the LMS blocks: `"gelu"` as published, `"silu"` as printed.
        normalization: `"batch"`, `"instance"`, or `None` for the published one.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        ValueError: If an argument is out of range, or a side is not divisible by 32.

    Example:
    ```python
    model = LGMSNet3D(input_shape=(96, 96, 96, 1), num_classes=14)
    model.fit(dataset)  # of (volume, labels)
    labels = keras.ops.argmax(model.predict(volumes), axis=-1)
    ```
    """

    rank = 3
    default_input_shape = (96, 96, 96, 1)
    default_num_classes = 14
