"""Halving and multiplying the resolution: pooling, upsampling, patches unfolded and folded."""

import functools
import itertools
from typing import Any, ClassVar

import keras
from keras import ops

from keras_lgmsnet.layers.base import (
    ChannelsLastLayer,
    SpatialLayer,
    float32_at_least,
    rank_and_channels,
    require_positive,
)
from keras_lgmsnet.layers.forms import choose, form
from keras_lgmsnet.layers.forms.interpolation import interpolate
from keras_lgmsnet.layers.initializers import FanInUniform


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class MaxPooling(SpatialLayer):
    """Maximum over 2 × 2 (× 2) pixels, or more around every second, which halves every side.

    Args:
        kernel_size: How many pixels there are along each axis: 2, or an odd number, of which one
            lies in the middle and those beyond the border do not count.
        **kwargs: `name` and `dtype`, as for any Keras layer.

    Raises:
        ValueError: If `kernel_size` is another one, or a known side is odd.

    Example:
    >>> MaxPooling()(keras.ops.ones((1, 32, 32, 3))).shape
    (1, 16, 16, 3)
    """

    def __init__(self, kernel_size: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_positive(kernel_size=kernel_size)
        if kernel_size != 2 and kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be 2 or odd. Received: kernel_size={kernel_size}")
        self.kernel_size = kernel_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Check the sides."""
        super().build(input_shape)
        _require_even_sides(input_shape, self.name)
        self._pool = choose(
            "max pooling",
            rank=self.rank,
            kernel_size=self.kernel_size,
            dtype=self.compute_dtype,
        )

    def call(self, inputs: Any) -> Any:
        """Return the maxima."""
        return self._pool(inputs, self.kernel_size)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with halved sides."""
        return _scale_sides(input_shape, 0.5)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"kernel_size": self.kernel_size}


