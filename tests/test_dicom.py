"""DICOM of one image, held to pydicom: equal, or refused by name."""

import io
import re
import struct
import tracemalloc
from functools import partial
from pathlib import Path

import hypothesis
import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from keras_lgmsnet.files.images import read_image
from keras_lgmsnet.files.pixels import to_8_bits
from tests.helpers.pictures import save_dicom
from tests.helpers.refusals import cut, refused
from tests.helpers.wide_images import SHAPE, assert_close, decode, draw_pixels, few, scale

pytestmark = pytest.mark.no_backend

RNG = np.random.default_rng(0)


def dicom(values: np.ndarray, **elements) -> bytes:
    with io.BytesIO() as buffer:
        save_dicom(buffer, values, **elements)
        return buffer.getvalue()


def lookup_table(table: np.ndarray, first: int, bits: int, vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(table) % 2**16, first, bits])
    item.add_new("LUTData", vr, table.tolist() if vr == "US" else table.tobytes())
    return item


stored_values = st.fixed_dictionaries(
    {
        "bits": st.sampled_from([8, 10, 12, 16]),
        "signed": st.booleans(),
        "seed": st.integers(0, 99),
    }
)


def draw_stored(bits: int, signed: bool, seed: int) -> tuple[np.ndarray, dict]:
    values = draw_pixels("u2", SHAPE, seed, bits).astype("i4") - signed * 2 ** (bits - 1)
    size = 1 if bits == 8 else 2
    return values.astype(f"{'i' if signed else 'u'}{size}"), {"BitsStored": bits}


@few
@hypothesis.given(
    stored=stored_values,
    slope=st.sampled_from([None, 1, 2, 0.25, -1, -10]),
    intercept=st.sampled_from([0, -1024, 3000.5]),
    function=st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    width=st.sampled_from([1, 2, 400, 5000.5]),
    center=st.sampled_from([0, 40.5, -600, 2048]),
    further=st.booleans(),
    enhanced=st.sampled_from([None, "SharedFunctionalGroups", "PerFrameFunctionalGroups"]),
    interpretation=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
)
def test_windows_are_those_of_pydicom(
    stored, slope, intercept, function, width, center, further, enhanced, interpretation
) -> None:
    values, elements = draw_stored(**stored)
    rescale = {} if slope is None else {"RescaleSlope": slope, "RescaleIntercept": intercept}
    window = {
        "WindowCenter": [center, 7] if further else center,
        "WindowWidth": [width, 3] if further else width,
        **({} if function is None else {"VOILUTFunction": function}),
    }
    content = dicom(
        values, **elements, **rescale, **window, PhotometricInterpretation=interpretation
    )
    dataset = pydicom.dcmread(io.BytesIO(content))
    with np.errstate(over="ignore"):
        shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    # pydicom's scale: what the stored bits reach, by the rescale, first what 0 % becomes.
    low = -(2 ** (stored["bits"] - 1)) if stored["signed"] else 0
    low, high = (
        end * (slope or 1) + (intercept if slope else 0)
        for end in (low, low + 2 ** stored["bits"] - 1)
    )
    expected = scale(shown, low, high)
    if enhanced:
        group = Dataset()
        for macro, items in (
            ("PixelValueTransformationSequence", rescale),
            ("FrameVOILUTSequence", window),
        ):
            item = Dataset()
            for name, value in items.items():
                setattr(item, name, value)
            setattr(group, macro, [item])
        content = dicom(
            values,
            **elements,
            **{f"{enhanced}Sequence": [group]},
            NumberOfFrames=1,
            PhotometricInterpretation=interpretation,
        )
    image = to_8_bits(decode(content))
    assert_close(image, 255 - expected if interpretation == "MONOCHROME1" else expected)


@pytest.mark.parametrize(("slope", "intercept"), [(2, 0), (-0.5, 0), (1, -1024)])
def test_of_a_slope_or_an_intercept_alone_the_other_is_neutral(slope, intercept) -> None:
    values = draw_pixels("u2", SHAPE, 0, 12)
    window = {"WindowCenter": 40, "WindowWidth": 4000}
    alone = {"RescaleIntercept": intercept} if intercept else {"RescaleSlope": slope}
    both = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    expected = decode(dicom(values, **window, **both)).pixels
    np.testing.assert_array_equal(decode(dicom(values, **window, **alone)).pixels, expected)
    assert (decode(dicom(values, **window)).pixels != expected).any()


