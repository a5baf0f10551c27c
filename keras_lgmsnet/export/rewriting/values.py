"""What goes from layer to layer while a network is rewritten."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor

from keras_lgmsnet.export.rewriting import flat, resampling
from keras_lgmsnet.export.rewriting.flat import Features
from keras_lgmsnet.export.rewriting.folding import Affine


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the network, in the forms that the layer that reads it may choose from.

    Args:
        name: Of the layer that made it.
        features: It as images or as slices, perhaps with a batch norm yet to be applied.
        original: It as the network has it, if that was there first.
        parts: What it is the concatenation of, along the channels.
        repeated: What it is made of by nearest upsampling.
        refold: From a map to the same features with the map after them, at no cost; `None` where
            that is impossible, or something else needs the features as they are.
    """

    name: str
    features: Features
    original: KerasTensor | None = None
    parts: Sequence[Features] = ()
    repeated: Features | None = None
    refold: Callable[[Affine], Features] | None = None

    @functools.cached_property
    def settled(self) -> Features:
        """The features, nothing yet to be applied."""
        return flat.settle(self.features, f"{self.name}-norm")

    @functools.cached_property
    def tensor(self) -> KerasTensor:
        """It as the network has it."""
        return self.settled.to_output() if self.original is None else self.original

    def split(self, count: int) -> list[Features]:
        """Return equal parts of the channels, as they were before a concatenation if they can."""
        width = self.features.channels // count
        if [part.channels for part in self.parts] == [width] * count:
            return list(self.parts)
        x = self.settled
        return [
            x.replace(x.images[..., start : start + width]) for start in range(0, x.channels, width)
        ]


def convolve(
    value: Value,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    name: str,
    groups: int = 1,
    activation: Any = keras.activations.linear,
    strides: int = 1,
    dilation: int = 1,
) -> Features:
    """Apply a convolution of odd sizes, with as many zeros beyond the border on every side.

    Many groups of few channels and one filter each are convolved by their first channels, their
    second ones and so on, each time depthwise.

    Args:
        value: What is convolved.
        kernel: Shape `(*sizes, channels / groups, filters)`.
        bias: Shape `(filters,)`, or `None`.
        name: Of the layer to make.
        groups: Number of independent groups of channels.
        activation: One that maps each value by itself.
        strides: The distance between outputs.
        dilation: The distance between taps.
    """
    x = value.features
    if dilation > 1:
        kernel = _in_reach(kernel, x, dilation)
    sizes = set(kernel.shape[:-2])
    spacing: dict[str, Any] = {"strides": strides, "dilation": dilation}
    is_dense_in_space = strides == dilation == 1
    if groups == 1 and sizes == {3} and is_dense_in_space and value.repeated is not None:
        return resampling.convolve_repeated(value.repeated, kernel, bias, name, activation)
    if groups == 1:
        y = flat.convolve(x if sizes == {1} else value.settled, kernel, bias, name, **spacing)
        return y.replace(flat.activate(y.images, activation))
    if groups == x.channels == kernel.shape[-1]:
        y = flat.depthwise(value.settled, kernel, bias, name, **spacing)
        return y.replace(flat.activate(y.images, activation))
    if groups == kernel.shape[-1] >= kernel.shape[-2]:
        x, number = value.settled, kernel.shape[-2]
        parts = [
            flat.depthwise(
                x.replace(x.images[..., place::number]),
                kernel[..., place : place + 1, :],
                bias if place == 0 else None,
                f"{name}-{place}",
                **spacing,
            )
            for place in range(number)
        ]
        images = sum((part.images for part in parts[1:]), parts[0].images)
        return parts[0].replace(flat.activate(images, activation))
    kernels = np.split(kernel, groups, axis=-1)
    biases = [None] * groups if bias is None else np.split(bias, groups)
    outputs = []
    for number, part in enumerate(value.split(groups)):
        y = flat.convolve(part, kernels[number], biases[number], f"{name}-{number}", **spacing)
        outputs.append(y.replace(flat.activate(y.images, activation)))
    return flat.concatenate(outputs)


def _in_reach(kernel: np.ndarray, x: Features, dilation: int) -> np.ndarray:
    """Return a kernel without the taps that meet zeros alone, far beyond the border."""
    sides = x.sides if x.depth is None else (x.depth, *x.sides)
    reaches = [
        min(taps // 2, (side - 1) // dilation)
        for side, taps in zip(sides, kernel.shape[:-2], strict=True)
    ]
    return kernel[
        tuple(
            slice(taps // 2 - reach, taps // 2 + reach + 1)
            for reach, taps in zip(reaches, kernel.shape, strict=False)
        )
    ]
