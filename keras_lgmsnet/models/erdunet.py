"""ERDUnet: two U-shaped networks in a row, whose skip connections stress where features differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers import (
    ConvNormActivation,
    DepthwiseConv,
    GroupedConv,
    LinearUpsampling,
    MaxPooling,
    SqueezeExcitation,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.layers.initializers import FanInUniform, fan_in_normal
from keras_lgmsnet.layers.normalization import EPSILON, BatchNormalization
from keras_lgmsnet.models import resnet
from keras_lgmsnet.models.base import SegmentationNetwork

DROPOUT = 0.2
# Above it a feature counts as present.
THRESHOLD = 0.5
# The heads of auxiliary logits: the published names, and ours.
_HEADS = {"final_x": "auxiliary1", "final_1": "auxiliary2"}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ERDUNet2D(SegmentationNetwork):
    """ERDUnet for images: 10,080,381 parameters and 10.3 G multiply-adds at 256 × 256.

    The first network encodes an image twice, by three stages of ResNet-34 and, from their stem on,
    by smaller blocks; its decoder goes by both. What it finds becomes a map, which weights fine
    features of the image for the second network. Both networks' last features make the logits.
    Where two features that meet differ, one above 0.5 and the other not, the first is raised.

    The network of Li et al. (ERDUnet, TCSVT 2024), which LGMSNet's paper compares (Table 1:
    10.21 M, 10.29 G), as in the published program, with these differences. Its sides are fixed
    there, to 192 × 256. It has 114,546 parameters more that nothing depends on, and always the
    heads of `auxiliary_outputs`, of 108,418. Convolutions whose outputs are only compared with 0.5,
    of 388 parameters, have no gradient: there as here they stay as they were drawn. It returns
    logits.

    It arrives compiled with the published training of LGMSNet's paper, see `SegmentationNetwork`.
    With `auxiliary_outputs` it is trained by logits of the deepest features, too, by the same loss.

    Initial weights are torchvision's in the ResNet, He's for the other convolutions. With
    `encoder_weights` the ResNet starts as one trained on ImageNet, for images normalized as there
    (`preprocessing="imagenet"`); the paper's did not. The file is read once: neither the network's
    config nor a saved network depends on it.

    Args:
        input_shape: `(height, width, channels)`; the sides divisible by 16, or `None`.
        num_classes: Number of independent masks, one logit each.
        filters: Widths of the ResNet's stem, divisible by 16, and of its three stages, divisible
            by 4. All others follow from them.
        depths: How many blocks each of the three stages has.
        auxiliary_outputs: Whether there are logits of the ResNet's last stage, and of what the
            first decoder starts from, to train by.
        encoder_weights: A `.pth` or `.safetensors` file of torchvision's ResNet-34; the images need
            3 channels then.
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits stay float32).

    Raises:
        FileNotFoundError: If there is no file `encoder_weights`.
        ValueError: If an argument is out of range, a side is not divisible by 16, or the file does
            not fit.

    Example:
    ```python
    model = kl.models.create("erdunet", input_shape=(256, 256, 3), num_classes=1)
    model.fit(dataset)  # of (image, segmentation_mask)
    ```
    """

    rank = 2

    def __init__(
        self,
        input_shape: Sequence[int | None] = (256, 256, 3),
        num_classes: int = 1,
        filters: Sequence[int] = (64, 64, 128, 256),
        depths: Sequence[int] = (3, 4, 6),
        auxiliary_outputs: bool = False,
        encoder_weights: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        filters, depths = positive_integers(filters=filters), positive_integers(depths=depths)
        if (len(filters), len(depths)) != (4, 3):
            raise ValueError(
                "filters are the widths of the stem and the three stages, and depths the three "
                f"stages'. Received: filters={filters}, depths={depths}"
            )
        if filters[0] % 16 or any(width % 4 for width in filters):
            raise ValueError(
                "filters must be divisible by 16, the stem's, and by 4, the three stages'. "
                f"Received: filters={filters}"
            )
        image, dtype = self.begin(input_shape, num_classes, kwargs)
        # In half precision a loss of logits would lose its small differences.
        logits_dtype = keras.backend.result_type(dtype.compute_dtype, "float32")

        # === Layers ===
        blocks = _Blocks(num_classes, dtype)
        detail, half, quarter, eighth = _widths(filters)

        def drop(x: Any, name: str) -> Any:
            return keras.layers.Dropout(DROPOUT, dtype=dtype, name=f"{name}_dropout")(x)

        def connect(x: Any, other: Any, name: str, by_class: bool = False) -> Any:
            y = blocks.stress(x, other, f"{name}_skip", by_class)
            return blocks.activate(blocks.add(y, x, f"{name}_add"), "gelu", name)

        def gather(maps: Sequence[Any], name: str) -> Any:
            x = blocks.fuse(maps, f"{name}_fusion")
            x = blocks.normalize(blocks.attend(x, f"{name}_first_attention"), f"{name}_first_norm")
            x = blocks.attend(blocks.add(x, maps[-1], f"{name}_sum"), f"{name}_second_attention")
            x = blocks.normalize(x, f"{name}_second_norm")
            return connect(x, maps[-1], name)

        def decode(x: Any, skip: Any, other: Any, name: str) -> Any:
            x = blocks.step(x, skip.shape[-1], 1, f"{name}_narrow")
            x = blocks.add(blocks.upsample(x, f"{name}_upsampling"), skip, f"{name}_sum")
            x = blocks.normalize(blocks.attend(x, f"{name}_attention"), f"{name}_norm")
            return connect(x, other, name, by_class=True)

        def decode_again(x: Any, skips: Sequence[Any], width: int, name: str) -> Any:
            x = blocks.step(x, width, 1, f"{name}_narrow")
            x = blocks.upsample(x, f"{name}_upsampling")
            for skip, step in zip(skips, (f"{name}_first", name), strict=True):
                x = blocks.concatenate([x, skip], f"{step}_concatenate")
                x = blocks.excite(x, x.shape[-1] // 8, f"{step}_excitation")
                x = blocks.step(x, width, 1, step)
            return x

        def finish(x: Any, name: str) -> Any:
            x = blocks.convolve(x, detail, 3, f"{name}_convolution")
            return blocks.upsample(x, name)

        def convolve_to_logits(x: Any, name: str) -> Any:
            return GroupedConv(num_classes, 3, **_initial(), dtype=logits_dtype, name=name)(x)

        def head(x: Any, name: str) -> Any:
            x = blocks.step(x, filters[0], 1, f"{name}_narrow")
            x = blocks.step(x, filters[0], 3, f"{name}_step")
            x = convolve_to_logits(x, f"{name}_logits")
            return LinearUpsampling(16, dtype=logits_dtype, name=name)(x)

        # === Functional model ===
        fine = blocks.see_widely(image, detail, "fine")
        stem, *levels = resnet.encode(image, filters, depths, dtype, dropout=DROPOUT)
        skip1 = blocks.see_widely(stem, half, "context1")
        skip2 = blocks.encode(skip1, quarter, "context2", kind="large")
        skip3 = blocks.encode(skip2, eighth, "context3", kind="attentive")
        x = middle = gather(levels, "middle")
        x = decode(x, skip3, levels[1], "decoder3")
        x = decode(x, skip2, levels[0], "decoder2")
        x = blocks.step(x, half, 1, "decoder1_narrow")
        x = blocks.add(blocks.upsample(x, "decoder1_upsampling"), skip1, "decoder1_sum")
        x = connect(blocks.activate(x, "gelu", "decoder1_gelu"), skip1, "decoder1")
        found = finish(x, "found")

        x = blocks.excite(found, detail // 4, "focus_excitation")
        x = blocks.multiply(fine, blocks.weigh_pixels(x, "focus_pixels"), "focus_multiply")
        x = blocks.add(x, fine, "focus")
        again = []
        for level, width in enumerate((half, quarter, eighth), start=1):
            name = f"second_encoder{level}"
            x = drop(blocks.encode(x, width, name), name)
            again.append(x)
        x = gather(again, "second_middle")
        x = decode_again(x, (levels[0], again[1]), quarter, "second_decoder2")
        x = decode_again(x, (skip1, again[0]), half, "second_decoder1")
        x = blocks.concatenate([found, finish(x, "second_found")], "head_concatenate")
        x = blocks.step(x, detail, 3, "head")
        logits = convolve_to_logits(x, "logits")
        auxiliary = []
        if auxiliary_outputs:
            auxiliary = [head(middle, "auxiliary1"), head(levels[2], "auxiliary2")]

        super().__init__(image, logits, num_classes, dtype, auxiliary, **kwargs)
        if encoder_weights is not None:
            resnet.load_weights(self, depths, encoder_weights)

        # === Config ===
        self.filters = filters
        self.depths = depths
        self.auxiliary_outputs = auxiliary_outputs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the file that weights were read from."""
        return super().get_config() | {
            "filters": self.filters,
            "depths": self.depths,
            "auxiliary_outputs": self.auxiliary_outputs,
            "encoder_weights": None,
        }

    def published_parts(self) -> list[tuple[str, Any]]:
        """Return the names of the layers in the published program."""
        layer, parts = self.get_layer, _PublishedParts(self)
        trunk = resnet.parts(self, self.depths)
        heads = _HEADS if self.auxiliary_outputs else {}
        return [
            *((f"resnet.{name}", part) for name, part in trunk),
            *parts.wide("lowest_layer_head", "fine"),
            *parts.wide("layer_0.0", "context1"),
            *parts.encoder("layer_0_1.0", "context2", "large"),
            *parts.encoder("layer_1_1.0", "context3", "attentive"),
            *parts.middle("", "middle"),
            *parts.decoder(1, "decoder3"),
            *parts.decoder(2, "decoder2"),
            ("out_3", layer("decoder1_narrow")),
            ("skip_3.add_learn", layer("decoder1_skip")),
            ("final_net_1.0.conv", layer("found_convolution")),
            *parts.excitation("split_att", "focus_excitation"),
            *parts.step("split_att.spatial", "focus_pixels"),
            *(
                part
                for level in (1, 2, 3)
                for part in parts.encoder(
                    f"down_path_{level - 1}", f"second_encoder{level}", "small"
                )
            ),
            *parts.middle("_2", "second_middle"),
            *parts.second_decoder(2, "second_decoder2"),
            *parts.second_decoder(3, "second_decoder1"),
            ("final_net_2.0.conv", layer("second_found_convolution")),
            *parts.step("final_2.0", "head"),
            ("final_2.1.conv", layer("logits")),
            *(
                part
                for theirs, ours in heads.items()
                for part in (
                    *parts.step(f"{theirs}.0", f"{ours}_narrow"),
                    *parts.step(f"{theirs}.1", f"{ours}_step"),
                    (f"{theirs}.2.conv", layer(f"{ours}_logits")),
                )
            ),
        ]

    def idle_parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Return those of modules that never run, or whose outputs nothing reads."""
        detail, half, quarter, eighth = _widths(self.filters)
        deepest = self.filters[3]
        idle = {
            **_idle_encoder("layer_0_1.0", half, quarter, "large"),
            **_idle_encoder("layer_1_1.0", quarter, eighth, "attentive"),
            **_idle_encoder("down_path_0", detail, half, "small"),
            **_idle_encoder("down_path_1", half, quarter, "small"),
            **_idle_encoder("down_path_2", quarter, eighth, "small"),
            **_idle_attention("split_att", detail, 4, ("pixelwise",)),
        }
        if not self.auxiliary_outputs:
            for name in _HEADS:
                idle |= _idle_head(name, deepest, self.filters[0], self.num_classes)
        for name, width in (
            ("head.edge", deepest),
            ("skip_0_1", deepest),
            ("skip_3", half),
            ("head_2.edge", eighth),
            ("skip_0_1_2", eighth),
        ):
            for number in (1, 2):
                idle |= _convolution(f"{name}.to_class_{number}", width, self.num_classes)
            idle |= _convolution(f"{name}.region_learn.0", self.num_classes, 1)
            idle |= _norm(f"{name}.region_learn.1", 1)
        for number, width in ((2, quarter), (3, half)):
            for name in (f"out_{number}_2_skip.0", f"skip_{number}_1_2.0"):
                idle |= _idle_attention(name, 2 * width, 8, ("spatial", "pixelwise"))
        return idle


def _widths(filters: Sequence[int]) -> tuple[int, int, int, int]:
    """Return the widths at all of the image's sides, a half, a quarter and an eighth."""
    return filters[0] // 4, filters[0] // 2, filters[1], filters[2]


