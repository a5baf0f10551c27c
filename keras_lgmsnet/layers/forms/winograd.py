"""Convolution of volumes with half the products, by Winograd's minimal filtering.

Four neighbouring outputs of a filter of three taps follow from six inputs. Filtering is multiplying
polynomials, transposed; a product of polynomials follows from its values at six nodes, where the
factors' values are multiplied once. So six products do for the twelve of the sums (Winograd,
Arithmetic Complexity of Computations, 1980; of images Lavin and Gray 2016, arXiv:1509.09308).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

OUTPUTS = 4  # computed at once
TAPS = 3
_SIGNALS = OUTPUTS + TAPS - 1

# With these, symmetric about 0 and about 1 (and infinity, the last node), rounding errors are half
# of those with whole numbers.
_NODES = (0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))


def convolve_along_depth(inputs: Any, kernel: Any, convolve_2d: Callable[[Any, Any], Any]) -> Any:
    """Convolve, dense in 3D, by six 2D convolutions for every four slices, where sums take twelve.

    Args:
        inputs: Shape `(batch, depth, height, width, channels)`, of a known depth.
        kernel: Shape `(3, rows, columns, channels, filters)`.
        convolve_2d: Convolves images by such a kernel's slice, zeros around.
    """
    _, depth, height, width, channels = ops.shape(inputs)
    filters = kernel.shape[-1]
    number = -(-depth // OUTPUTS)
    missing = number * OUTPUTS - depth
    padded = ops.pad(inputs, [(0, 0), (1, 1 + missing), (0, 0), (0, 0), (0, 0)])
    # The n-th of the six signals of every four outputs.
    last = (number - 1) * OUTPUTS + 1
    slices = [padded[:, place : place + last : OUTPUTS] for place in range(_SIGNALS)]
    of_signals, of_taps, of_products = matrices()
    products = []
    for signal_row, tap_row in zip(of_signals, of_taps, strict=True):
        images = ops.reshape(_combine(signal_row, slices), (-1, height, width, channels))
        product = convolve_2d(images, _combine(tap_row, kernel))
        products.append(ops.reshape(product, (-1, number, height, width, filters)))
    outputs = ops.stack([_combine(row, products) for row in of_products], axis=2)
    outputs = ops.reshape(outputs, (-1, number * OUTPUTS, height, width, filters))
    return outputs[:, :depth]


@functools.cache
def matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what makes values of six signals and of three taps, and outputs of their products.

    Filtering is the transpose of multiplying polynomials, so what reads a polynomial's coefficients
    from its values, the inverse of what evaluates it, is transposed, too.

    Returns:
        Shapes `(6, 6)`, `(6, 3)` and `(4, 6)`, in float64.
    """
    evaluate_signal, evaluate_kernel, evaluate_outputs = (
        np.array(
            [
                *([node**power for power in range(count)] for node in _NODES),
                [0] * (count - 1) + [1],  # at infinity the highest power counts
            ]
        )
        for count in (_SIGNALS, TAPS, OUTPUTS)
    )
    return np.linalg.inv(evaluate_signal).T, evaluate_kernel, evaluate_outputs.T


def _combine(factors: np.ndarray, tensors: Sequence[Any]) -> Any:
    """Return the sum of tensors times their factors, leaving out those times zero."""
    return sum(
        tensor * float(factor)
        for factor, tensor in zip(factors, tensors, strict=True)
        if abs(factor) > 1e-12
    )
