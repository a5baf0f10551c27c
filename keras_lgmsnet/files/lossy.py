"""Whether an image file's compression is lossy, so that its values are but near the picture's."""

import io

import numpy as np
import PIL.Image
import tifffile
from PIL.JpegImagePlugin import JpegImageFile

from keras_lgmsnet.files.tiff import is_tiff

_LOSSLESS_TIFF = {
    tifffile.COMPRESSION[name]
    for name in (
        "NONE", "CCITTRLE", "CCITTFAX3", "CCITTFAX4", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS",
        "LZMA", "ZSTD", "PNG",
    )
}  # fmt: skip


def find_lossy_black(content: bytes) -> int | None:
    """Return what black is decoded to in an image file of lossy compression.

    Args:
        content: The file's bytes, which can be decoded.

    Returns:
        Of a JPEG, 0 to about 8, as its quality has it; 0 of a WebP or TIFF that is lossy; `None` of
        any other file, whose values are the picture's own.
    """
    if is_tiff(content):
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            return None if file.pages.first.compression in _LOSSLESS_TIFF else 0
    if content.startswith(b"RIFF"):
        return 0 if _is_lossy_webp(content) else None
    return _jpeg_black(content) if content.startswith(b"\xff\xd8\xff") else None


def _is_lossy_webp(content: bytes) -> bool:
    """Return whether the pixels are in the chunk for lossy ones."""
    start = 12
    while chunk := content[start : start + 4]:
        if chunk in (b"VP8 ", b"VP8L"):
            return chunk == b"VP8 "
        length = int.from_bytes(content[start + 4 : start + 8], "little")
        start += 8 + length + length % 2
    return False


def _jpeg_black(content: bytes) -> int:
    """Return what a JPEG's black is decoded to, which depends on its quality: 0 to about 8."""
    with JpegImageFile(io.BytesIO(content)) as image:
        tables = image.quantization
    with io.BytesIO() as file:
        PIL.Image.new("L", (8, 8)).save(file, "JPEG", qtables=[tables[min(tables)]])
        file.seek(0)
        return int(np.asarray(JpegImageFile(file)).max())