def test_a_window_of_no_width_is_none() -> None:
    content = dicom(np.uint16([[0, 1000, 4095]]), BitsStored=12, WindowCenter=0, WindowWidth=0)
    assert to_8_bits(decode(content)).tolist() == [[0, 62, 255]]


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_windows_narrower_than_one(function: str) -> None:
    window = {"WindowCenter": 5, "WindowWidth": 0.5, "VOILUTFunction": function}
    content = dicom(np.uint8([[4, 6]]), **window)
    assert decode(content).pixels.tolist() == [[0, 255]]
    with pytest.raises(ValueError, match=r"Window Width must be greater than 0"):
        decode(dicom(np.uint8([[4, 6]]), **{**window, "WindowWidth": -0.5}))


@few
@hypothesis.given(
    stored=stored_values,
    slope=st.sampled_from([None, 1, 0.25, -1, -10]),
    interpretation=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    shape=st.sampled_from([None, "IDENTITY", "INVERSE"]),
)
def test_without_a_window_the_bits_stored_are_shown(stored, slope, interpretation, shape) -> None:
    values, elements = draw_stored(**stored)
    if slope is not None:
        elements |= {"RescaleSlope": slope, "RescaleIntercept": 100}
    if shape is not None:
        elements["PresentationLUTShape"] = shape
    content = dicom(values, **elements, PhotometricInterpretation=interpretation)
    dataset = pydicom.dcmread(io.BytesIO(content))
    shown = apply_modality_lut(dataset.pixel_array, dataset)
    low, high = float(values.min()), float(values.max())
    if not stored["signed"]:
        low, high = 0, 2 ** stored["bits"] - 1
    low, high = sorted(end * (slope or 1) + (100 if slope else 0) for end in (low, high))
    expected = scale(shown, low, high)
    inverse = interpretation == "MONOCHROME1" or shape == "INVERSE"
    assert_close(to_8_bits(decode(content)), 255 - expected if inverse else expected)


@few
@hypothesis.given(
    seed=st.integers(0, 99),
    bits=st.sampled_from([8, 12, 16]),
    first=st.sampled_from([0, 100]),
    entries=st.sampled_from([256, 2**12, 2**16]),
    depth=st.sampled_from([8, 10, 12, 16]),
    vr=st.sampled_from(["US", "OW"]),
    of=st.sampled_from(["ModalityLUTSequence", "VOILUTSequence"]),
)
def test_lookup_tables_are_those_of_pydicom(seed, bits, first, entries, depth, vr, of) -> None:
    """But for those that pydicom does not apply, whose rule is the same: see PS3.3 C.11.1.1.1."""
    values, elements = draw_stored(bits, False, seed)
    table = np.random.default_rng(seed).integers(0, 2**depth, entries, "uint16")
    if vr == "US" and entries == 2**16:
        vr = "OW"  # as a list would be too long
    content = dicom(values, **elements, **{of: [lookup_table(table, first, depth, vr)]})
    expected = table[np.clip(values.astype(int) - first, 0, entries - 1)]
    dataset = pydicom.dcmread(io.BytesIO(content))
    apply = apply_modality_lut if of == "ModalityLUTSequence" else apply_voi_lut
    if depth in (8, 16) and not (depth == 8 and entries > 256):
        independent = apply(dataset.pixel_array.astype("int32"), dataset)
        if depth > 8 or of == "ModalityLUTSequence":
            np.testing.assert_array_equal(independent, expected)
    image = decode(content)
    assert image.bits == depth
    np.testing.assert_array_equal(image.pixels, expected)


def test_a_voi_table_follows_the_modality_and_goes_before_a_window() -> None:
    values = np.uint16([[0, 1000, 2000]])
    table = np.arange(0, 4096, 2, dtype="uint16")[::-1].copy()
    rescaled = {"RescaleSlope": 0.5, "RescaleIntercept": -24, "WindowCenter": 1, "WindowWidth": 2}
    content = dicom(values, VOILUTSequence=[lookup_table(table, -24, 12)], **rescaled)
    # -24, 476 and 976 are the table's entries 0, 500 and 1000.
    np.testing.assert_array_equal(decode(content).pixels, [[4094, 3094, 2094]])


def test_a_negative_first_entry_written_without_a_sign() -> None:
    item = lookup_table(np.uint16([10, 20, 30]), 2**16 - 2, 8)
    content = dicom(np.int16([[-2, -1, 0, 9]]), VOILUTSequence=[item])
    np.testing.assert_array_equal(decode(content).pixels, [[10, 20, 30, 30]])


