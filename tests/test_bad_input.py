"""Bad input, kind by kind, by the ways in that users have.

Each kind is refused in one sentence that names the file, or read as documented; and what was
prepared before stays. What the archives and the commands do with it besides is tested with them.
"""

import gzip
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import nibabel
import numpy as np
import PIL.Image
import pydicom
import pytest

from keras_lgmsnet.data.images import Examples, load_examples
from keras_lgmsnet.image_files import read_image
from tests.test_image_files import huge_png, save_dicom
from tfds_builders import _testing as testing
from tfds_builders.image_folder import image_folder_dataset_builder as image_folder
from tfds_builders.kvasir_seg import kvasir_seg_dataset_builder as kvasir_seg
from tfds_builders.msd_folder import msd_folder_dataset_builder as msd_folder

pytestmark = pytest.mark.no_backend

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (16, 24, 3), dtype="uint8")
GREY = RNG.integers(0, 256, (16, 24), dtype="uint8")
NOISE = RNG.integers(0, 256, (64, 64, 3), dtype="uint8")  # most of its JPEG is pixels
MASK = np.zeros((16, 24), "uint8")
MASK[4:9, 5:15] = 255


@contextmanager
def refused(message: str) -> Iterator[None]:
    """Checks that the commands show what is raised as one sentence, see `keras_lgmsnet.cli`."""
    with pytest.raises((ValueError, OSError), match=message) as raised:
        yield
    if not isinstance(raised.value, OSError):
        module = raised.traceback[-1].frame.f_globals["__name__"]
        assert module.partition(".")[0] in ("keras_lgmsnet", "tfds_builders")
    assert str(raised.value).count("\n") == 0


def encode(pixels: np.ndarray, kind: str = "PNG", mode: str | None = None, **options) -> bytes:
    image = PIL.Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
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


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


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


VALUES = "must hold 0 and 255, or 0 and 1, only. Received: "
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


# Volumes in a folder of the user's own


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "own" / part).mkdir(parents=True)
    for number, name in enumerate("ab"):
        path = f"{name}.nii.gz"
        testing.write_volume(tmp_path / "own/imagesTr" / path, testing.voxels(number))
        testing.write_volume(tmp_path / "own/labelsTr" / path, testing.label_map(number))
    description = {"labels": {"0": "background", "1": "organ", "2": "lesion"}, "numTraining": 2}
    (tmp_path / "own/dataset.json").write_text(json.dumps(description))
    return tmp_path / "own"


def prepare_volumes(folder: Path) -> list[str]:
    config = msd_folder.Config(folder=str(folder))
    builder = msd_folder.Builder(data_dir=folder.parent / "data", config=config)
    builder.download_and_prepare(file_format="array_record")
    return sorted(example["id"].decode() for example in builder.as_data_source("train"))


def nifti(volume: np.ndarray, *fields: tuple[int, str, float], extra: int = 0) -> bytes:
    """A volume with fields of its header changed and surplus bytes at its end."""
    content = bytearray(nibabel.Nifti1Image(volume, testing.AFFINE).to_bytes())
    for offset, layout, value in fields:
        struct.pack_into(layout, content, offset, value)
    return gzip.compress(bytes(content) + bytes(extra))


