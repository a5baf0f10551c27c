"""Image files as users have them, read as 8-bit RGB, upright.

The one reader of images: what `lgms-predict` reads and what the dataset builders prepare are
the same pixels. Pillow decodes, not OpenCV: it tells the size before it decodes, refuses a file
that was cut short, where OpenCV may return it half grey, and is confined to the formats named here.
What it does not hold, of more bits, is left to `tiff` and `png`, and DICOM to `dicom`.
"""

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

from keras_lgmsnet.files.dicom import decode_dicom, is_dicom
from keras_lgmsnet.files.paths import AnyPath, opened, printable, read_bytes
from keras_lgmsnet.files.pixels import (
    MAX_BYTES,
    SEVERAL_FRAMES,
    TOO_LARGE,
    TOO_LONG,
    DecodedImage,
    require_moderate,
    to_rgb,
)
from keras_lgmsnet.files.png import decode_16_bit_png, is_16_bit_png
from keras_lgmsnet.files.tiff import decode_tiff, is_beyond_pillow, is_tiff

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".dcm")
ORIENTATION = 0x0112  # the tag in EXIF


def read_image(path: str | Path, bits: int | None = None) -> np.ndarray:
    """Read an image file as 8-bit RGB. Its content tells the format, not its name.

    - PNG, JPEG, BMP, TIFF, GIF and WebP, turned upright as EXIF says. Palettes and CMYK become
      RGB, and grey becomes three equal channels. Transparency is ignored.
    - More than 8 bits are scaled as `pixels.to_8_bits` says: integers by the bits in use (of 12
      bits, 4095 becomes 255), floats and negative integers from their least to their largest value.
    - DICOM, where pydicom is installed, as it is meant to be seen, see `dicom.decode_dicom`.

    Args:
        path: A file of one image, of at most `MAX_PIXELS` pixels, `MAX_SIDE` a side and
            `MAX_BYTES` in the file; more are refused before they are decoded. Of a multi-picture
            JPEG, which phones write, the first picture counts; other files of several frames are
            refused.
        bits: How many bits the images of its dataset have in use where files do not say, so that
            all are scaled alike. `None` if it is of no dataset.

    Returns:
        `uint8` array of shape `(height, width, 3)`.

    Raises:
        ValueError: If the file holds no image, a damaged one or one that is refused, or is DICOM
            and pydicom is not installed.
        OSError: If the file cannot be opened.

    Example:
    ```python
    image = read_image("photo.jpg")
    ```
    """
    image = load_image(path)
    with decoding(path):
        return to_rgb(image, bits)


def load_image(path: str | Path) -> DecodedImage:
    """Read an image file as `read_image` does, but for the bits and the channels."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{printable(path)} is not a file.")
    with decoding(path):
        if status.st_size > MAX_BYTES:
            raise ValueError(TOO_LONG)
    content = Path(path).read_bytes()
    with decoding(path):
        return decode_image(content)


def undeclared_bits(path: AnyPath) -> int | None:
    """Return `DecodedImage.undeclared_bits` of a file, decoding only what may have some.

    Args:
        path: The file, or the file in a zip file.

    Returns:
        The bits; `None` also of what is no file.

    Raises:
        ValueError: If the file is unreadable, damaged or refused.

    Example:
    ```python
    bits = max(filter(None, map(undeclared_bits, Path("scans").iterdir())), default=None)
    ```
    """
    if not path.is_file():  # a pipe, say, which would be waited for without end
        return None
    with opened(path) as file:
        head = file.read(132)
    if not (is_tiff(head) or is_16_bit_png(head) or is_dicom(head)):
        return None
    content = read_bytes(path, MAX_BYTES)
    with decoding(path):
        return decode_image(content).undeclared_bits


def decode_image(content: bytes) -> DecodedImage:
    """Decode an image file as `read_image` does, but for the bits and the channels.

    To be called within `decoding`, which names the file in an error.

    Args:
        content: The file's bytes.

    Returns:
        Its pixels, for `pixels.to_8_bits`, and what else it tells.

    Raises:
        ValueError: If it is no image or one that is refused. Of damaged bytes, decoders raise
            errors of every kind.
    """
    if is_dicom(content):
        return decode_dicom(content)
    if not content:
        raise ValueError("the file is empty")
    if is_beyond_pillow(content):
        return decode_tiff(content)
    try:
        image: PIL.Image.Image = PIL.Image.open(io.BytesIO(content), formats=FORMATS)
    except PIL.UnidentifiedImageError:
        if is_tiff(content):
            return decode_tiff(content)
        raise ValueError(f"its content is none of {', '.join(FORMATS)} or DICOM") from None
    except PIL.Image.DecompressionBombError:
        raise ValueError(TOO_LARGE) from None
    require_moderate(image.width, image.height)
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ValueError(SEVERAL_FRAMES)
    if is_16_bit_png(content):
        return decode_16_bit_png(content, image.getexif().get(ORIENTATION, 1))
    transparent = image.has_transparency_data
    plain = (
        image.format in ("JPEG", "MPO", "PNG")
        and image.mode in ("L", "RGB")
        and (image.format != "PNG" or content[24] == 8)  # the depth, in its header
        and not transparent
        and image.getexif().get(ORIENTATION, 1) == 1
    )
    if image.mode.startswith(("I", "F")):  # a wide TIFF of a header that only Pillow forgives
        raise ValueError("the header of its TIFF is damaged; save it again")
    image.load()
    PIL.ImageOps.exif_transpose(image, in_place=True)
    alpha = None
    if transparent:
        # A palette's transparent colour is a colour, too.
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
    return DecodedImage(np.asarray(image), alpha, plain=plain)


@contextlib.contextmanager
def decoding(path: object) -> Iterator[None]:
    """Turn whatever a decoder raises in the block into a `ValueError` that names the file.

    Example:
    ```python
    with decoding(path):
        image = decode_image(content)
    ```
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a decoder gets over is no obstacle here
            yield
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(f"{printable(path)} cannot be read as an image: {reason}.") from error
