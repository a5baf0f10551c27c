"""Attention by several heads, of tokens to themselves or to others."""

from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.base import ChannelsLastLayer, require_positive
from keras_lgmsnet.layers.forms.attention import choose_attention
from keras_lgmsnet.layers.initializers import FanInUniform

# How many dense layers make queries, keys and values.
_PROJECTIONS = {None: 3, "key_value": 2, "query_key_value": 1}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class MultiHeadAttention(ChannelsLastLayer):
    """Attention by several heads (Vaswani et al., NeurIPS 2017), of tokens to themselves or others.

    Tokens are `(batch, length, channels)` or the pixels of images and volumes, `(batch, *sides,
    channels)`. Dense layers make queries of them, and keys and values of the same tokens or of the
    `source` that the layer is called with. A head has as many neighbouring channels as any other;
    it divides the products of queries and keys by the root of that number, takes their softmax, and
    adds up the values. Products and softmax are in float32, so that none overflows. Another dense
    layer, `project`, mixes the heads. Outputs have the tokens' shape.

    Args:
        num_heads: Number of heads, a divisor of the tokens' channels.
        joined: Which of queries, keys and values one dense layer makes, in this order:
            `"key_value"`, `"query_key_value"`, or `None` for a layer each. What is computed is the
            same; published programs, and so their weights, differ in it. `projections` has the
            layers.
        use_bias: Whether the dense layers before the attention have biases; the one after it has.
        kernel_initializer: Name of a Keras initializer, or an object of one, which makes others of
            its kind; by default `FanInUniform()`.
        bias_initializer: The same for biases; `FanInUniform()` goes by each kernel's fan-in.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is out of range, `num_heads` does not divide the channels, or the
            layer is called with a source where one dense layer makes all three.

    Example:
    >>> MultiHeadAttention(2)(keras.ops.ones((1, 16, 8))).shape
    (1, 16, 8)
    >>> MultiHeadAttention(2)(keras.ops.ones((1, 4, 4, 8)), keras.ops.ones((1, 2, 2, 8))).shape
    (1, 4, 4, 8)
    """

    def __init__(
        self,
        num_heads: int,
        joined: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_positive(num_heads=num_heads)
        if joined not in _PROJECTIONS:
            raise ValueError(
                "joined must be 'key_value', 'query_key_value' or None. "
                f"Received: joined={joined!r}"
            )
        self.num_heads = num_heads
        self.joined = joined
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer or FanInUniform())
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(
        self,
        tokens_shape: tuple[int | None, ...],
        source_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        """Create the dense layers."""
        if self.joined == "query_key_value" and source_shape is not None:
            raise ValueError(
                f"{self.name}: joined='query_key_value' attends within the tokens alone, so call "
                f"it without a source. Received: a source of shape {tuple(source_shape)}"
            )
        channels = tokens_shape[-1]
        if channels is None or channels % self.num_heads:
            raise ValueError(
                f"{self.name}: num_heads must divide the tokens' channels, which must be known. "
                f"Received: num_heads={self.num_heads}, tokens_shape={tuple(tokens_shape)}"
            )
        self.channels = channels
        source_shape = tokens_shape if source_shape is None else source_shape
        count = _PROJECTIONS[self.joined]
        self.projections = [
            self._dense(shape, units * self.channels, self.use_bias, name)
            for shape, units, name in (
                (tokens_shape, 1 if count > 1 else 3, "query" if count > 1 else self.joined),
                (source_shape, 1 if count > 2 else 2, "key" if count > 2 else self.joined),
                (source_shape, 1, "value"),
            )[:count]
        ]
        self.project = self._dense(tokens_shape, self.channels, True, "project")
        rank = 3 if len(tokens_shape) == 5 else 2
        self._attention = choose_attention(rank, self.compute_dtype)

    def _dense(
        self, shape: tuple[Any, ...], units: int, use_bias: bool, name: str | None
    ) -> keras.layers.Layer:
        # Of its own, since an object draws the same numbers for the same shape.
        bias_initializer = self.bias_initializer.clone()
        if isinstance(bias_initializer, FanInUniform):
            bias_initializer = bias_initializer.for_bias_of((shape[-1], units))
        layer = keras.layers.Dense(
            units,
            use_bias=use_bias,
            kernel_initializer=self.kernel_initializer.clone(),
            bias_initializer=bias_initializer,
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build(shape)
        return layer

    def call(self, tokens: Any, source: Any = None) -> Any:
        """Attend to the source, or to the tokens themselves."""
        source = tokens if source is None else source
        parts = []
        for dense, inputs in zip(self.projections, (tokens, source, source), strict=False):
            parts += ops.split(dense(inputs), dense.units // self.channels, axis=-1)
        attended = self._attention(*map(self._by_head, parts))
        return self.project(ops.reshape(attended, (-1, *ops.shape(tokens)[1:])))

    def _by_head(self, tokens: Any) -> Any:
        """Return `(batch, length, heads, features)`."""
        length = 1
        for side in ops.shape(tokens)[1:-1]:
            length = length * side
        features = self.channels // self.num_heads
        return ops.reshape(tokens, (-1, length, self.num_heads, features))

    def compute_output_shape(
        self,
        tokens_shape: tuple[int | None, ...],
        source_shape: tuple[int | None, ...] | None = None,
    ) -> tuple[int | None, ...]:
        """Return the tokens' shape."""
        return tuple(tokens_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "num_heads": self.num_heads,
            "joined": self.joined,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
