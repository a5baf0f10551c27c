"""Attention over sequences of tokens: softmax(QKᵀ/√d)V.

Query, key, value and what is returned have the shape `(batch, length, heads, features)`; keys and
values may be as many as they like. QKᵀ and the softmax are in float32: in float16 the products of
large queries and keys would overflow.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_lgmsnet.layers.base import float32_at_least
from keras_lgmsnet.layers.forms import choose, form


def choose_attention(rank: int, dtype: str) -> Callable[[Any, Any, Any], Any]:
    """Return the form for sequences of an image's pixels, or a volume's."""
    return choose("attention", rank=rank, dtype=dtype)


@form("attention", "native")
def attend_natively(query: Any, key: Any, value: Any) -> Any:
    """Attend by Keras's own operation: on a GPU a fused kernel that never holds the weights."""
    return ops.dot_product_attention(query, key, value, scale=query.shape[-1] ** -0.5)


@form("attention", "at once")
def attend_at_once(query: Any, key: Any, value: Any) -> Any:
    """Attend within all sequences by two matrix products."""
    if key.shape[1] == 1:  # all attend to a token alone; Keras would warn of the softmax
        return value if query.shape[1] == 1 else ops.repeat(value, ops.shape(query)[1], axis=1)
    query = ops.transpose(query * query.shape[-1] ** -0.5, (0, 2, 1, 3))
    key = ops.transpose(key, (0, 2, 3, 1))
    value = ops.transpose(value, (0, 2, 1, 3))
    weights = ops.softmax(ops.matmul(float32_at_least(query), float32_at_least(key)))
    attended = ops.matmul(ops.cast(weights, value.dtype), value)
    return ops.transpose(attended, (0, 2, 1, 3))


@form("attention", "by sequence", backends=("jax",))
def attend_by_sequence(query: Any, key: Any, value: Any) -> Any:
    """Attend within one sequence after the other.

    The attention weights of one sequence stay in a CPU's cache, and are computed again for the
    gradient. Those of all sequences together take half a gigabyte for eight images of 256 × 256.
    The softmax's division by the sum comes after the product with the values: XLA takes twice as
    long for the gradient of a softmax, because it materializes products of weights before it adds
    them up.
    """
    import jax
    import jax.numpy as jnp

    @jax.checkpoint
    def attend(sequence: tuple[Any, Any, Any]) -> Any:
        query, key, value = (jnp.swapaxes(part, 0, 1) for part in sequence)
        query, key = (float32_at_least(part) for part in (query, key))
        scores = jnp.matmul(query * query.shape[-1] ** -0.5, jnp.swapaxes(key, 1, 2))
        largest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
        weights = jnp.exp(scores - largest).astype(value.dtype)
        # A further feature of ones makes the product return the sum of the weights as well.
        value = jnp.concatenate([value, jnp.ones_like(value[..., :1])], axis=-1)
        sums = jnp.matmul(weights, value, preferred_element_type=scores.dtype)
        attended = (sums[..., :-1] / sums[..., -1:]).astype(value.dtype)
        return jnp.swapaxes(attended, 0, 1)

    return jax.lax.map(attend, (query, key, value))
