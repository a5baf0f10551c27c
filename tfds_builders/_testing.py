"""The checks that the builders share, on archives generated in their publishers' layouts.

A builder's test describes its archive by a class derived from `ImageTests` or `VolumeTests`, and
from `PublishedTests` and `ZipTests` where these apply, and derives TensorFlow Datasets' own checks
from `BuilderTestCase`.
"""

import gzip
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import cv2
import nibabel
import numpy as np
import pytest
import tensorflow_datasets as tfds

AFFINE = np.array([[-0.5, 0, 0, 90], [0, 0, 2, -30], [0, 0.75, 0, 10], [0, 0, 0, 1.0]])
SPACING = (0.5, 0.75, 2)
UNREADABLE = "(cannot be read as an image: |is not a readable NIfTI file: )"
MILLIMETRE = np.outer([1, 1, 1, 0], [0, 0, 0, 1])  # added to an affine, a move along each axis


class ArchiveTests:
    """Describes an archive of three cases and checks that it is read."""

    builder: ClassVar[type[tfds.core.GeneratorBasedBuilder]]
    ids: ClassVar[tuple[str, ...]]
    groups: ClassVar[tuple[str, ...]] = ()  # by default, the ids
    image: ClassVar[str]  # the image's path in the archive, with {} for what varies
    mask: ClassVar[str]
    names: ClassVar[tuple[Any, ...]] = ()  # what varies; by default, the ids
    counts: ClassVar[Mapping[str, Any]] = {}  # published counts, for the generated archive
    published: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def write_archive(cls, folder: Path) -> None:
        """Write the archive into a folder that does not exist yet."""
        for number in range(len(cls.ids)):
            for file in (cls.file(folder, cls.image, number), cls.file(folder, cls.mask, number)):
                file.parent.mkdir(parents=True, exist_ok=True)
            cls.write_case(
                cls.file(folder, cls.image, number), cls.file(folder, cls.mask, number), number
            )

    @classmethod
    def file(cls, archive: Path, template: str, number: int) -> Path:
        return archive / template.format((cls.names or cls.ids)[number])

    @classmethod
    def write_case(cls, image: Path, mask: Path, number: int) -> None:
        raise NotImplementedError

    @classmethod
    def options(cls, archive: Path) -> dict[str, Any]:
        """Return the builder's arguments besides `data_dir`."""
        return {}

    @classmethod
    def patch_counts(cls) -> ExitStack:
        stack = ExitStack()
        for name, value in cls.counts.items():
            stack.enter_context(mock.patch.object(cls.builder, name, value))
        return stack

    @pytest.fixture
    def archive(self, tmp_path: Path) -> Iterator[Path]:
        self.write_archive(tmp_path / "manual")
        with self.patch_counts():
            yield tmp_path / "manual"

    def prepare(self, archive: Path, **options: Any) -> tfds.core.GeneratorBasedBuilder:
        data_dir = archive.parent / "data"
        builder = self.builder(data_dir=data_dir, **self.options(archive), **options)
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(manual_dir=archive),
        )
        return builder

    def read(self, archive: Path, **options: Any) -> dict[str, dict[str, Any]]:
        source = self.prepare(archive, **options).as_data_source("train")
        return {example["id"].decode(): example for example in source}

    def refuse(self, archive: Path, message: str) -> None:
        """Check that the archive is refused with a message, and nothing left prepared."""
        with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
            self.prepare(archive)
        assert raised.traceback[-1].path.name.startswith(
            (
                "_building",
                "_reading",
                "images.py",
                "masks.py",
                "nifti",
                "paths.py",
                self.builder.name,
            )
        )
        data = archive.parent / "data"
        left = [path for path in data.rglob("*") if path.is_file()]
        # TensorFlow Datasets notes the name of the default config before it prepares.
        assert [path for path in left if path.parent.name != ".config"] == []

    def check_example(self, example: dict[str, Any], number: int) -> None:
        raise NotImplementedError

    def check_archive(self, archive: Path) -> None:
        before = sorted(archive.rglob("*"))
        examples = self.read(archive)
        assert sorted(archive.rglob("*")) == before  # nothing is extracted
        assert sorted(examples) == sorted(self.ids)
        for number, id_ in enumerate(self.ids):
            assert examples[id_]["group"].decode() == (self.groups or self.ids)[number]
            self.check_example(examples[id_], number)

    def test_examples(self, archive: Path) -> None:
        self.check_archive(archive)

    def test_metadata_names_the_labels(self, archive: Path) -> None:
        labels = self.prepare(archive).info.metadata["labels"]
        assert labels["0"] in ("background", "skin", "tissue", "mucosa")
        assert len(labels) >= 2


