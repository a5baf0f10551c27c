"""TIFF of more than 8 bits, signed integers or floats, in planes, or that Pillow cannot open.

Read by tifffile, because Pillow wraps what its few types cannot hold, drops half of the bits of
colours, takes no notice of which end is white and loses the opacity that is a plane of its own. But
it has palettes, CMYK and YCbCr.
"""

import io
import logging
import math
from typing import Any

import numpy as np
import tifffile

from keras_lgmsnet.files.pixels import (
    SEVERAL_FRAMES,
    DecodedImage,
    invert,
    require_moderate,
    upright,
)

# What it gets over is no obstacle here, and what it does not is raised.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_UNSIGNED = (tifffile.SAMPLEFORMAT.UINT, tifffile.SAMPLEFORMAT.VOID)
_NUM_COLOURS: dict[int, int] = {
    tifffile.PHOTOMETRIC.MINISWHITE: 1,
    tifffile.PHOTOMETRIC.MINISBLACK: 1,
    tifffile.PHOTOMETRIC.RGB: 3,
}


def is_tiff(content: bytes) -> bool:
    """Return whether a file is TIFF, or BigTIFF."""
    return content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_beyond_pillow(content: bytes) -> bool:
    """Return whether a file is TIFF that Pillow may read wrongly.

    That is of other samples than unsigned ones of at most 8 bits, or in planes, of which Pillow
    loses the opacity.
    """
    if not is_tiff(content):
        return False
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        is_wide = bool(np.max(page.bitspersample) > 8) or page.sampleformat not in _UNSIGNED
        is_planar = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        return is_wide or (is_planar and page.samplesperpixel > 1)


def decode_tiff(content: bytes) -> DecodedImage:
    """Decode a TIFF of one grey or RGB image, with or without alpha.

    Declared bits are `BitsPerSample` where they fill no bytes (10, 12 and 14 bits are stored so),
    and a `MaxSampleValue` of all ones, such as 4095, that no value exceeds.

    Args:
        content: The file's bytes.

    Returns:
        Its pixels in the file's own type.

    Raises:
        ValueError: If it has several images, too many pixels or other channels, or ends too early.
            Of damaged bytes, tifffile raises errors of every kind.
    """
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        item_bytes = _require_one_image(file, page).itemsize
        require_moderate(page.imagewidth, page.imagelength, page.samplesperpixel * item_bytes)
        _require_whole(page, len(content))
        # (samples or 1, depth, height, width, samples or 1) to (height, width, samples)
        samples = page.asarray(squeeze=False, maxworkers=1)[:, 0]
        samples = np.concatenate(list(samples), axis=-1)
        orientation = page.tags.valueof("Orientation", 1)
        maximum = page.tags.valueof("MaxSampleValue", 0)
    samples = upright(samples, orientation)
    num_colours = _NUM_COLOURS[page.photometric]
    pixels = samples[..., 0] if num_colours == 1 else samples[..., :3]
    alpha = None
    if samples.shape[-1] > num_colours and any(page.extrasamples):
        alpha = samples[..., -1]
        opaque = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
        if tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples and alpha.min() < opaque:
            raise ValueError("its colours are multiplied by its opacity; save it without opacity")
    image = DecodedImage(pixels, alpha, _declared_bits(page, pixels, maximum))
    return invert(image) if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else image


def _require_one_image(file: tifffile.TiffFile, page: tifffile.TiffPage) -> np.dtype:
    """Return the samples' type, or raise a `ValueError` unless there is one grey or RGB image."""
    # ImageJ writes one directory for all images of a large stack.
    stacked = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    if len(file.pages) > 1 or page.imagedepth > 1 or stacked > 1:
        raise ValueError(SEVERAL_FRAMES)
    if page.dtype is None or page.dtype.kind not in "uif":
        raise ValueError(f"its samples are {page.dtype}; save it as integers or floats")
    num_colours = _NUM_COLOURS.get(page.photometric)
    # A grey one's second channel of no told meaning may be an image of its own.
    num_extra = 1 if num_colours == 3 or any(page.extrasamples) else 0
    if num_colours is None or not 0 <= page.samplesperpixel - num_colours <= num_extra:
        raise ValueError(
            "it must be grey or RGB of one image; convert it. Received: "
            f"{page.samplesperpixel} channels of {tifffile.PHOTOMETRIC(page.photometric).name}"
        )
    return page.dtype


def _require_whole(page: tifffile.TiffPage, size: int) -> None:
    """Raise a `ValueError` if pixels are missing, which tifffile leaves as memory holds them."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not page.is_contiguous and (
        len(segments) < math.prod(page.chunked)
        or any(not count or offset + count > size for offset, count in segments)
    ):
        raise ValueError("it ends before its pixels do")


def _declared_bits(page: tifffile.TiffPage, pixels: np.ndarray, maximum: Any) -> int | None:
    if pixels.dtype.kind != "u":
        return None
    largest = int(np.max(maximum))
    is_all_ones = largest & (largest + 1) == 0
    if is_all_ones and max(255, int(pixels.max())) <= largest < 2**page.bitspersample - 1:
        return largest.bit_length()
    return None if page.bitspersample in (8, 16, 32, 64) else int(page.bitspersample)
