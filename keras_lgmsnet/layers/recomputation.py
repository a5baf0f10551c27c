"""Less memory for the gradient: computing again what would be kept."""

from collections.abc import Callable
from typing import Any

import keras


def recomputed(
    function: Callable[..., Any], rank: int, *layers: keras.layers.Layer
) -> Callable[..., Any]:
    """Return a function that keeps nothing but its inputs for the gradient, where that pays.

    It pays for volumes on JAX, which keeps several tensors an activation: a process that compiled
    and ran the gradient of `LGMSNet3D` at 96³ took 8.4 GB and takes 5.4 GB, in no more time on two
    cores. TensorFlow and PyTorch keep less by themselves. Forward-mode derivatives (`jax.jvp`) are
    not defined.

    Args:
        function: From tensors to a tensor.
        rank: 2 for images, 3 for volumes.
        *layers: Those that the function calls. With one that changes weights of its own, as batch
            normalization does, the function stays as it is: that must not happen twice.

    Example:
    ```python
    outputs = recomputed(keras.ops.gelu, rank=3)(inputs)
    ```
    """
    changes_weights = any(layer.non_trainable_variables for layer in layers)
    if rank == 2 or changes_weights or keras.backend.backend() != "jax":
        return function
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
            # What does not depend on the gradient, XLA's CPU compiler computes again at once, for
            # nothing; the barriers of `jax.checkpoint` are gone before it decides on the order. A
            # zero that might be NaN is one that it cannot leave out.
            first = upstream.ravel()[0]
            zero = jax.numpy.where(first == first, 0, jax.numpy.nan)
            inputs = tuple(each + zero.astype(each.dtype) for each in inputs)
            _, gradient = jax.vjp(lambda x, w: converted(*x, *w), inputs, weights)
            return gradient(upstream)

        call.defvjp(forward, backward)
        return call(inputs, weights)

    return with_own_gradient