class PairTests(ArchiveTests):
    """Checks archives in which each case has files of its own."""

    def test_files_that_are_not_the_archives_are_ignored(self, archive: Path) -> None:
        for template in (self.image, self.mask):
            part = self.file(archive, template, 0).parent
            (part / "LICENSE.txt").write_text("…")
            (part / ".DS_Store").write_bytes(b"\0")
            (part / f"._{self.file(archive, template, 0).name}").write_bytes(b"\0")
        self.check_archive(archive)

    @pytest.mark.parametrize("template", ["image", "mask"])
    def test_a_missing_file_is_named(self, archive: Path, template: str) -> None:
        self.file(archive, getattr(self, template), 1).unlink()
        name = re.escape(self.missing_name(1))
        self.refuse(archive, f"has .* files and none for {name}, .*; correct that, or set")

    @classmethod
    def missing_name(cls, number: int) -> str:
        """Return the name of a case within its part, in messages."""
        return cls.ids[number]

    @pytest.mark.parametrize("template", ["image", "mask"])
    def test_a_missing_part_is_named(self, archive: Path, template: str) -> None:
        for number in range(len(self.ids)):
            self.file(archive, getattr(self, template), number).unlink()
        part = self.file(archive, getattr(self, template), 0).parent
        if not any(part.iterdir()):
            part.rmdir()
        self.refuse(archive, "exists|holds no folder|must hold|has 0 of|has 1 of|has 2 of")

    def test_an_incomplete_archive_can_be_read_apart(self, archive: Path) -> None:
        self.file(archive, self.mask, 1).unlink()
        builder = self.prepare(archive, allow_incomplete=True)
        ids = {example["id"].decode() for example in builder.as_data_source("train")}
        assert ids == set(self.ids) - {self.ids[1]}
        assert builder.data_path.parent.name.endswith("incomplete")
        whole = self.builder(data_dir=archive.parent / "data", **self.options(archive))
        assert not whole.data_path.exists()

    def test_nothing_to_read_is_refused_even_if_incomplete(self, archive: Path) -> None:
        for number in range(len(self.ids)):
            self.file(archive, self.mask, number).write_bytes(b"")
            self.file(archive, self.mask, number).unlink()
            if self.file(archive, self.image, number).exists():
                self.file(archive, self.image, number).unlink()
        with pytest.raises(ValueError, match=r"Received: (0, \d+ too few|none)"):
            self.prepare(archive, allow_incomplete=True)

    def test_a_link_out_of_the_folder_is_refused(self, archive: Path) -> None:
        file = self.file(archive, self.image, 1)
        elsewhere = file.rename(archive.parent / file.name)
        file.symlink_to(elsewhere)
        self.refuse(archive, f"{re.escape(file.name)} must be in .*, not a link to elsewhere")

    def test_a_link_to_itself_is_refused(self, archive: Path) -> None:
        file = self.file(archive, self.image, 1)
        file.unlink()
        file.symlink_to(file)
        self.refuse(archive, "has .* files and none for|cannot be read")

    def test_an_empty_file_is_refused(self, archive: Path) -> None:
        file = self.file(archive, self.image, 1)
        file.write_bytes(b"")
        self.refuse(archive, f"{re.escape(file.name)} {UNREADABLE}")

    @pytest.mark.parametrize("template", ["image", "mask"])
    def test_a_truncated_file_is_refused(self, archive: Path, template: str) -> None:
        file = self.file(archive, getattr(self, template), 1)
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
        self.refuse(archive, f"{re.escape(file.name)} {UNREADABLE}")

    def test_a_file_of_another_kind_is_refused(self, archive: Path) -> None:
        file = self.file(archive, self.image, 1)
        file.write_text("<html>Log in to download</html>" * 20)
        self.refuse(archive, f"{re.escape(file.name)} {UNREADABLE}")


