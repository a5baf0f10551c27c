"""Images of more than 8 bits, held to what wrote them: equal, or refused by name."""

import io
import struct
import zlib
from pathlib import Path

import hypothesis
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import strategies as st

from keras_lgmsnet.files.images import read_image, undeclared_bits
from keras_lgmsnet.files.pixels import DecodedImage, to_8_bits
from tests.helpers.refusals import refused
from tests.helpers.wide_images import SHAPE, assert_close, decode, draw_pixels, few, scale

pytestmark = pytest.mark.no_backend

RNG = np.random.default_rng(0)


def tiff(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, metadata=None, **options)
    return buffer.getvalue()


# TIFF


@few
@hypothesis.given(
    dtype=st.sampled_from(["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]),
    photometric=st.sampled_from(["minisblack", "miniswhite", "rgb"]),
    planar=st.sampled_from(["contig", "separate"]),
    alpha=st.booleans(),
    compression=st.sampled_from([None, "lzw", "deflate", "packbits", "zstd"]),
    predictor=st.booleans(),
    layout=st.sampled_from([{}, {"rowsperstrip": 7}, {"tile": (16, 16)}]),
    byteorder=st.sampled_from("<>"),
    bigtiff=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tiffs_hold_what_was_written(
    dtype, photometric, planar, alpha, compression, predictor, layout, byteorder, bigtiff, seed
) -> None:
    num_colours = 3 if photometric == "rgb" else 1
    samples = draw_pixels(dtype, (num_colours + alpha, *SHAPE), seed)
    written = samples if planar == "separate" else np.moveaxis(samples, 0, -1)
    if len(samples) == 1:
        written, planar = samples[0], None
    if compression in (None, "packbits") or dtype in ("u8", "i8"):
        predictor = False  # which there is none for
    content = tiff(
        written,
        photometric=photometric,
        planarconfig=planar,
        extrasamples=["unassalpha"] if alpha else None,
        compression=compression,
        predictor=predictor,
        byteorder=byteorder,
        bigtiff=bigtiff,
        **layout,
    )
    image = decode(content)
    colours = samples[0] if num_colours == 1 else np.moveaxis(samples[:3], 0, -1)
    if photometric == "miniswhite":
        low, high = (float(colours.min()), float(colours.max()))
        if dtype.startswith("u"):
            low, high = 0, np.iinfo(dtype).max
        assert_close(to_8_bits(image), 255 - scale(colours, low, high))
    else:
        np.testing.assert_array_equal(image.pixels, colours)
        assert image.pixels.dtype == dtype
    assert (image.alpha is None) == (not alpha)
    if alpha:
        np.testing.assert_array_equal(image.alpha, samples[-1])


def test_opacity_in_a_plane_of_its_own() -> None:
    """Which Pillow reads as zeros where it is compressed."""
    grey, alpha = planes = draw_pixels("u1", (2, *SHAPE), 0)
    options = {"photometric": "minisblack", "extrasamples": ["unassalpha"]}
    image = decode(tiff(planes, planarconfig="separate", compression="lzw", **options))
    np.testing.assert_array_equal(image.pixels, grey)
    np.testing.assert_array_equal(image.alpha, alpha)


def packed_tiff(pixels: np.ndarray, bits: int, photometric: int = 1) -> bytes:
    """Return a TIFF of samples that fill no bytes, which tifffile reads but does not write."""
    places = np.arange(bits - 1, -1, -1, dtype="uint16")
    data = np.packbits((pixels[..., None] >> places & 1).reshape(len(pixels), -1), axis=1).tobytes()
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: 1, 278: height}
    tags |= {273: 8, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("photometric", [0, 1])
def test_packed_samples_declare_their_bits(bits: int, photometric: int) -> None:
    pixels = draw_pixels("u2", SHAPE, 0, bits) // 2  # a dark picture, which stays dark
    image = decode(packed_tiff(pixels, bits, photometric))
    assert image.bits == bits
    expected = scale(pixels, 0, 2**bits - 1)
    assert_close(to_8_bits(image), expected if photometric else 255 - expected)


def test_a_largest_sample_value_of_ones_declares_bits() -> None:
    pixels = draw_pixels("u2", SHAPE, 0, 9)

    def declared(maximum: int) -> int | None:
        return decode(tiff(pixels, extratags=[(281, "H", 1, maximum, False)])).bits

    assert declared(4095) == 12
    assert declared(65535) is None  # which is its default
    assert declared(4000) is None  # a statistic
    assert declared(255) is None  # which values exceed


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_white_is_zero_within_the_bits_in_use(bits: int) -> None:
    pixels = draw_pixels("u2", SHAPE, 0, bits)
    image = decode(tiff(pixels, photometric="miniswhite"))
    assert image.undeclared_bits == bits
    assert_close(to_8_bits(image), 255 - scale(pixels, 0, 2**bits - 1))
    # As part of a dataset of which other images use more.
    assert_close(to_8_bits(image, 16), 255 - scale(pixels, 0, 65535))


def test_colours_multiplied_by_opacity_are_refused() -> None:
    samples = draw_pixels("u2", (*SHAPE, 4), 0)
    with pytest.raises(ValueError, match=r"multiplied by its opacity; save it without opacity"):
        decode(tiff(samples, photometric="rgb", extrasamples=["assocalpha"]))
    samples[..., 3] = 65535
    image = decode(tiff(samples, photometric="rgb", extrasamples=["assocalpha"]))
    np.testing.assert_array_equal(image.pixels, samples[..., :3])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_wide_tiffs_are_turned_upright(orientation: int) -> None:
    """As Pillow turns those of 8 bits."""
    wide, narrow = (
        decode(
            tiff(
                draw_pixels("u1", SHAPE, 0).astype(dtype),
                extratags=[(274, "H", 1, orientation, False)],
            )
        ).pixels
        for dtype in ("u2", "u1")
    )
    np.testing.assert_array_equal(wide, narrow)


NO_PIXELS = "it ends before its pixels do"
REFUSED_TIFFS = {
    "pages": (tiff(np.zeros((2, 9, 9), "u2"), photometric="minisblack"), "it has several frames"),
    "complex": (tiff(np.zeros(SHAPE, "c8")), "its samples are complex64; save it as integers or"),
    "two grey channels": (
        tiff(np.zeros((*SHAPE, 2), "u2"), photometric="minisblack", planarconfig="contig"),
        "it must be grey or RGB of one image; convert it. Received: 2 channels of MINISBLACK",
    ),
    "five channels": (
        tiff(np.zeros((5, *SHAPE), "f4"), photometric="minisblack", planarconfig="separate"),
        "Received: 5 channels of MINISBLACK",
    ),
    "CMYK": (
        tiff(np.zeros((*SHAPE, 4), "u2"), photometric="separated"),
        "Received: 4 channels of SEPARATED",
    ),
    "CMYK of 8 bits in planes": (
        tiff(np.zeros((4, *SHAPE), "u1"), photometric="separated", planarconfig="separate"),
        "it must be grey or RGB of one image; convert it. Received: 4 channels of SEPARATED",
    ),
    "8 bits multiplied by opacity, in planes": (
        tiff(
            np.zeros((4, *SHAPE), "u1"),
            photometric="rgb",
            planarconfig="separate",
            extrasamples=["assocalpha"],
        ),
        "its colours are multiplied by its opacity; save it without opacity",
    ),
    "cut short": (tiff(RNG.random((64, 64)))[:9000], "cannot be read as an image: "),
    "strips cut short": (
        (lambda whole: whole[: len(whole) // 2])(
            tiff(RNG.integers(0, 9999, (64, 64), "u2"), compression="lzw", rowsperstrip=8)
        ),
        NO_PIXELS,
    ),
    "NaN": (tiff(np.full(SHAPE, np.nan)), "it has values that are not finite"),
    "beyond floats": (tiff(np.array([[-1e308, 1e308]])), "it has values that are not finite"),
}


@pytest.mark.parametrize("header", [b"II\0\x2a", b"MM\x2a\0"])
def test_wide_tiffs_of_a_header_that_only_pillow_forgives(header: bytes) -> None:
    byteorder = "<" if header.startswith(b"II") else ">"
    content = tiff(draw_pixels("u2", SHAPE, 0), byteorder=byteorder)
    with pytest.raises(ValueError, match=r"header of its TIFF is damaged; save it again"):
        decode(header + content[4:])


@pytest.mark.parametrize("kind", REFUSED_TIFFS)
def test_refused_tiffs(kind: str, tmp_path: Path) -> None:
    content, message = REFUSED_TIFFS[kind]
    (tmp_path / "a.tif").write_bytes(content)
    with refused(rf"a\.tif cannot be read as an image: .*{message}|a\.tif {message}"):
        read_image(tmp_path / "a.tif")


def test_a_stack_of_imagej_in_one_directory_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 9, 9), "u2"), imagej=True)
    with refused("it has several frames"):
        read_image(tmp_path / "a.tif")


# PNG


def png(samples: np.ndarray, chunks: bytes = b"") -> bytes:
    """Return a PNG with further chunks before its pixels."""
    content = imagecodecs.png_encode(samples)
    return content[:33] + chunks + content[33:]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_pngs_hold_what_was_written(channels: int) -> None:
    samples = draw_pixels("u2", (*SHAPE, channels), channels)
    image = decode(png(samples if channels > 1 else samples[..., 0]))
    colours = samples[..., :3] if channels > 2 else samples[..., 0]
    np.testing.assert_array_equal(image.pixels, colours)
    if channels in (2, 4):
        np.testing.assert_array_equal(image.alpha, samples[..., -1])
    else:
        assert image.alpha is None
    assert_close(to_8_bits(image), scale(colours, 0, 65535))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_pngs_are_turned_upright(orientation: int) -> None:
    """As Pillow turns those of 8 bits."""
    pixels = draw_pixels("u1", SHAPE, 0)
    exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation, 0, 0])
    turned = chunk(b"eXIf", exif + bytes(4))
    wide = decode(png(pixels.astype("u2") * 257, turned))
    narrow = decode(png(pixels, turned))
    np.testing.assert_array_equal(to_8_bits(wide), narrow.pixels)
    assert (wide.pixels.shape == SHAPE) == (orientation < 5)


