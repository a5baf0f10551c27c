"""The builder on generated archives in the publisher's layout."""

import os
import re
import struct
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.image_folder.image_folder_dataset_builder import Builder, Config

pytestmark = pytest.mark.no_backend


class TestArchive(testing.ImageTests):
    builder = Builder
    ids = ("patient1/left", "patient1/right", "scan7")
    groups = ("patient1", "patient1", "scan7")
    image = "images/{}.jpg"
    mask = "masks/{}.png"
    grey = True

    @classmethod
    def options(cls, archive: Path) -> dict[str, Any]:
        return {"config": Config(folder=str(archive))}

    def test_a_prepared_copy_belongs_to_the_path_and_the_content(self, archive) -> None:
        first = self.prepare(archive)
        again = Builder(data_dir=first.data_dir_root, **self.options(archive))
        assert again.data_path == first.data_path
        assert len(again.as_data_source("train")) == 3

        mask = self.file(archive, self.mask, 1)
        content, times = mask.read_bytes(), mask.stat()
        testing.write_png(mask, np.full((9, 12), 255, dtype=np.uint8))
        os.utime(mask, ns=(times.st_atime_ns, times.st_mtime_ns))
        changed = self.prepare(archive)
        assert changed.data_path != first.data_path
        examples = {e["id"].decode(): e for e in changed.as_data_source("train")}
        assert examples["patient1/right"]["segmentation_mask"].all()

        mask.write_bytes(content)
        back = Builder(data_dir=first.data_dir_root, **self.options(archive))
        assert back.data_path == first.data_path

        moved = Builder(
            data_dir=first.data_dir_root, **self.options(archive.rename(archive.parent / "moved"))
        )
        assert not moved.data_path.exists()

    def test_a_renamed_file_is_another_content(self, archive) -> None:
        before = Config(folder=str(archive)).name
        for template in (self.image, self.mask):
            file = self.file(archive, template, 2)
            file.rename(file.with_stem("scan8"))
        assert Config(folder=str(archive)).name != before

    def test_the_name_is_safe_as_a_folders(self, tmp_path) -> None:
        (tmp_path / "Zoë’s: scans" / "images").mkdir(parents=True)
        (tmp_path / "Zoë’s: scans" / "masks").mkdir()
        name = Config(folder=str(tmp_path / "Zoë’s: scans")).name
        assert re.fullmatch(r"Zo_s_scans_[0-9a-f]{16}", name)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_a_photograph_is_turned_as_viewers_turn_it(self, archive, orientation) -> None:
        upright = np.zeros((16, 24, 3), dtype=np.uint8)
        upright[:8, :16] = (0, 0, 255)  # red in the upper left
        stored = {
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.transpose(1, 0, 2),
            6: np.rot90(upright),
            7: upright[::-1, ::-1].transpose(1, 0, 2),
            8: np.rot90(upright, -1),
        }[orientation]
        file = self.file(archive, self.image, 1)
        jpeg = cv2.imencode(".jpg", stored)[1].tobytes()
        tag = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
        exif = b"Exif\0\0" + tag
        file.write_bytes(
            jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
        )
        testing.write_png(self.file(archive, self.mask, 1), np.zeros((16, 24), dtype=np.uint8))
        image = self.read(archive)["patient1/right"]["image"]
        assert image.shape == (16, 24, 3)
        assert image[2, 2, 0] > 200
        assert image[-3:, :, 0].max() < 60

    def test_names_in_either_unicode_form_pair(self, archive) -> None:
        for template, form in ((self.image, "NFC"), (self.mask, "NFD")):
            file = self.file(archive, template, 2)
            file.rename(file.with_stem(unicodedata.normalize(form, "naïve 病変")))
        assert unicodedata.normalize("NFC", "naïve 病変") in self.read(archive)

    def test_two_images_of_one_name_are_refused(self, archive) -> None:
        file = self.file(archive, self.image, 1)
        testing.write_image(file.with_suffix(".png"), 1)
        self.refuse(archive, r"right.png and .*right.jpg have the same id; rename or remove one")

    def test_a_mask_of_several_classes_is_refused(self, archive) -> None:
        classes = np.zeros((9, 12), dtype=np.uint8)
        classes[0], classes[1] = 128, 255
        testing.write_png(self.file(archive, self.mask, 1), classes)
        self.refuse(archive, "right.png must hold 0 and 255, or 0 and 1, only.* Received: 0, 128")

    def test_a_mask_with_a_jpegs_values_is_read(self, archive) -> None:
        mask = self.file(archive, self.mask, 1)
        mask.unlink()
        testing.write_mask(mask.with_suffix(".jpg"), 1)
        self.check_archive(archive)

    def test_an_image_of_one_pixel_is_read(self, archive) -> None:
        testing.write_png(self.file(archive, self.image, 1), np.full((1, 1, 3), 9, dtype=np.uint8))
        testing.write_png(self.file(archive, self.mask, 1), np.full((1, 1), 255, dtype=np.uint8))
        example = self.read(archive)["patient1/right"]
        assert example["image"].shape == (1, 1, 3)
        assert example["segmentation_mask"].tolist() == [[[1]]]

    def test_a_palette_is_resolved(self, archive) -> None:
        # A PNG of 2 × 1 pixels that index a palette of red and green.
        def chunk(kind: bytes, data: bytes) -> bytes:
            check = struct.pack(">I", zlib.crc32(kind + data))
            return struct.pack(">I", len(data)) + kind + data + check

        self.file(archive, self.image, 1).write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0))
            + chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0]))
            + chunk(b"IDAT", zlib.compress(bytes([0, 0, 1])))
            + chunk(b"IEND", b"")
        )
        testing.write_png(self.file(archive, self.mask, 1), np.zeros((1, 2), dtype=np.uint8))
        image = self.read(archive)["patient1/right"]["image"]
        assert image.tolist() == [[[255, 0, 0], [0, 255, 0]]]

    def test_a_link_to_a_folder_is_refused(self, archive) -> None:
        (archive / "images" / "loop").symlink_to(archive / "images")
        self.refuse(archive, "loop must be a folder, not a link to one")

    @pytest.mark.parametrize("name", ["images", "masks"])
    def test_a_part_that_is_elsewhere_is_refused(self, archive, name) -> None:
        (archive / name).symlink_to((archive / name).rename(archive.parent / "elsewhere"))
        self.refuse(archive, f"{name} must be in .*manual, not a link to elsewhere")

    def test_a_missing_folder_is_named(self, archive) -> None:
        (archive / "masks").rename(archive / "labels")
        self.refuse(archive, r"manual must hold images, masks. Received: no masks")

    def test_no_folder_is_refused(self, archive) -> None:
        builder = Builder(data_dir=archive.parent / "data")
        with pytest.raises(ValueError, match=r"tfds build by --config='\{.folder.: "):
            builder.download_and_prepare(file_format="array_record")


class ImageFolderTest(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