class ImageTests(PairTests):
    """Checks 2D archives."""

    grey: ClassVar[bool] = False  # whether grey images are to be read

    @classmethod
    def write_case(cls, image: Path, mask: Path, number: int) -> None:
        write_image(image, number)
        write_mask(mask, number)

    def check_example(self, example: dict[str, Any], number: int) -> None:
        image, mask = example["image"], example["segmentation_mask"]
        assert image.shape == (8 + number, 12, 3)
        assert mask.shape == (8 + number, 12, 1)
        assert image.dtype == mask.dtype == np.uint8
        assert mask.sum() == 16
        assert np.all(mask[2:6, 3:7] == 1)
        np.testing.assert_allclose(image[3:5, 4:6].mean(axis=(0, 1)), (60, 40, 20), atol=25)

    def test_grey_images(self, archive: Path) -> None:
        file = self.file(archive, self.image, 1)
        write_png(file, np.full((9, 12), 77, dtype=np.uint8))
        if not self.grey:
            message = rf"{re.escape(file.name)} must be a colour image. Received: \(9, 12\)"
            self.refuse(archive, message)
            return
        image = self.read(archive)[self.ids[1]]["image"]
        assert image.shape == (9, 12, 3)
        assert np.all(image == 77)

    def test_opacity_is_dropped(self, archive: Path) -> None:
        image = np.full((9, 12, 4), (20, 40, 60, 128), dtype=np.uint8)
        write_png(self.file(archive, self.image, 1), image)
        assert np.all(self.read(archive)[self.ids[1]]["image"] == (60, 40, 20))

    def test_masks_of_0_and_1(self, archive: Path) -> None:
        mask = np.zeros((9, 12), dtype=np.uint8)
        mask[1:3, 2:8] = 1
        write_png(self.file(archive, self.mask, 1), mask)
        read = self.read(archive)[self.ids[1]]["segmentation_mask"]
        np.testing.assert_array_equal(read[..., 0], mask)

    def test_masks_of_three_grey_channels(self, archive: Path) -> None:
        file = self.file(archive, self.mask, 1)
        mask = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        file.write_bytes(cv2.imencode(file.suffix, mask)[1].tobytes())
        self.check_archive(archive)

    @pytest.mark.parametrize("value", [0, 255])
    def test_masks_of_one_value(self, archive: Path, value: int) -> None:
        write_png(self.file(archive, self.mask, 1), np.full((9, 12), value, dtype=np.uint8))
        read = self.read(archive)[self.ids[1]]["segmentation_mask"]
        assert np.all(read == (value == 255))

    def test_an_image_of_16_bits_is_scaled(self, archive: Path) -> None:
        image = np.full((9, 12, 3), (257 * 20, 257 * 40, 257 * 160), dtype=np.uint16)
        write_png(self.file(archive, self.image, 1), image)
        assert np.all(self.read(archive)[self.ids[1]]["image"] == (160, 40, 20))

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (np.zeros((10, 12)), r"must be .* \(9, 12\). Received: \(10, 12\)"),
            (np.full((9, 12, 3), (0, 0, 255)), r"must be a grey .* Received: \(9, 12, 3\)"),
            (np.arange(108).reshape(9, 12) % 4, "must hold 0 and 255, or 0 and 1.*0, 1, 2, 3"),
        ],
    )
    def test_a_mask_that_is_none_is_refused(self, archive: Path, mask, message: str) -> None:
        file = self.file(archive, self.mask, 1)
        write_png(file, mask.astype(np.uint8))
        self.refuse(archive, f"{re.escape(file.name)} {message}")


