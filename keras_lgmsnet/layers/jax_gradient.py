"""The gradient of a 2D convolution on JAX, in a form that a CPU computes in half the time."""

import math
from typing import Any

import keras
from keras import ops

# Below so many pixels an image, XLA's own gradient of the kernel is as fast.
LEAST_PIXELS = 64**2


def convolve_2d(inputs: Any, kernel: Any) -> Any:
    """Convolve images, whose kernel's gradient is a matrix product for each tap.

    XLA's own is a convolution whose kernel is as large as the image. Measured on two cores, 3 × 3
    taps, milliseconds for both gradients: 256² × 64 channels 830 and 392, 128² × 128 446 and 247,
    64² × 256 243 and 196, 32² × 512 237 and 240. On a GPU, XLA's own gradient is used; on other
    backends than JAX, their own. Forward-mode derivatives (`jax.jvp`) are not defined.

    Args:
        inputs: Images `(batch, height, width, channels)`.
        kernel: Shape `(taps, taps, channels, filters)`, dense, the taps odd.
    """
    if keras.backend.backend() != "jax" or not _pays(inputs.shape[1:3]):
        return _convolve(inputs, kernel)
    import jax

    if jax.default_backend() != "cpu":
        return _convolve(inputs, kernel)
    convolve = jax.custom_vjp(_convolve)
    convolve.defvjp(
        lambda inputs, kernel: (_convolve(inputs, kernel), (inputs, kernel)), _gradients
    )
    return convolve(inputs, kernel)


def _pays(sides: tuple[Any, ...]) -> bool:
    """Say whether images are large enough; sides may be symbols where a program is exported."""
    return all(isinstance(side, int) for side in sides) and math.prod(sides) >= LEAST_PIXELS


def _convolve(inputs: Any, kernel: Any) -> Any:
    return ops.conv(inputs, kernel, padding="same", data_format="channels_last")


def _gradients(kept: tuple[Any, Any], upstream: Any) -> tuple[Any, Any]:
    """Return the gradients of the inputs and of the kernel."""
    import jax

    inputs, kernel = kept
    _, height, width, channels = inputs.shape
    rows, columns = kernel.shape[:2]
    of_inputs = _convolve(upstream, ops.swapaxes(kernel[::-1, ::-1], -1, -2))
    padded = ops.pad(inputs, ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)))
    pixels = ops.reshape(upstream, (-1, upstream.shape[-1]))
    of_taps = [
        jax.lax.dot_general(
            ops.reshape(padded[:, row : row + height, column : column + width], (-1, channels)),
            pixels,
            (((0,), (0,)), ((), ())),
            preferred_element_type="float32",
        )
        for row in range(rows)
        for column in range(columns)
    ]
    of_kernel = ops.reshape(ops.stack(of_taps), kernel.shape)
    return of_inputs, ops.cast(of_kernel, kernel.dtype)
