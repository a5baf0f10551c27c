"""The builder on generated archives in the publisher's layout."""

import json
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings, strategies as st

from tfds_builders import _testing as testing
from tfds_builders.msd_folder.msd_folder_dataset_builder import (
    Builder,
    Config,
    read_channels,
    read_labels,
)

pytestmark = pytest.mark.no_backend


class TestArchive(testing.VolumeTests):
    builder = Builder
    ids = ("hippocampus_001", "hippocampus_004", "hippocampus_006")
    image = "imagesTr/{}.nii.gz"
    mask = "labelsTr/{}.nii.gz"
    channels: ClassVar = ["MRI"]

    @classmethod
    def write_archive(cls, folder: Path) -> None:
        super().write_archive(folder)
        describe(folder)

    @classmethod
    def options(cls, archive: Path) -> dict[str, Any]:
        return {"config": Config(folder=str(archive))}

    def test_labels_are_named(self, archive) -> None:
        names = {"0": "background", "1": "Anterior", "2": "Posterior"}
        assert self.prepare(archive).info.metadata["labels"] == names
        again = Builder(data_dir=archive.parent / "data", **self.options(archive))
        assert again.info.metadata["labels"] == names
        describe(archive, labels={"Posterior": 2, "background": 0, "Anterior": 1})
        assert self.prepare(archive).info.metadata["labels"] == names

    @pytest.mark.parametrize("values", [("0", "1", "2"), (0.0, 1.0, 2.0)])
    def test_labels_may_be_numbers_in_any_spelling(self, archive, values) -> None:
        describe(archive, labels=dict(zip(("background", "A", "B"), values, strict=True)))
        labels = self.prepare(archive).info.metadata["labels"]
        assert labels == {"0": "background", "1": "A", "2": "B"}

    def test_cases_that_are_not_listed_are_left_out(self, archive) -> None:
        listed = [case(id_) for id_ in self.ids[:2]]
        describe(archive, training=listed, numTraining=2)
        assert sorted(self.read(archive)) == list(self.ids[:2])

    def test_a_list_counts_the_cases(self, archive) -> None:
        describe(archive, training=[case(id_) for id_ in (*self.ids, "absent")], numTraining=None)
        self.refuse(archive, "must have 4 files each; .* 3, 1 too few")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"label": "./labelsTr2/a.nii.gz"}, r"files labelsTr/NAME.*: \./labelsTr2/a\.nii"),
            ({"image": "/imagesTr/a.nii.gz"}, r"files imagesTr/NAME.*: /imagesTr/a\.nii"),
            ({"image": "imagesTr/../a.nii.gz"}, r"files imagesTr/NAME.*: imagesTr/\.\./a\.nii"),
            ({"label": "labelsTr/a.nrrd"}, r"files labelsTr/NAME.*: labelsTr/a\.nrrd"),
            ({"label": "labelsTr/b.nii.gz"}, "image and label by one name, by which"),
            ({"label": None}, "each case's image and label"),
            ({"image": []}, "each case's image and label"),
        ],
    )
    def test_lists_of_files_that_are_not_read_are_refused(self, archive, change, message) -> None:
        describe(archive, training=[case("a") | change])
        self.refuse(archive, r"dataset\.json must list " + message)

    def test_lists_as_nnunet_has_them(self, archive) -> None:
        split_channels(archive)
        described = json.loads((archive / "dataset.json").read_text()) | {"numTraining": 2}
        cases = {id_: case(id_) for id_ in self.ids[:2]}
        cases[self.ids[0]]["images"] = [
            f"imagesTr/{self.ids[0]}_{number:04d}.nii.gz" for number in range(2)
        ]
        del cases[self.ids[0]]["image"], described["training"]
        (archive / "dataset.json").write_text(json.dumps(described | {"dataset": cases}))
        assert sorted(self.read(archive)) == list(self.ids[:2])

    @pytest.mark.parametrize("channels", [{"1": "T2", "0": "T1"}, ["T1", "T2"]])
    def test_channels_are_named_in_the_order_of_their_numbers(self, archive, channels) -> None:
        describe(archive, channel_names=channels)
        builder = Builder(data_dir=archive.parent / "data", **self.options(archive))
        assert builder.info.metadata["channels"] == ["T1", "T2"]

    def test_channels_in_files_of_their_own_are_joined(self, archive) -> None:
        split_channels(archive)
        examples = self.read(archive)
        for number, id_ in enumerate(self.ids):
            image = examples[id_]["image"]
            assert image.shape[3] == 2
            np.testing.assert_array_equal(image[..., 0], testing.voxels(number))
            np.testing.assert_array_equal(image[..., 1], testing.voxels(number) / 2)

    def test_channels_in_one_file_are_kept(self, archive) -> None:
        describe(archive, modality={"0": "T1", "1": "T2"})
        for number in range(3):
            volume = np.stack([testing.voxels(number), testing.voxels(number) * 2], axis=-1)
            testing.write_volume(self.file(archive, self.image, number), volume)
        np.testing.assert_array_equal(self.read(archive)[self.ids[2]]["image"], volume)

    def test_another_number_of_channels_is_refused(self, archive) -> None:
        volume = np.stack([testing.voxels(1), testing.voxels(1)], axis=-1)
        testing.write_volume(self.file(archive, self.image, 1), volume)
        self.refuse(archive, r"004.nii.gz must have as many .* 1. Received: shape \(5, 5, 6, 2\)")

    def test_a_missing_channel_is_named(self, archive) -> None:
        split_channels(archive)
        (archive / "imagesTr" / "hippocampus_004_0001.nii.gz").unlink()
        self.refuse(archive, "files _0000, _0001 for hippocampus_004, .* Received: _0000")

    def test_channels_of_different_size_are_refused(self, archive) -> None:
        split_channels(archive)
        path = archive / "imagesTr" / "hippocampus_004_0001.nii.gz"
        testing.write_volume(path, testing.voxels(2))
        self.refuse(archive, r"_0001.nii.gz must have its image's size, \(5, 5, 6\)")

    def test_a_folder_short_of_its_count_is_refused(self, archive) -> None:
        describe(archive, numTraining=5)
        self.refuse(archive, "imagesTr and labelsTr .* must have 5 files each; .* 3, 2 too few")

    def test_a_changed_volume_is_prepared_anew(self, archive) -> None:
        first = self.prepare(archive).data_path
        testing.write_volume(self.file(archive, self.image, 1), testing.voxels(1) + np.int16(1))
        assert self.prepare(archive).data_path != first

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "dataset.json cannot be read"),
            ("[]", "dataset.json must hold an object with the object labels"),
            ('{"labels": ["background"]}', "dataset.json must hold an object with the object"),
            ('{"labels": {"kidney": [1, 2]}}', "an integer of its own from 0 to 255.*kidney"),
            ('{"labels": {"a": 1, "b": 1}}', "an integer of its own from 0 to 255"),
            ('{"labels": {"0": "a", "256": "b"}}', "an integer of its own from 0 to 255"),
            ('{"labels": {"0": "a"}, "numTraining": "3"}', "numTraining by an integer.*'3'"),
            ('{"labels": {"x": "a"}}', "an integer of its own from 0 to 255"),
            ('{"labels": {"a": Infinity}}', "an integer of its own from 0 to 255"),
            ('{"labels": {"a": 0, "ignore": 1}}', "not have nnU-Net's label ignore.*ignore"),
            ('{"labels": {}}', "an integer of its own from 0 to 255"),
            ('{"labels": {"0": "a"}, "numTraining": true}', "numTraining by an integer.*True"),
            ('{"labels": {"0": "a"}, "modality": 1}', "channels in modality by an object.*: 1"),
            ('{"labels": {"0": "a"}, "modality": {"1": "CT"}}', "by their numbers from 0 on.*'1'"),
            ('{"labels": {"0": "a"}, "channel_names": [0]}', "by their numbers from 0 on.*0"),
            ('{"labels": {"a": 0, "b": 1.7}}', "an integer of its own from 0 to 255.*1.7"),
            ('{"labels": {"a": 0, "b": true}}', "an integer of its own from 0 to 255.*True"),
            ('{"labels": {"a": 0, "b": "1_0"}}', "an integer of its own from 0 to 255.*1_0"),
            ('{"labels": {"0": "a", "01": "b", "1": "c"}}', "an integer of its own from 0 to 255"),
            ('{"labels": {"0": "a", "1": "b", "2": "b"}}', "a name of its own.*'2': 'b'"),
            ('{"labels": {"a": 0, "b": 1, "b": 2}}', "as JSON: it has several values named 'b'"),
            ('{"labels": {"1": "b", "2": "c"}}', "name the label 0, too, .* background's"),
            ('{"labels": {"a": 0}, "file_ending": ".nrrd"}', "as its file_ending: convert .*nrrd"),
            ('{"labels": {"a": 0}, "training": 3}', "must list the cases in training.*: 3"),
            ("[" * 100_000, "dataset.json cannot be read as JSON: maximum recursion depth"),
        ],
    )
    def test_a_damaged_description_is_refused(self, archive, content, message) -> None:
        (archive / "dataset.json").write_text(content)
        self.refuse(archive, message)

    def test_no_description_is_refused(self, archive) -> None:
        (archive / "dataset.json").unlink()
        self.refuse(
            archive, "must hold dataset.json, imagesTr, labelsTr. Received: no dataset.json"
        )


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.floats() | NAMES,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(NAMES, values, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(st.integers(1, 255), NAMES, max_size=4),
    st.sampled_from(["Decathlon", "nnU-Net", "texts", "floats"]),
)
def test_labels_are_those_of_any_spelling(labels: dict[int, str], spelling: str) -> None:
    labels = {0: "background"} | labels
    spelt: dict[str, Any] = {str(value): name for value, name in labels.items()}
    if spelling != "Decathlon":
        write = {"nnU-Net": int, "texts": str, "floats": float}[spelling]
        spelt = {name: write(value) for value, name in labels.items()}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dataset.json").write_text(json.dumps({"labels": spelt}))
        if len(set(labels.values())) == len(labels) and "ignore" not in labels.values():
            assert read_labels(Path(folder)) == labels
        elif spelling == "Decathlon":
            with pytest.raises(ValueError, match=r"dataset\.json must"):
                read_labels(Path(folder))


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["labels", "training", "dataset", "file_ending", "modality", "numTraining"]),
    JSON | st.lists(st.fixed_dictionaries({"image": JSON, "label": JSON}), max_size=2),
)
def test_any_description_is_read_or_refused(name: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir()
            (folder / part / "a.nii.gz").touch()
        described = {"labels": {"0": "background", "1": "organ"}, name: value}
        (folder / "dataset.json").write_text(json.dumps(described))
        builder = Builder.__new__(Builder)  # of which no dataset is prepared
        builder.allow_incomplete = False
        try:
            read_labels(folder), read_channels(folder)
            cases = [case.id for case in builder._cases(folder)]
        except ValueError as error:
            if "dataset.json" not in str(error) and "imagesTr" not in str(error):
                raise
            cases = ["a"]
        assert cases == ["a"]


def case(id_: str) -> dict[str, Any]:
    return {"image": f"./imagesTr/{id_}.nii.gz", "label": f"./labelsTr/{id_}.nii.gz"}


def describe(folder: Path, **changes: Any) -> None:
    """Write `dataset.json` as the Decathlon does, with changes."""
    described = {
        "name": "Hippocampus",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": 3,
        "training": [case(id_) for id_ in TestArchive.ids],
    }
    (folder / "dataset.json").write_text(json.dumps(described | changes))


def split_channels(folder: Path) -> None:
    """Make it nnU-Net's layout, with two channels a case."""
    for number, path in enumerate(sorted((folder / "imagesTr").iterdir())):
        id_ = path.name.removesuffix(".nii.gz")
        path.rename(path.with_name(f"{id_}_0000.nii.gz"))
        testing.write_volume(
            path.with_name(f"{id_}_0001.nii.gz"), (testing.voxels(number) / 2).astype("float32")
        )
    describe(
        folder,
        channel_names={"0": "T1", "1": "T2"},
        labels={"background": 0, "Anterior": 1, "Posterior": 2},
        file_ending=".nii.gz",
    )


class MsdFolderTest(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
