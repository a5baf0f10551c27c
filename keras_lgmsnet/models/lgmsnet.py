"""LGMSNet for images and for volumes, one network read from top to bottom."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet import losses, metrics, optimizers
from keras_lgmsnet.layers import (
    ConvNormActivation,
    FusionBlock,
    GMSBlock,
    GroupedConv,
    LinearUpsampling,
    LMSBlock,
    MaxPooling,
)
from keras_lgmsnet.layers.base import get_activation, require_channels_last, require_positive

# Four poolings, and 2-wide patches in the deepest transformer.
SIDE_DIVISOR = 32


class _LGMSNet(keras.Model):
    """The network for images or volumes; `LGMSNet2D` and `LGMSNet3D` document its arguments."""

    axes: tuple[str, ...]

    def __init__(
        self,
        input_shape: Sequence[int | None],
        num_classes: int,
        dims: Sequence[int] = (16, 32, 64, 128, 128),
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        transformer_ratio: float = 0.75,
        activation: Any = "gelu",
        normalization: str | None = None,
        **kwargs: Any,
    ) -> None:
        require_channels_last()
        require_positive(num_classes=num_classes)
        input_shape, dims, kernel_sizes = tuple(input_shape), tuple(dims), tuple(kernel_sizes)
        self._check_dims(dims)
        self._check_input_shape(input_shape)
        dtype = keras.dtype_policies.get(kwargs.pop("dtype", None) or keras.config.dtype_policy())

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
        image = keras.Input(input_shape, name="image")

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

        super().__init__(inputs=image, outputs=logits, **kwargs)

        # === Config ===
        self.num_classes = num_classes
        self.dims = dims
        self.kernel_sizes = kernel_sizes
        self.transformer_ratio = transformer_ratio
        self.activation = get_activation(activation)
        self.normalization = normalization
        self.dtype_policy = dtype
        self.compile(**self._published_training())
        # A saved model whose optimizer was never built makes Keras warn when it is loaded.
        self.optimizer.build(self.trainable_variables)

    @property
    def rank(self) -> int:
        """The number of axes in space: 2 for images, 3 for volumes."""
        return len(self.axes) - 1

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the logits of a batch."""
        self._check_input_shape(tuple(inputs.shape[1:]))
        return super().call(inputs, training=training, mask=mask)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "input_shape": self.input_shape[1:],
            "num_classes": self.num_classes,
            "dims": self.dims,
            "kernel_sizes": self.kernel_sizes,
            "transformer_ratio": self.transformer_ratio,
            "activation": keras.activations.serialize(self.activation),
            "normalization": self.normalization,
        }

    def get_compile_config(self) -> dict[str, Any]:
        """Return what `compile` was given, for a file."""
        config = super().get_compile_config()
        # JAX always compiles; on PyTorch that would be `torch.compile`, which needs a C compiler.
        return config | {"jit_compile": "auto"} if config else config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "_LGMSNet":
        """Build the network from what `get_config` returned."""
        return cls(**config)

    def _published_training(self) -> dict[str, Any]:
        """Return the arguments of `compile`."""
        raise NotImplementedError

    @staticmethod
    def _check_dims(dims: tuple[int, ...]) -> None:
        if len(dims) != 5:
            raise ValueError(
                f"dims are the widths of the five encoder stages. Received: dims={dims}"
            )
        for width in dims:
            require_positive(dims=width)

    @classmethod
    def _check_input_shape(cls, shape: tuple[int | None, ...]) -> None:
        if len(shape) != len(cls.axes) or shape[-1] is None:
            raise ValueError(
                f"{cls.__name__} takes inputs ({', '.join(cls.axes)}) with the channels last and "
                f"static. Received: input_shape={shape}"
            )
        sides = shape[:-1]
        if any(side is not None and side % SIDE_DIVISOR for side in sides):
            padded = tuple(
                None if side is None else -(-side // SIDE_DIVISOR) * SIDE_DIVISOR for side in sides
            )
            raise ValueError(
                f"{cls.__name__} halves its input five times, so every side must be divisible by "
                f"{SIDE_DIVISOR}: pad or resize to {padded}. Received: input_shape={shape}"
            )


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class LGMSNet2D(_LGMSNet):
    """LGMSNet for images: 2,321,393 parameters for three channels and one class.

    A U-shaped network of local multiscale blocks at high resolution and global multiscale blocks
    at low resolution (paper, section 3.3; the widths and details of the published program). It
    returns logits; `keras.ops.sigmoid` makes probabilities of them.

    It arrives compiled with the published training: `optimizers.TorchSGD` at 0.02, decaying over
    the 57,000 steps of the ISIC run (`compile` with your own number of steps),
    `losses.BCEDiceLoss`, and per-image IoU and F1.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 32, or `None`.
        num_classes: Number of independent masks, one logit each.
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

    axes = ("height", "width", "channels")

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, num_classes, **kwargs)

    def _published_training(self) -> dict[str, Any]:
        optimizer = optimizers.TorchSGD(
            optimizers.LaggedPolynomialDecay(0.02, total_steps=57_000),
            momentum=0.9,
            weight_decay=1e-4,
        )
        return {"optimizer": optimizer, **_mask_objective()}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class LGMSNet3D(_LGMSNet):
    """LGMSNet for volumes: 6,193,742 parameters for one channel and 14 classes.

    The network of `LGMSNet2D` with three spatial axes and instance normalization. It returns
    logits; `keras.ops.softmax` makes probabilities of them.

    It arrives compiled with the published training: AdamW at 1e-3 with warm-up and cosine decay
    over the 120,000 steps of the BTCV run (`compile` with your own number of steps),
    `losses.DiceCELoss`, and the mean Dice over the foreground classes. With one class, which has
    no background to exclude, loss and metrics are those of `LGMSNet2D`.

    Args:
        input_shape: `(depth, height, width, channels)`; the sides divisible by 32, or `None`.
        num_classes: Number of exclusive classes, the background included; or 1 for one mask.
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

    axes = ("depth", "height", "width", "channels")

    def __init__(
        self,
        input_shape: Sequence[int | None] = (96, 96, 96, 1),
        num_classes: int = 14,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, num_classes, **kwargs)

    def _published_training(self) -> dict[str, Any]:
        optimizer = optimizers.adamw_warmup_cosine(warmup_steps=1_200, total_steps=120_000)
        if self.num_classes == 1:
            return {"optimizer": optimizer, **_mask_objective()}
        return {
            "optimizer": optimizer,
            "loss": losses.DiceCELoss(),
            "metrics": [metrics.ClassDice(self.num_classes)],
        }


def _mask_objective() -> dict[str, Any]:
    """Return the loss and the metrics of independent masks."""
    return {"loss": losses.BCEDiceLoss(), "metrics": [metrics.ImageIoU(), metrics.ImageF1()]}