SHAPE = (5, 5, 6)
ZEROS = np.zeros(SHAPE, "int16")
FLOATS = np.zeros(SHAPE, "float32")
NOT_NIFTI = r"b\.nii\.gz is not a readable NIfTI file: "
REFUSED_VOLUMES = {
    "empty file": (b"", NOT_NIFTI),
    "text": (b"<html>Log in</html>" * 40, NOT_NIFTI),
    "truncated gzip": (cut(nifti(testing.voxels(1))), NOT_NIFTI + "Compressed file ended"),
    "truncated within": (
        gzip.compress(cut(gzip.decompress(nifti(ZEROS)))),
        NOT_NIFTI + r"it has \d+ of the 300 bytes that its header tells",
    ),
    "header alone": (gzip.compress(bytes(348)), NOT_NIFTI),
    "gzip bomb": (nifti(ZEROS, extra=2**25), NOT_NIFTI + "it has more than the 300 bytes"),
    "too many voxels": (
        nifti(ZEROS, (42, "<h", 30_000), (44, "<h", 30_000)),
        r"b\.nii\.gz must have at most 536,870,912 voxels; .* Received: shape \(30000, 30000, 6\)",
    ),
    "negative side": (nifti(ZEROS, (42, "<h", -5)), r"b\.nii\.gz must hold numbers along 3 axes"),
    "voxels far behind": (nifti(ZEROS, (108, "<f", 1e30)), NOT_NIFTI + "it has -"),
    "unknown type": (nifti(ZEROS, (70, "<h", 999)), NOT_NIFTI),
    "colours": (
        nifti(np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        r"b\.nii\.gz must hold numbers along 3 axes",
    ),
    "complex": (nifti(ZEROS.astype("complex64")), r"b\.nii\.gz must hold numbers along 3 axes"),
    "2 axes": (nifti(ZEROS[0]), r"b\.nii\.gz must hold numbers .* Received: shape \(5, 6\)"),
    "5 axes": (nifti(ZEROS[..., None, None].repeat(2, -1)), r"b\.nii\.gz must hold numbers along"),
    "time series": (
        nifti(ZEROS[..., None].repeat(2, -1)),
        r"b\.nii\.gz must have as many channels as dataset\.json names, 1\.",
    ),
    "NaN": (nifti(FLOATS + np.float32(np.nan)), r"b\.nii\.gz must hold finite voxels only"),
    "Inf": (nifti(FLOATS + np.float32(np.inf)), r"b\.nii\.gz must hold finite voxels only"),
    "no affine": (
        nifti(ZEROS, (252, "<h", 0), (254, "<h", 0)),
        r"b\.nii\.gz must tell its orientation and position",
    ),
    "singular affine": (
        nifti(ZEROS, *((offset, "<f", 0) for offset in range(280, 296, 4))),
        r"b\.nii\.gz must have an affine that can be inverted",
    ),
    "spacing of zero": (
        nifti(ZEROS, (252, "<h", 1), (254, "<h", 0), (80, "<f", 0)),
        r"b\.nii\.gz must tell how far apart its voxels are; .* Received: \[0\.0, ",
    ),
    "affine of NaN": (
        nifti(ZEROS, (280, "<f", np.nan)),
        r"b\.nii\.gz must have an affine that can be inverted",
    ),
}
REFUSED_LABELS = {
    "label that is not declared": (nifti(ZEROS + np.int16(3)), "hold the labels 0, 1, 2 only.*: 3"),
    "negative label": (nifti(ZEROS - np.int16(1)), "hold the labels 0, 1, 2 only.*: -1"),
    "NaN": (nifti(FLOATS + np.float32(np.nan)), "hold the labels 0, 1, 2 only.*: nan"),
    "another shape": (nifti(ZEROS[1:]), r"its image's size, \(5, 5, 6\). Received: \(4, 5, 6\)"),
    "elsewhere": (nifti(ZEROS, (292, "<f", 50)), r"lie where its image lies, .* mm away"),
    "4 axes": (nifti(ZEROS[..., None].repeat(2, -1)), r"have 3 axes. Received: shape \(5, 5, 6, 2"),
}


@pytest.mark.parametrize("kind", REFUSED_VOLUMES)
def test_volumes_that_are_refused(kind: str, volumes: Path) -> None:
    content, message = REFUSED_VOLUMES[kind]
    (volumes / "imagesTr/b.nii.gz").write_bytes(content)
    with refused("imagesTr/" + message):
        prepare_volumes(volumes)


@pytest.mark.parametrize("kind", REFUSED_LABELS)
def test_label_maps_that_are_refused(kind: str, volumes: Path) -> None:
    content, message = REFUSED_LABELS[kind]
    (volumes / "labelsTr/b.nii.gz").write_bytes(content)
    with refused(r"labelsTr/b\.nii\.gz must .*" + message):
        prepare_volumes(volumes)


DESCRIPTION = r"dataset\.json "
REFUSED_DESCRIPTIONS = {
    "empty": (b"", DESCRIPTION + "cannot be read as JSON"),
    "cut short": (b'{"labels": {"0": "a"', DESCRIPTION + "cannot be read as JSON"),
    "not UTF-8": (b'{"labels": "\xff"}', DESCRIPTION + "cannot be read as JSON: 'utf-8' codec"),
    "deeply nested": (b"[" * 100_000, DESCRIPTION + "cannot be read as JSON: .*recursion"),
    "too long": (b" " * (2**24 + 1), DESCRIPTION + "must have at most 16,777,216 bytes"),
    "a number": (b"1", DESCRIPTION + "must hold an object with the object labels"),
    "no labels": (b"{}", DESCRIPTION + "must hold an object with the object labels"),
    "empty labels": (b'{"labels": {}}', DESCRIPTION + "must give each label an integer"),
    "channels as a number": (
        b'{"labels": {"0": "a"}, "modality": 1}',
        DESCRIPTION + "must name the channels in modality by an object. Received: 1",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_DESCRIPTIONS)
def test_descriptions_that_are_refused(kind: str, volumes: Path) -> None:
    content, message = REFUSED_DESCRIPTIONS[kind]
    (volumes / "dataset.json").write_bytes(content)
    with refused(message):
        prepare_volumes(volumes)


def test_a_folder_named_as_the_description_is_refused(volumes: Path) -> None:
    (volumes / "dataset.json").unlink()
    (volumes / "dataset.json").mkdir()
    with refused(r"dataset\.json cannot be read: .*Is a directory"):
        prepare_volumes(volumes)


READ_VOLUMES = {
    "scaled": nifti(ZEROS, (112, "<f", 0.5), (116, "<f", -3)),
    "surplus bytes": nifti(ZEROS, extra=1000),
    "not compressed": gzip.decompress(nifti(ZEROS)),
    "spacing of zero, which the affine knows better": nifti(ZEROS, (80, "<f", 0)),
}


@pytest.mark.parametrize("kind", READ_VOLUMES)
def test_volumes_that_are_read(kind: str, volumes: Path) -> None:
    (volumes / "imagesTr/b.nii.gz").write_bytes(READ_VOLUMES[kind])
    assert prepare_volumes(volumes) == ["a", "b"]


def test_a_description_with_a_byte_order_mark_is_read(volumes: Path) -> None:
    path = volumes / "dataset.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert prepare_volumes(volumes) == ["a", "b"]
