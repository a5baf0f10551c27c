"""Masks of images: files whose bright pixels are the foreground, read as 0 and 1."""

import numpy as np

from keras_lgmsnet.files.images import FORMATS, MAX_BYTES, decode_image, decoding, is_dicom
from keras_lgmsnet.files.paths import AnyPath, read_bytes


def read_mask(path: AnyPath, shape: tuple[int, int], *, two_valued: bool = False) -> np.ndarray:
    """Read a mask file; the arguments and the result are those of `binary_mask`.

    Formats and palettes are those of `files.images.read_image`, without DICOM, whose
    values depend on a window. `two_valued` does not apply to JPEGs, whose compression makes further
    values.

    Raises:
        ValueError: If the file is unreadable or no mask of that shape.
    """
    content = read_bytes(path, MAX_BYTES)
    if is_dicom(content):
        raise ValueError(f"{path} must be {', '.join(FORMATS)}; convert it. Received: DICOM")
    with decoding(path):
        pixels = decode_image(content).pixels
    lossy = content.startswith(b"\xff\xd8\xff")
    return binary_mask(pixels, shape, str(path), two_valued=two_valued and not lossy)


def binary_mask(
    pixels: np.ndarray, shape: tuple[int, int], source: str, *, two_valued: bool = False
) -> np.ndarray:
    """Turn a mask's pixels into 0 and 1.

    Foreground is what is brighter than 127; in a mask of 0 and 1 only, what is 1. A mask of more
    than 8 bits holds 0 and 1, 0 and 255, or 0 and 65535, only.

    Args:
        pixels: `uint8`, grey, or with three channels that are grey; or grey of any other type.
        shape: Height and width of the mask's image.
        source: What to call the mask in an error.
        two_valued: Whether to refuse a mask that holds more than two values: they might be further
            classes, which a threshold would silently merge.

    Returns:
        0 or 1, `uint8`, of the given shape.

    Raises:
        ValueError: If the mask has another size, colours, or values that leave open what is
            foreground.
    """
    # The compression of a JPEG may tint grey a little.
    if pixels.ndim == 3 and np.ptp(pixels[..., :3], axis=-1).max(initial=0) <= 8:
        pixels = pixels[..., 0]
    if pixels.shape != shape:
        raise ValueError(
            f"{source} must be a grey image of its image's height and width, {shape}. "
            f"Received: {pixels.shape}"
        )
    if pixels.dtype == np.uint8:
        values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256))
        threshold_will_do = not two_valued and values[-1] > 127
    else:
        values = np.unique(pixels)
        threshold_will_do = False
    if not any({*values} <= {0, full} for full in (1, 255, 65535)) and not threshold_will_do:
        raise ValueError(
            f"{source} must hold 0 and 255, or 0 and 1, only. "
            f"Received: {', '.join(map(str, values[:5]))}{' …' if len(values) > 5 else ''}"
        )
    return (pixels > (0 if values[-1] == 1 else 127)).astype(np.uint8)
