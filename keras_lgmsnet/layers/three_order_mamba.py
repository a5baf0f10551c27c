"""Mamba for volumes and images, whose pixels are scanned in three orders."""

import math
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, require_positive
from keras_lgmsnet.layers.initializers import FanInUniform
from keras_lgmsnet.layers.selective_scan import SelectiveScan

# How many times as wide as its input it is inside, and how many tokens its convolutions join.
EXPANSION = 2
TAPS = 4
ORDERS = ("forward", "backward", "sliced")


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ThreeOrderMamba(SpatialLayer):
    """Mamba of SegMamba (Xing et al., MICCAI 2024), 2D or 3D: pixels scanned in three orders.

    The pixels, row by row, are a sequence. A dense layer makes of it what is scanned, twice as
    wide, and what the result is multiplied by; another one narrows that. In each order there
    follow, with weights of its own, a convolution of a pixel and the three before it, SiLU and a
    `SelectiveScan`; their results are added up. The orders are forward, backward, and slice by
    slice: the first pixels of all slices, then the second ones, and so on.

    Args:
        num_slices: How many parts the sequence falls into for the third order.
        states: How many a channel has in a scan.
        **kwargs: `name` and `dtype`, as for any Keras layer.

    Raises:
        ValueError: If an argument is not positive, a side is unknown, or `num_slices` divides the
            number of pixels with a remainder.

    Example:
    >>> ThreeOrderMamba(4, states=2)(keras.ops.ones((1, 8, 8, 16))).shape
    (1, 8, 8, 16)
    """

    def __init__(self, num_slices: int, states: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_positive(num_slices=num_slices)
        self.num_slices = num_slices
        self.states = states

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        sides = [side for side in input_shape[1:-1] if side is not None]
        if len(sides) < self.rank:
            raise ValueError(
                f"{self.name} needs known sides: name them in the network's input_shape. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.tokens = math.prod(sides)
        if self.tokens % self.num_slices:
            raise ValueError(
                f"{self.name}: num_slices must divide the number of pixels. Received: "
                f"num_slices={self.num_slices}, input_shape={tuple(input_shape)}"
            )
        self.width = EXPANSION * self.channels
        inside = (None, self.tokens, self.width)
        self.widen = self._dense(2 * self.width, self.channels, "widen")
        self.narrow = self._dense(self.channels, self.width, "narrow")
        self.convolutions = [
            CausalDepthwiseConv(TAPS, dtype=self.dtype_policy, name=f"{order}_convolution")
            for order in ORDERS
        ]
        self.scans = [
            SelectiveScan(
                self.states, -(-self.channels // 16), dtype=self.dtype_policy, name=f"{order}_scan"
            )
            for order in ORDERS
        ]
        for convolution, scan in zip(self.convolutions, self.scans, strict=True):
            convolution.build(inside)
            scan.build(inside)

    def _dense(self, units: int, inputs: int, name: str) -> keras.layers.Dense:
        layer = keras.layers.Dense(
            units,
            use_bias=False,
            kernel_initializer=FanInUniform(),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, None, inputs))
        return layer

    def call(self, inputs: Any) -> Any:
        """Scan in the three orders, and add up."""
        tokens = ops.reshape(inputs, (-1, self.tokens, self.channels))
        tokens, gate = ops.split(self.widen(tokens), 2, axis=-1)
        length = self.tokens // self.num_slices
        scanned = [
            self._mix(0, tokens),
            ops.flip(self._mix(1, ops.flip(tokens, axis=1)), axis=1),
            self._exchange(
                self._mix(2, self._exchange(tokens, self.num_slices, length)),
                length,
                self.num_slices,
            ),
        ]
        # Each is multiplied by the gate of its order, which is to multiply the sum.
        mixed = self.narrow((scanned[0] + scanned[1] + scanned[2]) * ops.silu(gate))
        return ops.reshape(mixed, (-1, *inputs.shape[1:]))

    def _mix(self, number: int, tokens: Any) -> Any:
        return self.scans[number](ops.silu(self.convolutions[number](tokens)))

    def _exchange(self, tokens: Any, rows: int, columns: int) -> Any:
        """Return the tokens by columns, which stand by rows."""
        tokens = ops.transpose(ops.reshape(tokens, (-1, rows, columns, self.width)), (0, 2, 1, 3))
        return ops.reshape(tokens, (-1, self.tokens, self.width))

    def multiply_adds(self, input_shape: tuple[int, ...]) -> int:
        """Count those of the dense layers, the convolutions and the scans."""
        dense = 3 * self.channels * self.width
        inside = (None, self.tokens, self.width)
        scans = sum([scan.multiply_adds(inside) for scan in self.scans])
        return self.tokens * (dense + len(ORDERS) * TAPS * self.width) + scans

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"num_slices": self.num_slices, "states": self.states}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class CausalDepthwiseConv(keras.layers.Layer):
    """Depthwise convolution of each token and those before it, with zeros before the first.

    Args:
        taps: How many tokens, the present one included.
        **kwargs: `name` and `dtype`, as for any Keras layer.
    """

    def __init__(self, taps: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.taps = taps

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the kernel, `(taps, 1, channels)`, and the bias."""
        shape = (self.taps, 1, input_shape[-1])
        initializer = FanInUniform()
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=initializer)
        self.bias = self.add_weight(
            name="bias", shape=shape[-1:], initializer=FanInUniform().for_bias_of(shape)
        )

    def call(self, inputs: Any) -> Any:
        """Convolve."""
        length = inputs.shape[1]
        padded = ops.pad(inputs, [(0, 0), (self.taps - 1, 0), (0, 0)])
        kernel = ops.convert_to_tensor(self.kernel)
        outputs = self.bias
        for tap in range(self.taps):
            outputs = outputs + padded[:, tap : tap + length] * kernel[tap]
        return outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"taps": self.taps}