def test_a_table_that_is_too_short_is_refused() -> None:
    item = lookup_table(np.uint16([1, 2]), 0, 16)
    item.LUTDescriptor = [3, 0, 16]
    with pytest.raises(ValueError, match=r"lookup table must have 3 entries. Received: 2"):
        decode(dicom(np.uint8([[0, 1]]), ModalityLUTSequence=[item]))


def test_signed_values_without_a_window() -> None:
    # Of 12 stored bits, those above 0 reach 2047.
    image = decode(dicom(np.int16([[0, 1023, 2047]]), BitsStored=12))
    assert to_8_bits(image).tolist() == [[0, 127, 255]]
    # 16 of 16 declare nothing.
    image = decode(dicom(np.int16([[0, 1024, 4095]])))
    assert (image.bits, image.undeclared_bits) == (None, 12)
    assert to_8_bits(image).tolist() == [[0, 64, 255]]
    # What lies beyond the picture does not count.
    padded = dicom(np.int16([[-2000, 0, 1024, 4095]]), PixelPaddingValue=-2000)
    assert to_8_bits(decode(padded)).tolist() == [[0, 0, 64, 255]]


@pytest.mark.parametrize("limit", [None, -1990])
def test_padding_written_without_a_sign(limit: int | None) -> None:
    """As some devices write it, of the value representation US beside signed pixels."""
    dataset = pydicom.dcmread(io.BytesIO(dicom(np.int16([[-2000, 0, 1024, 4095]]))))
    names = ["PixelPaddingValue", "PixelPaddingRangeLimit"]
    values = [-2000] if limit is None else [-2000, limit]
    for name, value in zip(names, values, strict=False):
        dataset.add_new(name, "US", value + 2**16)
    with io.BytesIO() as buffer:
        dataset.save_as(buffer)
        assert to_8_bits(decode(buffer.getvalue())).tolist() == [[0, 0, 64, 255]]


@few
@hypothesis.given(
    bits=st.sampled_from([8, 10, 12, 16]), planar=st.integers(0, 1), seed=st.integers(0, 99)
)
def test_colours_are_scaled_by_the_bits_stored(bits: int, planar: int, seed: int) -> None:
    samples = draw_pixels("u2", (*SHAPE, 3), seed, bits) // 2  # a dark picture, which stays dark
    stored = samples.astype("u1" if bits == 8 else "u2")
    elements = {"BitsStored": bits, "PlanarConfiguration": planar}
    if planar:
        elements["PixelData"] = np.moveaxis(stored, -1, 0).tobytes()
    image = decode(dicom(stored, **elements))
    np.testing.assert_array_equal(image.pixels, samples)
    assert_close(to_8_bits(image), scale(samples, 0, 2**bits - 1))


@few
@hypothesis.given(
    bits=st.sampled_from([8, 16]),
    stored_bits=st.sampled_from([8, 12]),
    first=st.sampled_from([0, 50]),
    entries=st.sampled_from([200, 256, 2**12]),
    alpha=st.booleans(),
    seed=st.integers(0, 99),
)
def test_palettes_are_those_of_pydicom(bits, stored_bits, first, entries, alpha, seed) -> None:
    values, elements = draw_stored(stored_bits, False, seed)
    rng = np.random.default_rng(seed)
    elements["PhotometricInterpretation"] = "PALETTE COLOR"
    tables = []
    for color in ("Red", "Green", "Blue", *(["Alpha"] if alpha else [])):
        tables.append(rng.integers(0, 2 ** (bits - 1), entries, f"uint{bits}"))  # dark
        if color != "Alpha":
            elements[f"{color}PaletteColorLookupTableDescriptor"] = [entries, first, bits]
        elements[f"{color}PaletteColorLookupTableData"] = tables[-1].tobytes()
    content = dicom(values, **elements)
    expected = np.stack(tables, -1)[np.clip(values.astype(int) - first, 0, entries - 1)]
    if bits == 16 or stored_bits == 8:  # otherwise pydicom's count starts again from 0
        dataset = pydicom.dcmread(io.BytesIO(content))
        np.testing.assert_array_equal(apply_color_lut(dataset.pixel_array, dataset), expected)
    image = decode(content)
    np.testing.assert_array_equal(image.pixels, expected[..., :3])
    if alpha:
        np.testing.assert_array_equal(image.alpha, expected[..., 3])
    assert_close(to_8_bits(image), scale(expected[..., :3], 0, 2**bits - 1))


