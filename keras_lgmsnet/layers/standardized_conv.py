"""Convolution whose kernel is standardized before every use."""

from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import float32_at_least
from keras_lgmsnet.layers.convolution import GroupedConv
from keras_lgmsnet.layers.normalization import EPSILON


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class StandardizedConv(GroupedConv):
    """Convolution with weight standardization (Qiao et al., 2019), 2D or 3D.

    What each output channel's kernel holds is brought to mean 0 and variance 1, in float32, before
    every use. Beside group normalization it does for few images what batch normalization does for
    many.

    Args:
        *args: As for `GroupedConv`.
        epsilon: Added to the variance.
        **kwargs: As for `GroupedConv`.

    Raises:
        ValueError: As `GroupedConv` does.

    Example:
    >>> StandardizedConv(8, 3)(keras.ops.ones((1, 32, 32, 4))).shape
    (1, 32, 32, 8)
    """

    def __init__(self, *args: Any, epsilon: float = EPSILON, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epsilon = epsilon

    def call(self, inputs: Any) -> Any:
        """Convolve the input by the standardized kernel."""
        kernel = ops.cast(self.standardized(), self.compute_dtype)
        outputs = self._form(inputs, kernel)
        return outputs if self.bias is None else outputs + self.bias

    def standardized(self) -> Any:
        """Return the kernel that inputs are convolved by, in float32 at least."""
        kernel = float32_at_least(ops.convert_to_tensor(self.kernel))
        axes = tuple(range(self.rank + 1))
        centred = kernel - ops.mean(kernel, axis=axes, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=axes, keepdims=True)
        return centred * ops.rsqrt(variance + self.epsilon)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"epsilon": self.epsilon}
