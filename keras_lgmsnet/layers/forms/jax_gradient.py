"""Depthwise convolution on JAX, with gradients of its own."""

import functools
from typing import Any

import numpy as np

from keras_lgmsnet.layers.forms import form
from keras_lgmsnet.layers.forms.depthwise import convolve_blocked, sum_shifted

# The widest image whose kernel's gradient is taken row by row; see `convolution_set_apart`.
WIDEST_BY_ROWS = 32


@form("depthwise convolution", "by rows", backends=("jax",), made=True)
@functools.cache
def convolution_by_rows() -> Any:
    """Return the form for large kernels on many channels.

    A loop over the kernel's rows, of volumes its slices, compiles as fast as one of them does. The
    kernel's gradient is one matrix product a row and channel, of which the diagonals are added up;
    XLA's own takes a pass over the image for each tap. Forward-mode derivatives (`jax.jvp`) are not
    defined.
    """
    import jax

    @jax.custom_vjp
    def convolve(inputs: Any, kernel: Any) -> Any:
        return _sum_rows(inputs, kernel)

    def forward(inputs: Any, kernel: Any) -> tuple[Any, tuple[Any, Any]]:
        return _sum_rows(inputs, kernel), (inputs, kernel)

    def backward(kept: tuple[Any, Any], upstream: Any) -> tuple[Any, Any]:
        _, kernel = kept
        of_inputs = _sum_rows(upstream, jax.numpy.flip(kernel, tuple(range(kernel.ndim - 2))))
        return of_inputs, _gradient_of_kernel(*kept, upstream)

    convolve.defvjp(forward, backward)
    return convolve


@form("depthwise convolution", "shifted, set apart", backends=("jax",), ranks=(2,), made=True)
@functools.cache
def convolution_set_apart() -> Any:
    """Return the form that sums shifted inputs, and is not fused with what is around it.

    XLA computes the sum in one loop at the speed of memory. But where nothing but sums and
    activations is between two such convolutions, it fuses them into one another, and computes the
    first anew for each tap of the second: RepViT takes three times as long then, and compiles for
    80 s. With what is inside a conditional it fuses nothing, so the sum is taken under a condition
    that always holds.

    The kernel's gradient is made of matrix products: row by row of small images, else by blocks.
    Milliseconds on two cores of an AMD EPYC for it and the inputs' gradient, by rows and by blocks:
    16² × 256 channels, 3 × 3 taps 0.3 and 1.5; 32² × 80, 5 × 5 0.9 and 1.4; 128² × 64, 3 × 3 11.6
    and 5.9. Forward-mode derivatives (`jax.jvp`) are not defined.
    """
    import jax

    @jax.custom_vjp
    def convolve(inputs: Any, kernel: Any) -> Any:
        return _sum_apart(inputs, kernel)

    def forward(inputs: Any, kernel: Any) -> tuple[Any, tuple[Any, Any]]:
        return _sum_apart(inputs, kernel), (inputs, kernel)

    def backward(kept: tuple[Any, Any], upstream: Any) -> tuple[Any, Any]:
        inputs, kernel = kept
        of_inputs = _sum_apart(upstream, kernel[::-1, ::-1])
        width = inputs.shape[2]
        if isinstance(width, int) and width <= WIDEST_BY_ROWS:
            return of_inputs, _gradient_of_kernel(inputs, kernel, upstream)
        _, gradient = jax.vjp(lambda kernel: convolve_blocked(inputs, kernel), kernel)
        return of_inputs, gradient(upstream)[0]

    convolve.defvjp(forward, backward)
    return convolve


def _sum_apart(inputs: Any, kernel: Any) -> Any:
    import jax

    # XLA drops a condition that it knows the outcome of.
    return jax.lax.cond(
        jax.numpy.isnan(kernel[0, 0, 0, 0]),
        lambda: jax.numpy.full_like(inputs, jax.numpy.nan),
        lambda: sum_shifted(inputs, kernel),
    )


def _sum_rows(inputs: Any, kernel: Any) -> Any:
    import jax

    taps, (side, *smaller) = len(kernel), inputs.shape[1:-1]
    padded = _pad(inputs, taps)

    def add_row(row: Any, total: Any) -> Any:
        images = jax.lax.dynamic_slice_in_dim(padded, row, side, axis=1)
        weights = jax.lax.dynamic_index_in_dim(kernel, row, keepdims=False)
        parts = []
        for tap in np.ndindex(*weights.shape[:-2]):
            window = (slice(first, first + size) for first, size in zip(tap, smaller, strict=True))
            parts.append(images[(slice(None), slice(None), *window)] * weights[tap][0])
        return total + sum(parts)

    return jax.lax.fori_loop(0, taps, add_row, jax.numpy.zeros_like(inputs))


def _gradient_of_kernel(inputs: Any, kernel: Any, upstream: Any) -> Any:
    import jax

    taps, rank = len(kernel), kernel.ndim - 2
    *sides, width = inputs.shape[1:-1]
    # Channels first, since each has products of its own; a row of pixels last.
    axes = (rank + 1, *range(1, rank), 0, rank)
    padded, upstream = (
        jax.numpy.transpose(images, axes) for images in (_pad(inputs, taps), upstream)
    )
    # 1 at (tap, input, output) where the tap joins the two.
    inputs_of = np.arange(width) + np.arange(taps)[:, None]
    joins = np.arange(width + taps - 1)[None, :, None] == inputs_of[:, None]
    dtype = jax.numpy.promote_types(inputs.dtype, "float32")
    summed = tuple(range(1, rank + 1))

    def of_row(row: Any) -> Any:
        images = padded
        for axis, (first, side) in enumerate(zip(row, sides, strict=True), start=1):
            images = jax.lax.dynamic_slice_in_dim(images, first, side, axis=axis)
        products = jax.lax.dot_general(
            images, upstream, ((summed, summed), ((0,), (0,))), preferred_element_type=dtype
        )
        return jax.numpy.einsum("tio,cio->tc", joins.astype(dtype), products)

    rows = np.indices((taps,) * (rank - 1)).reshape(rank - 1, -1).T
    of_rows = jax.lax.map(of_row, jax.numpy.asarray(rows))
    return of_rows.reshape(kernel.shape).astype(kernel.dtype)


def _pad(inputs: Any, taps: int) -> Any:
    import jax

    reach = (taps // 2,) * 2
    return jax.numpy.pad(inputs, ((0, 0), *[reach] * (inputs.ndim - 2), (0, 0)))
