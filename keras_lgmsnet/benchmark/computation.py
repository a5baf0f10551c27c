"""Functions of tensors, compiled and differentiated as the backend does, and waited for.

On a GPU a call returns before its result is there: without waiting, nothing would be timed.
"""

import time
from collections.abc import Callable
from typing import Any


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that computes the same, and returns when the result is there.

    It is compiled on JAX and TensorFlow, as Keras compiles what it trains; not on PyTorch.

    Args:
        function: From tensors to a tensor, or several.
    """
    import keras

    match keras.backend.backend():
        case "jax":
            import jax

            jitted = jax.jit(function)
            return lambda *tensors: jax.block_until_ready(jitted(*tensors))
        case "tensorflow":
            import tensorflow as tf

            graph = tf.function(function, autograph=False)

            def call(*tensors: Any) -> Any:
                outputs = graph(*tensors)
                tf.test.experimental.sync_devices()
                return outputs

            return call
    import torch

    def call_and_wait(*tensors: Any) -> Any:
        with torch.no_grad():
            outputs = function(*tensors)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return outputs

    return call_and_wait


def with_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that computes the gradients of another, too.

    Args:
        function: From tensors to a tensor.

    Returns:
        A function of the output's gradient and the tensors, to the output and the gradients of all
        tensors.
    """
    import keras

    match keras.backend.backend():
        case "jax":
            import jax

            def in_jax(upstream: Any, *tensors: Any) -> Any:
                output, gradients = jax.vjp(function, *tensors)
                return output, *gradients(upstream)

            return in_jax
        case "tensorflow":
            import tensorflow as tf

            def in_tensorflow(upstream: Any, *tensors: Any) -> Any:
                with tf.GradientTape() as tape:
                    tape.watch(tensors)
                    output = function(*tensors)
                return output, *tape.gradient(output, tensors, upstream)

            return in_tensorflow
    import torch

    def in_torch(upstream: Any, *tensors: Any) -> Any:
        tensors = tuple(tensor.detach().requires_grad_() for tensor in tensors)
        with torch.enable_grad():
            output = function(*tensors)
        return output.detach(), *torch.autograd.grad(output, tensors, upstream)

    return in_torch


def fastest(step: Callable[[], Any], seconds: float = 0.5) -> float:
    """Return the least seconds of a step, repeated for about so many seconds, after two calls.

    Args:
        step: What returns when it is done.
        seconds: How long to repeat it; it is timed once at least.
    """
    step()
    start = time.perf_counter()
    step()
    times: list[float] = []
    while not times or time.perf_counter() - start < seconds:
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    return min(times)
