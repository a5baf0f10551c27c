"""Image files: every kind that users have, and what is refused."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pytest

from keras_lgmsnet.files.images import FORMATS, read_image
from tests.helpers.pictures import huge_png, save_dicom

pytestmark = pytest.mark.no_backend

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype="uint8")
GREY = RNG.integers(0, 256, (6, 9), dtype="uint8")


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    image = PIL.Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "webp"])
def test_lossless_formats(suffix, tmp_path: Path) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    pixels = np.repeat(GREY[..., None], 3, axis=-1) if suffix == "gif" else RGB
    image = read_image(save(tmp_path / f"a.{suffix}", pixels, **options))
    assert image.dtype == "uint8"
    np.testing.assert_array_equal(image, pixels)


def test_content_tells_the_format(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", RGB)
    np.testing.assert_array_equal(read_image(path.rename(tmp_path / "scan.jpg")), RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, tmp_path: Path) -> None:
    upright = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.swapaxes(0, 1),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(RGB),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image = read_image(save(tmp_path / "a.png", RGB, exif=exif))
    np.testing.assert_array_equal(image, upright)


def test_rotated_jpeg(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), "uint8")
    pixels[:20, :30] = 255  # top left; turned a quarter clockwise, top right
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    image = read_image(save(tmp_path / "a.jpg", pixels, exif=exif))
    assert image.shape == (60, 40, 3)
    assert image[10, 30].tolist() == [255] * 3
    assert image[10, 10].tolist() == [0] * 3


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey(mode, tmp_path: Path) -> None:
    pixels = np.where(GREY > 127, 255, 0).astype("uint8") if mode == "1" else GREY
    image = read_image(save(tmp_path / "a.png", pixels, mode))
    np.testing.assert_array_equal(image, np.repeat(pixels[..., None], 3, axis=-1))


def test_transparency_is_ignored(tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, (6, 9, 1), dtype="uint8")
    image = read_image(save(tmp_path / "a.png", np.concatenate([RGB, alpha], axis=-1)))
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize("options", [{}, {"transparency": bytes([0, 100, 255])}])
def test_palette(options, tmp_path: Path) -> None:
    palette = PIL.Image.fromarray(GREY % 3)
    palette.putpalette([10, 20, 30, 200, 0, 0, 1, 2, 255])
    palette.save(tmp_path / "a.png", **options)
    colors = np.array([[10, 20, 30], [200, 0, 0], [1, 2, 255]])
    with PIL.Image.open(tmp_path / "a.png") as saved:
        assert saved.mode == "P"
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colors[GREY % 3])


def test_cmyk_jpeg(tmp_path: Path) -> None:
    pixels = np.full((16, 16, 3), [200, 40, 90], "uint8")
    image = read_image(save(tmp_path / "a.jpg", pixels, "CMYK", quality=100))
    assert np.abs(image.astype(int) - pixels).max() <= 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.uint16([[0, 257, 65535]]), [0, 1, 255]),
        (np.uint16([[0, 2048, 4095]]), [0, 128, 255]),  # 12 of 16 bits
        (np.uint16([[0, 100, 200]]), [0, 100, 200]),
        (np.int32([[-10, 0, 10]]), [0, 128, 255]),
        (np.float32([[0, 0.25, 0.5]]), [0, 128, 255]),
        (np.float32([[7, 7, 7]]), [0, 0, 0]),
    ],
)
def test_more_than_8_bits(values, expected, tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.tif", values))
    np.testing.assert_array_equal(image, np.repeat(np.array(expected)[None, :, None], 3, axis=-1))


def test_16_bit_png(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.png", np.uint16([[0, 257 * 128, 65535]])))
    assert image[0, :, 1].tolist() == [0, 128, 255]


def test_first_picture_of_a_phone(tmp_path: Path) -> None:
    pictures = [PIL.Image.new("RGB", (16, 16), color) for color in ("white", "black")]
    pictures[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pictures[1:])
    assert read_image(tmp_path / "a.jpg").min() == 255


def test_one_pixel(tmp_path: Path) -> None:
    assert read_image(save(tmp_path / "a.png", RGB[:1, :1])).shape == (1, 1, 3)


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_several_frames_are_refused(suffix, tmp_path: Path) -> None:
    frames = [PIL.Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"has several frames"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a.png cannot be read as an image: the file is empty."),
        (b"Not an image at all.\n" * 20, r"its content is none of PNG, JPEG,"),
        (b"\x89PNG\r\n\x1a\n", r"a.png cannot be read as an image: "),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"its content is none of"),
        (huge_png(20_000, 20_000), r"more than 100,000,000 pixels"),
        (huge_png(12_000, 12_000), r"more than 100,000,000 pixels"),
        (huge_png(100_001, 1), r"or 100,000 a side; crop or shrink it"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 50, r"a.png cannot be read as an image: "),
        (b"\0" * 128 + b"DICM", r"a.png cannot be read as an image: "),
    ],
)
def test_refused_contents(content, message, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        read_image(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "gif", "webp"])
def test_truncated(suffix, tmp_path: Path) -> None:
    path = save(tmp_path / f"a.{suffix}", RNG.integers(0, 256, (64, 64, 3), dtype="uint8"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cannot be read as an image: "):
        read_image(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_must_be_finite(value, tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.float32([[0, value, 1]]))
    with pytest.raises(ValueError, match=r"values that are not finite"):
        read_image(path)


def test_damaged_bytes_end_in_one_sentence(tmp_path: Path) -> None:
    """Whatever a decoder makes of noise, it is an image or a `ValueError`."""
    rng = np.random.default_rng(1)
    originals = [save(tmp_path / f"a.{suffix}", RGB) for suffix in ("png", "jpg", "tif", "gif")]
    originals.append(save_dicom(tmp_path / "a.dcm", RGB))
    damaged = tmp_path / "damaged"
    refused = 0
    for path in originals:
        content = np.frombuffer(path.read_bytes(), "uint8")
        for _ in range(60):
            noisy = content.copy()
            noisy[rng.integers(0, len(noisy), 5)] = rng.integers(0, 256, 5)
            damaged.write_bytes(noisy.tobytes())
            try:
                assert read_image(damaged).dtype == "uint8"
            except ValueError:
                refused += 1
    assert refused > 30


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ValueError, match=r"is not a file"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe.png is not a file"):
        read_image(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(OSError, match=r"symbolic links"):
        read_image(tmp_path / "loop.png")


class TestDicom:
    VALUES = np.array([[-1000, 0, 40, 80, 3000]], "int16")

    @pytest.mark.parametrize(
        ("elements", "expected"),
        [
            # Center 40, width 81: from 0 (black) to 80 (white), once 1024 is subtracted.
            ({"WindowCenter": 40.5, "WindowWidth": 81}, [0, 0, 128, 255, 255]),
            ({"WindowCenter": ["40.5", "600"], "WindowWidth": ["81", "1"]}, [0, 0, 128, 255, 255]),
            (
                {"WindowCenter": 40, "WindowWidth": 80, "VOILUTFunction": "LINEAR_EXACT"},
                [0, 0, 128, 255, 255],
            ),
            (
                {"WindowCenter": 40, "WindowWidth": 80, "VOILUTFunction": "SIGMOID"},
                [0, 30, 128, 225, 255],  # 255 / (1 + e²) = 30.4
            ),
            (
                {
                    "WindowCenter": 40.5,
                    "WindowWidth": 81,
                    "PhotometricInterpretation": "MONOCHROME1",
                },
                [255, 255, 127, 0, 0],
            ),
        ],
    )
    def test_window(self, elements, expected, tmp_path: Path) -> None:
        rescale = {"RescaleSlope": 2, "RescaleIntercept": -1024}
        stored = ((self.VALUES + 1024) / 2).astype("int16")
        image = read_image(save_dicom(tmp_path / "a", stored, **rescale, **elements))
        assert image.shape == (1, 5, 3)
        np.testing.assert_array_equal(image[0, :, 0], expected)

    @pytest.mark.parametrize(
        ("values", "elements", "expected"),
        [
            (np.uint8([[0, 100, 200]]), {}, [0, 100, 200]),
            (np.uint8([[0, 100, 200]]), {"WindowWidth": None, "WindowCenter": None}, [0, 100, 200]),
            (np.uint8([[0, 100]]), {"PhotometricInterpretation": "MONOCHROME1"}, [255, 155]),
            (np.uint16([[0, 1000, 2000]]), {"BitsStored": 12}, [0, 62, 125]),
            (np.int16([[-1000, 0, 1000]]), {}, [0, 128, 255]),
        ],
    )
    def test_no_window(self, values, elements, expected, tmp_path: Path) -> None:
        image = read_image(save_dicom(tmp_path / "a.dcm", values, **elements))
        assert image[0, :, 2].tolist() == expected

    def test_color(self, tmp_path: Path) -> None:
        np.testing.assert_array_equal(read_image(save_dicom(tmp_path / "a.dcm", RGB)), RGB)
        ycbcr = np.asarray(PIL.Image.fromarray(RGB).convert("YCbCr"))
        path = save_dicom(tmp_path / "b.dcm", ycbcr, PhotometricInterpretation="YBR_FULL")
        assert np.abs(read_image(path).astype(int) - RGB).max() <= 2

    def test_palette(self, tmp_path: Path) -> None:
        table = np.uint16([0, 65535, 128 * 257])
        elements = {"PhotometricInterpretation": "PALETTE COLOR"}
        for color, shift in (("Red", 0), ("Green", 1), ("Blue", 2)):
            elements[f"{color}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
            elements[f"{color}PaletteColorLookupTableData"] = np.roll(table, shift).tobytes()
        image = read_image(save_dicom(tmp_path / "a.dcm", np.uint8([[0, 1, 2]]), **elements))
        np.testing.assert_array_equal(image, [[[0, 128, 255], [255, 0, 128], [128, 255, 0]]])

    @pytest.mark.parametrize(
        ("elements", "message"),
        [
            ({"NumberOfFrames": 2, "PixelData": bytes(108)}, r"several frames"),
            ({"Rows": 20_000, "Columns": 20_000}, r"more than 100,000,000 pixels"),
            ({"PixelData": None}, r"cannot be read as an image"),
            ({"PixelData": bytes(10)}, r"cannot be read as an image"),
            ({"BitsAllocated": 7}, r"cannot be read as an image"),
        ],
    )
    def test_refused(self, elements, message, tmp_path: Path) -> None:
        path = save_dicom(tmp_path / "a.dcm", GREY, **elements)
        with pytest.raises(ValueError, match=message) as refused:
            read_image(path)
        assert "\n" not in str(refused.value)

    def test_no_image_inside(self, tmp_path: Path) -> None:
        path = save_dicom(tmp_path / "a.dcm", GREY)
        dataset = pydicom.dcmread(path)
        del dataset.PixelData
        dataset.save_as(path)
        with pytest.raises(ValueError, match=r"the DICOM file holds no image"):
            read_image(path)

    def test_deflated(self, tmp_path: Path) -> None:
        syntax = pydicom.uid.DeflatedExplicitVRLittleEndian
        with pytest.raises(ValueError, match=r"its DICOM is deflated; save it uncompressed"):
            read_image(save_dicom(tmp_path / "a.dcm", GREY, syntax))

    def test_run_length_encoded(self, tmp_path: Path) -> None:
        path = save_dicom(tmp_path / "a.dcm", GREY)
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(path)
        np.testing.assert_array_equal(read_image(path)[..., 0], GREY)

    def test_pydicom_is_asked_for(self, tmp_path: Path, monkeypatch) -> None:
        path = save_dicom(tmp_path / "a.dcm", GREY)
        monkeypatch.setitem(sys.modules, "pydicom", None)
        with pytest.raises(ValueError, match=r"a.dcm .* it is DICOM, .*keras-lgmsnet\[dicom\]"):
            read_image(path)


def test_decoders_are_confined(tmp_path: Path) -> None:
    """Pillow knows formats that start programs; they are not tried."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(RGB).save(buffer, "PPM")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"none of " + ", ".join(FORMATS)):
        read_image(tmp_path / "a.png")
