"""The builder on generated archives in the publisher's layout."""

from typing import ClassVar

import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.bus.bus_dataset_builder import Builder

pytestmark = pytest.mark.no_backend


class TestArchive(testing.ImageTests, testing.PublishedTests):
    builder = Builder
    ids = ("case001", "case002", "case003")
    image = "images/{}.bmp"
    mask = "masks/{}.png"
    grey = True
    counts: ClassVar = {"NUM_EXAMPLES": 3}
    published: ClassVar = {"NUM_EXAMPLES": 562}

    @pytest.mark.parametrize("names", [("original", "GT"), ("imgs", "ground_truth")])
    def test_other_names_of_the_folders(self, archive, names) -> None:
        for name, other in zip(("images", "masks"), names, strict=True):
            (archive / name).rename(archive / other)
        self.check_archive(archive)


class BusTest(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