def test_a_transparent_colour_of_16_bits_is_one_value() -> None:
    samples = np.uint16([[256, 257, 258]])
    image = decode(png(samples, chunk(b"tRNS", struct.pack(">H", 257))))
    np.testing.assert_array_equal(image.pixels, samples)
    np.testing.assert_array_equal(image.alpha, [[65535, 0, 65535]])


@pytest.mark.parametrize(
    ("values", "expected", "declared"),
    [
        ([0, 2047], [0, 127], 12),  # unscaled
        ([0, 2047 << 4], [0, 127], 16),  # scaled with zeros below
        ([0, 2047 << 4 | 2047 >> 8], [0, 127], 16),  # scaled as the standard recommends
        ([0, 256 << 4], [0, 16], 16),
        ([0, 4097], [0, 16], 16),  # neither, so more than 12 bits are in use
    ],
)
def test_significant_bits_of_a_png(values, expected, declared) -> None:
    image = decode(png(np.uint16([values]), chunk(b"sBIT", b"\x0c")))
    assert image.bits == declared
    assert_close(to_8_bits(image), [expected], 1)


# Bits that files do not declare


@pytest.mark.parametrize(
    ("largest", "bits"), [(1, 8), (255, 8), (256, 10), (2047, 12), (2048, 12), (4096, 14)]
)
def test_undeclared_bits_are_even(largest: int, bits: int) -> None:
    assert DecodedImage(np.uint16([[0, largest]])).undeclared_bits == bits


