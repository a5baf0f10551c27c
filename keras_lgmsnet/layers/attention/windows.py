"""Attention within windows, those of Swin Transformer."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, float32_at_least, require_positive
from keras_lgmsnet.layers.forms.sequences import choose_sequences
from keras_lgmsnet.layers.initializers import FanInUniform

# What is added to the score of two pixels that came side by side by the shift alone.
MASKED = -100.0


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class WindowAttention(SpatialLayer):
    """Attention of the pixels within windows, as in Swin Transformer (Liu et al., 2021), 2D or 3D.

    Windows tile the image; each pixel attends to those of its window, in several heads. To the
    score of two pixels a learned number is added, which goes by head and by where they lie relative
    to each other. With a shift the windows lie so many pixels further along every axis; those that
    reach beyond the end go on at the start, and a mask keeps what is far apart there from attending
    to each other.

    Along an axis no longer than the window there is one window, as long as the axis, and no shift.
    Elsewhere zeros at the end fill the last window up; they are attended to.

    Args:
        num_heads: Number of heads, a divisor of the input's channels.
        window: Side of the windows, along every axis.
        shift: How many pixels further the windows lie; less than `window`.
        kernel_initializer: Name of a Keras initializer, or an object of one, for the kernels; by
            default `FanInUniform()`.
        bias_initializer: The same for the biases; `FanInUniform()` goes by each kernel's fan-in.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is out of range, `num_heads` divides the input's channels with a
            remainder, or a side is unknown.

    Example:
    >>> WindowAttention(2, window=4, shift=2)(keras.ops.ones((1, 8, 8, 16))).shape
    (1, 8, 8, 16)
    """

    def __init__(
        self,
        num_heads: int,
        window: int,
        shift: int = 0,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_positive(num_heads=num_heads, window=window)
        if not isinstance(shift, int) or not 0 <= shift < window:
            raise ValueError(
                "shift must be an integer from 0 to less than window. "
                f"Received: shift={shift!r}, window={window}"
            )
        self.num_heads = num_heads
        self.window = window
        self.shift = shift
        self.kernel_initializer = keras.initializers.get(kernel_initializer or FanInUniform())
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        if self.channels % self.num_heads:
            raise ValueError(
                f"{self.name}: num_heads must divide the input's channels. "
                f"Received: num_heads={self.num_heads}, input_shape={tuple(input_shape)}"
            )
        self.tiling(input_shape)
        self.position_bias = self.add_weight(
            name="position_bias",
            shape=((2 * self.window - 1) ** self.rank, self.num_heads),
            # The published programs cut the distribution off at 100 deviations.
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )
        self.query_key_value = self._dense(3 * self.channels, "query_key_value")
        self.project = self._dense(self.channels, "project")
        self._in_pieces = choose_sequences(self.rank)

    def _dense(self, units: int, name: str) -> keras.layers.Dense:
        bias_initializer = self.bias_initializer
        if isinstance(bias_initializer, FanInUniform):
            bias_initializer = bias_initializer.for_bias_of((self.channels, units))
        layer = keras.layers.Dense(
            units,
            # An object draws the same numbers again.
            kernel_initializer=self.kernel_initializer.clone(),
            bias_initializer=bias_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, None, self.channels))
        return layer

    def tiling(self, input_shape: tuple[int | None, ...]) -> "Tiling":
        """Return how the windows tile images of a shape `(batch, *sides, channels)`."""
        sides = tuple(side for side in input_shape[1:-1] if side is not None)
        if len(sides) < len(input_shape) - 2:
            raise ValueError(
                f"{self.name} needs known sides: name them in the network's input_shape. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        return Tiling(sides, self.window, self.shift)

    @property
    def position_index(self) -> np.ndarray:
        """The row of `position_bias` for each two pixels of a whole window."""
        return position_index(self.window, self.rank)

    def call(self, inputs: Any) -> Any:
        """Attend within every window."""
        tiling = self.tiling(inputs.shape)
        tokens = self.query_key_value(tiling.cut(inputs))
        query, key, value = (
            ops.reshape(part, (-1, tiling.length, self.num_heads, self.channels // self.num_heads))
            for part in ops.split(tokens, 3, axis=-1)
        )
        attended = self._attend(query, key, value, tiling)
        attended = ops.reshape(attended, (-1, tiling.length, self.channels))
        images = tiling.join(self.project(attended))
        return ops.reshape(images, (-1, *inputs.shape[1:]))

    def _attend(self, query: Any, key: Any, value: Any, tiling: "Tiling") -> Any:
        """Return softmax(QKᵀ/√d + bias)V of `(windows, length, heads, features)`."""
        length = query.shape[1]
        if length == 1:
            return value  # a pixel alone attends to itself; Keras would warn of the softmax
        query = ops.transpose(query * query.shape[-1] ** -0.5, (0, 2, 1, 3))
        key, value = ops.transpose(key, (0, 2, 1, 3)), ops.transpose(value, (0, 2, 1, 3))
        query, key = float32_at_least(query), float32_at_least(key)
        mask = tiling.mask_features()
        if mask is not None:
            query, key = (
                _append(part, features) for part, features in zip((query, key), mask, strict=True)
            )
        table = ops.transpose(ops.cast(self.position_bias, query.dtype))
        # Pixels of a window cut short are the first of a whole one, which moves them; so do the
        # published programs count them.
        bias = ops.take(table, self.position_index[:length, :length], axis=1)

        def attend(query: Any, key: Any, value: Any) -> Any:
            scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
            scores += bias  # on PyTorch in place
            weights = ops.cast(ops.softmax(scores), value.dtype)
            return ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))

        return self._in_pieces(attend, self.num_heads * length**2)(query, key, value)

    def multiply_adds(self, input_shape: tuple[int, ...]) -> int:
        """Count those of the dense layers at every pixel, filling included, and of the softmax."""
        tiling = self.tiling(input_shape)
        pixels = tiling.number * tiling.length
        return pixels * (4 * self.channels**2 + self.num_heads * (3 * tiling.length - 1))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "num_heads": self.num_heads,
            "window": self.window,
            "shift": self.shift,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


class Tiling:
    """How windows tile images or volumes of certain sides, and their pixels fall into sequences.

    Args:
        sides: Those of the images, or volumes.
        window: Side of the windows; an axis that is no longer has one window of its own length.
        shift: How many pixels further the windows lie along axes longer than the window.
    """

    def __init__(self, sides: tuple[int, ...], window: int, shift: int = 0) -> None:
        self.sides = tuple(sides)
        self.windows = tuple(min(side, window) for side in sides)
        self.shifts = tuple(shift if side > window else 0 for side in sides)
        # Of the images with zeros at the end.
        self.filled = tuple(
            -(-side // size) * size for side, size in zip(sides, self.windows, strict=True)
        )

    @property
    def length(self) -> int:
        """How many pixels a window has."""
        return math.prod(self.windows)

    @property
    def number(self) -> int:
        """How many windows an image has."""
        return math.prod(self.filled) // self.length

    def cut(self, images: Any) -> Any:
        """Return the pixels of each window, `(windows, length, channels)`.

        Volumes may be given slice by slice, `(batch * depth, height, width, channels)`.
        """
        channels = images.shape[-1]
        for axis, (side, filled, shift) in enumerate(self._axes()):
            if filled > side or shift:
                columns = math.prod(self.sides[axis + 1 :]) * channels
                images = ops.reshape(images, (-1, side, columns))
                if filled > side:
                    images = ops.pad(images, ((0, 0), (0, filled - side), (0, 0)))
                images = _roll(images, shift)
        return cut_windows(images, self.filled, self.windows, channels)

    def join(self, tokens: Any) -> Any:
        """Return images in the order of `(batch, *sides, channels)` of what `cut` returned."""
        images = join_windows(tokens, self.filled, self.windows)
        for axis, (side, filled, shift) in enumerate(self._axes()):
            if filled > side or shift:
                columns = math.prod(self.filled[axis + 1 :]) * tokens.shape[-1]
                images = ops.reshape(images, (-1, filled, columns))
                images = _roll(images, -shift)
                images = images[:, :side] if filled > side else images
        return images

    def _axes(self) -> list[tuple[int, int, int]]:
        return list(zip(self.sides, self.filled, self.shifts, strict=True))

    def regions(self) -> np.ndarray | None:
        """Return a number for each pixel of each window, `(windows, length)`; `None` for no shift.

        Two pixels of a window have different ones if they lie apart in the image: along each axis,
        what went on at the start has a 1, and what was there before a 0.
        """
        if not any(self.shifts):
            return None
        regions: np.ndarray = np.zeros((), "int32")
        for side, shift in zip(self.filled, self.shifts, strict=True):
            regions = 2 * regions[..., None] + (np.arange(side) >= side - shift)
        return cut_windows(regions, self.filled, self.windows, 1, np)[..., 0]

    def mask(self) -> np.ndarray | None:
        """Return what is added to the scores, `(windows, length, length)`; `None` for no shift."""
        regions = self.regions()
        if regions is None:
            return None
        are_apart = regions[:, :, None] != regions[:, None]
        return np.where(are_apart, np.float32(MASKED), np.float32(0))

    def mask_features(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return features of the queries and of the keys whose products are the mask.

        A query has `MASKED` for every region but its own, a key 1 for its own: `(windows, length,
        regions)`. Products of queries and keys are summed anyhow; adding a mask to all scores took
        longer than anything else in the attention.
        """
        regions = self.regions()
        if regions is None:
            return None
        is_own = np.eye(2 ** len(self.sides), dtype="float32")[regions]
        return np.float32(MASKED) * (1 - is_own), is_own


