"""A learned factor for each channel."""

from typing import Any

import keras

from keras_lgmsnet.layers.base import SpatialLayer


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class LayerScale(SpatialLayer):
    """Multiplication of each channel by a learned number, 2D or 3D.

    At the end of a residual branch it lets the block start as next to nothing but its input
    (Touvron et al., CaiT, ICCV 2021).

    Args:
        initial_value: Where all the numbers, `gamma`, start.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Example:
    >>> LayerScale()(keras.ops.ones((1, 32, 32, 16))).shape
    (1, 32, 32, 16)
    """

    def __init__(self, initial_value: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the numbers."""
        super().build(input_shape)
        initial = keras.initializers.Constant(self.initial_value)
        self.gamma = self.add_weight(name="gamma", shape=(self.channels,), initializer=initial)

    def call(self, inputs: Any) -> Any:
        """Multiply the channels."""
        return inputs * self.gamma

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"initial_value": self.initial_value}
