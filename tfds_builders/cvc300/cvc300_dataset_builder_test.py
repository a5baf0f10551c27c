"""The builder on generated archives in the publisher's layout."""

from typing import ClassVar

import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.cvc300.cvc300_dataset_builder import Builder

pytestmark = pytest.mark.no_backend


class TestArchive(testing.ImageTests, testing.PublishedTests):
    builder = Builder
    ids = ("CVC-300_1", "CVC-300_2", "CVC-612_1")
    names = (("CVC-300", 1, "bmp"), ("CVC-300", 2, "bmp"), ("CVC-612", 1, "tif"))
    image = "{0[0]}/bbdd/{0[1]}.bmp"
    mask = "{0[0]}/gtpolyp/{0[1]}.{0[2]}"
    counts: ClassVar = {"NUM_EXAMPLES": {"CVC-300": 2, "CVC-612": 1}}
    published: ClassVar = {"NUM_EXAMPLES": {"CVC-300": 300, "CVC-612": 612}}
    surplus = ("CVC-300", 9, "bmp")

    @classmethod
    def missing_name(cls, number: int) -> str:
        return str(cls.names[number][1])

    def test_the_archives_own_folder_around_it(self, archive) -> None:
        (archive / "CVC-EndoSceneStill").mkdir()
        for name in ("CVC-300", "CVC-612"):
            (archive / name).rename(archive / "CVC-EndoSceneStill" / name)
        self.check_archive(archive)


class Cvc300Test(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
