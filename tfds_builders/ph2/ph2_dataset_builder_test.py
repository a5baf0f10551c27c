"""The builder on generated archives in the publisher's layout."""

from typing import ClassVar

import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.ph2.ph2_dataset_builder import Builder

pytestmark = pytest.mark.no_backend


class TestArchive(testing.ImageTests, testing.PublishedTests):
    builder = Builder
    ids = ("IMD002", "IMD003", "IMD004")
    image = "PH2Dataset/PH2 Dataset images/{0}/{0}_Dermoscopic_Image/{0}.bmp"
    mask = "PH2Dataset/PH2 Dataset images/{0}/{0}_lesion/{0}_lesion.bmp"
    counts: ClassVar = {"NUM_EXAMPLES": 3}
    published: ClassVar = {"NUM_EXAMPLES": 200}


class Ph2Test(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
