"""Compressed frames of DICOM, decoded by imagecodecs as a plugin of pydicom's.

Of pydicom's own plugins, those that know these compressions are under the GPL, or end the process
over damaged bytes, as GDCM does.
"""

import struct

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner

_JPEG = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)

# What pydicom asks of a plugin: what it needs, and `is_available`.
DECODER_DEPENDENCIES = dict.fromkeys((*_JPEG, *_JPEG_LS), ("imagecodecs",))

# The markers of frame headers: all of C0 to CF but for tables, and JPEG-LS's.
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def is_available(syntax: str) -> bool:
    """Return whether frames of a transfer syntax are decoded here."""
    return syntax in DECODER_DEPENDENCIES


def decode_frame(frame: bytes, runner: DecodeRunner) -> bytes:
    """Decode a frame.

    Args:
        frame: The compressed frame.
        runner: What pydicom knows of it, and is told here.

    Returns:
        The pixels, channels last.

    Raises:
        ValueError: If the frame is not of the size that the file says. Of damaged bytes,
            imagecodecs raises errors of its own.
    """
    bits, height, width, samples = _read_frame_header(frame)
    channels = () if runner.samples_per_pixel == 1 else (runner.samples_per_pixel,)
    expected = (runner.rows, runner.columns, *channels)
    received = (height, width, *(() if samples == 1 else (samples,)))
    if received != expected:
        raise ValueError(f"the frame must have shape {expected}. Received: {received}")
    pixels = np.empty(expected, "uint8" if bits <= 8 else "uint16")
    if runner.transfer_syntax in _JPEG_LS:
        imagecodecs.jpegls_decode(frame, out=pixels)
    elif runner.samples_per_pixel == 1:
        imagecodecs.jpeg_decode(frame, out=pixels)
    else:  # colours as they are, for pydicom to convert
        imagecodecs.jpeg_decode(frame, colorspace="rgb", outcolorspace="rgb", out=pixels)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    runner.set_option("planar_configuration", 0)
    return pixels.tobytes()


def _read_frame_header(frame: bytes) -> tuple[int, int, int, int]:
    """Return the bits, height, width and samples that a frame tells (ISO/IEC 10918-1, B.2.2)."""
    position = 2
    while (marker := frame[position + 1]) not in _FRAME_HEADERS:
        is_fill = marker == 0xFF
        position += 1 if is_fill else 2 + int.from_bytes(frame[position + 2 : position + 4])
    return struct.unpack_from(">BHHB", frame, position + 4)
