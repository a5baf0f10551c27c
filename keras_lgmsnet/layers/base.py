"""What every layer of the package shares: channels last, and checks of arguments and shapes."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.keras_settings import require_channels_last

# Of `leaky_relu`.
NEGATIVE_SLOPE = 0.01


class ChannelsLastLayer(keras.layers.Layer):
    """A layer that computes on tensors whose channels come last.

    Raises:
        ValueError: If Keras is configured for `channels_first`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_channels_last()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        # Without an override Keras records the arguments itself, and cannot record a dtype policy.
        return super().get_config()


class SpatialLayer(ChannelsLastLayer):
    """A layer on a batch of images or volumes, channels last.

    Images are `(batch, height, width, channels)`, volumes `(batch, depth, height, width,
    channels)`. From `build` on, `self.rank` is the number of axes in space, 2 or 3, and
    `self.channels` the number of the input's channels.

    Raises:
        ValueError: If Keras is configured for `channels_first`, or an input has neither four nor
            five axes, or its channels are not static.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Read the rank and the number of channels from the input's shape."""
        self.rank, self.channels = rank_and_channels(input_shape, self.name)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape, unless a layer changes it."""
        return tuple(input_shape)


def rank_and_channels(input_shape: tuple[int | None, ...], name: str) -> tuple[int, int]:
    """Return the number of axes in space, 2 or 3, and of channels, which must be static.

    Raises:
        ValueError: If the shape is another one; `name` is that of the layer.
    """
    rank, channels = len(input_shape) - 2, input_shape[-1]
    if rank not in (2, 3):
        raise ValueError(
            f"{name} expects an image batch (batch, height, width, channels) or a volume batch "
            f"(batch, depth, height, width, channels). Received: input_shape={tuple(input_shape)}"
        )
    if channels is None:
        raise ValueError(
            f"{name} needs a static number of channels. Received: input_shape={tuple(input_shape)}"
        )
    return rank, channels


def float32_at_least(inputs: Any) -> Any:
    """Return half precision in float32, in which sums over pixels neither overflow nor stall."""
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    return ops.cast(inputs, keras.backend.result_type(dtype, "float32"))


def over_pixels(reduce: Callable[..., Any], inputs: Any) -> Any:
    """Reduce images or volumes, channels last, to one pixel.

    It goes axis by axis: TensorFlow and LiteRT add 256² numbers up less exactly than twice 256.

    Args:
        reduce: `ops.mean` or `ops.sum`.
        inputs: Shape `(batch, *sides, channels)`.
    """
    for axis in range(inputs.ndim - 2, 0, -1):
        inputs = reduce(inputs, axis=axis, keepdims=True)
    return inputs


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
def leaky_relu(inputs: Any) -> Any:
    """Return PyTorch's leaky ReLU, of slope 0.01 below 0, where Keras's of that name has 0.2."""
    return ops.leaky_relu(inputs, NEGATIVE_SLOPE)


def get_activation(activation: Any) -> Any:
    """Return the Keras activation of a name or config; a callable is returned as it is."""
    try:
        return keras.activations.get(activation)
    except ValueError as error:
        raise ValueError(
            "activation must be the name of a Keras activation, such as 'gelu' or 'silu', or a "
            f"callable. Received: activation={activation!r}"
        ) from error


def require_positive(**values: int) -> None:
    """Raise unless each named value is a positive integer."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive integer. Received: {name}={value!r}")


def positive_integers(**values: Any) -> tuple[int, ...]:
    """Return the one named value as a tuple, or raise unless it is several positive integers."""
    ((name, value),) = values.items()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{name} must be integers such as (3, 5, 7). Received: {name}={value!r}")
    for item in value:
        require_positive(**{name: item})
    return tuple(value)


def require_odd(**values: int) -> None:
    """Raise unless each named kernel size is a positive odd integer."""
    for name, value in values.items():
        require_positive(**{name: value})
        if value % 2 == 0:
            raise ValueError(
                f"{name} must be odd, so that 'same' padding is symmetric. "
                f"Received: {name}={value!r}"
            )
