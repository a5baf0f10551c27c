"""The builder on generated archives in the publisher's layout."""

from typing import ClassVar

import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.kvasir_seg.kvasir_seg_dataset_builder import Builder

pytestmark = pytest.mark.no_backend


class TestArchive(testing.ImageTests, testing.PublishedTests, testing.ZipTests):
    builder = Builder
    ids = ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4", "cju0qx73cjw570799j4n5cjze")
    image = "Kvasir-SEG/images/{}.jpg"
    mask = "Kvasir-SEG/masks/{}.jpg"
    counts: ClassVar = {"NUM_EXAMPLES": 3}
    published: ClassVar = {"NUM_EXAMPLES": 1000}
    zips: ClassVar = {"kvasir-seg.zip": "Kvasir-SEG"}


class KvasirSegTest(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