def position_index(window: int, rank: int) -> np.ndarray:
    """Return a number for where two pixels of a window lie relative to each other.

    Args:
        window: The window's side.
        rank: 2 for images, 3 for volumes.

    Returns:
        Integers from 0 to `(2 * window - 1) ** rank - 1`, shape `(pixels, pixels)`: of the query,
        then of the key, which are row by row.
    """
    places = np.indices((window,) * rank).reshape(rank, -1)
    distances = places[:, :, None] - places[:, None] + window - 1
    return np.ravel_multi_index(tuple(distances), (2 * window - 1,) * rank)


def cut_windows(
    images: Any, sides: tuple[int, ...], windows: tuple[int, ...], channels: int, backend: Any = ops
) -> Any:
    """Return the pixels of each window, row by row, as `(batch * windows, length, channels)`.

    Args:
        images: Of any shape, in the order of `(batch, *sides, channels)`.
        sides: Those of the images, or volumes; tensors, where the graph alone knows them.
        windows: Sides of the windows, divisors of the images'.
        channels: Number of channels.
        backend: Has `reshape` and `transpose`: NumPy, for arrays, or `keras.ops`.
    """
    number, length = 1, channels
    # Axis by axis, from the last, so that no tensor has more than four axes.
    for side, window in zip(reversed(sides), reversed(windows), strict=True):
        if not (isinstance(number, int) and number == 1):
            images = backend.reshape(images, (-1, window, number, length))
            images = backend.transpose(images, (0, 2, 1, 3))
        number, length = number * (side // window), length * window
    return backend.reshape(images, (-1, length // channels, channels))


def join_windows(tokens: Any, sides: tuple[int, ...], windows: tuple[int, ...]) -> Any:
    """Return images in the order of `(batch, *sides, channels)` of what `cut_windows` returned."""
    channels = tokens.shape[-1]
    counts = [side // window for side, window in zip(sides, windows, strict=True)]
    for axis, window in enumerate(windows):
        number = math.prod(counts[axis + 1 :])
        if number > 1:
            length = math.prod(windows[axis + 1 :]) * channels
            tokens = ops.reshape(tokens, (-1, number, window, length))
            tokens = ops.transpose(tokens, (0, 2, 1, 3))
    return tokens


def _append(tokens: Any, features: np.ndarray) -> Any:
    """Return `(batch * windows, heads, length, features)` with more features, those of windows."""
    _, heads, length, width = tokens.shape
    number, _, more = features.shape
    tokens = ops.pad(tokens, ((0, 0), (0, 0), (0, 0), (0, more)))
    added = np.zeros((number, 1, length, width + more), "float32")
    added[..., width:] = features[:, None]
    windows = ops.reshape(tokens, (-1, number, heads, length, width + more))
    windows = windows + ops.cast(added, windows.dtype)
    return ops.reshape(windows, (-1, heads, length, width + more))


def _roll(rows: Any, shift: int) -> Any:
    """Move what is so many rows from the start there, and what was before it to the end."""
    return ops.concatenate([rows[:, shift:], rows[:, :shift]], axis=1) if shift else rows
