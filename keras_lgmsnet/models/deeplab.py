"""DeepLabV3's head, which MobileViT and RepViT share: from a small map to logits."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lgmsnet.layers import (
    AtrousPyramidPooling,
    ConvNormActivation,
    GroupedConv,
    LinearUpsampling,
)
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.models.base import SegmentationNetwork


def add_head(x: Any, num_classes: int, filters: int, factor: int, dtype: Any) -> Any:
    """Return the logits that the head of Chen et al. (DeepLabV3, 2017) makes of features.

    Its stages are named `pyramid` and `head`.

    Args:
        x: A symbolic tensor `(batch, height, width, channels)`.
        num_classes: Number of classes, one logit each.
        filters: Channels of the pyramid's branches, and of all in between.
        factor: By which the sides are multiplied in the end.
        dtype: A policy, but for the logits, which are in float32 at least.
    """
    x = AtrousPyramidPooling(filters, dtype=dtype, name="pyramid")(x)
    x = ConvNormActivation(filters, 3, "relu", normalization="batch", dtype=dtype, name="head")(x)
    # In half precision a loss of logits would lose its small differences.
    dtype = keras.backend.result_type(dtype.compute_dtype, "float32")
    x = GroupedConv(
        num_classes, 1, bias_initializer=FanInUniform(), dtype=dtype, name="classifier"
    )(x)
    return LinearUpsampling(factor, dtype=dtype, name="logits")(x)


def head_parts(network: SegmentationNetwork) -> Sequence[tuple[str, Any]]:
    """Return the names of the head's layers in torchvision, for `published_parts`."""
    head = network.get_layer("head")
    return [
        ("classifier.0", network.get_layer("pyramid")),
        ("classifier.1", head.convolution),
        ("classifier.2", head.norm),
        ("classifier.4", network.get_layer("classifier")),
    ]
