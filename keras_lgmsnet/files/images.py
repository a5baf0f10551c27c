"""Image files as users have them, read as 8-bit RGB, upright.

The one reader of images: what `lgms-predict` reads and what the dataset builders prepare are
the same pixels. Pillow decodes, not OpenCV: it tells the size before it decodes, refuses a file
that was cut short, where OpenCV may return it half grey, and is confined to the formats named here.
"""

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from keras_lgmsnet.files.paths import printable

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".dcm")
MAX_PIXELS = 100_000_000
MAX_SIDE = 100_000  # longer ones cannot be written again
MAX_BYTES = 2**30  # of a file; 100 million pixels of 64 bits take less

TOO_LARGE = f"it has more than {MAX_PIXELS:,} pixels or {MAX_SIDE:,} a side; crop or shrink it"
TOO_LONG = f"it has more than {MAX_BYTES:,} bytes; crop or shrink it"
SEVERAL_FRAMES = "it has several frames; extract the one that is meant"
ORIENTATION = 0x0112  # the tag in EXIF


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as 8-bit RGB. Its content tells the format, not its name.

    - PNG, JPEG, BMP, TIFF, GIF and WebP, turned upright as EXIF says. Palettes and CMYK become
      RGB, and grey becomes three equal channels. Transparency is ignored.
    - More than 8 bits: integers that are nowhere negative are scaled by the bits in use (of an
      image up to 4095, 4095 becomes 255); other integers and floats from their least to their
      largest value. Of 16-bit RGB, the upper 8 bits are kept.
    - DICOM, where pydicom is installed: the first window or, where there is none, the stored
      values, scaled by the bits stored; MONOCHROME1 is inverted.

    Args:
        path: A file of one image, of at most `MAX_PIXELS` pixels, `MAX_SIDE` a side and
            `MAX_BYTES` in the file; more are refused before they are decoded. Of a multi-picture
            JPEG, which phones write, the first picture counts; other files of several frames are
            refused.

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
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{printable(path)} is not a file.")
    with decoding(path):
        if status.st_size > MAX_BYTES:
            raise ValueError(TOO_LONG)
    content = Path(path).read_bytes()
    with decoding(path):
        pixels = to_8_bits(decode_image(content))
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


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
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    bits: int | None = None
    plain: bool = False


def decode_image(content: bytes) -> DecodedImage:
    """Decode an image file as `read_image` does, but for the bits and the channels.

    To be called within `decoding`, which names the file in an error.

    Args:
        content: The file's bytes.

    Returns:
        Its pixels, for `to_8_bits`, and what else it tells.

    Raises:
        ValueError: If it is no image or one that is refused. Of damaged bytes, decoders raise
            errors of every kind.
    """
    if is_dicom(content):
        return DecodedImage(_decode_dicom(content))
    if not content:
        raise ValueError("the file is empty")
    try:
        image: PIL.Image.Image = PIL.Image.open(io.BytesIO(content), formats=FORMATS)
    except PIL.UnidentifiedImageError:
        raise ValueError(f"its content is none of {', '.join(FORMATS)} or DICOM") from None
    except PIL.Image.DecompressionBombError:
        raise ValueError(TOO_LARGE) from None
    _require_moderate(image.width, image.height)
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ValueError(SEVERAL_FRAMES)
    transparent = image.has_transparency_data
    plain = (
        image.mode in ("L", "RGB")
        and not transparent
        and image.getexif().get(ORIENTATION, 1) == 1
        # Of a PNG, the header's byte 24 is the depth.
        and (image.format in ("JPEG", "MPO") or (image.format == "PNG" and content[24] == 8))
    )
    image.load()
    PIL.ImageOps.exif_transpose(image, in_place=True)
    alpha = None
    if transparent and not image.mode.startswith("I"):
        # A palette's transparent colour is a colour, too.
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "I", "F") and not image.mode.startswith("I;"):
        image = image.convert("RGB")
    return DecodedImage(np.asarray(image), alpha, plain=plain)


def to_8_bits(image: DecodedImage) -> np.ndarray:
    """Return an image's pixels as `uint8`, shape `(height, width)` or `(height, width, 3)`.

    Raises:
        ValueError: If it has values that are not finite.
    """
    return _to_8_bits(image.pixels, image.bits)


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


def is_dicom(content: bytes) -> bool:
    """Return whether a file is DICOM."""
    return content[128:132] == b"DICM"


def _decode_dicom(content: bytes) -> np.ndarray:
    try:
        import pydicom
    except ModuleNotFoundError:
        raise ValueError(
            "it is DICOM, which needs pydicom: pip install 'keras-lgmsnet[dicom]'"
        ) from None

    # Which is decompressed as a whole, to whatever size, before a word of it can be read.
    file = io.BytesIO(content)
    file.seek(132)
    meta = pydicom.filereader.read_dataset(
        file,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, *_: tag.group != 2,
    )
    syntax = meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_deflated:
        raise ValueError("its DICOM is deflated; save it uncompressed")
    file.seek(0)
    dataset = pydicom.dcmread(file)
    if "PixelData" not in dataset:
        raise ValueError("the DICOM file holds no image")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ValueError(SEVERAL_FRAMES)
    _require_moderate(dataset.Columns, dataset.Rows)
    interpretation = dataset.PhotometricInterpretation
    values = dataset.pixel_array  # YBR has become RGB
    if interpretation == "PALETTE COLOR":
        values = pydicom.pixels.apply_color_lut(values, dataset)
    if values.ndim == 3:
        return _to_8_bits(values)
    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if center is not None and width:
        values = pydicom.pixels.apply_modality_lut(values, dataset)
        grey = _window(values, center, width, dataset.get("VOILUTFunction"))
    else:
        grey = _to_8_bits(values, dataset.BitsStored)
    return 255 - grey if interpretation == "MONOCHROME1" else grey


def _first(dataset: Any, name: str) -> float | None:
    """Return a number of a DICOM dataset, the first of several; `None` where there is none."""
    value = dataset.get(name)
    return None if value is None else float(np.ravel(value)[0])


def _window(values: np.ndarray, center: float, width: float, function: str | None) -> np.ndarray:
    """Apply a window by the formulas of DICOM PS3.3 C.11.2.1."""
    if function == "SIGMOID":
        share = (1 + np.tanh(2 * (values - center) / width)) / 2
    elif function == "LINEAR_EXACT":
        share = (values - center) / width + 0.5
    else:
        share = (values - (center - 0.5)) / max(width - 1, 1e-6) + 0.5
    return np.rint(255 * share.clip(0, 1)).astype("uint8")


def _to_8_bits(values: np.ndarray, bits: int | None = None) -> np.ndarray:
    """Scale values linearly; `bits` are those that non-negative integers have in use."""
    if values.dtype == "uint8" and bits in (None, 8):
        return values
    if not np.isfinite(values).all():
        raise ValueError("it has values that are not finite")
    low, high = float(values.min()), float(values.max())
    if np.issubdtype(values.dtype, np.integer) and low >= 0:
        low, high = 0, 2 ** max(bits or 8, int(high).bit_length()) - 1
    scaled = (values.astype("float32") - low) * (255 / ((high - low) or 1))
    return np.rint(scaled).astype("uint8")


def _require_moderate(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ValueError(TOO_LARGE)
