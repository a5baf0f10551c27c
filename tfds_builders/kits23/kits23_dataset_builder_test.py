"""The builder on generated archives in the publisher's layout."""

from typing import ClassVar

import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.kits23.kits23_dataset_builder import Builder

pytestmark = pytest.mark.no_backend


class TestArchive(testing.VolumeTests, testing.PublishedTests):
    builder = Builder
    ids = ("case_00000", "case_00001", "case_00400")
    image = "dataset/{}/imaging.nii.gz"
    mask = "dataset/{}/segmentation.nii.gz"
    counts: ClassVar = {"NUM_EXAMPLES": 3}
    published: ClassVar = {"NUM_EXAMPLES": 489}

    def test_cases_that_are_not_downloaded_are_counted(self, archive) -> None:
        for number in range(3):
            self.file(archive, self.image, number).unlink()
        message = "imaging.nii.gz in .*dataset has 0 of 3 files and none for case_00000, which seg"
        self.refuse(archive, message)


class Kits23Test(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
