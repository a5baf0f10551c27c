"""Every form of an operation against plain PyTorch, and the table that chooses among them."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import ops

from keras_lgmsnet import layers
from keras_lgmsnet.layers import convolution_forms, forms, normalization, torch_gradient
from tests.helpers.gradients import gradients

BACKEND = keras.backend.backend()
CONVOLUTIONS = ("convolution", "grouped convolution", "depthwise convolution")


def _forms(*operations: str) -> list[tuple[str, str, int]]:
    """Return (operation, form, rank) of all that runs on the backend."""
    return [
        (operation, name, rank)
        for operation in operations
        for name, form in forms.OPERATIONS[operation].items()
        for rank in form.ranks
        if BACKEND in form.backends
    ]


def _make(operation: str, name: str) -> Callable[..., Any]:
    return forms.OPERATIONS[operation][name].make()


def _draw(rank: int, side: int, channels: int) -> np.ndarray:
    # Sides differ, so that exchanged axes show.
    sides = [side + 2 * axis for axis in range(rank)]
    return np.random.default_rng(0).standard_normal((2, *sides, channels)).astype("float32")


def _to_torch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(array, -1, 1).copy())


def _from_torch(tensor: torch.Tensor) -> np.ndarray:
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def _assert_close(received: Any, expected: np.ndarray, tolerance: float = 2e-5) -> None:
    received = ops.convert_to_numpy(received)
    np.testing.assert_allclose(received, expected, rtol=0, atol=tolerance * (1 + np.std(expected)))


def _on_xla(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled, gradient and all, where TensorFlow has it on a CPU only so."""
    if BACKEND != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True)


# === Every form computes the same ===


def _taps(operation: str, name: str) -> tuple[int, ...]:
    return {"scaled": (1,), "matrix product": (1,), "shifted": (1, 3)}.get(name, (1, 3, 9))


@pytest.mark.parametrize(
    ("operation", "name", "rank", "taps"),
    [(*of, taps) for of in _forms(*CONVOLUTIONS) for taps in _taps(*of[:2])],
)
def test_every_form_of_a_convolution_is_the_same_sum(
    operation: str, name: str, rank: int, taps: int, monkeypatch
) -> None:
    monkeypatch.setattr(convolution_forms, "LEAST_PIXELS", 0)
    channels, filters, groups = {
        "convolution": (3, 4, 1),
        "grouped convolution": (4, 6, 2),
        "depthwise convolution": (3, 3, 3),
    }[operation]
    x = _draw(rank, 17 if rank == 2 else 3, channels)
    kernel = np.random.default_rng(1).standard_normal(
        (taps,) * rank + (channels // groups, filters)
    )
    _assert_is_convolution(_make(operation, name), x, kernel.astype("float32"), groups)


def _assert_is_convolution(form, x: np.ndarray, kernel: np.ndarray, groups: int) -> None:
    """Compare the outputs and both gradients with PyTorch's."""
    images = _to_torch(x).requires_grad_()
    weight = np.moveaxis(kernel, (-1, -2), (0, 1)).copy()
    weight = torch.from_numpy(weight).requires_grad_()
    conv = torch.nn.functional.conv2d if x.ndim == 4 else torch.nn.functional.conv3d
    expected = conv(images, weight, padding=kernel.shape[0] // 2, groups=groups)
    outputs = form(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel))
    _assert_close(outputs, _from_torch(expected))
    expected.square().sum().backward()
    for_images, for_kernel = gradients(form, x, kernel)
    _assert_close(for_images, _from_torch(images.grad), 1e-4)
    _assert_close(for_kernel, np.moveaxis(weight.grad.numpy(), (0, 1), (-1, -2)), 1e-4)
