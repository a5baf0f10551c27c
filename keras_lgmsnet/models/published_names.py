"""The names that parameters have in the published PyTorch programs.

Those of a network's stages the network itself knows; here are those of the layers and blocks.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_lgmsnet import layers
from keras_lgmsnet.models.base import SegmentationNetwork

# In the order of `keras_lgmsnet.layers.attention.axial.GATES`.
_AXIAL_GATES = ("f_qr", "f_kr", "f_sve", "f_sv")
_LMS_DEPTHWISE = ("local_dwc", "global_dwc_s", "global_dwc_m", "global_dwc_l")


def named_variables(layer: keras.layers.Layer) -> Iterator[tuple[str, Any]]:
    """Yield the published name and the Keras variable of each parameter of a network or block.

    Args:
        layer: A network, or one of the blocks, norms and convolutions it is made of; built.

    Raises:
        TypeError: If the layer is not one of the published network's.
    """
    yield from variables_within(_published_parts(layer))


def variables_within(parts: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the published name and the Keras variable of each parameter of several parts.

    Args:
        parts: Layers, variables or `None` and their names, as a network's `published_parts`.

    Raises:
        TypeError: If a layer is not one of a published network's.
    """
    for name, part in _parts_within(parts, ""):
        if not isinstance(part, keras.layers.Layer):
            yield name, part


def named_parts(layer: keras.layers.Layer, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the published names of a network's layers too, each before what it is made of.

    Args:
        layer: As for `named_variables`.
        prefix: What the names begin with, dot included.

    Raises:
        TypeError: If the layer is not one of the published network's.
    """
    yield from _parts_within(_published_parts(layer), prefix)


def _parts_within(parts: Iterable[tuple[str, Any]], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, part in parts:
        if part is not None:
            yield f"{prefix}{name}", part
        if isinstance(part, keras.layers.Layer):
            yield from named_parts(part, f"{prefix}{name}.")


def _published_parts(layer: keras.layers.Layer) -> list[tuple[str, Any]]:
    """Return the published names of a layer's immediate parts: layers, variables or `None`."""
    match layer:
        case SegmentationNetwork():
            return layer.published_parts()
        case (
            layers.GroupedConv()
            | layers.DepthwiseConv()
            | layers.PatchEmbedding()
            | layers.TransposedDepthwiseConv()
            | layers.TransposedPointwiseConv()
            | keras.layers.Dense()
        ):
            return [("weight", layer.kernel), ("bias", layer.bias)]
        case layers.TransposedConv():
            return [("weight", layer.kernel)]
        case keras.layers.BatchNormalization():
            return [
                ("weight", layer.gamma),
                ("bias", layer.beta),
                ("running_mean", layer.moving_mean),
                ("running_var", layer.moving_variance),
            ]
        case layers.GroupNormalization() | keras.layers.LayerNormalization():
            return [("weight", layer.gamma), ("bias", layer.beta)]
        case layers.GlobalResponseNormalization():
            return [("gamma", layer.gamma), ("beta", layer.beta)]
        case layers.ConvNormActivation():
            return [("0", layer.convolution), ("1", layer.norm)]
        case layers.ChannelwiseFeedForward():
            return [("pwconv1", layer.widen), ("pwconv2", layer.narrow)]
        case layers.AtrousPyramidPooling():
            convolved = (layer.pointwise, *layer.dilated)
            context = f"convs.{len(convolved)}"
            return [
                *((f"convs.{number}", branch) for number, branch in enumerate(convolved)),
                (f"{context}.1", layer.context.convolution),
                (f"{context}.2", layer.context.norm),
                ("project", layer.project),
            ]
        case layers.WindowAttention():
            return [
                ("relative_position_bias_table", layer.position_bias),
                ("qkv", layer.query_key_value),
                ("proj", layer.project),
            ]
        case layers.PatchMerging():
            return [("norm", layer.norm), ("reduction", layer.reduction)]
        case layers.PatchExpansion():
            return [("expand", layer.expand), ("norm", layer.norm)]
        case layers.ResidualBlock():
            return [
                *(
                    part
                    for number, step in enumerate(layer.steps, start=1)
                    for part in ((f"conv{number}", step.convolution), (f"bn{number}", step.norm))
                ),
                *([] if layer.shortcut is None else [("downsample", layer.shortcut)]),
            ]
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
        case layers.AxialAttention():
            gates = layer.gates if layer.positions else []
            return [
                ("qkv_transform.weight", layer.kernel),
                ("bn_qkv", layer.input_norm),
                ("bn_similarity", layer.score_norm),
                ("bn_output", layer.output_norm),
                *([("relative", layer.relative)] if layer.positions else []),
                *zip(_AXIAL_GATES, gates, strict=False),
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
