"""Depthwise convolutions side by side in training, and one in their place in inference."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, float32_at_least, positive_integers
from keras_lgmsnet.layers.convolution import DepthwiseConv
from keras_lgmsnet.layers.forms.convolution import choose_depthwise
from keras_lgmsnet.layers.normalization import BatchNormalization


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class ParallelDepthwiseConv(SpatialLayer):
    """Depthwise convolutions of one input, each followed by a batch norm, and their sum, 2D or 3D.

    Several kernels learn more easily than one; yet all that they do together in inference, one
    kernel does (structural reparameterization, Ding et al., RepVGG, CVPR 2021). So in inference the
    layer merges them, with their norms, into one convolution with a bias.

    Args:
        branches: Odd width of the kernel and dilation, of each convolution; none has a bias.
        identity: Whether the input itself is added, too.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If there is no branch, or a width or dilation is out of range.

    Example:
    >>> ParallelDepthwiseConv([(5, 1), (3, 2)])(keras.ops.ones((1, 32, 32, 4))).shape
    (1, 32, 32, 4)
    """

    def __init__(
        self, branches: Sequence[Sequence[int]], identity: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.branches = tuple(positive_integers(branches=branch) for branch in branches)
        if not self.branches or any(len(branch) != 2 for branch in self.branches):
            raise ValueError(
                "branches must be pairs of kernel size and dilation, such as [(5, 1), (3, 2)]. "
                f"Received: branches={branches}"
            )
        self.identity = identity
        self.convolutions = [
            DepthwiseConv(
                kernel_size,
                use_bias=False,
                dilation=dilation,
                dtype=self.dtype_policy,
                name=f"depthwise_{number}",
            )
            for number, (kernel_size, dilation) in enumerate(self.branches)
        ]
        self.norms = [
            BatchNormalization(dtype=self.dtype_policy, name=f"norm_{number}")
            for number in range(len(self.branches))
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernels and the norms."""
        super().build(input_shape)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            convolution.build(input_shape)
            norm.build(input_shape)
        self._width = max((size - 1) * dilation + 1 for size, dilation in self.branches)
        self._form = choose_depthwise(self.rank, self._width, self.channels, self.compute_dtype)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Convolve, normalize and add up."""
        if not training:
            kernel, bias = (ops.cast(weight, self.compute_dtype) for weight in self.merged())
            return self._form(inputs, kernel) + bias
        outputs = inputs if self.identity else 0
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            outputs = outputs + norm(convolution(inputs), training=training)
        return outputs

    def merged(self) -> tuple[Any, Any]:
        """Return the kernel and the bias of the one convolution that inference takes."""
        kernels, bias = [], 0
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            weights = (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
            kernel, gamma, beta, mean, variance = (
                float32_at_least(ops.convert_to_tensor(weight))
                for weight in (convolution.kernel, *weights)
            )
            scale = gamma * ops.rsqrt(variance + norm.epsilon)
            kernels.append(self._place(kernel * scale, convolution.dilation))
            bias = bias + beta - mean * scale
        if self.identity:
            one_tap = ops.ones((*(1,) * (self.rank + 1), self.channels), kernels[0].dtype)
            kernels.append(self._place(one_tap, 1))
        return sum(kernels[1:], kernels[0]), bias

    def _place(self, kernel: Any, dilation: int) -> Any:
        """Put a kernel's taps, so far apart, on the grid of the merged kernel's."""
        taps = kernel.shape[0]
        if dilation == 1:
            margin = (self._width - taps) // 2
            return ops.pad(kernel, [(margin, margin)] * self.rank + [(0, 0)] * 2)
        positions = dilation * (np.arange(taps) - taps // 2) + self._width // 2
        is_there = ops.cast(np.arange(self._width)[:, None] == positions, kernel.dtype)
        for axis in range(self.rank):
            kernel = ops.moveaxis(ops.tensordot(is_there, kernel, axes=(1, axis)), 0, axis)
        return kernel

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"branches": self.branches, "identity": self.identity}