class VolumeTests(PairTests):
    """Checks 3D archives."""

    channels: ClassVar[list[str]] = ["CT"]

    @classmethod
    def write_case(cls, image: Path, mask: Path, number: int) -> None:
        write_volume(image, voxels(number))
        write_volume(mask, label_map(number))

    def check_example(self, example: dict[str, Any], number: int) -> None:
        np.testing.assert_array_equal(example["image"][..., 0], voxels(number))
        np.testing.assert_array_equal(example["segmentation_mask"][..., 0], label_map(number))
        assert example["image"].dtype == np.float32
        assert example["segmentation_mask"].dtype == np.uint8
        np.testing.assert_allclose(example["spacing"], SPACING)
        np.testing.assert_allclose(example["affine"], AFFINE)

    def test_metadata_names_the_channels(self, archive: Path) -> None:
        assert self.prepare(archive).info.metadata["channels"] == self.channels

    def test_scaled_voxels_are_read_in_their_units(self, archive: Path) -> None:
        write_volume(self.file(archive, self.image, 1), voxels(1), slope=0.5, intercept=-3)
        read = self.read(archive)[self.ids[1]]["image"]
        np.testing.assert_array_equal(read[..., 0], 0.5 * voxels(1) - 3)

    @pytest.mark.parametrize(
        ("volume", "options", "message"),
        [
            (np.full((5, 5, 6), np.nan), {}, "finite voxels only; .* Received: 150 that are NaN"),
            (np.full((5, 5, 6), 1e300), {}, "finite voxels only; .* Received: 150 that are NaN"),
            (np.zeros((5, 5, 6)), {"codes": 0}, "orientation and position; .* no affine"),
            (np.zeros((5, 5, 6)), {"affine": np.diag([1, 1, 0, 1])}, "affine that can be inv"),
            (np.zeros((5, 6)), {}, r"3 axes, or 4 .* Received: shape \(5, 6\)"),
        ],
    )
    def test_damaged_voxels_are_refused(self, archive: Path, volume, options, message) -> None:
        file = self.file(archive, self.image, 1)
        write_volume(file, volume, **options)
        self.refuse(archive, f"{re.escape(file.name)} must .*{message}")

    @pytest.mark.parametrize(
        ("labels", "options", "message"),
        [
            (np.zeros((5, 5, 7)), {}, r"size, \(5, 5, 6\). Received: \(5, 5, 7\)"),
            (np.full((5, 5, 6), 99), {}, "hold the labels 0, 1.* only. Received: 99"),
            (np.full((5, 5, 6), 0.5), {}, "hold the labels 0, 1.* only. Received: 0.5"),
            (np.full((5, 5, 6), np.nan), {}, "hold the labels 0, 1.* only. Received: nan"),
            (np.full((5, 5, 6), -1), {}, "hold the labels 0, 1.* only. Received: -1"),
            (np.zeros((5, 5, 6)), {"affine": AFFINE + MILLIMETRE}, "Received: 1.7 mm away"),
        ],
    )
    def test_damaged_labels_are_refused(self, archive: Path, labels, options, message) -> None:
        file = self.file(archive, self.mask, 1)
        write_volume(file, labels.astype(np.float32), **options)
        self.refuse(archive, f"{re.escape(file.name)} must .*{message}")

    def test_labels_without_an_affine_lie_where_the_image_lies(self, archive: Path) -> None:
        write_volume(self.file(archive, self.mask, 1), label_map(1), codes=0)
        self.check_archive(archive)

    def test_a_file_whose_zip_sum_is_wrong_is_refused(self, archive: Path) -> None:
        file = self.file(archive, self.image, 1)
        content = bytearray(gzip.compress(gzip.decompress(file.read_bytes()), mtime=0))
        content[-6] ^= 0xFF
        file.write_bytes(content)
        self.refuse(archive, f"{re.escape(file.name)} is not a readable NIfTI file: CRC")


class PublishedTests(ArchiveTests):
    """Checks archives with a published count."""

    surplus: ClassVar[Any] = "surplus"  # a further name, as in `names`

    def test_published_counts(self) -> None:
        assert {name: getattr(self.builder, name) for name in self.counts} == self.published
        assert set(self.counts) == set(self.published)

    def test_a_missing_pair_is_counted(self, archive: Path) -> None:
        for template in (self.image, self.mask):
            self.file(archive, template, 1).unlink()
        self.refuse(archive, r"must have \d+ files each; .* Received: \d+, 1 too few")

    def test_a_surplus_pair_is_counted(self, archive: Path) -> None:
        for template in (self.image, self.mask):
            surplus = archive / template.format(self.surplus)
            surplus.parent.mkdir(parents=True, exist_ok=True)
            surplus.write_bytes(self.file(archive, template, 1).read_bytes())
        self.refuse(archive, r"must have \d+ files each; .* Received: \d+, 1 too many")


