"""The names of ERDUnet's layers in the published program, and what that has and never uses."""

from collections.abc import Sequence
from typing import Any

from keras_lgmsnet.models.base import SegmentationNetwork


class PublishedParts:
    """The published names of the blocks' layers: theirs, then ours."""

    def __init__(self, network: SegmentationNetwork) -> None:
        self.layer = network.get_layer

    def step(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        """Return those of a convolution and its norm."""
        layer = self.layer(ours)
        return [(f"{theirs}.conv", layer.convolution), (f"{theirs}.bn", layer.norm)]

    def excitation(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        """Return those of a squeeze-and-excitation."""
        layer = self.layer(ours)
        return [(f"{theirs}.fc1", layer.reduce), (f"{theirs}.fc2", layer.expand)]

    def attention(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        """Return those of attention to channels, pixels and both."""
        return [
            *self.excitation(theirs, f"{ours}_excitation"),
            *self.step(f"{theirs}.spatial", f"{ours}_pixels"),
            (f"{theirs}.fc3", self.layer(f"{ours}_reduce")),
            (f"{theirs}.fc4", self.layer(f"{ours}_expand")),
        ]

    def wide(self, theirs: str, ours: str) -> list[tuple[str, Any]]:
        """Return those of the wide convolutions that see an image or the stem."""
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
        """Return those of an encoder's block; `kind` as in `Blocks.encode`."""

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
        """Return those between a network's encoder and decoder."""
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
        """Return those of a level of the first decoder."""
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
        """Return those of a level of the second decoder."""
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


def convolution(
    name: str, channels: int, filters: int, taps: int = 1, use_bias: bool = True
) -> Shapes:
    """Return the shapes of a convolution's parameters."""
    shapes: Shapes = {f"{name}.weight": (filters, channels, taps, taps)}
    return shapes | ({f"{name}.bias": (filters,)} if use_bias else {})


def norm(name: str, channels: int) -> Shapes:
    """Return the shapes of a batch norm's parameters."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts}


def idle_attention(name: str, width: int, rate: int, parts: Sequence[str]) -> Shapes:
    """Return the shapes of those parts of attention that are idle."""
    shapes: Shapes = {}
    if "channels" in parts:
        shapes |= convolution(f"{name}.fc1", width, width // rate)
        shapes |= convolution(f"{name}.fc2", width // rate, width)
    if "spatial" in parts:
        shapes |= convolution(f"{name}.spatial.conv", 2, 1, 7, use_bias=False)
        shapes |= norm(f"{name}.spatial.bn", 1)
    if "pixelwise" in parts:
        shapes |= convolution(f"{name}.fc3", width, width // rate)
        shapes |= convolution(f"{name}.fc4", width // rate, width)
    return shapes


def idle_encoder(name: str, channels: int, filters: int, kind: str) -> Shapes:
    """Return the shapes of what is idle in an encoder's block."""
    shapes = convolution(f"{name}.dwconv_1.0", 1, filters, 3)
    if kind != "attentive":
        shapes |= idle_attention(f"{name}.att", filters, 4, ("channels", "spatial", "pixelwise"))
    if kind != "large":
        return shapes | {f"{name}.fc1.weight": (filters, filters), f"{name}.fc1.bias": (filters,)}
    shapes |= convolution(f"{name}.proj_c.0", channels, filters, 3)
    shapes |= convolution(f"{name}.proj_c.2", filters, filters)
    shapes |= norm(f"{name}.proj_c.3", filters)
    shapes |= convolution(f"{name}.dwconv_2.0", 2, filters, 3)
    for place in (2, 5):
        shapes |= convolution(f"{name}.dwconv_2.{place}", filters, filters)
        shapes |= norm(f"{name}.dwconv_2.{place + 1}", filters)
    return shapes


def idle_head(name: str, channels: int, width: int, num_classes: int) -> Shapes:
    """Return the shapes of a head of auxiliary logits."""
    return {
        **convolution(f"{name}.0.conv", channels, width),
        **norm(f"{name}.0.bn", width),
        **convolution(f"{name}.1.conv", width, width, 3),
        **norm(f"{name}.1.bn", width),
        **convolution(f"{name}.2.conv", width, num_classes, 3),
    }
