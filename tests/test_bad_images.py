"""Bad images and archives, kind by kind, by the ways in that users have.

Each kind is refused in one sentence that names the file, or read as documented; and what was
prepared before stays. What the archives and the commands do with it besides is tested with them.
"""

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import PIL.Image
import pydicom
import pytest
import tifffile

from keras_lgmsnet.data.decoded import load_examples
from keras_lgmsnet.data.images import Examples, describe_own_scales
from keras_lgmsnet.files.images import read_image
from tests.helpers.pictures import huge_png, save_dicom
from tests.helpers.refusals import cut, refused
from tfds_builders.image_folder import image_folder_dataset_builder as image_folder
from tfds_builders.kvasir_seg import kvasir_seg_dataset_builder as kvasir_seg

pytestmark = pytest.mark.no_backend

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (16, 24, 3), dtype="uint8")
GREY = RNG.integers(0, 256, (16, 24), dtype="uint8")
NOISE = RNG.integers(0, 256, (64, 64, 3), dtype="uint8")  # most of its JPEG is pixels
MASK = np.zeros((16, 24), "uint8")
MASK[4:9, 5:15] = 255


def encode(pixels: np.ndarray, kind: str = "PNG", mode: str | None = None, **options) -> bytes:
    image = PIL.Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def encode_tiff(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def frames(kind: str) -> bytes:
    pictures = [PIL.Image.new("RGB", (24, 16), color) for color in ("red", "green")]
    buffer = io.BytesIO()
    pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def dicom(values: np.ndarray, compress: bool = False, **elements) -> bytes:
    with io.BytesIO() as buffer:
        save_dicom(buffer, values, **elements)
        if compress:
            dataset = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
            dataset.compress(pydicom.uid.RLELossless)
            dataset.save_as(buffer)
        return buffer.getvalue()


def exif(orientation: int) -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    return tags


# Images and masks in a folder of the user's own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, content in (("images", encode(RGB)), ("masks", encode(MASK))):
        (tmp_path / "own" / part).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            (tmp_path / "own" / part / name).write_bytes(content)
    return tmp_path / "own"


def load(folder: Path) -> Examples:
    data_dir = folder.parent / "data"
    return load_examples("image_folder", (16, 24), folder, data_dir, progress=False)


UNREADABLE = r"b\.png cannot be read as an image: "
REFUSED_IMAGES = {
    "empty file": (b"", UNREADABLE + "the file is empty"),
    "text named .png": (b"<html>Log in</html>" * 20, UNREADABLE + "its content is none of PNG, "),
    "zip named .png": (b"PK\3\4" + bytes(200), UNREADABLE + "its content is none of PNG, "),
    "signature alone": (b"\x89PNG\r\n\x1a\n", UNREADABLE),
    "truncated PNG": (cut(encode(RGB)), UNREADABLE),
    "truncated JPEG": (cut(encode(NOISE, "JPEG")), UNREADABLE + ".*truncated"),
    "truncated BMP": (cut(encode(RGB, "BMP")), UNREADABLE + ".*truncated"),
    "truncated TIFF": (cut(encode(RGB, "TIFF")), UNREADABLE),
    "truncated GIF": (cut(encode(GREY, "GIF")), UNREADABLE),
    "truncated WebP": (cut(encode(RGB, "WEBP", lossless=True)), UNREADABLE),
    "animated GIF": (frames("GIF"), UNREADABLE + "it has several frames"),
    "animated WebP": (frames("WEBP"), UNREADABLE + "it has several frames"),
    "TIFF of pages": (frames("TIFF"), UNREADABLE + "it has several frames"),
    "20 000 x 20 000": (huge_png(20_000, 20_000), UNREADABLE + "it has more than 100,000,000 pix"),
    "100 000 x 100 000": (huge_png(100_000, 100_000), UNREADABLE + "it has more than 100,000,000"),
    "one long line": (huge_png(100_001, 1), UNREADABLE + ".* or 100,000 a side; crop or shrink"),
    "TIFF of NaN": (encode(np.float32([[np.nan, 1]]), "TIFF"), UNREADABLE + ".*not finite"),
    "TIFF of Inf": (encode(np.float32([[np.inf, 1]]), "TIFF"), UNREADABLE + ".*not finite"),
    "DICOM of frames": (
        dicom(GREY, NumberOfFrames=2, PixelData=bytes(2 * GREY.size)),
        UNREADABLE + "it has several frames",
    ),
    "DICOM of 20 000 x 20 000": (
        dicom(GREY, Rows=20_000, Columns=20_000),
        UNREADABLE + "it has more than 100,000,000 pixels",
    ),
    "DICOM short of pixels": (dicom(GREY, PixelData=bytes(10)), UNREADABLE),
    "deflated DICOM": (
        dicom(GREY, syntax=pydicom.uid.DeflatedExplicitVRLittleEndian),
        UNREADABLE + "its DICOM is deflated; save it uncompressed",
    ),
    "truncated DICOM": (cut(dicom(GREY)), UNREADABLE),
}


@pytest.mark.parametrize("kind", REFUSED_IMAGES)
def test_images_that_training_and_prediction_refuse(kind: str, folder: Path) -> None:
    content, message = REFUSED_IMAGES[kind]
    (folder / "images" / "b.png").write_bytes(content)
    with refused(message):
        read_image(folder / "images" / "b.png")
    with refused(message):
        load(folder)


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_file_too_long_is_refused_unread(part: str, archive: Path) -> None:
    zipfile.ZipFile(archive).extractall(archive.parent)
    path = archive.parent / ROOT / part / "b.jpg"
    os.truncate(path, 2**30 + 1)  # a hole, which takes no room on the disk
    with refused(r"b\.jpg cannot be read as an image: it has more than 1,073,741,824 bytes"):
        read_image(path)
    with refused(r"b\.jpg must have at most 1,073,741,824 bytes, .* Received: 1,073,741,825"):
        load_archive(archive)


def palette(**options) -> bytes:
    image = PIL.Image.fromarray(GREY % 3)
    image.putpalette([10, 20, 30, 200, 0, 0, 1, 2, 255])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


COLORS = np.uint8([[10, 20, 30], [200, 0, 0], [1, 2, 255]])
ALPHA = np.concatenate([RGB, GREY[..., None]], axis=-1)
WIDE = GREY.astype("uint16")
READ_IMAGES = {
    "RGBA": (encode(ALPHA), RGB),
    "grey": (encode(GREY), GREY),
    "grey with opacity": (encode(GREY, mode="LA"), GREY),
    "palette": (palette(), COLORS[GREY % 3]),
    "palette with opacity": (palette(transparency=bytes([0, 9, 255])), COLORS[GREY % 3]),
    "transparent colour": (encode(RGB, transparency=tuple(map(int, RGB[0, 0]))), RGB),
    "1 bit": (encode(MASK, mode="1"), MASK),
    "16 bits": (encode(WIDE * 257), GREY),
    "12 bits": (encode(np.where(MASK, 4095, 0).astype("uint16")), MASK),
    "TIFF of floats": (encode(MASK / np.float32(510), "TIFF"), MASK),
    "16 bits, white is 0": (encode_tiff(~(WIDE * 257), photometric="miniswhite"), GREY),
    "12 bits, white is 0": (
        encode_tiff(np.where(MASK, 0, 4095).astype("uint16"), photometric="miniswhite"),
        MASK,
    ),
    "colours of 12 bits": (
        encode_tiff(np.where(RGB > 99, 4095, 0).astype("uint16"), photometric="rgb"),
        np.where(RGB > 99, 255, 0),
    ),
    "signed bytes": (encode_tiff(np.where(MASK, 127, -128).astype("int8")), MASK),
    "TIFF of doubles": (encode_tiff(MASK / 7.0), MASK),
    "TIFF of halves": (encode_tiff((MASK / 7.0).astype("float16")), MASK),
    "colours of floats": (
        encode_tiff(np.where(RGB > 99, 0.5, 0).astype("float32"), photometric="rgb"),
        np.where(RGB > 99, 255, 0),
    ),
    "32 bits": (encode_tiff(np.where(MASK, 2**32 - 1, 0).astype("uint32")), MASK),
    "CMYK": (encode(np.full_like(RGB, 90), "JPEG", "CMYK", quality=100), np.full_like(RGB, 90)),
    "GIF": (encode(GREY, "GIF"), GREY),
    "WebP": (encode(RGB, "WEBP", lossless=True), RGB),
    "BMP": (encode(RGB, "BMP"), RGB),
    "PNG turned by EXIF": (encode(RGB, exif=exif(3)), RGB[::-1, ::-1]),
    "JPEG turned by EXIF": (
        encode(np.repeat(MASK[..., None], 3, -1), "JPEG", quality=100, exif=exif(3)),
        MASK[::-1, ::-1],
    ),
    "pictures of a phone": (frames("MPO"), np.full_like(RGB, (254, 0, 0))),
    "DICOM": (dicom(RGB), RGB),
    "DICOM inverted": (dicom(GREY, PhotometricInterpretation="MONOCHROME1"), 255 - GREY),
    "DICOM of a falling slope": (
        dicom(GREY, RescaleSlope=-10, RescaleIntercept=3000),
        255 - GREY,
    ),
    "DICOM of dark colours": (
        dicom(np.where(RGB > 99, 2047, 0).astype("uint16"), BitsStored=12),
        np.where(RGB > 99, 127, 0),
    ),
    "compressed DICOM": (dicom(GREY, compress=True), GREY),
}


@pytest.mark.parametrize("kind", READ_IMAGES)
def test_images_that_training_and_prediction_read_alike(kind: str, folder: Path) -> None:
    content, expected = READ_IMAGES[kind]
    path = folder / "images" / "b.png"
    path.write_bytes(content)
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=-1)
    tolerance = 8 if content.startswith(b"\xff\xd8\xff") or kind == "CMYK" else 0  # JPEG
    np.testing.assert_allclose(read_image(path).astype(int), expected, atol=tolerance)
    prepared = load(folder).subset(["b"]).images[0]
    np.testing.assert_array_equal(prepared, read_image(path))


