"""PNG of 16 bits, of whose colours and opacity Pillow keeps the upper 8."""

import imagecodecs

from keras_lgmsnet.files.pixels import DecodedImage, upright


def is_16_bit_png(content: bytes) -> bool:
    """Return whether a file is PNG of 16 bits a sample, by its first 25 bytes."""
    return content.startswith(b"\x89PNG\r\n\x1a\n") and content[24:25] == b"\x10"


def decode_16_bit_png(content: bytes, orientation: int) -> DecodedImage:
    """Decode a PNG of 16 bits a sample, whose size has been found moderate.

    Declared bits are those of the chunk `sBIT`: the values in use are scaled to 16 bits, as the
    standard has it, and only of a file that was left unscaled are they the lower ones.

    Args:
        content: The file's bytes.
        orientation: EXIF's.

    Raises:
        imagecodecs.PngError: If it is damaged.
    """
    samples = imagecodecs.png_decode(content)
    samples = upright(samples if samples.ndim == 3 else samples[..., None], orientation)
    has_alpha = samples.shape[-1] in (2, 4)
    pixels = samples[..., : 3 if samples.shape[-1] > 2 else 1]
    bits = _significant_bits(content)
    if bits is not None:
        # What was scaled repeats its upper bits below the significant ones, or has zeros there.
        is_unscaled = int(pixels.max()) < 2**bits and (pixels & (2 ** (16 - bits) - 1)).any()
        bits = bits if is_unscaled else 16
    return DecodedImage(
        pixels[..., 0] if pixels.shape[-1] == 1 else pixels,
        samples[..., -1] if has_alpha else None,
        bits,
    )


def _significant_bits(content: bytes) -> int | None:
    """Return what the chunk `sBIT` says of the channel that has most, 1 to 16; `None` without."""
    start = 8
    while content[start + 4 : start + 8] not in (b"IDAT", b""):
        length = int.from_bytes(content[start : start + 4], "big")
        if content[start + 4 : start + 8] == b"sBIT":
            return min(16, max(content[start + 8 : start + 8 + length], default=16))
        start += 12 + length
    return None
