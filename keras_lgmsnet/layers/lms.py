"""The local multiscale block: kernels of several sizes within one layer."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, get_activation, require_odd
from keras_lgmsnet.layers.conv_norm_activation import ConvNormActivation
from keras_lgmsnet.layers.convolution import DepthwiseConv
from keras_lgmsnet.layers.forms.recomputation import choose_recomputation
from keras_lgmsnet.layers.normalization import GroupNormalization


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class LMSBlock(SpatialLayer):
    """Local multiscale block (paper, section 3.1, equations 1 to 4), 2D or 3D.

    The channels fall into as many equal groups as there are kernel sizes; each group passes
    through a depthwise convolution with its own size. Their concatenation and the input are
    added, group-normalized and activated, squeezed to a quarter of the channels, expanded again
    by a 3-wide convolution, and added to the input. The shape stays as it is.

    Args:
        kernel_sizes: Odd kernel sizes, one per group of channels.
        activation: Activation after the group normalization: `"gelu"` (exact) as in the
            published program, `"silu"` as the paper has it, or any other of Keras.
        normalization: `"batch"`, `"instance"`, or `None`: batch in 2D, instance in 3D.
        bias_initializer: That of the depthwise convolutions, as for `DepthwiseConv`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If a kernel size is even, or the input's channels do not divide into the
            groups.

    Example:
    >>> LMSBlock()(keras.ops.ones((1, 64, 64, 16))).shape
    (1, 64, 64, 16)
    >>> LMSBlock(kernel_sizes=(3, 5))(keras.ops.ones((1, 32, 32, 32, 8))).shape
    (1, 32, 32, 32, 8)
    """

    def __init__(
        self,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        activation: Any = "gelu",
        normalization: str | None = None,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_sizes = tuple(kernel_sizes)
        if not self.kernel_sizes:
            raise ValueError("kernel_sizes needs at least one size. Received: kernel_sizes=()")
        for kernel_size in self.kernel_sizes:
            require_odd(kernel_sizes=kernel_size)
        self.activation = get_activation(activation)
        self.normalization = normalization
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.depthwise = [
            DepthwiseConv(
                kernel_size,
                bias_initializer=self.bias_initializer.clone(),  # an object draws the same again
                dtype=self.dtype_policy,
                name=f"depthwise_{number}",
            )
            for number, kernel_size in enumerate(self.kernel_sizes)
        ]
        self.group_normalization = GroupNormalization(
            len(self.kernel_sizes), dtype=self.dtype_policy, name="group_normalization"
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        channels, groups = self.channels, len(self.kernel_sizes)
        if channels % groups:
            raise ValueError(
                f"{self.name}: channels must be divisible by the {groups} kernel sizes, one group "
                f"of channels each; choose another width or other kernel_sizes. "
                f"Received: channels={channels}, kernel_sizes={self.kernel_sizes}"
            )
        for layer in self.depthwise:
            layer.build((*input_shape[:-1], channels // groups))
        self.group_normalization.build(input_shape)
        self._recomputed = choose_recomputation(self.rank, self.group_normalization)
        common = {"normalization": self.normalization, "dtype": self.dtype_policy}
        self.squeeze = ConvNormActivation(max(1, channels // 4), 1, name="squeeze", **common)
        self.squeeze.build(input_shape)
        self.expand = ConvNormActivation(channels, 3, name="expand", **common)
        self.expand.build(self.squeeze.compute_output_shape(input_shape))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the block."""
        groups = ops.split(inputs, len(self.depthwise), axis=-1)
        scales = [layer(group) for layer, group in zip(self.depthwise, groups, strict=True)]

        def normalize(x: Any) -> Any:
            return self.activation(self.group_normalization(x, training=training))

        x = ops.concatenate(scales, axis=-1) + inputs
        x = self._recomputed(normalize)(x)
        x = self.expand(self.squeeze(x, training=training), training=training)
        return x + inputs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "kernel_sizes": self.kernel_sizes,
            "activation": keras.activations.serialize(self.activation),
            "normalization": self.normalization,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
