"""Less memory for the gradient: activations are computed again instead of kept."""

from collections.abc import Callable
from typing import Any

import keras

from keras_lgmsnet.layers.forms import choose, form


def choose_recomputation(
    rank: int, *layers: keras.layers.Layer
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what makes of a function one that keeps for the gradient what is best on the device.

    Args:
        rank: 2 for images, 3 for volumes.
        *layers: Those that the function calls, built. With one that changes weights of its own, as
            batch normalization does, nothing is computed again: that must not happen twice.

    Example:
    ```python
    outputs = choose_recomputation(3)(keras.ops.gelu)(inputs)
    ```
    """
    if any(layer.non_trainable_variables for layer in layers):
        return kept
    return choose("recomputation", rank=rank)


@form("recomputation", "kept")
def kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as it is: the backend keeps what it needs for the gradient."""
    return function


@form("recomputation", "recomputed", backends=("jax",))
def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that keeps nothing but its inputs for the gradient.

    It pays for volumes on JAX, which keeps several tensors an activation: a process that compiled
    and ran the gradient of `LGMSNet3D` at 96³ took 8.4 GB without and takes 5.4 GB with this, in no
    more time on two cores. TensorFlow and PyTorch keep less by themselves. Forward-mode derivatives
    (`jax.jvp`) are not defined.
    """
    import jax

    def with_own_gradient(*inputs: Any) -> Any:
        converted, weights = jax.closure_convert(function, *inputs)

        @jax.custom_vjp
        def call(inputs: tuple[Any, ...], weights: list[Any]) -> Any:
            return converted(*inputs, *weights)

        def forward(inputs: tuple[Any, ...], weights: list[Any]) -> tuple[Any, Any]:
            return call(inputs, weights), (inputs, weights)

        def backward(kept: Any, upstream: Any) -> tuple[tuple[Any, ...], list[Any]]:
            inputs, weights = kept
            # What is computed again here depends on the inputs only. XLA's CPU compiler would
            # therefore compute it early, long before `upstream` is known, and keep it until then:
            # no memory would be saved. (`jax.checkpoint` marks the right order with barriers, but
            # the compiler removes these before it chooses an order.) So the inputs are made to
            # depend on `upstream`: a zero computed from it is added to them. The compiler cannot
            # replace this zero by a constant, since it is NaN if `upstream` is NaN; the gradient is
            # NaN then anyway.
            first = upstream.ravel()[0]
            zero = jax.numpy.where(first == first, 0, jax.numpy.nan)
            inputs = tuple(tensor + zero.astype(tensor.dtype) for tensor in inputs)
            _, gradient = jax.vjp(lambda x, w: converted(*x, *w), inputs, weights)
            return gradient(upstream)

        call.defvjp(forward, backward)
        return call(inputs, weights)

    return with_own_gradient
