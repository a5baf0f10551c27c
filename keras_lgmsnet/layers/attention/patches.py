"""Patches of images and volumes: as pixels of a smaller image, merged, and spread again."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.attention.windows import cut_windows
from keras_lgmsnet.layers.base import SpatialLayer, require_positive
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.normalization import EPSILON


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class PatchEmbedding(SpatialLayer):
    """Each patch made one pixel by a dense layer, 2D or 3D.

    It is a convolution whose kernel is as wide as the distance between its outputs.

    Args:
        filters: Output channels.
        size: Side of the patches, by which the input's sides must be divisible.
        kernel_initializer: Name of a Keras initializer, or an object of one; by default
            `FanInUniform()`.
        bias_initializer: The same for the bias; `FanInUniform()` goes by the kernel's fan-in.
        flat_kernel: Whether the kernel is the matrix of a dense layer of the patches' values, pixel
            by pixel, with no axes in space. What is computed is the same; published programs, and
            so their weights, differ in it.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is not positive, or a known side not divisible by `size`.

    Example:
    >>> PatchEmbedding(96, 4)(keras.ops.ones((1, 32, 32, 3))).shape
    (1, 8, 8, 96)
    """

    def __init__(
        self,
        filters: int,
        size: int,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        flat_kernel: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_positive(filters=filters, size=size)
        self.filters = filters
        self.size = size
        self.kernel_initializer = keras.initializers.get(kernel_initializer or FanInUniform())
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.flat_kernel = flat_kernel

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel, `(*size, channels, filters)` unless it is flat, and the bias."""
        super().build(input_shape)
        _require_multiples(self.size, input_shape, self.name)
        patch = (self.size,) * self.rank + (self.channels,)
        self.kernel = self.add_weight(
            name="kernel",
            shape=((math.prod(patch),) if self.flat_kernel else patch) + (self.filters,),
            initializer=self.kernel_initializer,
        )
        initializer = self.bias_initializer
        if isinstance(initializer, FanInUniform):
            initializer = initializer.for_bias_of(self.kernel.shape)
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer=initializer)

    def call(self, inputs: Any) -> Any:
        """Multiply each patch by the kernel."""
        sides = ops.shape(inputs)[1:-1]
        patches = cut_windows(inputs, sides, (self.size,) * self.rank, self.channels)
        smaller = (side // self.size for side in sides)
        patches = ops.reshape(patches, (-1, *smaller, self.size**self.rank * self.channels))
        kernel = ops.reshape(ops.convert_to_tensor(self.kernel), (-1, self.filters))
        return ops.matmul(patches, kernel) + self.bias

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with sides divided by `size` and `filters` channels."""
        sides = (None if side is None else side // self.size for side in input_shape[1:-1])
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "size": self.size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "flat_kernel": self.flat_kernel,
        }


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class PatchMerging(SpatialLayer):
    """Swin Transformer's patches of 2 × 2 (× 2) pixels made one (Liu et al., 2021), 2D or 3D.

    The channels of a patch's pixels are joined, normalized as a layer, and mixed by a dense layer
    without bias.

    Args:
        filters: Output channels.
        offsets: Where in the patch the pixels lie, in the order in which they are joined, each 0 or
            1 an axis; by default all, the first axis fastest.
        kernel_initializer: Name of a Keras initializer, or an object of one; by default
            `FanInUniform()`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is out of range, or a known side is odd.

    Example:
    >>> PatchMerging(32)(keras.ops.ones((1, 16, 16, 16))).shape
    (1, 8, 8, 32)
    """

    def __init__(
        self,
        filters: int,
        offsets: Sequence[Sequence[int]] | None = None,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_positive(filters=filters)
        self.filters = filters
        self.offsets = None if offsets is None else tuple(map(tuple, offsets))
        if self.offsets == ():
            raise ValueError("offsets must name one part of each patch at least. Received: none")
        self.kernel_initializer = keras.initializers.get(kernel_initializer or FanInUniform())

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        if any(side is not None and side % 2 for side in input_shape[1:-1]):
            raise ValueError(
                f"{self.name} halves the sides, so all must be even. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        for offset in self.places():
            if len(offset) != self.rank or not set(offset) <= {0, 1}:
                raise ValueError(
                    f"{self.name}: offsets are tuples of 0 or 1 for each of {self.rank} axes. "
                    f"Received: offsets={self.offsets}"
                )
        halves = self.compute_output_shape(input_shape)[:-1]
        joined = (*halves, len(self.places()) * self.channels)
        self.norm = keras.layers.LayerNormalization(
            epsilon=EPSILON, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build(joined)
        self.reduction = keras.layers.Dense(
            self.filters,
            use_bias=False,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="reduction",
        )
        self.reduction.build(joined)

    def places(self) -> Sequence[tuple[int, ...]]:
        """Return where in the patch the pixels lie, in the order in which they are joined."""
        if self.offsets is not None:
            return self.offsets
        return [place[::-1] for place in itertools.product((0, 1), repeat=self.rank)]

    def call(self, inputs: Any) -> Any:
        """Join, normalize and mix the pixels of each patch."""
        parts = [
            inputs[(slice(None), *(slice(start, None, 2) for start in place))]
            for place in self.places()
        ]
        return self.reduction(self.norm(ops.concatenate(parts, axis=-1)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with halved sides and `filters` channels."""
        sides = (None if side is None else side // 2 for side in input_shape[1:-1])
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "offsets": self.offsets,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class PatchExpansion(SpatialLayer):
    """Swin-Unet's pixels made patches (Cao et al., 2022), which multiplies every side, 2D or 3D.

    A dense layer without bias makes of each pixel those of a patch, which are then normalized as a
    layer, each by itself.

    Args:
        filters: Output channels.
        factor: By which the sides are multiplied.
        kernel_initializer: Name of a Keras initializer, or an object of one; by default
            `FanInUniform()`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is not positive.

    Example:
    >>> PatchExpansion(8, 4)(keras.ops.ones((1, 8, 8, 16))).shape
    (1, 32, 32, 8)
    """

    def __init__(
        self, filters: int, factor: int = 2, kernel_initializer: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        require_positive(filters=filters, factor=factor)
        self.filters = filters
        self.factor = factor
        self.kernel_initializer = keras.initializers.get(kernel_initializer or FanInUniform())

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        self.expand = keras.layers.Dense(
            self.factor**self.rank * self.filters,
            use_bias=False,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
            name="expand",
        )
        self.expand.build(input_shape)
        self.norm = keras.layers.LayerNormalization(
            epsilon=EPSILON, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build(self.compute_output_shape(input_shape))

    def call(self, inputs: Any) -> Any:
        """Make patches of the pixels, and normalize what they are made of."""
        sides = ops.shape(inputs)[1:-1]
        patches = spread_patches(self.expand(inputs), sides, self.factor)
        larger = (self.factor * side for side in sides)
        return self.norm(ops.reshape(patches, (-1, *larger, self.filters)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with sides multiplied by the factor and `filters` channels."""
        sides = (None if side is None else self.factor * side for side in input_shape[1:-1])
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "factor": self.factor,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def spread_patches(patches: Any, sides: tuple[int, ...], factor: int) -> Any:
    """Return the pixels of patches in the order of images, of no certain shape.

    Args:
        patches: Shape `(..., factor**rank * channels)`, the pixels of a patch row by row.
        sides: How many patches there are along every axis.
        factor: Side of the patches.
    """
    width = patches.shape[-1]
    # Axis by axis, so that no tensor has more than four axes.
    for axis in range(1, len(sides)):
        width //= factor
        shape = (-1, math.prod(sides[axis:]), factor, width)
        patches = ops.transpose(ops.reshape(patches, shape), (0, 2, 1, 3))
    return patches


def _require_multiples(size: int, input_shape: tuple[int | None, ...], name: str) -> None:
    if any(side is not None and side % size for side in input_shape[1:-1]):
        raise ValueError(
            f"{name} cuts patches, so all sides must be divisible by {size}. "
            f"Received: input_shape={tuple(input_shape)}"
        )
