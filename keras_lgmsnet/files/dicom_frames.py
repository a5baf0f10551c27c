"""Compressed frames of DICOM, decoded by imagecodecs as a plugin of pydicom's.

Of pydicom's own plugins, those that know these compressions are under the GPL, or end the process
over damaged bytes, as GDCM does.
"""

import imagecodecs
from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner

_JPEG = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)

# What pydicom asks of a plugin: what it needs, and `is_available`.
DECODER_DEPENDENCIES = dict.fromkeys((*_JPEG, *_JPEG_LS), ("imagecodecs",))


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
    if runner.transfer_syntax in _JPEG_LS:
        pixels = imagecodecs.jpegls_decode(frame)
    elif runner.samples_per_pixel == 1:
        pixels = imagecodecs.jpeg_decode(frame)
    else:  # colours as they are, for pydicom to convert
        pixels = imagecodecs.jpeg_decode(frame, colorspace="rgb", outcolorspace="rgb")
    channels = () if runner.samples_per_pixel == 1 else (runner.samples_per_pixel,)
    expected = (runner.rows, runner.columns, *channels)
    if pixels.shape != expected:
        raise ValueError(f"the frame must have shape {expected}. Received: {pixels.shape}")
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    runner.set_option("planar_configuration", 0)
    return pixels.tobytes()