def test_a_palette_in_segments() -> None:
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for color, end in (("Red", 90), ("Green", 30), ("Blue", 0)):
        elements[f"{color}PaletteColorLookupTableDescriptor"] = [4, 7, 8]
        # A value of 0, then 3 on a line from there.
        elements[f"Segmented{color}PaletteColorLookupTableData"] = bytes([0, 1, 0, 1, 3, end])
    image = decode(dicom(np.uint16([[0, 7, 8, 9, 10, 300]]), **elements))
    assert image.pixels[0, :, 0].tolist() == [0, 0, 30, 60, 90, 90]
    assert image.pixels[0, :, 1].tolist() == [0, 0, 10, 20, 30, 30]


def encode_lossless_jpeg(pixels: np.ndarray, bits: int, predictor: int = 1) -> bytes:
    return imagecodecs.jpeg_encode(
        pixels,
        lossless=True,
        predictor=predictor,
        bitspersample=bits,
        **({"colorspace": "rgb", "outcolorspace": "rgb"} if pixels.ndim == 3 else {}),
    )


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        *((pydicom.uid.JPEGLossless, partial(encode_lossless_jpeg, predictor=p)) for p in (2, 7)),
        (pydicom.uid.JPEGLosslessSV1, encode_lossless_jpeg),
        (pydicom.uid.JPEGLSLossless, lambda pixels, bits: imagecodecs.jpegls_encode(pixels)),
        (
            pydicom.uid.JPEG2000Lossless,
            lambda pixels, bits: imagecodecs.jpeg2k_encode(
                pixels, codecformat="j2k", level=0, bitspersample=bits
            ),
        ),
    ],
)
@pytest.mark.parametrize(
    ("bits", "signed", "channels"),
    [(8, False, 1), (12, False, 1), (12, True, 1), (16, False, 1), (16, True, 1), (8, False, 3)],
)
def test_compressed_dicom(syntax, encode, bits: int, signed: bool, channels: int) -> None:
    pixels = draw_pixels("u2", (*SHAPE, channels) if channels > 1 else SHAPE, bits, bits)
    pixels = pixels.astype("u1" if bits == 8 else "u2")
    values = (pixels << (16 - bits)).view("int16") >> (16 - bits) if signed else pixels
    # Only JPEG 2000 has a sign of its own.
    frame = encode(values if syntax == pydicom.uid.JPEG2000Lossless else pixels, bits)
    elements = {"PixelData": pydicom.encaps.encapsulate([frame]), "BitsStored": bits}
    image = decode(dicom(values, syntax=syntax, **elements))
    np.testing.assert_array_equal(image.pixels, values)


def test_jpeg_of_12_bits_in_dicom() -> None:
    pixels = np.linspace(0, 4095, 35 * 20).astype("uint16").reshape(SHAPE)
    frame = imagecodecs.jpeg_encode(pixels, level=98, bitspersample=12)
    content = dicom(
        pixels,
        syntax=pydicom.uid.JPEGExtended12Bit,
        PixelData=pydicom.encaps.encapsulate([frame]),
        BitsStored=12,
    )
    np.testing.assert_allclose(decode(content).pixels, pixels, atol=24)


def test_a_frame_of_another_size_is_refused() -> None:
    """Over which GDCM would end the process."""
    frame = imagecodecs.jpegls_encode(np.zeros((20, 30), "uint8"))
    content = dicom(
        np.zeros((20, 35), "uint8"),
        syntax=pydicom.uid.JPEGLSLossless,
        PixelData=pydicom.encaps.encapsulate([frame]),
    )
    with pytest.raises(ValueError, match=r"must have shape \(20, 35\)\. Received: \(20, 30\)"):
        decode(content)


