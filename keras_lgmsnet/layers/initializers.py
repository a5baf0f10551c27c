"""Initial values of kernels and biases: those of PyTorch."""

import math
import random
from typing import Any

import keras
import numpy as np


def fan_out_normal() -> keras.initializers.Initializer:
    """Return torchvision's initializer of its ResNets' kernels: normal, of variance 2 / fan_out.

    An object draws the same numbers for the same shape, so each kernel takes its own.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def fan_in_normal() -> keras.initializers.Initializer:
    """Return He's initializer of kernels before a ReLU: normal, of variance 2 / fan_in.

    An object draws the same numbers for the same shape, so each kernel takes its own.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class FanInUniform(keras.initializers.Initializer):
    """Uniform within ±1/√fan_in, PyTorch's default and so the published program's.

    Drawn by NumPy: a seed gives the same kernel on every backend, and JAX need not compile a
    generator for each of the network's shapes, which takes longer than everything else at its
    construction.

    Args:
        seed: An integer, or `None` to draw one from Python's generator, which
            `keras.utils.set_random_seed` sets.
        fan_in: How many numbers add up to one output; by default what a kernel's shape tells. A
            bias needs to be told that of its kernel; this package's convolutions do that.

    Example:
    >>> FanInUniform(seed=1)((3, 3, 16, 32)).shape
    (3, 3, 16, 32)
    >>> FanInUniform(fan_in=3 * 3 * 16)((32,)).shape
    (32,)
    """

    def __init__(self, seed: int | None = None, fan_in: int | None = None) -> None:
        self.seed = seed
        self.fan_in = fan_in
        self._drawn_seed = random.randrange(2**31) if seed is None else seed

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        """Return a kernel `(*kernel_size, channels_in / groups, channels_out)`, or a bias."""
        limit = 1 / math.sqrt(self.fan_in or math.prod(shape[:-1]))
        values = np.random.default_rng(self._drawn_seed).uniform(-limit, limit, shape)
        return keras.ops.convert_to_tensor(values, dtype=dtype or keras.config.floatx())

    def for_bias_of(self, kernel_shape: tuple[int, ...]) -> "FanInUniform":
        """Return the initializer of the bias beside a kernel of such a shape."""
        if self.fan_in is not None:
            return self
        return FanInUniform(self.seed, fan_in=math.prod(kernel_shape[:-1]))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"seed": self.seed, "fan_in": self.fan_in}