class ZipTests(ArchiveTests):
    """Checks archives that the publisher ships as zip files."""

    zips: ClassVar[Mapping[str, str]]  # the folder in each zip file, by the file's name

    def zip(self, archive: Path) -> Path:
        """Replace the folders by zip files; return that of the images."""
        for name, root in self.zips.items():
            with zipfile.ZipFile(archive / name, "w") as file:
                paths = sorted((archive / root).rglob("*"))
                for path in [archive / root, *paths]:
                    file.write(path, path.relative_to(archive))
                for path in reversed(paths):
                    path.rmdir() if path.is_dir() else path.unlink()
            (archive / root).rmdir()
        image = self.file(archive, self.image, 0)
        return next(
            archive / name
            for name, root in self.zips.items()
            if image.is_relative_to(archive / root)
        )

    def test_zipped_examples(self, archive: Path) -> None:
        self.zip(archive)
        self.check_archive(archive)

    def test_a_zip_file_cut_short_is_refused(self, archive: Path) -> None:
        path = self.zip(archive)
        path.write_bytes(path.read_bytes()[:-100])
        self.refuse(archive, f"{path.name} is damaged .*; download it again")

    def test_a_damaged_member_is_named(self, archive: Path) -> None:
        name = self.file(Path(), self.image, 1).as_posix()
        path = self.zip(archive)
        content = bytearray(path.read_bytes())
        content[content.index(name.encode()) + len(name) + 40] ^= 0xFF
        path.write_bytes(content)
        self.refuse(archive, f"{re.escape(name)} cannot be read: Bad CRC-32")

    @pytest.mark.parametrize(
        "name", ["../evil.png", "a/../../evil.png", "/evil.png", r"a\..\b.png"]
    )
    def test_a_member_outside_the_zip_file_is_refused(self, archive: Path, name: str) -> None:
        path = self.zip(archive)
        with zipfile.ZipFile(path, "a") as file:
            file.writestr(name, b"evil")
        self.refuse(archive, f"{path.name} is not the published archive: .*Received: .*{name[-6:]}")
        assert not list(archive.parent.rglob("evil.png"))

    def test_a_zip_file_of_something_else_is_refused(self, archive: Path) -> None:
        path = self.zip(archive)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("elsewhere/a.jpg", "")
        self.refuse(archive, "has 0 of |Received: 0, ")

    def test_no_archive_at_all_says_what_to_download(self, archive: Path) -> None:
        self.zip(archive).unlink()
        (archive / "other.txt").write_text("…")
        self.refuse(archive, "Neither .* nor .*zip exists. Download .*https://")


class BuilderTestCase(tfds.testing.DatasetBuilderTestCase):
    """TensorFlow Datasets' own checks, which read with TensorFlow."""

    ARCHIVE: ClassVar[type[ArchiveTests]]
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls) -> None:
        folder = Path(cls.enterClassContext(tfds.testing.tmp_dir())) / "manual"
        cls.ARCHIVE.write_archive(folder)
        cls.enterClassContext(cls.ARCHIVE.patch_counts())
        cls.DATASET_CLASS = cls.ARCHIVE.builder
        cls.EXAMPLE_DIR = folder
        cls.SPLITS = cls.SPLITS or {"train": len(cls.ARCHIVE.ids)}
        if config := cls.ARCHIVE.options(folder).get("config"):
            cls.BUILDER_CONFIG_NAMES_TO_TEST = [config]
        super().setUpClass()


def write_image(path: Path, number: int) -> None:
    """Write an image of a size of its own with a square lesion."""
    shade = np.random.default_rng(number).integers(100, 255, 3)
    image = np.full((8 + number, 12, 3), shade, dtype=np.uint8)
    image[2:6, 3:7] = (20, 40, 60)  # blue, green, red
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def write_mask(path: Path, number: int) -> None:
    """Write the mask of that image."""
    mask = np.zeros((8 + number, 12), dtype=np.uint8)
    mask[2:6, 3:7] = 255
    path.write_bytes(cv2.imencode(path.suffix, mask)[1].tobytes())


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG, whatever the suffix: readers go by the content."""
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def voxels(number: int) -> np.ndarray:
    """Return a volume of a size of its own, in Hounsfield units."""
    rng = np.random.default_rng(number)
    return rng.integers(-1000, 1000, (4 + number, 5, 6), dtype=np.int16)


def label_map(number: int) -> np.ndarray:
    """Return the labels of that volume: a box of 1 and, in it, 2."""
    labels = np.zeros((4 + number, 5, 6), dtype=np.uint8)
    labels[1:3, 1:4, 1:4] = 1
    labels[2, 2, 2] = 2
    return labels


def write_volume(
    path: Path,
    volume: np.ndarray,
    *,
    affine: np.ndarray = AFFINE,
    codes: int = 1,
    slope: float = 1,
    intercept: float = 0,
) -> None:
    """Write a NIfTI file, field by field, as nibabel would mend some; codes of 0: no affine."""
    content = bytearray(nibabel.Nifti1Image(volume, np.eye(4)).to_bytes())
    struct.pack_into("<3f", content, 80, *nibabel.affines.voxel_sizes(affine))  # pixdim
    struct.pack_into("<2f", content, 112, slope, intercept)
    struct.pack_into("<2h", content, 252, 0, codes)  # the quaternion's and the matrix's code
    struct.pack_into("<12f", content, 280, *affine[:3].ravel())
    path.write_bytes(gzip.compress(content))
