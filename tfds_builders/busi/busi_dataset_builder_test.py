"""The builder on generated archives in the publisher's layout."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.busi.busi_dataset_builder import Builder

pytestmark = pytest.mark.no_backend


class TestArchive(testing.ImageTests, testing.PublishedTests, testing.ZipTests):
    builder = Builder
    ids = ("benign (1)", "benign (2)", "malignant (1)")
    names = (("benign", 1), ("benign", 2), ("malignant", 1))
    image = "Dataset_BUSI_with_GT/{0[0]}/{0[0]} ({0[1]}).png"
    mask = "Dataset_BUSI_with_GT/{0[0]}/{0[0]} ({0[1]})_mask.png"
    counts: ClassVar = {"NUM_EXAMPLES": {"benign": 2, "malignant": 1, "normal": 1}}
    published: ClassVar = {"NUM_EXAMPLES": {"benign": 437, "malignant": 210, "normal": 133}}
    surplus = ("benign", 9)
    zips: ClassVar = {"Dataset_BUSI.zip": "Dataset_BUSI_with_GT"}

    @classmethod
    def write_archive(cls, folder: Path) -> None:
        super().write_archive(folder)
        normal = folder / "Dataset_BUSI_with_GT" / "normal"
        normal.mkdir()
        testing.write_image(normal / "normal (1).png", 0)
        testing.write_png(normal / "normal (1)_mask.png", np.zeros((8, 12), dtype=np.uint8))

    def test_the_archives_own_folder_may_be_named(self, archive) -> None:
        assert sorted(self.read(archive / "Dataset_BUSI_with_GT")) == list(self.ids)

    def test_several_masks_are_united(self, archive) -> None:
        path = self.file(archive, self.mask, 1)
        corners = np.zeros((2, 9, 12), dtype=np.uint8)
        corners[0, 0, 0] = corners[1, 8, 11] = corners[1, 2, 3] = 255
        for number, corner in enumerate(corners, start=1):
            testing.write_png(path.with_stem(f"{path.stem}_{number}"), corner)
        mask = self.read(archive)["benign (2)"]["segmentation_mask"][..., 0]
        assert mask[0, 0] == mask[8, 11] == 1
        assert np.all(mask[2:6, 3:7] == 1)
        assert mask.sum() == 16 + 2

    def test_one_of_several_masks_of_another_size_is_named(self, archive) -> None:
        path = self.file(archive, self.mask, 1)
        testing.write_png(path.with_stem(f"{path.stem}_1"), np.zeros((8, 12), dtype=np.uint8))
        self.refuse(archive, r"benign \(2\)_mask_1.png must .*height and width, \(9, 12\)")

    def test_normal_cases_are_read_on_demand(self, archive) -> None:
        examples = self.read(archive, config="all")
        assert sorted(examples) == [*self.ids, "normal (1)"]
        assert not examples["normal (1)"]["segmentation_mask"].any()

    def test_an_incomplete_config_is_prepared_apart(self, archive) -> None:
        self.file(archive, self.mask, 1).unlink()
        builder = self.prepare(archive, config="all", allow_incomplete=True)
        assert builder.data_path.parent.name == "all_incomplete"
        assert builder.info.splits["train"].num_examples == 3

    def test_an_unknown_config_is_refused(self, tmp_path) -> None:
        with pytest.raises(ValueError, match="malignant"):
            Builder(data_dir=tmp_path, config="malignant", allow_incomplete=True)


class BusiTest(testing.BuilderTestCase):
    ARCHIVE = TestArchive
    BUILDER_CONFIG_NAMES_TO_TEST: ClassVar = ["lesions"]


if __name__ == "__main__":
    tfds.testing.test_main()