@pytest.mark.parametrize("shape", [SHAPE[::-1], (20, 70), (10, 35)])
@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (pydicom.uid.JPEGBaseline8Bit, imagecodecs.jpeg_encode),
        (pydicom.uid.JPEG2000Lossless, partial(imagecodecs.jpeg2k_encode, codecformat="j2k")),
    ],
)
def test_a_frame_for_pillow_of_another_size_is_refused(syntax, encode, shape) -> None:
    def compressed(frame: bytes) -> bytes:
        return dicom(
            np.zeros(SHAPE, "uint8"),
            syntax=syntax,
            PixelData=pydicom.encaps.encapsulate([frame]),
        )

    assert decode(compressed(encode(draw_pixels("u1", SHAPE, 0)))).pixels.shape == SHAPE
    told = re.escape(f"must have shape {SHAPE}. Received: {shape}")
    with pytest.raises(ValueError, match=told):
        decode(compressed(encode(draw_pixels("u1", shape, 0))))
    with pytest.raises(ValueError, match="its frame is no JPEG; save it uncompressed"):
        decode(compressed(bytes(20)))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("syntax", [pydicom.uid.JPEGLosslessSV1, pydicom.uid.JPEGLSLossless])
def test_a_frame_that_claims_to_be_huge_is_refused_undecoded(syntax: str, bits: int) -> None:
    values = draw_pixels("u1" if bits == 8 else "u2", SHAPE, 0, bits)
    is_ls = syntax == pydicom.uid.JPEGLSLossless
    frame = imagecodecs.jpegls_encode(values) if is_ls else encode_lossless_jpeg(values, bits)
    size = struct.pack(">BHH", bits, *SHAPE)
    assert frame.count(size) == 1
    huge = frame.replace(size, struct.pack(">BHH", bits, 20000, 20000))

    def compressed(frame: bytes) -> bytes:
        return dicom(values, syntax=syntax, PixelData=pydicom.encaps.encapsulate([frame]))

    np.testing.assert_array_equal(decode(compressed(frame)).pixels, values)
    content = compressed(huge)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"shape \(20, 35\)\. Received: \(20000, 20000\)"):
            decode(content)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_fill_bytes_before_the_header_of_a_frame() -> None:
    values = draw_pixels("u2", SHAPE, 0)
    frame = encode_lossless_jpeg(values, 16).replace(b"\xff\xc3", b"\xff\xff\xff\xc3", 1)
    content = dicom(
        values,
        syntax=pydicom.uid.JPEGLosslessSV1,
        PixelData=pydicom.encaps.encapsulate([frame]),
    )
    np.testing.assert_array_equal(decode(content).pixels, values)


REFUSED_DICOMS = {
    "other colours": (
        dicom(RNG.integers(0, 256, (4, 4, 3), "uint8"), PhotometricInterpretation="HSV"),
        "it must be grey or RGB; convert it. Received: HSV",
    ),
    "presentation table": (
        dicom(
            np.zeros((4, 4), "u1"),
            PresentationLUTSequence=[lookup_table(np.arange(256, dtype="u2"), 0, 8)],
        ),
        "it has a presentation lookup table; save it without",
    ),
    "damaged compression": (
        dicom(
            np.zeros((4, 4), "u1"),
            syntax=pydicom.uid.JPEGLSLossless,
            PixelData=pydicom.encaps.encapsulate([bytes(20)]),
        ),
        "its pixels, JPEG-LS Lossless Image Compression, cannot be decoded; save it uncompressed",
    ),
    "floats": (
        dicom(np.zeros((4, 4), "u1"), FloatPixelData=bytes(64), PixelData=None),
        "its pixels are floats; save it as a TIFF",
    ),
    "narrow window": (
        dicom(np.zeros((4, 4), "u1"), WindowCenter=0, WindowWidth=0.5),
        "Window Width must be greater than or equal to 1",
    ),
    "unknown function": (
        dicom(np.zeros((4, 4), "u1"), WindowCenter=0, WindowWidth=5, VOILUTFunction="CUBIC"),
        "Unsupported .* VOI LUT Function value 'CUBIC'",
    ),
    **{
        f"{channels} channels of bits that are not the lowest": (
            dicom(np.full((4, 4, channels), 80, "u2").squeeze(), BitsStored=12, HighBit=15),
            "its HighBit must be 11, as of 12 stored bits the lowest are read; save it so. "
            "Received: 15",
        )
        for channels in (1, 3)
    },
    "cut short": (cut(dicom(np.zeros((40, 40), "u2"))), ""),
}


@pytest.mark.parametrize("kind", REFUSED_DICOMS)
def test_refused_dicom(kind: str, tmp_path: Path) -> None:
    content, message = REFUSED_DICOMS[kind]
    (tmp_path / "a.dcm").write_bytes(content)
    with refused(rf"a\.dcm cannot be read as an image: .*{message}"):
        read_image(tmp_path / "a.dcm")