def _initial() -> dict[str, Any]:
    """Return the published initial values of a convolution."""
    return {"kernel_initializer": fan_in_normal(), "bias_initializer": FanInUniform()}


class _FixedConv(GroupedConv):
    """A convolution that stays as it was drawn, since what is made of its outputs has no gradient.

    It could not be told from a trained one by `trainable`, which a network sets for all layers.
    """

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """Create a weight that no optimizer is given."""
        return super().add_weight(*args, **kwargs, trainable=False)


class _Blocks:
    """What the network is made of, as functions from symbolic tensors to symbolic tensors.

    The layer that ends a block has the block's name.
    """

    def __init__(self, num_classes: int, dtype: Any) -> None:
        self.num_classes = num_classes
        self.dtype = dtype

    # === Layers ===

    def convolve(self, x: Any, filters: int, taps: int, name: str, **options: Any) -> Any:
        options |= _initial() | {"dtype": self.dtype, "name": name}
        return GroupedConv(filters, taps, **options)(x)

    def step_layer(
        self, filters: int, taps: int, name: str, activation: str = "gelu", use_bias: bool = True
    ) -> ConvNormActivation:
        return ConvNormActivation(
            filters,
            taps,
            activation,
            use_bias,
            normalization="batch",
            **_initial(),
            dtype=self.dtype,
            name=name,
        )

    def step(self, x: Any, filters: int, taps: int, name: str) -> Any:
        return self.step_layer(filters, taps, name)(x)

    def normalize(self, x: Any, name: str) -> Any:
        return BatchNormalization(dtype=self.dtype, name=name)(x)

    def activate(self, x: Any, activation: str, name: str) -> Any:
        return keras.layers.Activation(activation, dtype=self.dtype, name=name)(x)

    def add(self, x: Any, y: Any, name: str) -> Any:
        return keras.layers.Add(dtype=self.dtype, name=name)([x, y])

    def multiply(self, x: Any, y: Any, name: str) -> Any:
        return keras.layers.Multiply(dtype=self.dtype, name=name)([x, y])

    def concatenate(self, parts: Sequence[Any], name: str) -> Any:
        return keras.layers.Concatenate(dtype=self.dtype, name=name)(parts)

    def upsample(self, x: Any, name: str) -> Any:
        return LinearUpsampling(dtype=self.dtype, name=name)(x)

    def halve(self, x: Any, name: str) -> Any:
        return MaxPooling(dtype=self.dtype, name=name)(x)

    # === Attention ===

    def excite(self, x: Any, filters: int, name: str) -> Any:
        """Weight the channels by what the whole image holds."""
        return SqueezeExcitation(filters, **_initial(), dtype=self.dtype, name=name)(x)

    def weigh_pixels(self, x: Any, name: str) -> Any:
        """Return a map between 0 and 1, made of the channels' maxima and means."""
        both = [ops.max(x, axis=-1, keepdims=True), ops.mean(x, axis=-1, keepdims=True)]
        both = self.concatenate(both, f"{name}_concatenate")
        return self.step_layer(1, 7, name, "sigmoid", use_bias=False)(both)

    def attend(self, x: Any, name: str) -> Any:
        """Weight the channels, then the pixels, then each value."""
        channels = x.shape[-1]
        x = self.excite(x, channels // 4, f"{name}_excitation")
        x = self.multiply(x, self.weigh_pixels(x, f"{name}_pixels"), f"{name}_multiply")
        shares = self.convolve(x, channels // 4, 1, f"{name}_reduce")
        shares = self.activate(shares, "relu", f"{name}_relu")
        shares = self.convolve(shares, channels, 1, f"{name}_expand")
        return self.multiply(x, self.activate(shares, "sigmoid", f"{name}_shares"), name)

    def stress(self, x: Any, other: Any, name: str, by_class: bool = False) -> Any:
        """Raise features where others differ, and mix them.

        Args:
            x: The features.
            other: Others of the same shape.
            name: Of the block.
            by_class: Whether it goes by what a convolution finds of each class in them, and so
                raises all features of a pixel alike; otherwise by each feature.
        """
        mixer = self.step_layer(x.shape[-1], 1, name)
        if not by_class:
            return self.stress_values(x, other, f"{name}_values", mixer)
        found = [
            _FixedConv(
                self.num_classes, 1, **_initial(), dtype=self.dtype, name=f"{name}_class{number}"
            )(features)
            for number, features in enumerate((x, other), start=1)
        ]
        region = self.step(self.differ(*found), 1, 1, f"{name}_region")
        region = self.activate(region, "sigmoid", f"{name}_share")
        more = self.multiply(x, region, f"{name}_multiply")
        return mixer(self.add(more, x, f"{name}_add"))

    def stress_values(self, x: Any, other: Any, name: str, mixer: Any) -> Any:
        """Double each value where the other differs, and mix them by a given layer."""
        more = self.multiply(x, self.differ(x, other), f"{name}_multiply")
        return mixer(self.add(more, x, f"{name}_add"))

    def differ(self, x: Any, other: Any) -> Any:
        """Return 1 where one of two values is above the threshold and the other is not, else 0.

        It has no gradient, as in the published program.
        """
        differs = ops.not_equal(ops.greater(x, THRESHOLD), ops.greater(other, THRESHOLD))
        return ops.cast(differs, self.dtype.compute_dtype)

    # === Maps ===

    def see_widely(self, x: Any, filters: int, name: str) -> Any:
        """Convolve by 7 × 7, once more by channel beside that, and mix the channels."""

        def finish(x: Any, name: str, output_name: str) -> Any:
            return self.normalize(self.activate(x, "relu", f"{name}_relu"), output_name)

        first = f"{name}_first"
        x = finish(self.convolve(x, filters, 7, first), first, f"{first}_norm")
        depthwise = f"{name}_depthwise"
        y = DepthwiseConv(7, **_initial(), dtype=self.dtype, name=depthwise)(x)
        x = self.add(finish(y, depthwise, f"{depthwise}_norm"), x, f"{name}_add")
        return finish(self.convolve(x, filters, 1, f"{name}_pointwise"), name, name)

    def encode(self, x: Any, filters: int, name: str, kind: str = "small") -> Any:
        """Halve the sides.

        Args:
            x: The features.
            filters: Output channels.
            name: Of the block.
            kind: `"small"`, which pools them too; `"attentive"`, the same with attention; or
                `"large"`, which does not pool, and ends by a dense layer.
        """
        projected = self.convolve(x, filters, 3, f"{name}_halving", strides=2)
        projected = self.convolve(projected, filters, 1, f"{name}_projection")
        if kind == "attentive":
            projected = self.attend(projected, f"{name}_attention")
        normalized = keras.layers.LayerNormalization(
            epsilon=EPSILON, dtype=self.dtype, name=f"{name}_norm"
        )(projected)
        y = DepthwiseConv(3, **_initial(), dtype=self.dtype, name=f"{name}_depthwise")(projected)
        y = self.activate(y, "gelu", f"{name}_gelu")
        y = self.step(self.add(y, normalized, f"{name}_sum"), filters, 3, f"{name}_local")
        if kind != "large":
            pooled = self.convolve(x, filters, 3, f"{name}_convolution")
            pooled = self.halve(pooled, f"{name}_pooling")
            pooled = self.step(pooled, filters, 1, f"{name}_pooled")
            # In pairs of neighbours: half of them two local features, half of them two pooled ones.
            y = self.concatenate([y, pooled], f"{name}_concatenate")
            y = self.convolve(y, filters, 3, f"{name}_pairs", groups=filters)
            y = self.activate(y, "gelu", f"{name}_pairs_gelu")
            for number in (1, 2):
                y = self.step(y, filters, 1, f"{name}_mixed{number}")
        y = self.concatenate([y, projected], f"{name}_join")
        y = self.step(y, filters, 1, f"{name}_joined")
        if kind == "large":
            y = keras.layers.Dense(
                filters,
                kernel_initializer=FanInUniform(),
                bias_initializer=FanInUniform(fan_in=filters),
                dtype=self.dtype,
                name=f"{name}_dense",
            )(y)
        return self.add(y, normalized, name)

    def fuse(self, maps: Sequence[Any], name: str) -> Any:
        """Merge the maps of three levels at the deepest one's sides, and what they differ in."""
        first, second, third = maps
        width = third.shape[-1]
        first = self.halve(self.convolve(first, width, 1, f"{name}_level1"), f"{name}_halving1")
        first = self.halve(first, f"{name}_pooling1")
        second = self.halve(self.convolve(second, width, 1, f"{name}_level2"), f"{name}_pooling2")
        x = self.concatenate([first, second, third], f"{name}_concatenate")
        x = self.step(x, width, 1, f"{name}_joined")
        x = keras.layers.SpatialDropout2D(DROPOUT, dtype=self.dtype, name=f"{name}_dropout")(x)
        mixer = self.step_layer(width, 1, f"{name}_edge")  # of both
        x = self.add(x, self.stress_values(second, first, f"{name}_edge2", mixer), f"{name}_add")
        return self.add(x, self.stress_values(third, second, f"{name}_edge3", mixer), name)


class _PublishedParts:
    """The published names of the blocks' layers: theirs, then ours."""

    def __init__(self, network: SegmentationNetwork) -> None:
        self.layer = network.get_layer

    def step(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        layer = self.layer(ours)
        return [(f"{theirs}.conv", layer.convolution), (f"{theirs}.bn", layer.norm)]

    def excitation(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        layer = self.layer(ours)
        return [(f"{theirs}.fc1", layer.reduce), (f"{theirs}.fc2", layer.expand)]

    def attention(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        return [
            *self.excitation(theirs, f"{ours}_excitation"),
            *self.step(f"{theirs}.spatial", f"{ours}_pixels"),
            (f"{theirs}.fc3", self.layer(f"{ours}_reduce")),
            (f"{theirs}.fc4", self.layer(f"{ours}_expand")),
        ]

    def wide(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        return [
            (f"{theirs}.{name}", self.layer(f"{ours}{end}"))
            for name, end in (
                ("input_layer.0", "_first"),
                ("input_layer.2", "_first_norm"),
                ("depthwise.0", "_depthwise"),
                ("depthwise.2", "_depthwise_norm"),
                ("pointwise.0", "_pointwise"),
                ("pointwise.2", ""),
            )
        ]

    def encoder(self, theirs: str, ours: str, kind: str) -> list[tuple[str, Any]]:
        def layer(name: str) -> Any:
            return self.layer(f"{ours}_{name}")

        parts = [("proj.0", layer("halving")), ("proj.1", layer("projection"))]
        if kind == "attentive":
            parts += self.attention("att", f"{ours}_attention")
        parts += [("norm", layer("norm")), ("dwconv.0", layer("depthwise"))]
        parts += self.step("fc0", f"{ours}_local")
        if kind != "large":
            parts += [
                ("proj_c.0", layer("convolution")),
                ("proj_c.2", layer("pooled").convolution),
                ("proj_c.3", layer("pooled").norm),
                ("dwconv_2.0", layer("pairs")),
                *(
                    part
                    for number, place in ((1, 2), (2, 5))
                    for part in (
                        (f"dwconv_2.{place}", layer(f"mixed{number}").convolution),
                        (f"dwconv_2.{place + 1}", layer(f"mixed{number}").norm),
                    )
                ),
            ]
        parts.append(("turn_channel", layer("joined")))
        if kind == "large":
            parts.append(("fc1", layer("dense")))
        return [(f"{theirs}.{name}", part) for name, part in parts]

    def middle(self, end: str, ours: str) -> list[tuple[str, Any]]:
        return [
            (f"head{end}.conv_c1", self.layer(f"{ours}_fusion_level1")),
            (f"head{end}.conv_c2", self.layer(f"{ours}_fusion_level2")),
            (f"head{end}.conv_fuse", self.layer(f"{ours}_fusion_joined")),
            (f"head{end}.edge.add_learn", self.layer(f"{ours}_fusion_edge")),
            *self.attention(f"att_0{end}", f"{ours}_first_attention"),
            (f"out_norm_0{end}", self.layer(f"{ours}_first_norm")),
            *self.attention(f"att_1{end}", f"{ours}_second_attention"),
            (f"out_norm_1{end}", self.layer(f"{ours}_second_norm")),
            (f"skip_0_1{end}.add_learn", self.layer(f"{ours}_skip")),
        ]

    def decoder(self, number: int, ours: str) -> list[tuple[str, Any]]:
        skip = f"skip_{number}_1"
        return [
            (f"out_{number}", self.layer(f"{ours}_narrow")),
            *self.attention(f"out_{number}_skip.0", f"{ours}_attention"),
            (f"out_{number}_skip.1", self.layer(f"{ours}_norm")),
            (f"{skip}.to_class_1", self.layer(f"{ours}_skip_class1")),
            (f"{skip}.to_class_2", self.layer(f"{ours}_skip_class2")),
            (f"{skip}.region_learn", self.layer(f"{ours}_skip_region")),
            (f"{skip}.add_learn", self.layer(f"{ours}_skip")),
        ]

    def second_decoder(self, number: int, ours: str) -> list[tuple[str, Any]]:
        parts = self.step(f"out_{number}_2.0", f"{ours}_narrow")
        for theirs, step in (
            (f"out_{number}_2_skip", f"{ours}_first"),
            (f"skip_{number}_1_2", ours),
        ):
            parts += self.excitation(f"{theirs}.0", f"{step}_excitation")
            parts += self.step(f"{theirs}.1", step)
        return parts


# === Shapes of what the published program has and does not use ===

Shapes = dict[str, tuple[int, ...]]


def _convolution(
    name: str, channels: int, filters: int, taps: int = 1, use_bias: bool = True
) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (filters, channels, taps, taps)}
    return shapes | ({f"{name}.bias": (filters,)} if use_bias else {})


def _norm(name: str, channels: int) -> Shapes:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts}


def _idle_attention(name: str, width: int, rate: int, parts: Sequence[str]) -> Shapes:
    shapes: Shapes = {}
    if "channels" in parts:
        shapes |= _convolution(f"{name}.fc1", width, width // rate)
        shapes |= _convolution(f"{name}.fc2", width // rate, width)
    if "spatial" in parts:
        shapes |= _convolution(f"{name}.spatial.conv", 2, 1, 7, use_bias=False)
        shapes |= _norm(f"{name}.spatial.bn", 1)
    if "pixelwise" in parts:
        shapes |= _convolution(f"{name}.fc3", width, width // rate)
        shapes |= _convolution(f"{name}.fc4", width // rate, width)
    return shapes


def _idle_encoder(name: str, channels: int, filters: int, kind: str) -> Shapes:
    shapes = _convolution(f"{name}.dwconv_1.0", 1, filters, 3)
    if kind != "attentive":
        shapes |= _idle_attention(f"{name}.att", filters, 4, ("channels", "spatial", "pixelwise"))
    if kind != "large":
        return shapes | {f"{name}.fc1.weight": (filters, filters), f"{name}.fc1.bias": (filters,)}
    shapes |= _convolution(f"{name}.proj_c.0", channels, filters, 3)
    shapes |= _convolution(f"{name}.proj_c.2", filters, filters)
    shapes |= _norm(f"{name}.proj_c.3", filters)
    shapes |= _convolution(f"{name}.dwconv_2.0", 2, filters, 3)
    for place in (2, 5):
        shapes |= _convolution(f"{name}.dwconv_2.{place}", filters, filters)
        shapes |= _norm(f"{name}.dwconv_2.{place + 1}", filters)
    return shapes


def _idle_head(name: str, channels: int, width: int, num_classes: int) -> Shapes:
    return {
        **_convolution(f"{name}.0.conv", channels, width),
        **_norm(f"{name}.0.bn", width),
        **_convolution(f"{name}.1.conv", width, width, 3),
        **_norm(f"{name}.1.bn", width),
        **_convolution(f"{name}.2.conv", width, num_classes, 3),
    }