def test_one_pixel_more_does_not_halve_a_picture(tmp_path: Path) -> None:
    for largest in (2047, 2048):
        (tmp_path / f"{largest}.png").write_bytes(png(np.uint16([[0, 1024, largest]])))
        assert read_image(tmp_path / f"{largest}.png")[0, :, 0].tolist() == [0, 64, largest // 16]


def test_a_dataset_has_one_scale(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(np.uint16([[0, 1000]])))
    assert undeclared_bits(tmp_path / "a.png") == 10
    assert read_image(tmp_path / "a.png")[0, 1, 0] == 249
    assert read_image(tmp_path / "a.png", 12)[0, 1, 0] == 62
    assert read_image(tmp_path / "a.png", 8)[0, 1, 0] == 249  # never beyond white


def test_colours_of_12_bits_are_as_bright_as_grey(tmp_path: Path) -> None:
    values = np.uint16([[0, 1000, 4095]])
    for name, content in (
        ("a.png", png(np.repeat(values[..., None], 3, -1))),
        ("a.tif", tiff(np.repeat(values[..., None], 3, -1), photometric="rgb")),
        ("b.tif", tiff(values)),
    ):
        (tmp_path / name).write_bytes(content)
        assert read_image(tmp_path / name)[0, :, 1].tolist() == [0, 62, 255]


@pytest.mark.parametrize("content", [tiff(np.zeros(SHAPE, "u1")), tiff(np.zeros(SHAPE, "f4"))])
def test_bytes_and_floats_leave_no_bits_open(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    assert undeclared_bits(tmp_path / "a.tif") is None


# Values that others are lost beside


def draw_photo(
    dtype: str = "float32", low: float = 0, high: float = 1, size: tuple[int, int] = (60, 80)
) -> np.ndarray:
    """Return a smooth picture of many values."""
    rows, columns = np.indices(size)
    return (low + (high - low) * (np.sin(rows / 9) * np.cos(columns / 13) + 1) / 2).astype(dtype)


def with_fill(pixels: np.ndarray, fill: float, count: int = 1) -> np.ndarray:
    return np.where(np.arange(pixels.size).reshape(pixels.shape) < count, fill, pixels).astype(
        pixels.dtype
    )


@pytest.mark.parametrize("count", [1, 4000])  # of 4800
@pytest.mark.parametrize(
    ("pixels", "fill", "told"),
    [
        (draw_photo(), -9999, "-9999 among values such as 0\\."),
        (draw_photo(), 65535, "65535 among"),
        (draw_photo("float16"), -65504, "-65504 among"),
        (draw_photo("float64"), -1e31, "-1e\\+31 among"),
        (draw_photo("int16", 0, 100), -32768, "-32768 among values such as"),
        (draw_photo("int32", -500, 500), 2**31 - 1, r"2\.1475e\+09 among"),
        (np.repeat(draw_photo()[..., None], 3, -1), -9999, "-9999 among"),
        (draw_photo(size=(600, 800)), -9999, "-9999 among"),
    ],
)
def test_a_fill_that_leaves_no_picture_is_refused(pixels, fill, told, count, tmp_path) -> None:
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    (tmp_path / "a.tif").write_bytes(tiff(with_fill(pixels, fill, count), photometric=photometric))
    with refused(rf"a\.tif cannot be read as an image: .*are lost; replace it by .*: {told}"):
        read_image(tmp_path / "a.tif")


def test_broken_pixels_that_leave_no_picture_are_refused() -> None:
    pixels = draw_photo(size=(300, 400))
    pixels[7, 5:15] = np.arange(1000, 2000, 100)
    with pytest.raises(ValueError, match=r"Received: 1900 among values such as 0\."):
        to_8_bits(DecodedImage(pixels))


@pytest.mark.parametrize("missing", [-3.4e38, 1e35])
def test_a_mark_of_missing_values_is_refused_among_few(missing: float) -> None:
    with pytest.raises(ValueError, match=r"beside which all others are lost"):
        to_8_bits(DecodedImage(np.float32([[0, 1, missing]])))


@pytest.mark.parametrize(
    "pixels",
    [
        draw_photo(),
        with_fill(draw_photo(), 100, 9),  # a highlight
        with_fill(draw_photo("int16", -1024, 3000), -32768, 900),  # a scan in a circle
        with_fill(draw_photo("int16", 0, 4000), -1),
        with_fill(np.zeros((60, 80), "float32"), 1),  # masks
        with_fill(np.zeros((60, 80), "int16"), -9999),
        np.zeros((60, 80), "float32"),  # blank
        np.full((60, 80), -0.25),
        draw_photo(low=1e6, high=1e6 + 1),
        np.float32([[-1]]),
        draw_photo("float16", -65504, 0),
        np.exp(8 * draw_photo()),  # a wide range
        np.where(draw_photo() > 0.99, 3000 * draw_photo(), draw_photo()),  # small bright cells
        np.random.default_rng(0).lognormal(size=(60, 80)),
    ],
)
def test_pictures_of_a_wide_range_are_read(pixels: np.ndarray) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    expected = scale(pixels, low, high if high > low else low + 1)
    assert_close(to_8_bits(DecodedImage(pixels)), expected)
