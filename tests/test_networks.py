"""One tester, which every variant of every registered network passes: a row each.

To give a network its rows, add them to `ROWS`, with arguments that make it tiny. Whatever one has
that not every network has is said in its row. A row costs about half
a minute of processor time on PyTorch, more on JAX.

Where numbers of a published program are known, freeze them (`python -m tests.fixtures.freeze`) and
name the file in the row: `python -m tests --networks` compares them with the full-size network.
Where a network has a peer in plain PyTorch (`keras_lgmsnet.benchmark.peers`), the tiny network is
compared with it here, in training too.
"""

import ast
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import ops

import keras_lgmsnet as kl
from keras_lgmsnet.benchmark import peers, torch_losses
from keras_lgmsnet.export.deployment import deploy
from keras_lgmsnet.kinds import Kind, kind_of_rank
from keras_lgmsnet.models import registry
from keras_lgmsnet.models.base import SegmentationNetwork
from keras_lgmsnet.models.network import Network
from keras_lgmsnet.models.published_names import named_variables
from tests.fixtures import generate
from tests.helpers import frozen
from tests.helpers.processes import run_in_fresh_process
from tests.helpers.runs import scatter


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A variant of a network.

    Args:
        name: That of the registry.
        variant: What tells it from other rows of the name and rank.
        arguments: Of the constructor: a tiny network, with all stages of the registry.
        input_shape: Sides and channels, as small as the network takes.
        irregular_shape: Sides that differ, and other channels.
        num_classes: Number of classes.
        sides_are_free: Whether sides may be `None`.
        has_published_names: Whether its parameters have names in a PyTorch program.
        refused: Wrong values of arguments, and what is said of each.
        frozen: The file of numbers in `fixtures/networks/`, if there is one.
        frozen_layers: Module of the published program → name of our layer, where
            `tests.helpers.stages` cannot tell.
        grain: Pixels along a side that the images of a batch have alike: of a network that sees and
            marks coarsely more than one, else it could learn nothing.
        rounding: How far float32 may lead two ways to compute the logits apart, as a share of
            their standard deviation.
        gradient_rounding: The same for the norm of a gradient, as a share of it.
        export_errors: By how much the logits of exports that are not float32 may miss the
            network's: the root of the mean square, as a share of the standard deviation.
    """

    name: str
    variant: str = ""
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...]
    irregular_shape: tuple[int, ...]
    num_classes: int = 1
    sides_are_free: bool = True
    has_published_names: bool = True
    refused: tuple[tuple[Mapping[str, Any], str], ...] = ()
    frozen: str | None = None
    frozen_layers: Mapping[str, str] = field(default_factory=dict)
    grain: int = 1
    rounding: float = 1e-4
    gradient_rounding: float = 2e-3
    export_errors: Mapping[str, float] = field(
        default_factory=lambda: {"float16": 0.01, "dynamic": 0.1, "int8": 0.2}
    )

    def __str__(self) -> str:
        return "-".join(filter(None, (self.name, self.variant, f"{self.kind.rank}d")))

    @property
    def kind(self) -> Kind:
        """Whether it is for images or volumes."""
        return kind_of_rank(len(self.input_shape) - 1)

    @property
    def entry(self) -> Network:
        """Its description in the registry."""
        return registry.find(self.name, self.kind.rank)

    def create(self, **changes: Any) -> SegmentationNetwork:
        """Return the network, with its own seed."""
        keras.utils.set_random_seed(0)
        own = {"input_shape": self.input_shape, "num_classes": self.num_classes}
        return kl.models.create(self.name, **(own | dict(self.arguments) | changes))

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Return two images or volumes, and masks or labels that go by the first channel."""
        *sides, channels = self.input_shape
        shape = (2, *(side // self.grain for side in sides), channels)
        images = np.random.default_rng(0).random(shape).astype("float32")
        for axis in range(1, 1 + len(sides)):
            images = np.repeat(images, self.grain, axis)
        bright = images[..., :1]
        labels = self.kind.choose(
            images=np.repeat(bright > 0.5, self.num_classes, axis=-1),
            volumes=np.floor(self.num_classes * bright),
        )
        return images, labels.astype("float32")


_LGMSNET = {"dims": (4, 4, 8, 8, 8), "kernel_sizes": (3, 5)}
_UNET = {"filters": (4, 4, 8, 8, 8)}
# Groups of two channels, since a bias before a norm over one channel is of no use.
_UNET_OF_BLOCKS = {"filters": (8, 8, 8, 8, 8)}
_UNET_REFUSED = (
    ({"filters": (8,)}, r"two at least\. Received: filters=\(8,\)"),
    ({"filters": 16}, r"filters must be integers such as .*filters=16"),
)
# Seven depthwise convolutions in a row, here of few channels, round in int8 seven times.
_TINYUNET_EXPORTS = {"float16": 0.01, "dynamic": 0.2, "int8": 0.8}
_TINYUNET_LAYERS = {
    f"{part}coder{level}.cmrf": f"{part}coder{level}"
    for part in ("en", "de")
    for level in (1, 2, 3, 4)
}

ROWS = (
    # Its frozen numbers are older, see `networks`; `test_models` has its refusals.
    Row(
        name="lgmsnet",
        arguments=_LGMSNET | {"transformer_ratio": 0.5, "activation": "silu"},
        input_shape=(32, 32, 3),
        irregular_shape=(32, 64, 2),
        gradient_rounding=1e-2,
    ),
    Row(
        name="lgmsnet",
        arguments=_LGMSNET,
        input_shape=(32, 32, 32, 1),
        irregular_shape=(32, 64, 32, 2),
        num_classes=3,
        # A norm over the 8 voxels of the deepest stages magnifies it.
        rounding=5e-3,
        gradient_rounding=5e-2,
        export_errors={"float16": 0.05, "dynamic": 0.4},
    ),
    Row(
        name="unet",
        arguments=_UNET,
        input_shape=(32, 32, 3),
        irregular_shape=(16, 48, 2),
        refused=(*_UNET_REFUSED, ({"block": "fms"}, r"'lms', 'gms' or None.*block='fms'")),
        frozen="unet",
    ),
    Row(
        name="unet",
        variant="lms",
        arguments=_UNET_OF_BLOCKS | {"block": "lms"},
        input_shape=(32, 32, 3),
        irregular_shape=(16, 48, 2),
        refused=(({"filters": (6, 8)}, "divisible by the 4 kernel sizes"),),
        frozen="unet_lms",
    ),
    Row(
        name="unet",
        variant="gms",
        arguments=_UNET_OF_BLOCKS | {"block": "gms"},
        input_shape=(32, 32, 3),
        irregular_shape=(16, 48, 2),
        frozen="unet_gms",
    ),
    Row(
        name="unet",
        arguments={"filters": (4, 4, 8, 8)},
        input_shape=(16, 16, 16, 1),
        irregular_shape=(8, 24, 16, 2),
        num_classes=3,
        refused=(
            *_UNET_REFUSED,
            ({"filters": (4, 7)}, r"must be even.*\(4, 7\)"),
            ({"block": "lms"}, "U-Net for volumes has no argument 'block'; known are filters"),
        ),
        frozen="unet_3d",
    ),
    Row(
        name="mednext",
        arguments={
            "filters": 2,
            "depths": (2, *(1,) * 8),
            "expansions": (1, 2, 1, 2, 1, 2, 1, 2, 1),
        },
        input_shape=(32, 32, 32, 1),
        irregular_shape=(32, 48, 16, 2),
        num_classes=3,
        refused=(
            ({"filters": 0}, r"filters must be a positive integer\. Received: filters=0"),
            ({"depths": (1, 1)}, r"four levels of the decoder\. Received: depths=\(1, 1\)"),
            ({"expansions": (2,) * 8}, r"of the bottleneck.*expansions=\(2, 2, 2, 2, 2, 2, 2, 2\)"),
        ),
        # A norm over the 8 voxels of the bottleneck magnifies it.
        rounding=5e-3,
        frozen="mednext",
        frozen_layers={
            **{f"enc_block_{n}": f"encoder{n + 1}" for n in range(4)},
            **{f"enc_block_{n}.0": f"encoder{n + 1}_0_add" for n in range(4)},
            **{f"dec_block_{n}": f"decoder{n + 1}" for n in range(4)},
            **{f"down_{n}": f"down{n + 1}" for n in range(4)},
            **{f"up_{n}": f"up{n + 1}" for n in range(4)},
            "bottleneck": "bottleneck",
        },
    ),
    Row(
        name="cmunext",
        arguments={"filters": (4, 4, 4, 4, 4), "depths": (1, 1, 1, 2, 1)},
        input_shape=(32, 32, 3),
        irregular_shape=(16, 48, 2),
        refused=(
            ({"filters": (8, 8)}, r"of the five stages\. Received: filters=\(8, 8\)"),
            ({"depths": (1, 1, 1, 0, 1)}, r"positive integer\. Received: depths=0"),
        ),
        frozen="cmunext",
    ),
    Row(
        name="attention_unet",
        # In gates of four channels; with two, one of the seeds' may let next to nothing through.
        arguments={"filters": (8, 8, 8, 8, 4)},
        input_shape=(32, 32, 3),
        irregular_shape=(16, 48, 2),
        refused=(
            *_UNET_REFUSED,
            ({"filters": (4, 3, 4)}, r"must be even but for the deepest level's.*\(4, 3, 4\)"),
            ({"block": "lms"}, "Attention U-Net for images has no argument 'block'"),
        ),
        frozen="attention_unet",
        frozen_layers={f"Att{level}": f"gate{level}" for level in (5, 4, 3, 2)},
    ),
    Row(
        name="nnunet",
        arguments={"filters": (2, 2, 2, 2, 4, 4, 4)},
        input_shape=(128, 128, 3),
        irregular_shape=(128, 192, 2),
        refused=_UNET_REFUSED,
        # A norm over the 4 pixels of the deepest level magnifies it.
        rounding=1e-3,
        frozen="nnunet",
        frozen_layers={
            **{f"conv_blocks_context.{number}": f"encoder{number + 1}" for number in range(7)},
            **{f"conv_blocks_localization.{number}": f"decoder{7 - number}" for number in range(6)},
        },
    ),
    Row(
        name="unext",
        arguments={"filters": (5, 2, 4, 5, 5)},
        # Four deepest pixels: a norm of one takes out what the offsets before it add, all of it.
        input_shape=(64, 64, 3),
        irregular_shape=(32, 64, 2),
        refused=(({"filters": (8, 8)}, r"the five levels' widths\. Received: filters=\(8, 8\)"),),
        frozen="unext",
    ),
    Row(
        name="tinyunet",
        # In cascades of four channels; of one, the last offset has, before a norm, a gradient of 0.
        arguments={"filters": (64, 64, 64, 64)},
        input_shape=(16, 16, 3),
        irregular_shape=(16, 48, 2),
        refused=(
            ({"filters": (16, 16)}, r"four levels' widths.*filters=\(16, 16\)"),
            ({"filters": (16, 16, 16, 24)}, r"divisible by 16.*\(16, 16, 16, 24\)"),
            ({"block": "fms"}, r"'lms', 'gms' or None.*block='fms'"),
        ),
        frozen="tinyunet",
        export_errors=_TINYUNET_EXPORTS,
        frozen_layers=_TINYUNET_LAYERS,
    ),
    Row(
        name="tinyunet",
        variant="lms",
        arguments={"filters": (64, 64, 64, 64), "block": "lms"},
        input_shape=(16, 16, 3),
        irregular_shape=(16, 48, 2),
        frozen="tinyunet_lms",
        export_errors=_TINYUNET_EXPORTS,
        frozen_layers=_TINYUNET_LAYERS,
    ),
    Row(
        name="tinyunet",
        variant="gms",
        arguments={"filters": (64, 64, 64, 64), "block": "gms"},
        input_shape=(32, 32, 3),
        irregular_shape=(32, 64, 2),
        frozen="tinyunet_gms",
        export_errors=_TINYUNET_EXPORTS,
        frozen_layers=_TINYUNET_LAYERS | {"bottleneck": "bottleneck"},
    ),
    Row(
        name="unireplknet",
        arguments={"filters": (4, 8, 8, 8, 8), "depths": (2, 1, 1, 1)},
        input_shape=(16, 16, 3),
        irregular_shape=(16, 48, 1),
        refused=(
            ({"filters": (8, 8)}, r"four stages.*filters=\(8, 8\), depths=\(2, 1, 1, 1\)"),
            ({"filters": (2, 4, 4, 4, 6)}, r"divisible by 4 but.*\(2, 4, 4, 4, 6\)"),
        ),
        # Of blocks of random weights each level is far larger than the one before, and what the
        # skip connections bring is lost beside it in int8.
        export_errors={"float16": 0.01, "dynamic": 0.1, "int8": 0.8},
        frozen="unireplknet",
        frozen_layers={
            **{f"encoder.downsample_layers.{n}": f"encoder{n + 2}_pooling" for n in range(4)},
            **{f"encoder.stages.{n}": f"encoder{n + 2}" for n in range(4)},
            **{f"encoder.stages.{n}.0": f"encoder{n + 2}_0_add" for n in range(4)},
        },
    ),
    Row(
        name="mobilevit",
        # Of fewer channels, the rounding of int8 leaves little.
        arguments={"filters": (16,) * 8, "depths": (1, 1, 1)},
        input_shape=(64, 64, 3),
        irregular_shape=(64, 128, 2),
        refused=(
            ({"filters": (8, 8)}, r"head\. Received: filters=\(8, 8\)"),
            ({"filters": (4, 4, 4, 4, 3, 4, 4, 4)}, "the last three of them even"),
            ({"depths": (1, 1)}, r"three deepest levels\. Received: depths=\(1, 1\)"),
        ),
        frozen="mobilevit",
        frozen_layers={"backbone.stem.3": "encoder2", "classifier.3": "head"},
        grain=32,
    ),
    Row(
        name="repvit",
        arguments={"filters": (4, 4, 8, 8, 32), "depths": (2, 1, 1, 1)},
        input_shape=(32, 64, 3),
        irregular_shape=(64, 32, 2),
        refused=(
            ({"filters": (8, 8)}, r"and of the head.*filters=\(8, 8\)"),
            ({"filters": (4, 4, 6, 4, 4)}, r"divisible by 4.*\(4, 4, 6, 4, 4\)"),
        ),
        frozen="repvit",
        frozen_layers={
            **{
                f"backbone.features.{number}": name
                for number, name in {
                    **{1: "encoder1_0_add", 2: "encoder1_1_add", 5: "encoder1"},
                    **{6: "encoder2_halving_add", 7: "encoder2_0_add", 11: "encoder2"},
                    **{12: "encoder3_halving_add", 13: "encoder3_0_add", 31: "encoder3"},
                    **{32: "encoder4_halving_add", 33: "encoder4_0_add", 34: "encoder4"},
                }.items()
            },
            "classifier.3": "head",
            "classifier": "classifier",
        },
        grain=32,
        export_errors={"float16": 0.01, "dynamic": 0.1, "int8": 0.3},
    ),
    Row(
        name="transunet",
        arguments={
            "filters": (8, 16, 16, 16, 8),
            "decoder_filters": (8, 4, 4, 4, 4),
            "depths": (2, 1, 1, 1),
            "num_heads": 2,
        },
        input_shape=(32, 32, 3),
        irregular_shape=(16, 48, 1),
        sides_are_free=False,
        refused=(
            ({"filters": (8, 8)}, r"the stem, of three stages.*filters=\(8, 8\)"),
            ({"filters": (8, 6, 8, 8, 8)}, r"divisible by 4.*\(8, 6, 8, 8, 8\)"),
            ({"decoder_filters": (8, 8)}, r"five levels\. Received: decoder_filters=\(8, 8\)"),
            ({"depths": (1, 1)}, r"of the transformer\. Received: .*depths=\(1, 1\)"),
            ({"num_heads": 3}, "divide the transformer's width.*num_heads=3"),
        ),
        frozen="transunet",
        frozen_layers={
            **{
                f"net.transformer.embeddings{module}": name
                for module, name in {
                    ".hybrid_model.root": "encoder1",
                    ".hybrid_model.body.block1": "encoder2_2",
                    ".hybrid_model.body.block2": "encoder3",
                    ".hybrid_model.body.block3": "encoder4",
                    "": "positions",
                }.items()
            },
            **{f"net.transformer.encoder.layer.{n}": f"transformer{n}" for n in (0, 11)},
        },
        grain=16,
    ),
    Row(
        name="uctransnet",
        arguments={"filters": (4, 4, 8, 8), "depth": 1, "num_heads": 2},
        input_shape=(32, 32, 3),
        irregular_shape=(16, 48, 2),
        sides_are_free=False,
        refused=(
            ({"filters": (8, 8)}, r"the four levels' widths\. Received: filters=\(8, 8\)"),
            ({"depth": 0}, "positive integer.*depth=0"),
            ({"num_heads": 0}, "positive integer.*num_heads=0"),
        ),
        frozen="uctransnet",
        frozen_layers={
            **{f"mtc.embeddings_{level}": f"positions{level}" for level in (1, 4)},
            **{f"mtc.encoder.layer.{n}": f"transformer{n}_level1" for n in (0, 3)},
            "mtc.encoder": "transformer_level1",
            **{f"mtc.reconstruct_{level}": f"skip{level}_upsampling" for level in (1, 4)},
        },
    ),
    Row(
        name="unet_plus_plus",
        arguments={"filters": (4, 4, 4, 4, 4), "depths": (2, 1, 1, 1)},
        input_shape=(64, 64, 3),
        irregular_shape=(32, 64, 2),
        refused=(
            ({"filters": (4, 4)}, r"the four stages.*filters=\(4, 4\)"),
            ({"filters": (4, 4, 4, 4, 3)}, r"must be even.*\(4, 4, 4, 4, 3\)"),
            ({"depths": (1, 1)}, r"depths the four stages'.*depths=\(1, 1\)"),
            ({"depths": (1, 1, 0, 1)}, r"positive integer\. Received: depths=0"),
        ),
        frozen="unet_plus_plus",
        frozen_layers={
            "firstrelu": "encoder0",
            "firstmaxpool": "encoder1_pooling",
            **{f"encoder{level}": f"encoder{level}" for level in (1, 2, 3, 4)},
            **{
                f"decoder{level}_{distance}": f"decoder{level}_{distance}"
                for distance in range(1, 5)
                for level in range(5 - distance)
            },
        },
    ),
    Row(
        name="swin_unet",
        arguments={
            "filters": (8, 8, 8, 8),
            "depths": (2, 1, 1, 1),
            "num_heads": (2, 1, 1, 1),
            "window": 2,
            # Of two images a branch would else be left out in both too often.
            "drop_rate": 0.02,
        },
        input_shape=(64, 64, 3),
        irregular_shape=(64, 128, 2),
        sides_are_free=False,
        refused=(
            ({"filters": (8, 8)}, r"the four levels'.*filters=\(8, 8\), depths=\(2, 1, 1, 1\)"),
            ({"num_heads": (2, 1, 1, 3)}, r"divisible by their level's.*num_heads=\(2, 1, 1, 3\)"),
            ({"window": 1}, r"2 at least\. Received: window=1"),
            ({"window": "7"}, r"positive integer\. Received: window='7'"),
            ({"drop_rate": 1}, r"from 0 to less than 1\. Received: drop_rate=1"),
        ),
        frozen="swin_unet",
        frozen_layers={
            "swin_unet.patch_embed": "embedding_norm",
            "swin_unet.layers.0.blocks.0": "encoder1_0",
            "swin_unet.layers.0.blocks.1": "encoder1",
            **{f"swin_unet.layers.{number}": f"encoder{number + 2}_merging" for number in range(3)},
            "swin_unet.layers.3": "encoder4",
            **{f"swin_unet.layers_up.{n}": f"decoder{3 - n}_expansion" for n in range(3)},
            "swin_unet.layers_up.3": "decoder1",
        },
        grain=4,
        # In int8 a token's values share one scale with those of all others.
        export_errors={"float16": 0.02, "dynamic": 0.1, "int8": 0.4},
    ),
    Row(
        name="missformer",
        arguments={
            "filters": (4, 8, 8, 8),
            "depths": (1, 1, 1, 1),
            "num_heads": (1, 2, 1, 1),
            "bridge_depth": 1,
        },
        # Each pixel attends to four; to one alone it would attend alike, whatever queries there be.
        input_shape=(64, 64, 3),
        irregular_shape=(32, 64, 1),
        sides_are_free=False,
        refused=(
            ({"filters": (8, 8)}, r"the four levels'.*filters=\(8, 8\), depths=\(1, 1, 1, 1\)"),
            ({"num_heads": (1, 1, 1, 3)}, r"divisible by their level's.*num_heads=\(1, 1, 1, 3\)"),
            ({"filters": (4, 8, 8, 10)}, r"divisible by the first.*\(4, 8, 8, 10\)"),
            ({"bridge_depth": 0}, r"positive integer\. Received: bridge_depth=0"),
        ),
        frozen="missformer",
        frozen_layers={
            "backbone.patch_embed1": "encoder1_embedding_norm",
            "backbone.block1.0": "encoder1_0",
            "bridge.bridge_layer1.attn": "bridge1_attention",
            "bridge.bridge_layer1": "bridge1",
            "bridge.bridge_layer4": "bridge4",
            **{f"decoder_{level - 1}": f"decoder{level}_expansion" for level in (4, 3, 2)},
            "decoder_0.layer_former_2": "decoder1",
        },
        grain=4,
    ),
    Row(
        name="medt",
        arguments={
            "filters": (4, 4, 4, 4, 4, 4, 4),
            "depths": (1, 1, 1, 1),
            "num_heads": 2,
            "patches": 2,
        },
        input_shape=(64, 64, 3),
        irregular_shape=(64, 68, 2),
        sides_are_free=False,
        refused=(
            ({"filters": (16, 16)}, r"of four levels.*filters=\(16, 16\), num_heads=2"),
            ({"num_heads": 3}, r"divisible by twice num_heads.*num_heads=3"),
            ({"depths": (1, 1)}, r"four levels' blocks\. Received: depths=\(1, 1\)"),
            ({"patches": 0}, r"patches must be a positive integer.*patches=0"),
        ),
        frozen="medt",
    ),
    Row(
        name="madgnet",
        arguments={
            "filters": (4, 4, 8, 8, 8),
            "depths": (2, 1, 1, 1),
            "decoder_filters": (32, 32, 32, 32),
            "scales": 2,
            "frequencies": 2,
            "least_filters": 32,
        },
        input_shape=(64, 64, 3),
        irregular_shape=(32, 64, 1),
        sides_are_free=False,
        refused=(
            ({"filters": (4, 4)}, r"the four stages.*filters=\(4, 4\)"),
            ({"filters": (4, 4, 4, 4, 6)}, r"divisible by 4.*\(4, 4, 4, 4, 6\)"),
            ({"depths": (1, 1, 1)}, r"depths the four stages'.*depths=\(1, 1, 1\)"),
            ({"decoder_filters": (32, 32, 32, 16)}, r"divisible by 32.*\(32, 32, 32, 16\)"),
            ({"least_filters": 8, "scales": 3}, r"divisible by 16.*scales=3, least_filters=8"),
            ({"frequencies": 17}, r"16 at most\. Received: 17"),
        ),
        frozen="madgnet",
        frozen_layers={
            f"decoder_stage{number}.attention_layer": f"decoder{4 - number}_attention"
            for number in (1, 2, 3, 4)
        }
        | {f"sub_decoder_stage{number}": f"auxiliary{4 - number}" for number in (1, 2, 3)}
        | {"sub_decoder_stage4": "logits"},
    ),
    Row(
        name="erdunet",
        # Of fewer channels, one of the seeds' excitations may let nothing through.
        arguments={"filters": (32, 16, 16, 16), "depths": (1, 1, 1)},
        input_shape=(32, 32, 3),
        irregular_shape=(16, 48, 2),
        refused=(
            ({"filters": (16, 4)}, r"the three stages, and.*filters=\(16, 4\)"),
            ({"filters": (16, 4, 6, 4)}, r"by 4, the three.*\(16, 4, 6, 4\)"),
            ({"filters": (24, 4, 4, 4)}, r"by 16, the stem's.*\(24, 4, 4, 4\)"),
            ({"depths": (1, 1)}, r"the three stages'.*depths=\(1, 1\)"),
        ),
        frozen="erdunet",
        frozen_layers={
            "lowest_layer_head": "fine",
            "resnet.relu": "encoder0",
            "layer_0": "context1",
            "layer_0_1": "context2",
            "layer_1_1": "context3",
            "head": "middle_fusion",
            "att_0": "middle_first_attention",
            "out_1_skip": "decoder3_norm",
            "out_2_skip": "decoder2_norm",
            **{"skip_0_1": "middle_skip", "skip_1_1": "decoder3_skip"},
            **{"skip_2_1": "decoder2_skip", "skip_3": "decoder1_skip"},
            "final_net_1": "found_convolution",
            "split_att": "focus_pixels",
            **{f"down_path_{level - 1}": f"second_encoder{level}" for level in (1, 2, 3)},
            "head_2": "second_middle_fusion",
            "skip_0_1_2": "second_middle_skip",
            "out_2_2_skip": "second_decoder2_first",
            "skip_2_1_2": "second_decoder2",
            "out_3_2_skip": "second_decoder1_first",
            "skip_3_1_2": "second_decoder1",
            "final_net_2": "second_found_convolution",
            **{"final_x": "auxiliary1_logits", "aux_x": "auxiliary1"},
            **{"final_1": "auxiliary2_logits", "aux_1": "auxiliary2"},
        },
        # Comparisons come out otherwise where a rounded feature is on the other side.
        export_errors={"float16": 0.1, "dynamic": 0.4, "int8": 0.5},
    ),
    Row(
        name="swin_unetr",
        arguments={
            "filters": 4,
            "depths": (2, 1, 1, 1),
            "num_heads": (2, 1, 1, 1),
            # Windows are filled up, and one axis of the deepest level is shorter than they are.
            "window": 3,
        },
        # Two voxels at the deepest level: an instance norm leaves nothing of one.
        input_shape=(32, 32, 64, 1),
        irregular_shape=(64, 32, 32, 2),
        num_classes=3,
        sides_are_free=False,
        refused=(
            ({"filters": 0}, r"positive integer\. Received: filters=0"),
            ({"depths": (1, 1)}, r"the four levels'.*filters=\(4, 8, 16, 32\), depths=\(1, 1\)"),
            ({"num_heads": (3, 1, 1, 1)}, r"divisible by their level's.*num_heads=\(3, 1, 1, 1\)"),
            ({"window": 1}, r"2 at least\. Received: window=1"),
            ({"distinct_octants": 1}, r"true or false\. Received: 1"),
        ),
        frozen="swin_unetr",
        frozen_layers={
            "swinViT.patch_embed": "embedding",
            "swinViT.0": "embedding_norm",
            **{f"swinViT.layers{level}.0": f"transformer{level}_merging" for level in range(1, 5)},
            **{f"swinViT.{level}": f"transformer{level}_merging_norm" for level in range(1, 5)},
            **{f"encoder{level}": f"encoder{level}" for level in (1, 2, 3, 4, 10)},
            **{f"decoder{level}": f"decoder{level}" for level in range(1, 6)},
        },
        # A norm over the two voxels of the deepest level magnifies it.
        rounding=5e-3,
    ),
    Row(
        name="segmamba",
        arguments={
            "filters": (2, 2, 4, 4),
            "depths": (2, 1, 1, 1),
            "num_slices": (4, 4, 2, 2),
        },
        # Two voxels at the deepest level: an instance norm leaves nothing of one.
        input_shape=(16, 16, 32, 1),
        irregular_shape=(32, 16, 32, 2),
        num_classes=3,
        sides_are_free=False,
        refused=(
            ({"filters": (8, 8)}, r"the four levels'.*filters=\(8, 8\), depths=\(2, 1, 1, 1\)"),
            ({"depths": (1, 1, 0, 1)}, r"positive integer\. Received: depths=0"),
            ({"num_slices": (4, 4, 2, 3)}, r"such that 4, 4, 2, 3 divide.*Received: \(16, 16, 32"),
        ),
        frozen="segmamba",
        frozen_layers={
            **{f"vit.downsample_layers.{number}": f"entry{number + 1}" for number in range(4)},
            **{f"vit.gscs.{number}": f"convolved{number + 1}" for number in range(4)},
            **{f"vit.stages.{number}.0": f"scan{number + 1}_0" for number in range(4)},
            **{f"vit.stages.{number}": f"scan{number + 1}" for number in range(4)},
            **{f"vit.mlps.{number}": f"narrow{number + 1}" for number in range(4)},
            **{f"encoder{level}": f"encoder{level}" for level in range(1, 6)},
            **{f"decoder{level}": f"decoder{level}" for level in range(1, 6)},
        },
        # A norm over the two voxels of the deepest level magnifies it.
        rounding=5e-3,
    ),
    Row(
        name="unetr",
        # Of a depth of three the skip connections begin after one block each.
        arguments={"filters": 2, "hidden_filters": 8, "depth": 3, "num_heads": 2},
        input_shape=(16, 16, 32, 1),
        irregular_shape=(16, 32, 16, 2),
        num_classes=3,
        sides_are_free=False,
        refused=(
            ({"filters": 0}, r"positive integer\. Received: filters=0"),
            ({"depth": 0}, r"positive integer\. Received: depth=0"),
            ({"num_heads": 3}, r"divide hidden_filters.*num_heads=3, hidden_filters=8"),
        ),
        frozen="unetr",
        frozen_layers={
            "vit.patch_embedding": "positions",
            **{f"vit.blocks.{number}": f"transformer{number}" for number in (0, 3, 6, 9, 11)},
        },
    ),
    Row(
        name="ux_net",
        arguments={"filters": (4, 4, 4, 4), "depths": (2, 1, 1, 1)},
        input_shape=(32, 32, 32, 1),
        irregular_shape=(16, 32, 48, 2),
        num_classes=3,
        refused=(
            ({"filters": (8, 8)}, r"four stages'.*filters=\(8, 8\), depths=\(2, 1, 1, 1\)"),
            ({"depths": (1, 1, 0, 1)}, r"positive integer\. Received: depths=0"),
        ),
        frozen="ux_net",
        frozen_layers={
            "uxnet_3d.downsample_layers.0": "stage1_entry_norm",
            **{f"uxnet_3d.downsample_layers.{n}": f"stage{n + 1}_halving" for n in (1, 2, 3)},
            **{f"uxnet_3d.stages.{n}.0": f"stage{n + 1}_0" for n in range(4)},
            **{f"uxnet_3d.stages.{n}": f"stage{n + 1}" for n in range(4)},
        },
    ),
)

# What takes a row long is asked of one variant of each network.
ONE_OF_EACH = list({(row.name, row.kind.rank): row for row in reversed(ROWS)}.values())[::-1]

row_by_row = pytest.mark.parametrize("row", ROWS, ids=str)
once = pytest.mark.no_backend


# With all that `conftest` spares XLA, the gradients of U-Net's encoder for volumes are off by up to
# 49 %; with its fusions they are right to 4e-6. So what trains networks for volumes has them,
# though they take longer.
def trained_row_by_row(rows: Sequence[Row] = ROWS) -> pytest.MarkDecorator:
    if keras.backend.backend() != "torch":  # which is quick, since it compiles and traces nothing
        rows = [row for row in rows if row in ONE_OF_EACH]
    if keras.backend.backend() == "jax":
        # A step takes longest to compile. That each can be differentiated `trace_a_step` asks, and
        # each form of a layer has its gradients tried alone; MedT's layers have none of these.
        rows = [row for row in rows if peers.has(row.name) or row.name == "medt"]
    params = [
        pytest.param(row, marks=row.kind.choose(images=(), volumes=(pytest.mark.fused,)))
        for row in rows
    ]
    return pytest.mark.parametrize("row", params, ids=str)


@functools.cache
def scattered(row: Row) -> SegmentationNetwork:
    """Return the network, all weights away from where they start; no test changes it."""
    return scatter(row.create())


@dataclass(frozen=True)
class Steps:
    """The first steps of a network's training on one batch; dictionaries are by variables' paths.

    Args:
        network: As it is after them.
        start: Its weights before them.
        losses: One a step.
        gradients: Of the first step.
        moved: Its weights after the first step.
    """

    network: SegmentationNetwork
    start: dict[str, np.ndarray]
    losses: list[float]
    gradients: dict[str, np.ndarray]
    moved: dict[str, np.ndarray]


@functools.cache
def trained(row: Row) -> Steps:
    """Train for a few steps from weights of the frozen numbers' rule, if they have names."""
    network = row.create()
    if row.has_published_names:
        written = kl.checkpoints.torch_state_dict(network)
        shapes = {name: array.shape for name, array in written.items()}
        weights = frozen.draw_weights(shapes) | network.recomputed_buffers()
        kl.checkpoints.load_torch_state_dict(network, weights)
    start = _arrays(network.weights)
    # A plain optimizer, whose momentum starts at the gradient.
    optimizer = kl.optimizers.TorchSGD(0.2, momentum=0.9, weight_decay=0.0)
    network.compile(optimizer=optimizer, loss=network.loss)
    optimizer.build(network.trainable_variables)  # else TensorFlow traces the step twice
    images, labels = row.batch()
    losses = []
    for step in range(6):
        network.reset_metrics()  # else Keras returns the mean so far
        losses.append(network.train_on_batch(images, labels, return_dict=True)["loss"])
        if step == 0:
            gradients = {
                variable.path: ops.convert_to_numpy(momentum)
                for variable, momentum in zip(
                    network.trainable_variables, optimizer.momentums, strict=True
                )
            }
            moved = _arrays(network.weights)
    return Steps(network, start, losses, gradients, moved)


def _arrays(variables: list[Any]) -> dict[str, np.ndarray]:
    return {variable.path: ops.convert_to_numpy(variable).copy() for variable in variables}


def predict(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the logits, in the way that compiles for the shortest time."""
    if keras.backend.backend() == "jax":  # which compiles one operation after the other otherwise
        return network.predict_on_batch(images)
    return ops.convert_to_numpy(network(images, training=False))


@functools.cache
def logits_of(row: Row) -> np.ndarray:
    return predict(scattered(row), row.batch()[0])


@once
def test_every_network_and_every_file_has_a_row() -> None:
    registered = {(entry.name, entry.rank) for entry in registry.NETWORKS}
    assert {(row.name, row.kind.rank) for row in ROWS} == registered
    assert len({str(row) for row in ROWS}) == len(ROWS)
    files = sorted(path.stem for path in frozen.FOLDER.iterdir())
    assert sorted(row.frozen for row in ROWS if row.frozen) == files


@once
def test_unknown_networks_are_refused_with_the_near_ones() -> None:
    for name, words in (
        ("unett", "no network 'unett'; did you mean unet"),
        ("x", r"no network 'x'; known are .*lgmsnet.*unet"),
    ):
        with pytest.raises(ValueError, match=words):
            kl.models.create(name, input_shape=(32, 32, 3), num_classes=1)


@once
def test_weights_follow_from_names_and_shapes() -> None:
    names = {"a.weight": (50, 4, 5), "a.bias": (90,), "n.running_var": (80,), "n.weight": (70,)}
    weights = frozen.draw_weights(names)
    assert {weight.dtype for weight in weights.values()} == {np.dtype("float32")}
    assert weights["a.weight"].std() * np.sqrt(20) == pytest.approx(1, rel=0.1)
    assert abs(weights["a.bias"]).max() < 0.5
    assert weights["n.weight"].mean() == pytest.approx(1, rel=0.1)
    assert 0.5 < weights["n.running_var"].min() < 0.6 < 1.4 < weights["n.running_var"].max() < 1.5
    assert frozen.draw_weights({"scale": ()})["scale"].shape == ()
    factors = frozen.draw_weights(names, factors={"a.weight": 0.2})
    np.testing.assert_allclose(factors.pop("a.weight"), 0.2 * weights["a.weight"], rtol=1e-6)
    salted = frozen.draw_weights(names, salt=1)
    for name, values in factors.items():
        np.testing.assert_array_equal(values, weights[name])
        assert not np.any(values == salted[name])


@row_by_row
def test_the_output_has_the_sides_of_the_input(row: Row) -> None:
    logits = logits_of(row)
    assert logits.shape == (2, *row.input_shape[:-1], row.num_classes)
    assert logits.dtype == "float32"
    assert logits.std() > 0.01  # else wrong ones would pass elsewhere
    assert scattered(row).output_shape == (None, *logits.shape[1:])


@row_by_row
def test_any_sides_channels_and_classes(row: Row) -> None:
    *sides, channels = row.irregular_shape
    network = row.create(input_shape=row.irregular_shape, num_classes=row.num_classes + 1)
    images = np.random.default_rng(1).random((1, *row.irregular_shape)).astype("float32")
    logits = predict(scatter(network), images)
    assert logits.shape == (1, *sides, row.num_classes + 1)
    unknown = {"input_shape": (*[None] * len(sides), channels), "num_classes": row.num_classes + 1}
    if not row.sides_are_free:
        with pytest.raises(ValueError, match="None"):
            row.create(**unknown)
        return
    free = row.create(**unknown)
    free.set_weights(network.get_weights())
    np.testing.assert_allclose(
        predict(free, images), logits, rtol=0, atol=row.rounding * logits.std()
    )
    sides[0] += 1
    if not _are_legal(row, sides):
        with pytest.raises(ValueError, match="the nearest"):
            free(np.zeros((1, *sides, channels), "float32"))


@once
@row_by_row
def test_other_sides_are_refused_with_the_nearest(row: Row) -> None:
    for axis in range(row.kind.rank):
        sides = list(row.input_shape[:-1])
        sides[axis] += 1
        shape = (*sides, row.input_shape[-1])
        if _are_legal(row, sides):  # as any are, to this network
            row.create(input_shape=shape)
            continue
        with pytest.raises(ValueError, match="Received: ") as raised:
            row.create(input_shape=shape)
        assert str(tuple(sides)) in str(raised.value)
        (named,) = re.findall(r"to (\([\d, ]+\)), the nearest", str(raised.value))
        nearest = list(ast.literal_eval(named))
        assert _are_legal(row, nearest)
        nearer = range(abs(nearest[axis] - sides[axis]))
        for side in {sides[axis] + sign * distance for distance in nearer for sign in (-1, 1)}:
            assert not _are_legal(row, [*sides[:axis], side, *sides[axis + 1 :]])


@once
@row_by_row
def test_inputs_of_another_form_are_refused(row: Row) -> None:
    *sides, channels = row.input_shape
    network_class = row.entry.load_class()
    for shape in ((*sides, None), sides, (*sides, 1, channels)):
        with pytest.raises(ValueError, match=r"channels last and static.*Received: input_shape="):
            network_class(input_shape=shape, **row.arguments)


def _are_legal(row: Row, sides: list[int]) -> bool:
    try:
        row.entry.check_sides(sides, row.arguments)
    except ValueError:
        return False
    return True


@once
@row_by_row
def test_wrong_arguments_are_refused(row: Row) -> None:
    with pytest.raises(ValueError, match=r"num_classes must be a positive integer.*num_classes=0"):
        row.create(num_classes=0)
    for argument in row.entry.arguments():
        with pytest.raises(ValueError, match=f"no argument '{argument}x'; did you mean {argument}"):
            row.create(**{f"{argument}x": 1})
    for arguments, words in row.refused:
        with pytest.raises(ValueError, match=words):
            row.create(**arguments)


@row_by_row
def test_the_config_says_all(row: Row) -> None:
    network = scattered(row)
    config = network.get_config()
    common = {"name", "trainable", "dtype", "input_shape", "num_classes"}
    assert config.keys() == common | row.entry.arguments().keys()
    assert config.items() >= row.arguments.items()
    read = json.loads(json.dumps(config))
    copy = type(network).from_config(read)
    assert copy.get_config() == config
    _assert_computes_the_same(copy, row)


@once
@row_by_row
def test_keras_clones_it(row: Row) -> None:
    _assert_computes_the_same(keras.models.clone_model(scattered(row)), row)


def _assert_computes_the_same(copy: keras.Model, row: Row) -> None:
    copy.set_weights(scattered(row).get_weights())
    np.testing.assert_allclose(predict(copy, row.batch()[0]), logits_of(row), atol=1e-6)


@row_by_row
def test_complexity_is_counted(row: Row) -> None:
    complexity = kl.models.complexity.count(scattered(row))
    assert complexity.parameters == sum(np.prod(w.shape) for w in scattered(row).trainable_weights)
    assert complexity.multiply_adds > complexity.parameters


@once
@row_by_row
def test_figures_find_the_stages(row: Row) -> None:
    stages = row.entry.stages
    assert stages
    for stage in stages:
        shape = scattered(row).get_layer(stage).output.shape
        assert len(shape) == row.kind.rank + 2
        divisors = {side / part for side, part in zip(row.input_shape, shape[1:-1], strict=False)}
        assert len(divisors) == 1  # the sides of the input, made smaller


@trained_row_by_row()
def test_files_hold_the_network_and_its_training(row: Row, tmp_path: Path) -> None:
    network = trained(row).network
    images, _ = row.batch()
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert type(loaded) is type(network)
    assert loaded.get_config() == network.get_config()
    assert int(loaded.optimizer.iterations) == len(trained(row).losses)
    np.testing.assert_allclose(predict(loaded, images), predict(network, images), atol=1e-6)


@once
@row_by_row
def test_an_untrained_network_is_read_without_a_warning(row: Row, tmp_path: Path) -> None:
    scattered(row).save(tmp_path / "untrained.keras")
    keras.saving.load_model(tmp_path / "untrained.keras")


# A program that loads what another process saved, and where it is told to computes with it.
_LOAD = """
import sys
for name in ("click", "cv2", "jinja2", "matplotlib", "sklearn", "tensorflow_datasets", "tqdm"):
    sys.modules[name] = None
{imports}
import json
import numpy as np

modules = set(json.load(open("modules.json")))
imported = set()
for number, (module, class_name) in enumerate(json.load(open("classes.json"))):
    network = keras.saving.load_model(f"{{number}}.keras")
    assert (type(network).__module__, type(network).__name__) == (module, class_name)
    imported.add(module)
    # Others are made of U-Net's parts.
    unasked = modules.intersection(sys.modules) - imported - {{"keras_lgmsnet.models.unet"}}
    assert not unasked, "of the networks those loaded only"
    if {computes}:
        logits = network(np.load(f"images{{number}}.npy"), training=False)
        np.save(f"{{number}}.npy", keras.ops.convert_to_numpy(logits))
"""


def _save(rows: Sequence[Row], folder: Path) -> None:
    """Save networks, and what `_LOAD` has to know."""
    for number, row in enumerate(rows):
        scattered(row).save(folder / f"{number}.keras")
        np.save(folder / f"images{number}.npy", row.batch()[0])
    classes = [(row.entry.module, row.entry.class_name) for row in rows]
    (folder / "classes.json").write_text(json.dumps(classes))
    modules = sorted({entry.module for entry in registry.NETWORKS})
    (folder / "modules.json").write_text(json.dumps(modules))


def test_files_are_read_by_another_backend_that_the_package_was_imported_before(
    tmp_path: Path,
) -> None:
    # JAX would compile each; `test_version_0_1` has files that it reads.
    rows = ROWS[:2] if keras.backend.backend() == "jax" else ONE_OF_EACH
    _save(rows, tmp_path)
    other = "tensorflow" if keras.backend.backend() == "torch" else "torch"
    run_in_fresh_process(
        _LOAD.format(imports="import keras_lgmsnet\nimport keras", computes=True),
        tmp_path,
        KERAS_BACKEND=other,
    )
    for number, row in enumerate(rows):
        logits, received = logits_of(row), np.load(tmp_path / f"{number}.npy")
        tolerance = row.rounding * logits.std()
        np.testing.assert_allclose(received, logits, rtol=0, atol=tolerance, err_msg=str(row))


@once  # since what is imported is asked of every backend above
def test_files_are_read_where_the_package_was_imported_after_keras(tmp_path: Path) -> None:
    """And where nothing is installed but Keras, NumPy and the backend."""
    _save(ONE_OF_EACH, tmp_path)
    imports = "import keras\nimport keras_lgmsnet"
    run_in_fresh_process(_LOAD.format(imports=imports, computes=False), tmp_path)


# JAX would compile half a minute for each, and TensorFlow trace a graph as long. Here JAX compiles
# one only, and TensorFlow traces none; `--networks` does both, of LGMSNet.
@pytest.mark.parametrize(
    "policy",
    ["mixed_bfloat16", "mixed_float16"]
    if keras.backend.backend() == "torch"
    else ["mixed_bfloat16"],
)
@pytest.mark.untraced
@row_by_row
def test_mixed_precision_trains(row: Row, policy: str) -> None:
    if keras.backend.backend() == "jax" and row is not ROWS[0]:
        trace_a_step(row, policy)
    else:
        train_a_step(row, policy)


def create_mixed(row: Row, policy: str) -> SegmentationNetwork:
    network = row.create(dtype=policy)
    assert network.output.dtype == "float32"
    for stage in row.entry.stages:
        assert network.get_layer(stage).output.dtype == policy.removeprefix("mixed_")
    return network


def trace_a_step(row: Row, policy: str) -> None:
    """Differentiate in mixed precision, without numbers: all that JAX refuses, it refuses here."""
    import jax

    network = create_mixed(row, policy)
    images, labels = row.batch()

    def loss(weights: list[Any], others: list[Any]) -> tuple[Any, list[Any]]:
        logits, moved = network.stateless_call(weights, others, images, training=True)
        return network.loss(labels, logits), moved

    variables = network.trainable_variables, network.non_trainable_variables
    values = [[variable.value for variable in group] for group in variables]
    results = jax.eval_shape(jax.grad(loss, has_aux=True), *values)
    for group, received in zip(values, results, strict=True):
        for value, result in zip(group, received, strict=True):
            assert (result.shape, result.dtype) == (value.shape, value.dtype)


def train_a_step(row: Row, policy: str) -> None:
    """Train in mixed precision, and look at all that is finite then."""
    network = create_mixed(row, policy)
    # Under float16 an optimizer skips, silently, a step whose gradients are not finite, and halves
    # the scale of the loss. That starts too high where a coarse pixel's gradient is many pixels'.
    for _ in range(1 if row.grain == 1 else 4):
        results = network.train_on_batch(*row.batch(), return_dict=True)
        assert all(np.isfinite(value) for value in results.values())
        if taken := int(network.optimizer.iterations):
            break
    assert taken == 1
    for variable in network.variables:
        assert np.isfinite(ops.convert_to_numpy(variable)).all(), variable.path


@trained_row_by_row()
def test_training_lowers_the_loss(row: Row) -> None:
    steps = trained(row)
    assert np.isfinite(steps.losses).all()
    # Of the last half, since what drop-out leaves of a tiny network differs from step to step.
    assert np.mean(steps.losses[3:]) < 0.98 * steps.losses[0]


@trained_row_by_row()
def test_training_reaches_every_variable(row: Row) -> None:
    steps = trained(row)
    for variable in steps.network.trainable_variables:
        gradient = steps.gradients[variable.path]
        assert np.isfinite(gradient).all(), variable.path
        # What is not used has zeros, exactly; so may have an offset that a batch norm takes out
        # again.
        if not np.any(gradient):
            assert variable.name in ("bias", "beta"), variable.path
            assert _counts_in_inference(variable, row), variable.path
    for variable in steps.network.non_trainable_variables:
        if variable.name.startswith("moving_"):
            assert np.any(steps.moved[variable.path] != steps.start[variable.path]), variable.path


def _counts_in_inference(variable: Any, row: Row) -> bool:
    network, value = trained(row).network, ops.convert_to_numpy(variable)
    before = predict(network, row.batch()[0])
    variable.assign(value + 1)
    after = predict(network, row.batch()[0])
    variable.assign(value)
    return bool(np.any(after != before))


@once  # since every backend is trained from weights of these names
@row_by_row
def test_published_names_account_for_every_variable(row: Row) -> None:
    network = row.create()
    if not row.has_published_names:
        with pytest.raises(TypeError, match="no published names"):
            kl.checkpoints.torch_state_dict(network)
        return
    variables = dict(named_variables(network))
    assert {id(variable) for variable in variables.values()} == {id(w) for w in network.weights}
    written = kl.checkpoints.torch_state_dict(scattered(row))
    kl.checkpoints.load_torch_state_dict(network, written)
    for weight, expected in zip(network.get_weights(), scattered(row).get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert written.keys() == (
        variables.keys() | network.idle_parameters().keys() | network.recomputed_buffers().keys()
    )


@once  # since all exports are written on one backend
@row_by_row
def test_the_deploy_form_is_the_network(row: Row) -> None:
    deployed = deploy(scattered(row))
    assert deployed.output_shape == scattered(row).output_shape
    logits = logits_of(row)
    np.testing.assert_allclose(
        predict(deployed, row.batch()[0]), logits, rtol=0, atol=row.rounding * logits.std()
    )


@trained_row_by_row([row for row in ROWS if peers.has(row.name)])
def test_the_network_and_its_training_equal_plain_pytorch(row: Row) -> None:
    """Outputs; and of the first step loss, gradients by their norm, and running means."""
    images, labels = (torch.from_numpy(np.moveaxis(array, -1, 1)) for array in row.batch())
    peer = peers.create(
        row.name, row.kind.rank, row.input_shape[-1], row.num_classes, **row.arguments
    )
    peer.double().load_state_dict(_tensors(kl.checkpoints.torch_state_dict(scattered(row))))
    with torch.inference_mode():
        expected = np.moveaxis(peer.eval()(images.double()).numpy(), 1, -1)
    np.testing.assert_allclose(logits_of(row), expected, rtol=0, atol=row.rounding * expected.std())

    steps = trained(row)
    peer.load_state_dict(_tensors(frozen.draw_weights(generate.shapes(peer))))
    loss = row.kind.choose(
        images=lambda logits: torch_losses.bce_dice_loss(logits, labels.double()),
        volumes=lambda logits: torch_losses.dice_ce_loss(logits, labels[:, 0].long()),
    )(peer.train()(images.double()))
    loss.backward()
    np.testing.assert_allclose(steps.losses[0], loss.item(), rtol=1e-5)
    parameters, buffers = dict(peer.named_parameters()), dict(peer.named_buffers())
    norms = {name: parameter.grad.norm().item() for name, parameter in parameters.items()}
    for name, variable in named_variables(steps.network):
        if name in norms:
            received = np.linalg.norm(steps.gradients[variable.path])
            # Absolutely, of biases before a norm, which has no use for them.
            np.testing.assert_allclose(
                received, norms[name], rtol=row.gradient_rounding, atol=1e-6, err_msg=name
            )
        elif name.endswith("running_mean"):
            np.testing.assert_allclose(
                steps.moved[variable.path], buffers[name].numpy(), rtol=0, atol=1e-5, err_msg=name
            )


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
