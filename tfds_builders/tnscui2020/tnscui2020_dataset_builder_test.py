"""The builder on generated archives in the publisher's layout."""

from typing import ClassVar

import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.tnscui2020.tnscui2020_dataset_builder import Builder

pytestmark = pytest.mark.no_backend


class TestArchive(testing.ImageTests, testing.PublishedTests):
    builder = Builder
    ids = ("1698", "2", "3")
    image = "image/{}.PNG"
    mask = "mask/{}.PNG"
    grey = True
    counts: ClassVar = {"NUM_EXAMPLES": 3}
    published: ClassVar = {"NUM_EXAMPLES": 3644}


class Tnscui2020Test(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
