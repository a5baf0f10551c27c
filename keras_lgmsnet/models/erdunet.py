"""ERDUnet: two U-shaped networks in a row, whose skip connections stress where features differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_lgmsnet.layers import (
    GroupedConv,
    LinearUpsampling,
)
from keras_lgmsnet.layers.base import positive_integers
from keras_lgmsnet.models import erdunet_names, resnet
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.erdunet_blocks import DROPOUT, Blocks, initial

# The heads of auxiliary logits: the published names, and ours.
_HEADS = {"final_x": "auxiliary1", "final_1": "auxiliary2"}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ERDUNet2D(SegmentationNetwork):
    """ERDUnet for images: 10,080,381 parameters and 9.95 G multiply-adds at 256 × 256.

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
        **kwargs: `name` and `dtype` (a policy such as `"mixed_float16"`; logits are float32 at
            least).

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
        blocks = Blocks(num_classes, dtype)
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
            return GroupedConv(num_classes, 3, **initial(), dtype=logits_dtype, name=name)(x)

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
        layer, parts = self.get_layer, erdunet_names.PublishedParts(self)
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
            **erdunet_names.idle_encoder("layer_0_1.0", half, quarter, "large"),
            **erdunet_names.idle_encoder("layer_1_1.0", quarter, eighth, "attentive"),
            **erdunet_names.idle_encoder("down_path_0", detail, half, "small"),
            **erdunet_names.idle_encoder("down_path_1", half, quarter, "small"),
            **erdunet_names.idle_encoder("down_path_2", quarter, eighth, "small"),
            **erdunet_names.idle_attention("split_att", detail, 4, ("pixelwise",)),
        }
        if not self.auxiliary_outputs:
            for name in _HEADS:
                idle |= erdunet_names.idle_head(name, deepest, self.filters[0], self.num_classes)
        for name, width in (
            ("head.edge", deepest),
            ("skip_0_1", deepest),
            ("skip_3", half),
            ("head_2.edge", eighth),
            ("skip_0_1_2", eighth),
        ):
            for number in (1, 2):
                idle |= erdunet_names.convolution(
                    f"{name}.to_class_{number}", width, self.num_classes
                )
            idle |= erdunet_names.convolution(f"{name}.region_learn.0", self.num_classes, 1)
            idle |= erdunet_names.norm(f"{name}.region_learn.1", 1)
        for number, width in ((2, quarter), (3, half)):
            for name in (f"out_{number}_2_skip.0", f"skip_{number}_1_2.0"):
                idle |= erdunet_names.idle_attention(name, 2 * width, 8, ("spatial", "pixelwise"))
        return idle


def _widths(filters: Sequence[int]) -> tuple[int, int, int, int]:
    """Return the widths at all of the image's sides, a half, a quarter and an eighth."""
    return filters[0] // 4, filters[0] // 2, filters[1], filters[2]
