"""ResNet as the encoder of networks, with torchvision's names and weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_lgmsnet.layers import ConvNormActivation, MaxPooling, ResidualBlock
from keras_lgmsnet.layers.initializers import fan_out_normal
from keras_lgmsnet.models import torch_weights
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.published_names import variables_within


def encode(
    image: Any,
    filters: Sequence[int],
    depths: Sequence[int],
    dtype: Any,
    *,
    bottlenecks: bool = False,
    dropout: float = 0.0,
) -> list[Any]:
    """Return the features of the stem, at half the image's sides, and of each stage.

    The first stage has a quarter of the sides, each further one half as many as the last. The
    layers that end them are called `encoder0` (the stem's) to `encoderN`.

    Args:
        image: The network's input.
        filters: Widths of the stem and of each stage.
        depths: How many blocks each stage has.
        dtype: A policy.
        bottlenecks: Whether blocks are bottlenecks, of a quarter of their stage's width, as from
            ResNet-50 on.
        dropout: The share of each stage's channels that training leaves out.
    """
    common: dict[str, Any] = {"normalization": "batch", "dtype": dtype}
    x = ConvNormActivation(
        filters[0],
        7,
        "relu",
        kernel_initializer=fan_out_normal(),
        strides=2,
        name="encoder0",
        **common,
    )(image)
    features = [x]
    x = MaxPooling(3, dtype=dtype, name="encoder1_pooling")(x)
    for level, (width, depth) in enumerate(zip(filters[1:], depths, strict=True), start=1):
        for number in range(depth):
            strides = 2 if level > 1 and number == 0 else 1
            name = _block_name(level, number, depth)
            bottleneck = width // 4 if bottlenecks else None
            x = ResidualBlock(width, strides, bottleneck=bottleneck, name=name, **common)(x)
        if dropout:
            name = f"encoder{level}_dropout"
            x = keras.layers.SpatialDropout2D(dropout, dtype=dtype, name=name)(x)
        features.append(x)
    return features


def parts(
    network: SegmentationNetwork,
    depths: Sequence[int],
    convolution: str = "conv1",
    norm: str = "bn1",
    stage: str = "layer",
) -> list[tuple[str, Any]]:
    """Return the encoder's layers with their names in a PyTorch program, torchvision's by default.

    Args:
        network: One whose encoder `encode` made.
        depths: How many blocks each stage has.
        convolution: Name of the stem's convolution.
        norm: Name of the norm after it.
        stage: What the names of stages begin with, before their number.
    """
    stem = network.get_layer("encoder0")
    blocks = [
        (f"{stage}{level}.{number}", network.get_layer(_block_name(level, number, depth)))
        for level, depth in enumerate(depths, start=1)
        for number in range(depth)
    ]
    return [(convolution, stem.convolution), (norm, stem.norm), *blocks]


def load_weights(network: SegmentationNetwork, depths: Sequence[int], path: str | Path) -> None:
    """Set the encoder's weights to those of a file of torchvision's.

    Those of the classifier, and of a further stage, are left out.

    Args:
        network: One whose encoder `encode` made.
        depths: How many blocks each stage has.
        path: Of a `.pth`, `.pt` or `.safetensors` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not fit the encoder.
    """
    variables = dict(variables_within(parts(network, depths)))
    unused = ("fc.", f"layer{len(depths) + 1}.")
    arrays, misfits = torch_weights.fit(torch_weights.read(path), variables, unused=unused)
    if misfits:
        raise ValueError(
            "encoder_weights must be those of torchvision's ResNet with these depths and filters, "
            f"for images of 3 channels. Received: {path}, with {torch_weights.tell(misfits)}"
        )
    torch_weights.assign(variables, arrays)


def _block_name(level: int, number: int, depth: int) -> str:
    """Return the name of a block; the last one of a stage has the stage's."""
    return f"encoder{level}" if number == depth - 1 else f"encoder{level}_{number}"
