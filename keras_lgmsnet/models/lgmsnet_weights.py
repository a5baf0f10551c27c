"""The names that LGMSNet's parameters have in the published PyTorch program."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_lgmsnet import layers

_LMS_DEPTHWISE = ("local_dwc", "global_dwc_s", "global_dwc_m", "global_dwc_l")


def named_variables(layer: keras.layers.Layer, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the published name and the Keras variable of each parameter of a network or block.

    Args:
        layer: A network, or one of the blocks, norms and convolutions it is made of; built.
        prefix: What the names begin with, dot included.

    Raises:
        TypeError: If the layer is not one of the published network's.
    """
    for name, part in _published_parts(layer):
        if isinstance(part, keras.layers.Layer):
            yield from named_variables(part, f"{prefix}{name}.")
        elif part is not None:
            yield f"{prefix}{name}", part


def _published_parts(layer: keras.layers.Layer) -> list[tuple[str, Any]]:
    """Return the published names of a layer's immediate parts: layers, variables or `None`."""
    match layer:
        case keras.Model():
            return _network_parts(layer)
        case layers.GroupedConv() | layers.DepthwiseConv() | keras.layers.Dense():
            return [("weight", layer.kernel), ("bias", layer.bias)]
        case keras.layers.BatchNormalization():
            return [
                ("weight", layer.gamma),
                ("bias", layer.beta),
                ("running_mean", layer.moving_mean),
                ("running_var", layer.moving_variance),
            ]
        case layers.GroupNormalization() | keras.layers.LayerNormalization():
            return [("weight", layer.gamma), ("bias", layer.beta)]
        case layers.ConvNormActivation():
            return [("0", layer.convolution), ("1", layer.norm)]
        case layers.LMSBlock():
            numbered = [f"dwc_{number}" for number in range(len(layer.depthwise))]
            names = _LMS_DEPTHWISE if len(numbered) == len(_LMS_DEPTHWISE) else numbered
            return [
                ("norm_act.0", layer.group_normalization),
                *zip(names, layer.depthwise, strict=True),
                ("conv_1x1_bn", layer.squeeze),
                ("conv_nxn_bn", layer.expand),
            ]
        case layers.GMSBlock():
            branches = (
                ("conv_spilt", layer.depthwise),
                ("transformer.layers.0", layer.transformer),
            )
            return [
                ("conv1", layer.local),
                ("conv2", layer.project),
                *((name, branch) for name, branch in branches if branch is not None),
                ("conv3", layer.mix),
                ("conv4", layer.merge),
            ]
        case layers.SparseTransformer():
            return [
                ("0.norm", layer.attention_norm),
                ("0.to_qkv", layer.query_key_value),
                ("0.to_out.0", layer.attention_output),
                ("1.net.0", layer.feed_forward_norm),
                ("1.net.1", layer.feed_forward),
                ("1.net.4", layer.feed_forward_output),
            ]
        case layers.DepthwiseResidual():
            return [
                ("dwconv" + "x".join("3" * layer.rank), layer.depthwise),
                ("bn1", layer.norm),
                ("dwconv" + "x".join("1" * layer.rank), layer.scale),
                ("bn2", layer.scale_norm),
            ]
        case layers.FusionBlock():
            steps = zip(layer.convolutions, layer.norms, strict=True)
            return [
                (f"conv.{3 * number + offset}", part)
                for number, (convolution, norm) in enumerate(steps)
                for offset, part in ((0, convolution), (2, norm))
            ]
    raise TypeError(f"{layer.name} ({type(layer).__name__}) is not part of a published network.")


def _network_parts(model: keras.Model) -> list[tuple[str, keras.layers.Layer]]:
    """Return the published names of the network's stages."""
    stage = model.get_layer
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