def test_images_scaled_by_their_own_values_are_told(folder: Path) -> None:
    for name, kind, least in (("a", "float32", 0), ("b", "int16", -1), ("c", "int16", 0)):
        path = folder / "images" / f"{name}.png"
        pixels = np.arange(least, least + MASK.size).reshape(MASK.shape)
        path.write_bytes(encode_tiff(pixels.astype(kind)))
        (folder / "masks" / f"{name}.png").write_bytes(encode(MASK))
    for examples in (load(folder), load(folder)):  # as the prepared copy keeps it
        assert describe_own_scales(examples) == (
            "2 of 3 images are of floats or partly negative: each is scaled by its own least and "
            "largest value."
        )
    assert describe_own_scales(examples.subset("c")) is None


def test_images_of_a_dataset_are_scaled_alike(folder: Path) -> None:
    for name, largest in (("a", 1000), ("b", 2048)):
        path = folder / "images" / f"{name}.png"
        path.write_bytes(encode(np.full(MASK.shape, largest, "uint16")))
    examples = load(folder)
    assert examples.bits == 12
    assert {name: examples.subset([name]).images[0].max() for name in "ab"} == {"a": 62, "b": 128}
    assert load(folder).bits == 12  # as the prepared copy keeps it


@pytest.mark.parametrize("suffix", ["gif", "webp", "tiff", "JPG", "dcm"])
def test_images_of_any_suffix_are_found(suffix: str, folder: Path) -> None:
    (folder / "images" / "b.png").rename(folder / "images" / f"b.{suffix}")
    assert sorted(load(folder).ids) == ["a", "b"]


