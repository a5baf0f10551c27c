"""The builder on generated archives in the publisher's layout."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.isic2018_task1.isic2018_task1_dataset_builder import (
    IMAGES,
    SEGMENTATION_MASKS,
    Builder,
)

pytestmark = pytest.mark.no_backend


IDS = ("ISIC_0000000", "ISIC_0000001", "ISIC_0000003")


class TestArchive(testing.ImageTests, testing.PublishedTests, testing.ZipTests):
    builder = Builder
    ids = IDS
    image = f"{IMAGES}/{{}}.jpg"
    mask = f"{SEGMENTATION_MASKS}/{{}}_segmentation.png"
    counts: ClassVar = {"NUM_EXAMPLES": 3}
    published: ClassVar = {"NUM_EXAMPLES": 2594}
    zips: ClassVar = {f"{part}.zip": part for part in (IMAGES, SEGMENTATION_MASKS)}


# What the tests of reading and of the commands start from:


def write_archive(folder: Path) -> None:
    """Write three images, all of different size, with a square lesion each."""
    TestArchive.write_archive(folder)


def truncate_image(archive: Path) -> None:
    path = archive / IMAGES / f"{IDS[1]}.jpg"
    path.write_bytes(path.read_bytes()[:100])


def enlarge_mask(archive: Path) -> None:
    path = archive / SEGMENTATION_MASKS / f"{IDS[1]}_segmentation.png"
    testing.write_png(path, np.zeros((10, 12), dtype=np.uint8))


class Isic2018Task1Test(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
