"""The fusion block: an encoder's and a decoder's features made one."""

from typing import Any

import keras

from keras_lgmsnet.layers.base import SpatialLayer, require_positive
from keras_lgmsnet.layers.convolution import GroupedConv
from keras_lgmsnet.layers.forms.recomputation import choose_recomputation
from keras_lgmsnet.layers.normalization import normalization_layer


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class FusionBlock(SpatialLayer):
    """Fusion block (paper, section 3.3, after CMUNeXt), 2D or 3D.

    Called with the concatenation of a skip connection and the upsampled features: a 3-wide
    convolution in two groups, so that each is filtered by itself, then two pointwise convolutions
    that widen to `4 * filters` and narrow to `filters`. Each is followed by exact GELU and a
    normalization.

    Args:
        filters: Output channels.
        normalization: `"batch"`, `"instance"`, or `None`: batch in 2D, instance in 3D.
        bias_initializer: That of the convolutions.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If `filters` is not positive, or the input's channels are odd.

    Example:
    >>> FusionBlock(16)(keras.ops.ones((1, 32, 32, 32))).shape
    (1, 32, 32, 16)
    """

    def __init__(
        self,
        filters: int,
        normalization: str | None = None,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_positive(filters=filters)
        self.filters = filters
        self.normalization = normalization
        self.bias_initializer = keras.initializers.get(bias_initializer)
        normalization_layer(normalization, rank=2)  # an unknown name is refused here already

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        if self.channels % 2:
            raise ValueError(
                f"{self.name} filters two halves of its channels apart, so their number must be "
                "even: concatenate a skip connection and features of the same width. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        common = {"dtype": self.dtype_policy, "bias_initializer": self.bias_initializer}
        convolutions = (
            GroupedConv(self.channels, 3, groups=2, name="grouped", **common),
            GroupedConv(4 * self.filters, 1, name="widen", **common),
            GroupedConv(self.filters, 1, name="narrow", **common),
        )
        self.convolutions, self.norms = [], []
        shape = input_shape
        for convolution in convolutions:
            convolution.build(shape)
            shape = convolution.compute_output_shape(shape)
            norm = normalization_layer(
                self.normalization,
                self.rank,
                name=f"{convolution.name}_norm",
                dtype=self.dtype_policy,
            )
            norm.build(shape)
            self.convolutions.append(convolution)
            self.norms.append(norm)
        self._recomputed = [choose_recomputation(self.rank, norm) for norm in self.norms]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the block."""
        x = inputs
        steps = zip(self.convolutions, self.norms, self._recomputed, strict=True)
        for convolution, norm, recomputed in steps:

            def normalize(x: Any, norm: keras.layers.Layer = norm) -> Any:
                return norm(keras.activations.gelu(x, approximate=False), training=training)

            x = recomputed(normalize)(convolution(x))
        return x

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape with `filters` channels."""
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "filters": self.filters,
            "normalization": self.normalization,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
