"""The builder on generated archives in the publisher's layout."""

from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders import _testing as testing
from tfds_builders.tucc.tucc_dataset_builder import Builder

pytestmark = pytest.mark.no_backend


class TestArchive(testing.ArchiveTests):
    builder = Builder
    ids = ("28_frame0000", "28_frame0001", "28_2_frame0000", "7_frame0003")
    groups = ("28", "28", "28", "7")
    counts: ClassVar = {"NUM_CLIPS": 3}

    @classmethod
    def write_archive(cls, folder: Path) -> None:
        folder.mkdir(parents=True)
        write_frames(folder)

    def check_example(self, example: dict[str, Any], number: int) -> None:
        mask = example["segmentation_mask"]
        assert example["image"].shape == (8, 12, 3)
        assert np.all(example["image"] == 50 * number)
        assert mask.shape == (8, 12, 1)
        assert mask.sum() == 16
        assert np.all(mask[2:6, 3:7] == 1)

    def test_published_counts(self) -> None:
        assert Builder.NUM_CLIPS == 192

    def test_colour_frames_are_read_as_rgb(self, archive) -> None:
        write_frames(archive, image=np.full((4, 8, 12, 3), (60, 40, 20), dtype=np.uint8))
        assert np.all(self.read(archive)["28_frame0001"]["image"] == (60, 40, 20))

    def test_frames_that_are_compressed_together_are_read(self, archive) -> None:
        write_frames(archive, chunks=(3, 8, 12), compression="gzip")
        self.check_archive(archive)

    def test_numbers_written_as_text_are_read(self, archive) -> None:
        write_frames(archive, frame_num=np.array([b"0_", b"1_", b"0_", b"3_"]))
        self.check_archive(archive)

    def test_a_missing_clip_is_counted(self, archive) -> None:
        write_frames(archive, annot_id=np.array([b"28_", b"28_", b"28_", b"7_"]))
        self.refuse(archive, "dataset.hdf5 must have 3 clips; .* Received: 2, 1 too few")

    def test_missing_clips_can_be_allowed(self, archive) -> None:
        with h5py.File(archive / "dataset.hdf5", "r+") as file:
            file["annot_id"][2] = b"7_"
        builder = self.prepare(archive, allow_incomplete=True)
        assert builder.data_path.parent.name == "incomplete"
        assert len(builder.as_data_source("train")) == 4

    def test_no_archive_says_what_to_download(self, archive) -> None:
        (archive / "dataset.hdf5").rename(archive / "other.hdf5")
        self.refuse(archive, "dataset.hdf5 does not exist. Download .*https://")

    def test_a_truncated_file_is_refused(self, archive) -> None:
        path = archive / "dataset.hdf5"
        path.write_bytes(path.read_bytes()[:-500])
        self.refuse(archive, "dataset.hdf5 is damaged .*; download it again")

    def test_a_damaged_frame_is_named(self, archive) -> None:
        write_frames(archive, chunks=(1, 8, 12), fletcher32=True)
        path = archive / "dataset.hdf5"
        with h5py.File(path) as file:
            offset = file["image"].id.get_chunk_info(2).byte_offset
        content = bytearray(path.read_bytes())
        content[offset] ^= 0xFF
        path.write_bytes(content)
        self.refuse(archive, "dataset.hdf5 is damaged at frame 2 ")

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"mask": np.zeros((3, 8, 12), np.uint8)}, r"as many in each .* mask \(3, 8, 12\)"),
            ({"image": np.zeros((4, 8, 12), np.uint16)}, "frames of 8 bits"),
            ({"image": np.zeros((4, 8), np.uint8)}, "frames of 8 bits"),
            ({"mask": np.zeros((4, 8, 13), np.uint8)}, r"mask 0 in .*height and width, \(8, 12\)"),
            ({"mask": np.full((4, 8, 12), 3, np.uint8)}, "mask 0 in .*hold 0 and 255, or 0 and 1"),
            ({"frame_num": np.array([b"a", b"1", b"0", b"3"])}, "frame_num. Received: 'a'"),
            ({"frame_num": np.array([0, 0, 0, 3])}, "28_frame0000 twice"),
        ],
    )
    def test_damaged_arrays_are_refused(self, archive, arrays, message) -> None:
        write_frames(archive, **arrays)
        self.refuse(archive, message)

    @pytest.mark.parametrize(
        ("name", "shape", "chunks"),
        [
            ("image", (4, 20_000, 20_000), (1, 20_000, 20_000)),
            ("mask", (2**20, 1000, 1000), (2**11, 1000, 1000)),
            ("annot_id", (2**31,), (2**20,)),
        ],
    )
    def test_arrays_that_would_fill_the_memory_are_refused(self, archive, name, shape, chunks):
        with h5py.File(archive / "dataset.hdf5", "r+") as file:
            del file[name]
            file.create_dataset(name, shape, np.uint8, chunks=chunks, compression="gzip")
        self.refuse(archive, rf"at most 100,000,000 pixels, .* Received: {name} \(\d+, ?")

    @pytest.mark.parametrize("kind", ["missing", "linked", "external", "virtual"])
    def test_arrays_from_elsewhere_are_refused(self, archive, kind) -> None:
        elsewhere = archive.parent / "elsewhere.hdf5"
        with h5py.File(elsewhere, "w") as file:
            file["mask"] = np.zeros((4, 8, 12), np.uint8)
        with h5py.File(archive / "dataset.hdf5", "r+") as file:
            del file["mask"]
            if kind == "linked":
                file["mask"] = h5py.ExternalLink(elsewhere, "mask")
            elif kind == "external":
                file.create_dataset(
                    "mask", (4, 8, 12), np.uint8, external=[(elsewhere, 0, 4 * 8 * 12)]
                )
            elif kind == "virtual":
                layout = h5py.VirtualLayout((4, 8, 12), np.uint8)
                layout[:] = h5py.VirtualSource(elsewhere, "mask", (4, 8, 12))
                file.create_virtual_dataset("mask", layout)
        self.refuse(archive, "dataset.hdf5 must hold the array mask")


def write_frames(folder: Path, **arrays: Any) -> None:
    """Write `dataset.hdf5` anew, with some arrays or the storage of the frames replaced."""
    storage = {
        key: arrays.pop(key) for key in set(arrays) & {"chunks", "compression", "fletcher32"}
    }
    mask = np.zeros((4, 8, 12), dtype=np.uint8)
    mask[:, 2:6, 3:7] = 255
    image = np.broadcast_to(np.array([0, 50, 100, 150], np.uint8)[:, None, None], mask.shape)
    with h5py.File(folder / "dataset.hdf5", "w") as file:
        file.create_dataset("image", data=arrays.pop("image", image), **storage)
        file.create_dataset("mask", data=arrays.pop("mask", mask), **storage)
        file["annot_id"] = arrays.pop("annot_id", np.array([b"28_", b"28_", b"28_2", b"7_"]))
        file["frame_num"] = arrays.pop("frame_num", np.array([0, 1, 0, 3]))


class TuccTest(testing.BuilderTestCase):
    ARCHIVE = TestArchive


if __name__ == "__main__":
    tfds.testing.test_main()
