"""Functions and their gradients on whichever backend runs."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, on JAX as one program: each operation alone would compile longer."""
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function)


def gradients(function: Callable[..., Any], *arrays: np.ndarray) -> list[np.ndarray]:
    """Return the gradients of the sum of a function's squared outputs, one an argument."""
    tensors = [ops.convert_to_tensor(array) for array in arrays]

    def loss(*tensors: Any) -> Any:
        return ops.sum(ops.square(function(*tensors)))

    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = loss(*tensors)
            results = tape.gradient(value, tensors)
        case "jax":
            import jax

            results = jax.jit(jax.grad(loss, argnums=tuple(range(len(tensors)))))(*tensors)
        case "torch":
            import torch

            leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
            results = torch.autograd.grad(loss(*leaves), leaves)
    return [ops.convert_to_numpy(result) for result in results]
