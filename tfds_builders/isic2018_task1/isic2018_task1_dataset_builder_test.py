"""The builder on generated archives in the publisher's layout."""

import zipfile
from pathlib import Path
from typing import ClassVar
from unittest import mock

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders.isic2018_task1.isic2018_task1_dataset_builder import (
    IMAGES,
    SEGMENTATION_MASKS,
    Builder,
)

pytestmark = pytest.mark.no_backend

IDS = ("ISIC_0000000", "ISIC_0000001", "ISIC_0000003")


def write_archive(folder: Path) -> None:
    """Writes three images, all of different size, with a square lesion each."""
    rng = np.random.default_rng(0)
    (folder / IMAGES).mkdir(parents=True)
    (folder / SEGMENTATION_MASKS).mkdir()
    for number, id_ in enumerate(IDS):
        image = np.full((8 + number, 12, 3), rng.integers(100, 255, 3), dtype=np.uint8)
        mask = np.zeros(image.shape[:2], dtype=np.uint8)
        image[2:6, 3:7] = (20, 40, 60)  # blue, green, red
        mask[2:6, 3:7] = 255
        cv2.imwrite(folder / IMAGES / f"{id_}.jpg", image)
        cv2.imwrite(folder / SEGMENTATION_MASKS / f"{id_}_segmentation.png", mask)
    for part in (IMAGES, SEGMENTATION_MASKS):
        (folder / part / "ATTRIBUTION.txt").write_text("…")
        (folder / part / "LICENSE.txt").write_text("…")


def zip_archive(folder: Path) -> None:
    """Replaces the two folders by the publisher's two zip files."""
    for part in (IMAGES, SEGMENTATION_MASKS):
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            archive.mkdir(part)
            for file in sorted((folder / part).iterdir()):
                archive.write(file, f"{part}/{file.name}")
                file.unlink()
        (folder / part).rmdir()


class Isic2018Task1Test(tfds.testing.DatasetBuilderTestCase):
    """TensorFlow Datasets' own checks, which read with TensorFlow."""

    DATASET_CLASS = Builder
    SPLITS: ClassVar = {"train": len(IDS)}
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls) -> None:
        cls.EXAMPLE_DIR = cls.enterClassContext(tfds.testing.tmp_dir())
        write_archive(Path(cls.EXAMPLE_DIR))
        cls.enterClassContext(mock.patch.object(Builder, "NUM_EXAMPLES", len(IDS)))
        super().setUpClass()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Builder, "NUM_EXAMPLES", len(IDS))
    write_archive(tmp_path / "manual")
    return tmp_path / "manual"


def prepare(archive: Path) -> Builder:
    builder = Builder(data_dir=archive.parent / "data")
    builder.download_and_prepare(
        file_format="array_record",
        download_config=tfds.download.DownloadConfig(manual_dir=archive),
    )
    return builder


@pytest.mark.parametrize("zipped", [False, True])
def test_examples(archive: Path, zipped: bool) -> None:
    if zipped:
        zip_archive(archive)
    before = sorted(archive.rglob("*"))
    examples = {e["id"].decode(): e for e in prepare(archive).as_data_source("train")}
    assert sorted(archive.rglob("*")) == before  # nothing is extracted
    assert sorted(examples) == list(IDS)
    for number, id_ in enumerate(IDS):
        image, mask = examples[id_]["image"], examples[id_]["segmentation_mask"]
        assert image.shape == (8 + number, 12, 3)
        assert mask.shape == (8 + number, 12, 1)
        assert image.dtype == mask.dtype == np.uint8
        assert mask.sum() == 16
        assert np.all(mask[2:6, 3:7] == 1)
        np.testing.assert_allclose(image[3:5, 4:6].mean(axis=(0, 1)), (60, 40, 20), atol=25)


def remove_image(archive: Path) -> None:
    (archive / IMAGES / f"{IDS[1]}.jpg").unlink()


def remove_mask(archive: Path) -> None:
    (archive / SEGMENTATION_MASKS / f"{IDS[1]}_segmentation.png").unlink()


def remove_pair(archive: Path) -> None:
    remove_image(archive)
    remove_mask(archive)


def remove_part(archive: Path) -> None:
    for file in (archive / SEGMENTATION_MASKS).iterdir():
        file.unlink()
    (archive / SEGMENTATION_MASKS).rmdir()


def enlarge_mask(archive: Path) -> None:
    mask = np.zeros((10, 12), dtype=np.uint8)
    cv2.imwrite(archive / SEGMENTATION_MASKS / f"{IDS[1]}_segmentation.png", mask)


def color_mask(archive: Path) -> None:
    mask = np.full((9, 12, 3), (0, 0, 255), dtype=np.uint8)
    cv2.imwrite(archive / SEGMENTATION_MASKS / f"{IDS[1]}_segmentation.png", mask)


def truncate_image(archive: Path) -> None:
    path = archive / IMAGES / f"{IDS[1]}.jpg"
    path.write_bytes(path.read_bytes()[:100])


def empty_image(archive: Path) -> None:
    (archive / IMAGES / f"{IDS[1]}.jpg").write_bytes(b"")


def grey_image(archive: Path) -> None:
    cv2.imwrite(archive / IMAGES / f"{IDS[1]}.jpg", np.zeros((9, 12), dtype=np.uint8))


def cut_zip_short(archive: Path) -> None:
    zip_archive(archive)
    path = archive / f"{IMAGES}.zip"
    path.write_bytes(path.read_bytes()[:-100])


def corrupt_zipped_image(archive: Path) -> None:
    zip_archive(archive)
    path = archive / f"{IMAGES}.zip"
    content = bytearray(path.read_bytes())
    content[content.index(IDS[1].encode()) + 60] ^= 0xFF
    path.write_bytes(content)


def rename_zipped_folder(archive: Path) -> None:
    zip_archive(archive)
    with zipfile.ZipFile(archive / f"{IMAGES}.zip", "w") as file:
        file.writestr("elsewhere/a.jpg", "")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_image, f"{IMAGES} in .* has 2 of 3 files and none for {IDS[1]}"),
        (remove_mask, f"{SEGMENTATION_MASKS} in .* has 2 of 3 files and none for {IDS[1]}"),
        (remove_pair, "must have 3 files each; .* Received: 2"),
        (remove_part, f"Neither .*{SEGMENTATION_MASKS} nor .*zip exists. Download .*https"),
        (enlarge_mask, rf"{IDS[1]}_segmentation.png must .*\(9, 12\). Received: \(10, 12\)"),
        (color_mask, rf"{IDS[1]}_segmentation.png must .*grey.* Received: \(9, 12, 3\)"),
        (truncate_image, f"{IDS[1]}.jpg is not a readable image"),
        (empty_image, f"{IDS[1]}.jpg cannot be read"),
        (grey_image, rf"{IDS[1]}.jpg must be a colour image. Received: \(9, 12\)"),
        (cut_zip_short, f"{IMAGES}.zip is damaged"),
        (corrupt_zipped_image, f"{IDS[1]}.jpg cannot be read: Bad CRC-32"),
        (rename_zipped_folder, f"{IMAGES} in .* has 0 of 3 files and none for {IDS[0]}"),
    ],
)
def test_damage_is_named_and_nothing_is_left_prepared(archive: Path, damage, message) -> None:
    damage(archive)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare(archive)
    data = archive.parent / "data"
    assert [path for path in data.rglob("*") if path.is_file()] == []


def test_published_count() -> None:
    assert Builder.NUM_EXAMPLES == 2594


if __name__ == "__main__":
    tfds.testing.test_main()
