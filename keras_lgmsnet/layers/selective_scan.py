"""The selective scan of Mamba: a state that tokens write into and read from in their order."""

import math
import random
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.layers.base import ChannelsLastLayer, float32_at_least, require_positive
from keras_lgmsnet.layers.forms.selective_scan import choose_selective_scan
from keras_lgmsnet.layers.initializers import FanInUniform

# Between these, and not below the third, lie the steps at the start.
SHORTEST, LONGEST, FLOOR = 1e-3, 1e-1, 1e-4


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class SelectiveScan(ChannelsLastLayer):
    """Selective state space of a sequence of tokens (Gu and Dao, Mamba, 2023).

    Each channel has several states, which start at zero and which it passes from token to token.
    From all channels v of a token follow a step δ for each of them, and for each state how it is
    written, b, and read, c. With the learned rates A < 0 and factors D, a channel's states h and
    output y are

        h_t[n] = exp(δ_t A[n]) h_t-1[n] + δ_t b_t[n] v_t
        y_t = Σ_n c_t[n] h_t[n] + D v_t

    It never holds the states of all tokens, for the gradient neither. A, D, the offset of the steps
    and the states are float32 in mixed precision.

    Args:
        states: How many a channel has.
        step_rank: Of how many numbers a token's steps are made; by default one for 32 channels.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Input: `(batch, tokens, channels)`; the number of tokens must be known.

    Raises:
        ValueError: If an argument is not positive, or the input is no such sequence.

    Example:
    >>> SelectiveScan(states=4)(keras.ops.ones((1, 100, 8))).shape
    (1, 100, 8)
    """

    def __init__(self, states: int = 16, step_rank: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_positive(states=states)
        if step_rank is not None:
            require_positive(step_rank=step_rank)
        self.states = states
        self.step_rank = step_rank

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        _, *known = input_shape
        if len(known) != 2 or known[0] is None or known[1] is None:
            raise ValueError(
                f"{self.name} takes sequences (batch, tokens, channels) of a known length. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.channels = known[1]
        self.rank = self.step_rank or -(-self.channels // 32)
        self.projection = self._dense(self.rank + 2 * self.states, self.channels, "projection")
        self.step_projection = self._dense(self.channels, self.rank, "step_projection")
        self.step_bias = self._weight("step_bias", (self.channels,), LogUniformSteps())
        shape = (self.channels, self.states)
        self.log_rates = self._weight("log_rates", shape, _logarithms)
        self.passed = self._weight("passed", (self.channels,), "ones")
        self._form = choose_selective_scan(self.compute_dtype)

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

    def _weight(self, name: str, shape: tuple[int, ...], initializer: Any) -> Any:
        # Not cast in half precision: states of a thousand tokens would drift.
        return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

    def call(self, inputs: Any) -> Any:
        """Scan the tokens."""
        joined = self.projection(inputs)
        ends = [self.rank, self.rank + self.states]
        steps, writes, reads = ops.split(joined, ends, axis=-1)
        steps = float32_at_least(self.step_projection(steps))
        steps = ops.softplus(steps + self.step_bias)
        values, writes, reads = (float32_at_least(x) for x in (inputs, writes, reads))
        # Of a policy that is half precision throughout, the weights are too.
        rates = -ops.exp(float32_at_least(ops.transpose(self.log_rates)))
        outputs = self._form(values, steps, writes, reads, rates) + values * self.passed
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return tuple(input_shape)

    def multiply_adds(self, input_shape: tuple[int | None, ...]) -> int:
        """Count those of the dense layers, and three a state: decayed, written and read."""
        tokens = input_shape[1] or 0
        return tokens * self.channels * (2 * self.rank + 5 * self.states)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"states": self.states, "step_rank": self.step_rank}


def _logarithms(shape: tuple[int, ...], dtype: Any = None) -> Any:
    """Return log 1, log 2, and so on, along the last axis."""
    values = np.broadcast_to(np.log(np.arange(1, shape[-1] + 1)), shape)
    return ops.convert_to_tensor(values, dtype=dtype)


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class LogUniformSteps(keras.initializers.Initializer):
    """What softplus makes steps of whose logarithms are uniform between those of 0.001 and 0.1.

    Args:
        seed: An integer, or `None` to draw one from Python's generator.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = random.randrange(2**31) if seed is None else seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return numbers of which softplus makes steps."""
        logarithms = np.random.default_rng(self.seed).uniform(
            math.log(SHORTEST), math.log(LONGEST), shape
        )
        steps = np.maximum(np.exp(logarithms), FLOOR)
        return ops.convert_to_tensor(steps + np.log(-np.expm1(-steps)), dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"seed": self.seed}