def test_an_image_of_one_pixel_is_read(folder: Path) -> None:
    (folder / "images" / "b.png").write_bytes(encode(RGB[:1, :1]))
    (folder / "masks" / "b.png").write_bytes(encode(MASK[:1, :1]))
    assert load(folder).subset(["b"]).original_sizes.tolist() == [[1, 1]]


def test_dicom_without_pydicom_says_what_to_install(folder: Path) -> None:
    (folder / "images" / "b.png").write_bytes(dicom(GREY))
    with (
        mock.patch.dict("sys.modules", pydicom=None),
        refused(
            r"b\.png .* it is DICOM, which needs pydicom: pip install 'keras-lgmsnet\[dicom\]'"
        ),
    ):
        load(folder)


VALUES = "must hold 0 and 255, or 0 and 1, only; correct it, or, .*data.mask_threshold.* Received: "
REFUSED_MASKS = {
    "empty file": (b"", UNREADABLE + "the file is empty"),
    "text": (b"none" * 50, UNREADABLE + "its content is none of PNG"),
    "truncated": (cut(encode(GREY)), UNREADABLE),
    "another size": (encode(MASK[1:]), r"b\.png must be .* \(16, 24\)\. Received: \(15, 24\)"),
    "turned": (encode(MASK.T), r"b\.png must be .* \(16, 24\)\. Received: \(24, 16\)"),
    "colours": (encode(RGB), r"b\.png must be a grey image .* Received: \(16, 24, 3\)"),
    "three classes": (encode(MASK // 255 + (GREY > 127)), rf"b\.png {VALUES}0, 1, 2"),
    "grey values": (encode(GREY), rf"b\.png {VALUES}0, 1, 2, .* …"),
    "grey values in WebP": (encode(GREY, "WEBP", mode="RGB", lossless=True), rf"b\.png {VALUES}0"),
    "one other value": (encode(np.full_like(MASK, 7)), rf"b\.png {VALUES}7"),
    "16 bits of other values": (encode(MASK.astype("uint16") * 4), rf"b\.png {VALUES}0, 1020"),
    "probabilities": (encode(np.float32(MASK / 510), "TIFF"), rf"b\.png {VALUES}0.0, 0.5"),
    "NaN": (encode(np.float32(MASK * np.nan), "TIFF"), rf"b\.png {VALUES}nan"),
    "negative": (encode(-MASK.astype("int32"), "TIFF"), rf"b\.png {VALUES}-255, 0"),
    "DICOM": (dicom(MASK), r"b\.png must be PNG, .* Received: DICOM"),
    "20 000 x 20 000": (huge_png(20_000, 20_000), UNREADABLE + "it has more than 100,000,000 pix"),
}


@pytest.mark.parametrize("kind", REFUSED_MASKS)
def test_masks_that_are_refused(kind: str, folder: Path) -> None:
    content, message = REFUSED_MASKS[kind]
    (folder / "masks" / "b.png").write_bytes(content)
    with refused("masks/" + message):
        load(folder)


ONES = MASK // 255
READ_MASKS = {
    "all 255": (encode(np.full_like(MASK, 255)), np.ones_like(MASK)),
    "all 0": (encode(np.zeros_like(MASK)), np.zeros_like(MASK)),
    "all 1": (encode(np.ones_like(MASK)), np.ones_like(MASK)),
    "0 and 1": (encode(ONES), ONES),
    "1 bit": (encode(MASK, mode="1"), ONES),
    "16 bits": (encode(MASK.astype("uint16") * 257), ONES),
    "16 bits of 0 and 1": (encode(ONES.astype("uint16")), ONES),
    "floats of 0 and 1": (encode(np.float32(ONES), "TIFF"), ONES),
    "RGBA": (encode(MASK, mode="RGBA"), ONES),
    "palette of black and white": (encode(MASK, mode="P"), ONES),
    "GIF": (encode(MASK, "GIF"), ONES),
    "grey values of a JPEG": (encode(MASK, "JPEG", quality=60), ONES),
    "turned by EXIF": (encode(MASK, exif=exif(3)), ONES[::-1, ::-1]),
}


@pytest.mark.parametrize("kind", READ_MASKS)
def test_masks_that_are_read(kind: str, folder: Path) -> None:
    content, expected = READ_MASKS[kind]
    (folder / "masks" / "b.png").write_bytes(content)
    read = load(folder).subset(["b"]).segmentation_masks[0, ..., 0]
    np.testing.assert_array_equal(read, expected)


def replace_by_link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def empty(folder: Path) -> None:
    for path in folder.glob("*/*"):
        path.unlink()


REFUSED_FOLDERS = {
    "mask missing": (
        lambda own: (own / "masks/b.png").unlink(),
        "masks in .*own has 1 of 2 files and none for b, which images has; correct that",
    ),
    "image missing": (
        lambda own: (own / "images/b.png").unlink(),
        "images in .*own has 1 of 2 files and none for b, which masks has; correct that",
    ),
    "two images of one id": (
        lambda own: (own / "images/b.jpg").write_bytes(encode(RGB, "JPEG")),
        r"images/b\.png and .*b\.jpg have the same id; rename or remove one",
    ),
    "two masks of one id": (
        lambda own: (own / "masks/b.gif").write_bytes(encode(MASK, "GIF")),
        r"masks/b\.png and .*b\.gif have the same id; rename or remove one",
    ),
    "one name in two Unicode forms": (
        lambda own: [(own / "images" / name).touch() for name in ("e\u0301.png", "\u00e9.png")],
        "have the same id; rename or remove one",
    ),
    "a name of other bytes": (
        lambda own: (own / "images" / os.fsdecode(b"\xff.png")).touch(),
        r"\ufffd.png must have a name in UTF-8; rename it. Received: b'.xff.png'",
    ),
    "empty folders": (empty, "images and masks in .*own must hold files .* Received: none"),
    "no folder of masks": (
        lambda own: (own / "masks").rename(own / "labels"),
        "own must hold images, masks. Received: no masks",
    ),
    "a file for a folder": (
        lambda own: ((own / "masks").rename(own / "m"), (own / "masks").touch()),
        "masks cannot be listed: Not a directory",
    ),
    "link to itself": (
        lambda own: replace_by_link(own / "images/b.png", own / "images/b.png"),
        r"b\.png cannot be read: it is no file, nor a link to one",
    ),
    "link to nothing": (
        lambda own: replace_by_link(own / "images/b.png", own / "images/c.png"),
        r"b\.png cannot be read: it is no file, nor a link to one",
    ),
    "link out of the folder": (
        lambda own: replace_by_link(own / "images/b.png", Path(__file__)),
        r"b\.png must be in .*images, not a link to elsewhere",
    ),
    "link to a folder": (
        lambda own: (own / "images/loop").symlink_to(own / "images"),
        "loop must be a folder, not a link to one",
    ),
    "pipe": (
        lambda own: ((own / "images/b.png").unlink(), os.mkfifo(own / "images/b.png")),
        r"b\.png cannot be read: it is no file, nor a link to one",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_FOLDERS)
def test_folders_that_are_refused(kind: str, folder: Path) -> None:
    damage, message = REFUSED_FOLDERS[kind]
    damage(folder)
    with refused(message):
        load(folder)


def test_what_may_not_be_read_is_named(folder: Path) -> None:
    """As the tests may run as root, who may read everything."""

    def forbid(function: Callable, name: str) -> Callable:
        def guarded(path, *args, **kwargs):
            if Path(path).name == name:
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args, **kwargs)

        return guarded

    with (
        mock.patch.object(Path, "open", forbid(Path.open, "b.png")),
        refused(r"images/b\.png cannot be read: .*Permission denied"),
    ):
        load(folder)
    with (
        mock.patch.object(os, "scandir", forbid(os.scandir, "masks")),
        refused("masks cannot be listed: Permission denied"),
    ):
        load(folder)


def test_folders_with_names_and_files_of_all_kinds_are_read(folder: Path) -> None:
    names = ["with space", "new\nline", "病変 é", "p1/deep/er/a", "c.d"]
    for name in names:
        for part, content in (("images", encode(RGB)), ("masks", encode(MASK))):
            path = folder / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for name in (
        ".DS_Store",
        "._a.png",
        "Thumbs.db",
        "__MACOSX/._a.png",
        ".git/x.png",
        "notes.txt",
    ):
        path = folder / "images" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0")
    examples = load(folder)
    assert sorted(examples.ids) == sorted(["a", "b", *names])
    assert examples.groups[examples.ids.index("p1/deep/er/a")] == "p1/deep/er"


def test_a_failing_preparation_loses_nothing(folder: Path) -> None:
    """Nor does it leave a copy that would pass for a prepared one."""
    data = folder.parent / "data"
    load(folder)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    content = (folder / "images" / "b.png").read_bytes()
    (folder / "images" / "b.png").write_bytes(cut(content))
    for _ in range(2):
        with refused(UNREADABLE):
            load(folder)
        assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    (folder / "images" / "b.png").write_bytes(content)
    with mock.patch.object(image_folder.Builder, "_example", side_effect=AssertionError):
        assert sorted(load(folder).ids) == ["a", "b"]


# A publisher's archive

ROOT = kvasir_seg.ROOT


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("a", "b"):
            file.writestr(f"{ROOT}/images/{name}.jpg", encode(RGB, "JPEG"))
            file.writestr(f"{ROOT}/masks/{name}.jpg", encode(MASK, "JPEG"))


def append(name: str, content: bytes = b"", mode: int = 0, method: int = zipfile.ZIP_DEFLATED):
    def damage(path: Path) -> None:
        with zipfile.ZipFile(path, "a", method) as file:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = method
            file.writestr(member, content)

    return damage


def patch(offset: int, layout: str, value: int) -> Callable[[Path], None]:
    """Changes a field of the first member in both of its headers; offsets are the directory's."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        struct.pack_into(layout, content, content.index(b"PK\1\2") + offset, value)
        struct.pack_into(layout, content, offset - 2, value)
        path.write_bytes(content)

    return damage


def link_to_passwords(path: Path) -> None:
    append(f"{ROOT}/images/c.jpg", b"/etc/passwd", mode=0o120777)(path)
    append(f"{ROOT}/masks/c.jpg", encode(MASK, "JPEG"))(path)


REFUSED_ARCHIVES = {
    "member above": (append("../evil.jpg"), r"not the published archive.*Received: '\.\./evil"),
    "absolute member": (append("/evil.jpg"), "not the published archive.*Received: '/evil.jpg'"),
    "member as a link": (link_to_passwords, r"images/c\.jpg cannot be read as an image: its conte"),
    "other compression": (
        append("a.txt", b"a" * 99, method=zipfile.ZIP_LZMA),
        "not the published archive.* Received: 'a.txt', compressed by method 14",
    ),
    "cut short": (
        lambda path: path.write_bytes(cut(path.read_bytes())),
        r"kvasir-seg\.zip is damaged \(File is not a zip file\); download it again",
    ),
    "text": (
        lambda path: path.write_text("<html>Log in</html>"),
        r"kvasir-seg\.zip is damaged \(File is not a zip file\); download it again",
    ),
    "newer format": (patch(6, "<H", 99), r"kvasir-seg\.zip is damaged \(zip file version 9\.9"),
    "encrypted": (patch(8, "<H", 1), r"images/a\.jpg cannot be read: .*encrypted"),
    "bomb": (
        patch(24, "<I", 2**31),
        r"images/a\.jpg must have at most 1,073,741,824 bytes, .* Received: 2,147,483,648",
    ),
    "bomb that hides its size": (patch(24, "<I", 9), r"images/a\.jpg cannot be read: Bad CRC-32"),
    "empty": (
        lambda path: zipfile.ZipFile(path, "w").close(),
        r"images .* must have 2 files each; .* Received: 0, 2 too few",
    ),
}


def load_archive(path: Path, count: int = 2) -> Examples:
    data_dir = path.parents[1] / "data"
    with mock.patch.object(kvasir_seg.Builder, "NUM_EXAMPLES", count):
        return load_examples("kvasir_seg", (16, 24), path.parent, data_dir, progress=False)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "manual").mkdir()
    write_zip(tmp_path / "manual" / kvasir_seg.ARCHIVE)
    return tmp_path / "manual" / kvasir_seg.ARCHIVE


@pytest.mark.parametrize("kind", REFUSED_ARCHIVES)
def test_archives_that_are_refused(kind: str, archive: Path) -> None:
    damage, message = REFUSED_ARCHIVES[kind]
    damage(archive)
    with refused(message):
        load_archive(archive, count=3 if kind == "member as a link" else 2)
    assert sorted(path.name for path in archive.parent.iterdir()) == [kvasir_seg.ARCHIVE]


def test_a_folder_named_as_the_archive_is_refused(archive: Path) -> None:
    archive.unlink()
    archive.mkdir()
    (archive / "a.jpg").touch()
    with refused(r"Is a directory: .*kvasir-seg\.zip"):
        load_archive(archive)


def test_what_systems_add_to_archives_is_ignored(archive: Path) -> None:
    append("__MACOSX/Kvasir-SEG/images/._a.jpg", b"\0")(archive)
    append(f"{ROOT}/images/.DS_Store", b"\0")(archive)
    append(f"{ROOT}/images/Thumbs.db", b"\0")(archive)
    assert sorted(load_archive(archive).ids) == ["a", "b"]
