"""Images of more than 8 bits: how tests draw, decode and compare them."""

import hypothesis
import numpy as np

from keras_lgmsnet.files.images import decode_image, decoding
from keras_lgmsnet.files.pixels import DecodedImage

few = hypothesis.settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
SHAPE = (20, 35)


def decode(content: bytes) -> DecodedImage:
    with decoding("a file"):
        return decode_image(content)


def draw_pixels(dtype: str, shape: tuple[int, ...], seed: int, bits: int | None = None):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (rng.random(shape) * 100 - 50).astype(kind)
    low, high = (0, 2**bits) if bits else (np.iinfo(kind).min, np.iinfo(kind).max + 1)
    return rng.integers(low, high, shape, dtype=kind)


def scale(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return 255 * (values.astype("float64") - low) / (high - low)


def assert_close(image: np.ndarray, expected: np.ndarray, tolerance: float = 0.51) -> None:
    """Check what was rounded; half a grey value, or one where the other reader rounds, too."""
    assert image.dtype == "uint8"
    np.testing.assert_allclose(image, expected, atol=tolerance)
