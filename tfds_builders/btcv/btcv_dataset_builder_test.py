"""The builder on generated archives in the publisher's layout."""

from pathlib import Path
from typing import ClassVar

import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.btcv.btcv_dataset_builder import Builder

pytestmark = pytest.mark.no_backend


class TestArchive(testing.VolumeTests, testing.PublishedTests, testing.ZipTests):
    builder = Builder
    ids = ("0001", "0002", "0021")
    image = "RawData/Training/img/img{}.nii.gz"
    mask = "RawData/Training/label/label{}.nii.gz"
    counts: ClassVar = {"NUM_EXAMPLES": 3}
    published: ClassVar = {"NUM_EXAMPLES": 30}
    zips: ClassVar = {"RawData.zip": "RawData"}

    @classmethod
    def write_archive(cls, folder: Path) -> None:
        super().write_archive(folder)
        test = folder / "RawData" / "Testing" / "img"
        test.mkdir(parents=True)
        testing.write_volume(test / "img0061.nii.gz", testing.voxels(0))

    def test_organs(self) -> None:
        assert len(Builder.LABELS) == 14
        assert (Builder.LABELS[1], Builder.LABELS[13]) == ("spleen", "left adrenal gland")


class BtcvTest(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
