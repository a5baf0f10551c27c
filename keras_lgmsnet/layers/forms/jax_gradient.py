"""Depthwise convolution of images on JAX, with gradients of its own."""

import functools
from typing import Any

import numpy as np

from keras_lgmsnet.layers.forms import form
from keras_lgmsnet.layers.forms.depthwise import convolve_blocked, sum_shifted

# The widest image whose kernel's gradient is taken row by row; see `convolution_set_apart`.
WIDEST_BY_ROWS = 32


@form("depthwise convolution", "by rows", backends=("jax",), ranks=(2,), made=True)
@functools.cache
def convolution_by_rows() -> Any:
    """Return the form for large kernels on many channels.

    A loop over the kernel's rows compiles as fast as one row does. The kernel's gradient is one
    matrix product a row and channel, of which the diagonals are added up; XLA's own takes a pass
    over the image for each tap. Forward-mode derivatives (`jax.jvp`) are not defined.
    """
    import jax

    @jax.custom_vjp
    def convolve(inputs: Any, kernel: Any) -> Any:
        return _sum_rows(inputs, kernel)

    def forward(inputs: Any, kernel: Any) -> tuple[Any, tuple[Any, Any]]:
        return _sum_rows(inputs, kernel), (inputs, kernel)

    def backward(kept: tuple[Any, Any], upstream: Any) -> tuple[Any, Any]:
        of_inputs = _sum_rows(upstream, kept[1][::-1, ::-1])
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

    taps, (height, width) = len(kernel), inputs.shape[1:3]
    padded = _pad(inputs, taps)

    def add_row(row: Any, total: Any) -> Any:
        images = jax.lax.dynamic_slice_in_dim(padded, row, height, axis=1)
        weights = jax.lax.dynamic_index_in_dim(kernel, row, keepdims=False)
        return total + sum(images[:, :, tap : tap + width] * weights[tap, 0] for tap in range(taps))

    return jax.lax.fori_loop(0, taps, add_row, jax.numpy.zeros_like(inputs))


def _gradient_of_kernel(inputs: Any, kernel: Any, upstream: Any) -> Any:
    import jax

    taps, (height, width) = len(kernel), inputs.shape[1:3]
    # Channels first, since each has products of its own.
    padded, upstream = (
        jax.numpy.transpose(images, (3, 1, 0, 2)) for images in (_pad(inputs, taps), upstream)
    )
    # 1 at (tap, input, output) where the tap joins the two.
    inputs_of = np.arange(width) + np.arange(taps)[:, None]
    joins = np.arange(width + taps - 1)[None, :, None] == inputs_of[:, None]
    dtype = jax.numpy.promote_types(inputs.dtype, "float32")

    def of_row(row: Any) -> Any:
        images = jax.lax.dynamic_slice_in_dim(padded, row, height, axis=1)
        products = jax.lax.dot_general(
            images, upstream, (((1, 2), (1, 2)), ((0,), (0,))), preferred_element_type=dtype
        )
        return jax.numpy.einsum("tio,cio->tc", joins.astype(dtype), products)

    of_rows = jax.lax.map(of_row, jax.numpy.arange(taps))
    return of_rows[:, :, None].astype(kernel.dtype)


def _pad(inputs: Any, taps: int) -> Any:
    import jax

    reach = taps // 2
    return jax.numpy.pad(inputs, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
