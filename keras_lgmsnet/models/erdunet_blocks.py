"""What ERDUnet is made of."""

from collections.abc import Sequence
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
from keras_lgmsnet.layers.initializers import FanInUniform, fan_in_normal
from keras_lgmsnet.layers.normalization import EPSILON, BatchNormalization

DROPOUT = 0.2
# Above it a feature counts as present.
THRESHOLD = 0.5


def initial() -> dict[str, Any]:
    """Return the published initial values of a convolution."""
    return {"kernel_initializer": fan_in_normal(), "bias_initializer": FanInUniform()}


class _FixedConv(GroupedConv):
    """A convolution that stays as it was drawn, since what is made of its outputs has no gradient.

    It could not be told from a trained one by `trainable`, which a network sets for all layers.
    """

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """Create a weight that no optimizer is given."""
        return super().add_weight(*args, **kwargs, trainable=False)


class Blocks:
    """What the network is made of, as functions from symbolic tensors to symbolic tensors.

    The layer that ends a block has the block's name.
    """

    def __init__(self, num_classes: int, dtype: Any) -> None:
        self.num_classes = num_classes
        self.dtype = dtype

    # === Layers ===

    def convolve(self, x: Any, filters: int, taps: int, name: str, **options: Any) -> Any:
        """Convolve, without a norm."""
        options |= initial() | {"dtype": self.dtype, "name": name}
        return GroupedConv(filters, taps, **options)(x)

    def step_layer(
        self, filters: int, taps: int, name: str, activation: str = "gelu", use_bias: bool = True
    ) -> ConvNormActivation:
        """Return the layer of `step`, or with another activation."""
        return ConvNormActivation(
            filters,
            taps,
            activation,
            use_bias,
            normalization="batch",
            **initial(),
            dtype=self.dtype,
            name=name,
        )

    def step(self, x: Any, filters: int, taps: int, name: str) -> Any:
        """Convolve, normalize, and apply GELU."""
        return self.step_layer(filters, taps, name)(x)

    def normalize(self, x: Any, name: str) -> Any:
        """Normalize over the batch."""
        return BatchNormalization(dtype=self.dtype, name=name)(x)

    def activate(self, x: Any, activation: str, name: str) -> Any:
        """Apply an activation."""
        return keras.layers.Activation(activation, dtype=self.dtype, name=name)(x)

    def add(self, x: Any, y: Any, name: str) -> Any:
        """Add up."""
        return keras.layers.Add(dtype=self.dtype, name=name)([x, y])

    def multiply(self, x: Any, y: Any, name: str) -> Any:
        """Multiply."""
        return keras.layers.Multiply(dtype=self.dtype, name=name)([x, y])

    def concatenate(self, parts: Sequence[Any], name: str) -> Any:
        """Put the channels side by side."""
        return keras.layers.Concatenate(dtype=self.dtype, name=name)(parts)

    def upsample(self, x: Any, name: str) -> Any:
        """Double the sides, bilinearly."""
        return LinearUpsampling(dtype=self.dtype, name=name)(x)

    def halve(self, x: Any, name: str) -> Any:
        """Take the maxima of 2 × 2 pixels."""
        return MaxPooling(dtype=self.dtype, name=name)(x)

    # === Attention ===

    def excite(self, x: Any, filters: int, name: str) -> Any:
        """Weight the channels by what the whole image holds."""
        return SqueezeExcitation(filters, **initial(), dtype=self.dtype, name=name)(x)

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
                self.num_classes, 1, **initial(), dtype=self.dtype, name=f"{name}_class{number}"
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
        y = DepthwiseConv(7, **initial(), dtype=self.dtype, name=depthwise)(x)
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
        y = DepthwiseConv(3, **initial(), dtype=self.dtype, name=f"{name}_depthwise")(projected)
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