class _Interpolation(SpatialLayer):
    """What the layers share that interpolate; they document the arguments."""

    kind: ClassVar[str]

    def __init__(self, factor: int = 2, align_corners: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_positive(factor=factor)
        self.factor = factor
        self.align_corners = align_corners

    def call(self, inputs: Any) -> Any:
        """Interpolate."""
        return interpolate(inputs, self.kind, self.factor, self.align_corners)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with sides multiplied by the factor."""
        return _scale_sides(input_shape, self.factor)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "factor": self.factor,
            "align_corners": self.align_corners,
        }


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class LinearUpsampling(_Interpolation):
    """Bilinear (trilinear) interpolation that multiplies every side, PyTorch's.

    By default it doubles them, and pixel centres lie at half integers: along each axis an output is
    ¾ of the nearest input and ¼ of the next nearest, the border repeated.

    Args:
        factor: By which the sides are multiplied.
        align_corners: Whether the centres of the pixels in the corners stay where they are.
        **kwargs: `name` and `dtype`, as for any Keras layer.

    Raises:
        ValueError: If `factor` is not positive.

    Example:
    >>> LinearUpsampling()(keras.ops.ones((1, 16, 16, 16, 4))).shape
    (1, 32, 32, 32, 4)
    """

    kind = "linear"

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Choose the form that doubles the sides."""
        super().build(input_shape)
        self._double = None
        if self.factor == 2 and not self.align_corners:
            self._double = choose("linear upsampling", rank=self.rank, dtype=self.compute_dtype)

    def call(self, inputs: Any) -> Any:
        """Interpolate."""
        return super().call(inputs) if self._double is None else self._double(inputs)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class CubicUpsampling(_Interpolation):
    """Bicubic (tricubic) interpolation that multiplies every side, PyTorch's.

    By default it doubles them, and pixel centres lie at half integers. Along each axis an output is
    a sum of four inputs, the border repeated; their weights are those of the coefficient -0.75,
    where TensorFlow and Keras have -0.5.

    Args:
        factor: By which the sides are multiplied.
        align_corners: Whether the centres of the pixels in the corners stay where they are.
        **kwargs: `name` and `dtype`, as for any Keras layer.

    Raises:
        ValueError: If `factor` is not positive.

    Example:
    >>> CubicUpsampling()(keras.ops.ones((1, 16, 16, 4))).shape
    (1, 32, 32, 4)
    """

    kind = "cubic"


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class NearestUpsampling(SpatialLayer):
    """Repetition of every pixel along every axis, which doubles every side.

    Args:
        **kwargs: `name` and `dtype`, as for any Keras layer.

    Example:
    >>> NearestUpsampling()(keras.ops.ones((1, 16, 16, 4))).shape
    (1, 32, 32, 4)
    """

    def call(self, inputs: Any) -> Any:
        """Repeat the pixels."""
        for axis in range(self.rank, 0, -1):
            inputs = interleave(inputs, inputs, axis)
        return inputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with doubled sides."""
        return _scale_sides(input_shape, 2)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class TransposedConv(SpatialLayer):
    """Transposed convolution of a 2-wide kernel and stride 2, without bias: it doubles every side.

    No two outputs overlap: each input pixel makes 2 × 2 (× 2) outputs by matrices of their own.

    Args:
        filters: Output channels.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If `filters` is not positive.

    Example:
    >>> TransposedConv(8)(keras.ops.ones((1, 16, 16, 16, 4))).shape
    (1, 32, 32, 32, 8)
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_positive(filters=filters)
        self.filters = filters

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel, `(2, 2, (2,) filters, channels)` as Keras and PyTorch have it."""
        super().build(input_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(2,) * self.rank + (self.filters, self.channels),
            initializer=FanInUniform(),
        )

    def call(self, inputs: Any) -> Any:
        """Multiply the pixels by the matrices, and put the products in their places."""
        kernel = ops.reshape(ops.convert_to_tensor(self.kernel), (-1, self.channels))
        outputs = ops.matmul(inputs, ops.transpose(kernel))
        return fold(ops.split(outputs, 2**self.rank, axis=-1), self.rank)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape with doubled sides and `filters` channels."""
        return (*_scale_sides(input_shape, 2)[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"filters": self.filters}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class PatchUnfold(SpatialLayer):
    """The pixels at one position of all 2 × 2 (× 2) patches, gathered in a sequence each.

    Of an input `(batch, height, width, channels)` it makes `(4 * batch, height * width / 4,
    channels)`, of a volume `(8 * batch, depth * height * width / 8, channels)`: the sparse
    sequences of the paper's section 3.2, equation 6. Strided slices keep every tensor at the
    input's number of axes.

    Raises:
        ValueError: If a known side is odd.

    Example:
    >>> PatchUnfold()(keras.ops.ones((2, 8, 8, 3))).shape
    (8, 16, 3)
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Check the sides."""
        super().build(input_shape)
        _require_even_sides(input_shape, self.name)

    def call(self, inputs: Any) -> Any:
        """Return the sequences, position by position, batch within position."""
        grids = ops.concatenate(_positions(inputs), axis=0)
        shape = ops.shape(grids)
        return ops.reshape(grids, (shape[0], _product(shape[1:-1]), shape[-1]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `(2**rank * batch, pixels / 2**rank, channels)`."""
        positions = 2 ** (len(input_shape) - 2)
        batch, *sides, channels = input_shape
        pixels = None if None in sides else _product(sides) // positions
        return (None if batch is None else positions * batch, pixels, channels)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class PatchFold(ChannelsLastLayer):
    """The inverse of `PatchUnfold`: puts its sequences back on the grid they came from.

    Called with the sequences and with the images whose sides the grid has.

    Example:
    >>> images = keras.ops.ones((2, 8, 8, 3))
    >>> PatchFold()(PatchUnfold()(images), images).shape
    (2, 8, 8, 3)
    """

    def build(
        self, sequences_shape: tuple[int | None, ...], images_shape: tuple[int | None, ...]
    ) -> None:
        """Read the rank from the images' shape."""
        self.rank, _ = rank_and_channels(images_shape, self.name)

    def call(self, sequences: Any, images: Any) -> Any:
        """Put the positions in their places."""
        halves = tuple(side // 2 for side in ops.shape(images)[1:-1])
        grids = ops.reshape(sequences, (-1, *halves, sequences.shape[-1]))
        return fold(ops.split(grids, 2**self.rank, axis=0), self.rank)

    def compute_output_shape(
        self, sequences_shape: tuple[int | None, ...], images_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the image's shape with the sequences' channels."""
        return (*images_shape[:-1], sequences_shape[-1])


def _positions(inputs: Any) -> list[Any]:
    """Return the pixels of each position in the 2 × 2 (× 2) patches, as grids of half the size."""
    return [
        inputs[(slice(None), *(slice(start, None, 2) for start in starts))]
        for starts in itertools.product((0, 1), repeat=inputs.ndim - 2)
    ]


def fold(grids: list[Any], rank: int) -> Any:
    """Invert `_positions`: interleave axis by axis, without an axis beyond the images'."""
    for axis in range(rank, 0, -1):
        grids = [
            interleave(even, odd, axis) for even, odd in zip(grids[::2], grids[1::2], strict=True)
        ]
    return grids[0]


@form("max pooling", "native")
def pool(inputs: Any, kernel_size: int) -> Any:
    """Pool by the backend's own operation.

    On PyTorch without the copies that Keras makes: 6 ms for 57, 256² × 64 channels.
    """
    if keras.backend.backend() == "torch":
        from torch.nn import functional

        pool_first = functional.max_pool2d if inputs.ndim == 4 else functional.max_pool3d
        padding = (kernel_size - 1) // 2
        return pool_first(inputs.movedim(-1, 1), kernel_size, 2, padding).movedim(1, -1)
    padded = _pad_with_least(inputs, kernel_size)
    return ops.max_pool(padded, kernel_size, 2, padding="valid", data_format="channels_last")


@form("max pooling", "in float32")
def pool_in_float32(inputs: Any, kernel_size: int) -> Any:
    """Pool in float32, where the device does not in half precision: a maximum is exact in any."""
    return ops.cast(pool(float32_at_least(inputs), kernel_size), inputs.dtype)


@form("max pooling", "of positions", kernel_sizes=(2,))
def pool_positions(inputs: Any, kernel_size: int) -> Any:
    """Take the maxima of the pixels at each position of the patches."""
    return functools.reduce(ops.maximum, _positions(inputs))


@form("max pooling", "by axis")
def pool_by_axis(inputs: Any, kernel_size: int) -> Any:
    """Take the maxima of shifted pixels, along one axis after the other.

    Of 3 pixels an axis, 256² × 64 channels, XLA's gradient takes 150 ms so, natively 460.
    """
    sides = ops.shape(inputs)[1:-1]
    outputs = _pad_with_least(inputs, kernel_size)
    for axis, side in enumerate(sides, start=1):
        before = (slice(None),) * axis
        taps = [outputs[(*before, slice(tap, tap + side - 1, 2))] for tap in range(kernel_size)]
        outputs = functools.reduce(ops.maximum, taps)
    return outputs


def _pad_with_least(inputs: Any, kernel_size: int) -> Any:
    """Put around images what is no maximum, as far as an odd kernel reaches beyond its middle."""
    if kernel_size == 2:
        return inputs
    reach = (kernel_size // 2,) * 2
    widths = [(0, 0), *[reach] * (inputs.ndim - 2), (0, 0)]
    return ops.pad(inputs, widths, constant_values=-float("inf"))


@form("linear upsampling", "resize")
def double_by_resize(inputs: Any) -> Any:
    """Double two sides by an image resize; of a volume first those, then the depth."""
    shape = ops.shape(inputs)
    if len(shape) == 4:
        return ops.image.resize(
            inputs, (2 * shape[1], 2 * shape[2]), "bilinear", data_format="channels_last"
        )
    batch, depth, height, width, channels = shape
    slices = double_by_resize(ops.reshape(inputs, (batch * depth, height, width, channels)))
    columns = ops.reshape(slices, (batch, depth, 4 * height * width, channels))
    columns = ops.image.resize(
        columns, (2 * depth, 4 * height * width), "bilinear", data_format="channels_last"
    )
    return ops.reshape(columns, (batch, 2 * depth, 2 * height, 2 * width, channels))


@form("linear upsampling", "interpolate", backends=("torch",))
def double_by_interpolation(inputs: Any) -> Any:
    """Double the sides by PyTorch's own operation."""
    from torch.nn import functional

    mode = "bilinear" if inputs.ndim == 4 else "trilinear"
    doubled = functional.interpolate(inputs.movedim(-1, 1), scale_factor=2, mode=mode)
    return doubled.movedim(1, -1)


@form("linear upsampling", "by axis")
def double_by_axis(inputs: Any) -> Any:
    """Double one side after the other, as sums of shifted pixels."""
    for axis in range(inputs.ndim - 2, 0, -1):
        inputs = _double_axis(inputs, axis)
    return inputs


def _double_axis(inputs: Any, axis: int) -> Any:
    size = ops.shape(inputs)[axis]
    index = (slice(None),) * axis
    first, last = inputs[(*index, slice(0, 1))], inputs[(*index, slice(size - 1, size))]
    before = ops.concatenate([first, inputs[(*index, slice(0, size - 1))]], axis=axis)
    after = ops.concatenate([inputs[(*index, slice(1, None))], last], axis=axis)
    near = 0.75 * inputs
    return interleave(near + 0.25 * before, near + 0.25 * after, axis)


def interleave(even: Any, odd: Any, axis: int) -> Any:
    """Alternate two tensors along an axis: joined on the next axis, the reshape does the rest."""
    shape = list(ops.shape(even))
    shape[axis] = 2 * shape[axis]
    return ops.reshape(ops.concatenate([even, odd], axis=axis + 1), shape)


def _product(sizes: Any) -> Any:
    """Return the product of sizes, which may be tensors."""
    result = 1
    for size in sizes:
        result = result * size
    return result


def _scale_sides(shape: tuple[int | None, ...], factor: float) -> tuple[int | None, ...]:
    sides = (None if side is None else int(side * factor) for side in shape[1:-1])
    return (shape[0], *sides, shape[-1])


def _require_even_sides(input_shape: tuple[int | None, ...], name: str) -> None:
    if any(side is not None and side % 2 for side in input_shape[1:-1]):
        raise ValueError(
            f"{name} halves every side, so all must be even: pad or resize the input. "
            f"Received: input_shape={tuple(input_shape)}"
        )
