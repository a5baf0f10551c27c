"""Attention along one axis of an image or a volume."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lgmsnet.layers.base import SpatialLayer, float32_at_least, require_positive
from keras_lgmsnet.layers.forms.sequences import choose_sequences
from keras_lgmsnet.layers.normalization import GhostBatchNormalization

# What the published gates start at: of the scores of queries and of keys with the positions, of the
# values' positions, and of the values.
GATES = {"query_gate": 0.1, "key_gate": 0.1, "position_gate": 0.1, "value_gate": 1.0}


@keras.saving.register_keras_serializable(package="keras_lgmsnet")
class AxialAttention(SpatialLayer):
    """Attention of every row or column of pixels within itself (Wang et al., ECCV 2020).

    Scores are the products of queries and keys. With positions, learned vectors for every distance
    between two pixels are multiplied with queries and keys for further scores, and added to the
    values; gates, which are not trained, weight what the positions bring (Valanarasu et al.,
    MICCAI 2021). Queries, keys and values together, scores, and outputs are batch-normalized each;
    nothing scales the scores. Initial weights are the published programs': normal, of variance 1 /
    channels, those of positions 1 / channels of a head.

    Args:
        axis: Of the batch: 1 is an image's height, 2 its width.
        num_heads: Number of heads; twice that must divide the channels.
        positions: Whether there are positions. The side along the axis is fixed then.
        parts: Into how many parts the norms cut the batch, see `GhostBatchNormalization`.
        **kwargs: `name`, `dtype` and `trainable`, as for any Keras layer.

    Raises:
        ValueError: If an argument is not positive, the axis none of the input's in space, a side of
            the input unknown, or its channels not divisible.

    Example:
    >>> AxialAttention(1, num_heads=4)(keras.ops.ones((1, 8, 8, 16))).shape
    (1, 8, 8, 16)
    """

    def __init__(
        self,
        axis: int,
        num_heads: int = 8,
        positions: bool = True,
        parts: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_positive(axis=axis, num_heads=num_heads)
        self.axis = axis
        self.num_heads = num_heads
        self.positions = positions
        self.parts = parts
        self.input_norm = self._norm("input_norm")
        self.score_norm = self._norm("score_norm", axis=1)
        self.output_norm = self._norm("output_norm")

    def _norm(self, name: str, **options: Any) -> GhostBatchNormalization:
        return GhostBatchNormalization(self.parts, dtype=self.dtype_policy, name=name, **options)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights."""
        super().build(input_shape)
        if self.axis > self.rank or None in input_shape[1:] or self.channels % (2 * self.num_heads):
            raise ValueError(
                f"{self.name}: axis must be one in space, from 1 to {self.rank}, all sides known, "
                f"and the channels divisible by twice num_heads. Received: axis={self.axis}, "
                f"num_heads={self.num_heads}, input_shape={tuple(input_shape)}"
            )
        self._sides: tuple[Any, ...] = tuple(input_shape[1:-1])
        self._length = length = self._sides[self.axis - 1]
        self._width = width = self.channels // self.num_heads
        self.kernel = self.add_weight(
            name="kernel",
            shape=(1, self.channels, 2 * self.channels),
            initializer=keras.initializers.RandomNormal(stddev=self.channels**-0.5),
        )
        if self.positions:
            self.relative = self.add_weight(
                name="relative",
                shape=(2 * width, 2 * length - 1),
                initializer=keras.initializers.RandomNormal(stddev=width**-0.5),
            )
            self.gates = [
                self.add_weight(
                    name=name,
                    shape=(),
                    initializer=keras.initializers.Constant(value),
                    trainable=False,
                )
                for name, value in GATES.items()
            ]
        kinds, outputs = (3, 2) if self.positions else (1, 1)
        sequences = self._sides[: self.axis - 1] + self._sides[self.axis :]
        self.input_norm.build((*input_shape[:-1], 2 * self.channels))
        self.score_norm.build((None, kinds * self.num_heads, length, length))
        self.output_norm.build((input_shape[0], *sequences, length, outputs * self.channels))
        self._sequences = sequences
        self._in_pieces = choose_sequences(self.rank)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Attend along the axis."""
        axes = (*(axis for axis in range(self.rank + 1) if axis != self.axis), self.axis)
        x = ops.matmul(inputs, ops.convert_to_tensor(self.kernel)[0])
        x = ops.transpose(self.input_norm(x, training=training), (*axes, self.rank + 1))
        x = ops.reshape(x, (-1, self._length, self.num_heads, 2 * self._width))
        x = ops.transpose(x, (0, 2, 1, 3))  # sequences, heads, tokens, features
        half = self._width // 2
        query, key, value = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]

        # The kinds of scores: features, what they are multiplied with, and how.
        kinds = [(query, ops.transpose(key, (0, 1, 3, 2)), ops.matmul)]
        if self.positions:
            of_queries, of_keys, of_values, value_gate = self._positions()
            kinds += [(query, of_queries, _each_by_its_own), (key, of_keys, _each_by_its_own)]
        factors, offset = self._normalization(kinds, training)
        features = [_times(kind[0], factor) for kind, factor in zip(kinds, factors, strict=True)]
        if training:  # No softmax depends on it, but each weight of the norm is to have a gradient.
            features.append(_times(ops.ones_like(query[..., :1]), offset))

        def attend(key: Any, value: Any, query: Any, *others: Any) -> Any:
            scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
            if self.positions:
                scores = scores + _each_by_its_own(others[0], of_queries)
                of_key = _each_by_its_own(others[1], of_keys)
                scores = scores + ops.transpose(of_key, (0, 1, 3, 2))
            if training:
                scores = scores + others[-1]
            weights = ops.cast(ops.softmax(float32_at_least(scores)), value.dtype)
            outputs = self._merged(ops.matmul(weights, value))
            if not self.positions:
                return outputs
            at_positions = self._merged(_each_by_its_own(weights, of_values))
            # Value, its position, value, its position.
            return ops.stack([value_gate * outputs, at_positions], axis=-1)

        size = self.num_heads * self._length**2
        outputs = self._in_pieces(attend, size)(key, value, *features)
        channels = self.output_norm.gamma.shape[0]
        outputs = ops.reshape(outputs, (-1, *self._sequences, self._length, channels))
        outputs = self.output_norm(outputs, training=training)
        if self.positions:
            outputs = outputs[..., ::2] + outputs[..., 1::2]
        return ops.transpose(outputs, (*np.argsort(axes).tolist(), self.rank + 1))

    def _positions(self) -> tuple[Any, Any, Any, Any]:
        """Return each token's matrices for queries, keys and weights, and the values' gate."""
        query_gate, key_gate, position_gate, value_gate = map(ops.convert_to_tensor, self.gates)
        tables = ops.take(ops.convert_to_tensor(self.relative), self.distances(), axis=1)
        tables = ops.reshape(tables, (-1, self._length, self._length))
        half = self._width // 2
        of_queries = query_gate * ops.transpose(tables[:half], (1, 0, 2))
        of_keys = key_gate * ops.transpose(tables[half : 2 * half], (1, 0, 2))
        of_values = position_gate * ops.transpose(tables[2 * half :], (1, 2, 0))
        return of_queries, of_keys, of_values, value_gate

    def _normalization(
        self, kinds: list[tuple[Any, Any, Any]], training: bool | None
    ) -> tuple[list[Any], Any]:
        """Return by what each kind of scores is multiplied, and what is added to their sum.

        That is all that a norm does. Scores of all pairs of tokens, three kinds of them, would be
        the largest tensors of a network by far, so their statistics are not taken of them: sums
        and sums of squares over the tokens follow from what the features are multiplied with.

        Args:
            kinds: Those of the scores.
            training: Whether the statistics are the batch's own.

        Returns:
            A tensor `(parts, heads)` for each kind, and one for all; parts may be 1.
        """
        norm = self.score_norm
        if training and norm.trainable:
            means, variances = zip(*(self._moments(*kind) for kind in kinds), strict=True)
            mean, variance = ops.concatenate(means, axis=1), ops.concatenate(variances, axis=1)
            norm.move_in_turn(mean, variance)
        else:
            moving = (norm.moving_mean, norm.moving_variance)
            mean, variance = (float32_at_least(statistic)[None] for statistic in moving)
        factor = ops.rsqrt(variance + norm.epsilon) * float32_at_least(norm.gamma)
        offset = float32_at_least(norm.beta) - mean * factor
        offsets = ops.split(offset, len(kinds), axis=1)
        return ops.split(factor, len(kinds), axis=1), sum(offsets[1:], offsets[0])

    def _moments(self, features: Any, matrices: Any, multiply: Any) -> tuple[Any, Any]:
        """Return mean and variance, `(parts, heads)`, of the products of one kind of scores."""
        features, matrices = float32_at_least(features), float32_at_least(matrices)
        transposed = (*range(matrices.ndim - 2), matrices.ndim - 1, matrices.ndim - 2)
        squares = ops.matmul(matrices, ops.transpose(matrices, transposed))
        sums = multiply(features, ops.sum(matrices, axis=-1, keepdims=True))
        sums_of_squares = ops.sum(multiply(features, squares) * features, axis=-1)
        shape = (self.parts, -1, self.num_heads, self._length)
        mean, mean_square = (
            ops.mean(ops.reshape(x, shape), axis=(1, 3)) / self._length
            for x in (sums, sums_of_squares)
        )
        return mean, ops.maximum(mean_square - ops.square(mean), 0)

    def _merged(self, x: Any) -> Any:
        """Put the heads' features side by side."""
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, self._length, self.channels))

    def distances(self) -> np.ndarray:
        """Return, for one pixel and then the next, which column of `relative` is for each other."""
        tokens = np.arange(self._length)
        return np.ravel(tokens[:, None] - tokens + self._length - 1)

    def multiply_adds(self, input_shape: tuple[int, ...]) -> int:
        """Count those of the kernel, of the norms, and of the softmax."""
        pixels, length, heads = math.prod(input_shape[1:-1]), self._length, self.num_heads
        kernel = math.prod(self.kernel.shape)
        kinds, outputs = (3, 2) if self.positions else (1, 1)
        normalized = (2 + outputs) * self.channels + kinds * heads * length
        return pixels * (kernel + 4 * normalized + heads * (3 * length - 1))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "axis": self.axis,
            "num_heads": self.num_heads,
            "positions": self.positions,
            "parts": self.parts,
        }


def _each_by_its_own(x: Any, matrices: Any) -> Any:
    """Multiply the features of each token by a matrix of its own, the same in all sequences.

    Args:
        x: Shape `(sequences, heads, tokens, features)`.
        matrices: Shape `(tokens, features, others)`.
    """
    _, heads, tokens, features = x.shape
    x = ops.transpose(ops.reshape(x, (-1, tokens, features)), (1, 0, 2))
    x = ops.transpose(ops.matmul(x, matrices), (1, 0, 2))
    return ops.reshape(x, (-1, heads, tokens, matrices.shape[-1]))


def _times(x: Any, factors: Any) -> Any:
    """Multiply `(sequences, heads, tokens, features)` by `(parts, heads)`."""
    parts, heads = factors.shape
    factors = ops.reshape(ops.cast(factors, x.dtype), (parts, 1, heads, 1))
    split = ops.reshape(x, (parts, -1, heads, x.shape[2] * x.shape[3]))
    return ops.reshape(split * factors, (-1, *x.shape[1:]))
