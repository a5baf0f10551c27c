"""The pixels of image files: what decoders return, and how they become 8 bits."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

MAX_PIXELS = 100_000_000
MAX_SIDE = 100_000  # longer ones cannot be written again
MAX_BYTES = 2**30  # of a file or its pixels; 100 million pixels of 64 bits take less

TOO_LARGE = f"it has more than {MAX_PIXELS:,} pixels or {MAX_SIDE:,} a side; crop or shrink it"
TOO_LONG = f"it has more than {MAX_BYTES:,} bytes; crop or shrink it"
_ROWS = 256  # scaled at a time

# By which a fill is known that would leave no picture between an image's least and largest value.
LARGEST = 1e30  # of values; beyond are marks of missing ones
FEW_VALUES, FEW_PIXELS = 3, 1e-4  # of a fill's; of broken pixels in all
MANY_VALUES = 20  # more than masks and blank pictures have
SAMPLES = 100_000  # pixels in which values are counted

SEVERAL_FRAMES = "it has several frames; extract the one that is meant"


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """What an image file holds, upright.

    Args:
        pixels: Grey, shape `(height, width)`, or RGB, `(height, width, 3)`, in the file's own type,
            but for palettes, CMYK and single bits, which are `uint8`.
        alpha: The opacity, shape `(height, width)`, 0 to the largest value of its type; `None` if
            the file tells none.
        bits: How many bits the file says its integers have in use; `None` if it does not say.
        plain: Whether it is a JPEG or PNG that every decoder takes for these pixels: of 8 bits,
            grey or RGB, neither transparent nor turned by EXIF.
        white_is_zero: Whether the pixels were inverted by `invert` without knowing the bits: 0 has
            become the largest value of the type, so that fewer bits are those below it.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    bits: int | None = None
    plain: bool = False
    white_is_zero: bool = False

    @property
    def has_own_scale(self) -> bool:
        """Whether it becomes 8 bits by its own least and largest value, unlike others of a dataset.

        True of floats and of integers of which some are negative.
        """
        return _needed_bits(self) is None

    @property
    def undeclared_bits(self) -> int | None:
        """How many bits its integers have in use where the file does not say, judged by the pixels.

        The smallest even number, from 8 on, that holds the largest value, as sensors have 10, 12,
        14 or 16 bits: of pictures up to 2047 and up to 2048, 12. `None` if the file says, if it
        has 8 bits, and of floats and negative integers, which are scaled otherwise.
        """
        needed = _needed_bits(self)
        if needed is None or self.bits is not None or self.pixels.dtype == "uint8":
            return None
        return max(8, needed + needed % 2)


def to_8_bits(image: DecodedImage, bits: int | None = None) -> np.ndarray:
    """Scale an image's pixels linearly to 0 to 255.

    - Integers that are nowhere negative by the bits in use: those that the file declares, else
      those of its dataset, else `DecodedImage.undeclared_bits`. Of 12 bits, 4095 becomes 255.
    - Other integers and floats from their least to their largest value.

    Args:
        image: What a decoder returned.
        bits: How many bits the images of its dataset have in use where files do not say. More are
            assumed where the image needs more. `None` if it is of no dataset.

    Returns:
        `uint8` of the same shape.

    Raises:
        ValueError: If it has values that are not finite, or is scaled from its least to its largest
            value and one of these, such as a fill of -9999 among 0 to 1, would leave no picture.

    Example:
    ```python
    to_8_bits(DecodedImage(np.uint16([[0, 1024]])), bits=12)  # [[0, 64]]
    ```
    """
    values = image.pixels
    if values.dtype == "uint8" and image.bits in (None, 8):
        return values
    needed = _needed_bits(image)
    if needed is None:
        low, high = float(values.min()), float(values.max())
        span = high - low
        if not math.isfinite(span):
            raise ValueError("it has values that are not finite")
        _require_contrast(values, low, high)
    else:
        used = max(image.bits or bits or 8, image.undeclared_bits or needed)
        span = 2**used - 1
        low = np.iinfo(values.dtype).max - span if image.white_is_zero else 0
    kind = "float32" if values.itemsize <= 2 else "float64"
    scaled = np.empty(values.shape, "uint8")
    for row in range(0, len(values), _ROWS):  # as large images take gigabytes otherwise
        block = values[row : row + _ROWS].astype(kind)
        scaled[row : row + _ROWS] = np.rint((block - low) / (span or 1) * 255)
    return scaled


def to_rgb(image: DecodedImage, bits: int | None = None) -> np.ndarray:
    """Return an image as 8-bit RGB; the arguments are those of `to_8_bits`.

    Returns:
        `uint8`, shape `(height, width, 3)`.
    """
    pixels = to_8_bits(image, bits)
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def invert(image: DecodedImage) -> DecodedImage:
    """Turn black into white; integers that are nowhere negative stay so, others become floats."""
    needed = _needed_bits(image)
    if needed is None:
        is_float = image.pixels.dtype.kind == "f"
        return dataclasses.replace(
            image, pixels=-(image.pixels if is_float else image.pixels.astype("float64"))
        )
    bits = None if image.bits is None else max(image.bits, needed)
    largest = np.iinfo(image.pixels.dtype).max if bits is None else 2**bits - 1
    return dataclasses.replace(
        image, pixels=largest - image.pixels, bits=bits, white_is_zero=bits is None
    )


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels as EXIF's orientation says, 1 to 8; others leave them as they are.

    Args:
        pixels: Shape `(height, width, ...)`, as stored.
        orientation: The value of the tag.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def require_moderate(width: int, height: int, pixel_bytes: int = 1) -> None:
    """Raise a `ValueError` if an image is too large to be decoded.

    Args:
        width: In pixels.
        height: In pixels.
        pixel_bytes: What a pixel takes in memory, all its channels.
    """
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ValueError(TOO_LARGE)
    if width * height * pixel_bytes > MAX_BYTES:
        raise ValueError(TOO_LONG)


def _needed_bits(image: DecodedImage) -> int | None:
    """Return how many bits an image's integers need; `None` of floats and negative integers."""
    pixels = image.pixels
    if pixels.dtype.kind not in "ui" or pixels.min() < 0:
        return None
    if image.white_is_zero:
        return int(np.iinfo(pixels.dtype).max - pixels.min()).bit_length()
    return int(pixels.max()).bit_length()


def _require_contrast(values: np.ndarray, low: float, high: float) -> None:
    """Raise a `ValueError` if a value is so far from the others that these become one grey.

    Such as a fill or broken pixels: all other pixels, of many values, lie within a grey level, and
    those beyond have few values or are very few, unlike bright cells on a dark ground.
    """
    step = max(1, round((values.shape[0] * values.shape[1] / SAMPLES) ** 0.5))
    distinct = np.unique(values[::step, ::step]).astype("float64")
    usual = np.median(distinct)  # not the pixels', most of which may be fill
    grey = (high - low) / 255
    is_far = (values < usual - grey) | (values > usual + grey)
    num_far = np.count_nonzero(is_far)
    is_fill = (
        num_far < FEW_PIXELS * values.size
        or len(np.unique(values[is_far][:: 1 + num_far // SAMPLES])) <= FEW_VALUES
    )
    num_near = np.count_nonzero(abs(distinct - usual) <= grey)
    furthest = max(low, high, key=lambda value: abs(value - usual))
    if (is_fill and num_near > MANY_VALUES) or abs(furthest) > LARGEST:
        raise ValueError(
            "it has a value beside which all others are lost; replace it by one of theirs. "
            f"Received: {furthest:.5g} among values such as {usual:.5g}"
        )
