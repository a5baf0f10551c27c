"""UNETR's decoder (Hatamizadeh et al., WACV 2022), which several networks for volumes have.

As in MONAI 0.9.0: instance norms without scale and offset, leaky ReLU of slope 0.01, no biases but
the logits', PyTorch's initial weights.
"""

from typing import Any

import keras

from keras_lgmsnet.layers import GroupedConv, ResidualBlock, TransposedConv
from keras_lgmsnet.layers.base import leaky_relu
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.models.base import SegmentationNetwork


def residual(x: Any, filters: int, name: str, dtype: Any) -> Any:
    """Return the features of a residual block of two convolutions."""
    return ResidualBlock(
        filters,
        normalization="instance",
        activation=leaky_relu,
        kernel_initializer=FanInUniform(),
        dtype=dtype,
        name=name,
    )(x)


def decode(x: Any, skip: Any, filters: int, name: str, dtype: Any) -> Any:
    """Return the features of a residual block of `x`, its sides doubled, and a skip connection."""
    x = TransposedConv(filters, dtype=dtype, name=f"{name}_upsampling")(x)
    x = keras.layers.Concatenate(dtype=dtype, name=f"{name}_concatenate")([x, skip])
    return residual(x, filters, name, dtype)


def classify(x: Any, num_classes: int) -> Any:
    """Return the logits, in float32: in half precision a loss would lose small differences."""
    return GroupedConv(
        num_classes, 1, bias_initializer=FanInUniform(), dtype="float32", name="logits"
    )(x)


def residual_parts(network: SegmentationNetwork, name: str) -> list[tuple[str, Any]]:
    """Return the published names of a block that `residual` made as `name`."""
    return block_parts(network.get_layer(name), f"{name}.layer")


def decoder_parts(network: SegmentationNetwork, name: str) -> list[tuple[str, Any]]:
    """Return the published names of what `decode` made as `name`."""
    upsampling = (f"{name}.transp_conv.conv", network.get_layer(f"{name}_upsampling"))
    return [upsampling, *block_parts(network.get_layer(name), f"{name}.conv_block")]


def logits_parts(network: SegmentationNetwork) -> list[tuple[str, Any]]:
    """Return the published names of what `classify` made."""
    return [("out.conv.conv", network.get_layer("logits"))]


def block_parts(block: ResidualBlock, name: str) -> list[tuple[str, Any]]:
    """Return the published names of a residual block of a given name."""
    steps = [*block.steps, *([] if block.shortcut is None else [block.shortcut])]
    return [
        (f"{name}.conv{number}.conv", step.convolution)
        for number, step in enumerate(steps, start=1)
    ]
