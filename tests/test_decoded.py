"""Reading a dataset of images: prepared once, decoded once."""

import errno
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_lgmsnet.data.decoded import load_examples
from keras_lgmsnet.data.images import Examples
from tfds_builders.isic2018_task1.isic2018_task1_dataset_builder import IMAGES, Builder
from tfds_builders.isic2018_task1.isic2018_task1_dataset_builder_test import IDS, write_archive

pytestmark = pytest.mark.no_backend


@pytest.fixture
def manual_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Builder, "NUM_EXAMPLES", len(IDS))
    write_archive(tmp_path / "manual")
    return tmp_path / "manual"


def test_load_examples_resizes_images_linearly_and_masks_to_the_nearest(manual_dir) -> None:
    examples = load_examples(
        "isic2018_task1", (16, 32), manual_dir, manual_dir.parent / "data", progress=False
    )
    assert sorted(examples.ids) == list(IDS)
    assert examples.dataset == f"isic2018_task1/{Builder.VERSION}"
    assert examples.images.dtype == examples.segmentation_masks.dtype == np.uint8
    assert examples.segmentation_masks.shape == (3, 16, 32, 1)
    assert set(np.unique(examples.segmentation_masks)) == {0, 1}
    np.testing.assert_array_equal(examples.subset(IDS).original_sizes, [(8, 12), (9, 12), (10, 12)])
    first = examples.subset([IDS[0]])
    published = cv2.imread(manual_dir / IMAGES / f"{IDS[0]}.jpg")  # blue, green, red; 8 × 12
    np.testing.assert_array_equal(first.images[0, ..., ::-1], cv2.resize(published, (32, 16)))
    rows, columns = np.nonzero(first.segmentation_masks[0, ..., 0])
    assert (rows.min(), rows.max()) == (4, 11)  # rows 2 to 5 of 8, twice as large
    assert (columns.min(), columns.max()) == (8, 18)  # columns 3 to 6 of 12, 8/3 as large


def test_load_examples_uses_the_prepared_copy_when_there_is_one(manual_dir) -> None:
    data_dir = manual_dir.parent / "data"
    first = load_examples("isic2018_task1", (8, 8), manual_dir, data_dir, progress=False)
    again = load_examples("isic2018_task1", (8, 8), None, data_dir, progress=False)
    assert (again.ids, again.dataset) == (first.ids, first.dataset)
    np.testing.assert_array_equal(again.images, first.images)


def prepared_copy(data_dir: Path) -> Path:
    (info,) = data_dir.rglob("dataset_info.json")
    return info.parent


@pytest.fixture
def data_dir(manual_dir: Path) -> Path:
    """Prepared and decoded at 8 × 8 pixels."""
    load_examples("isic2018_task1", (8, 8), manual_dir, manual_dir.parent / "data", progress=False)
    return manual_dir.parent / "data"


def assert_equal_examples(examples: Examples, others: Examples) -> None:
    assert (examples.ids, examples.groups) == (others.ids, others.groups)
    np.testing.assert_array_equal(examples.images, others.images)
    np.testing.assert_array_equal(examples.segmentation_masks, others.segmentation_masks)
    np.testing.assert_array_equal(examples.original_sizes, others.original_sizes)


def test_examples_are_decoded_once_for_each_size_and_interpolation(data_dir, monkeypatch) -> None:
    def load(size: int, interpolation: str) -> Examples:
        return load_examples(
            "isic2018_task1",
            (size, size),
            data_dir=data_dir,
            interpolation=interpolation,
            progress=False,
        )

    decoded = {key: load(*key) for key in ((8, "linear"), (16, "linear"), (8, "lanczos"))}
    assert (decoded[8, "linear"].images != decoded[8, "lanczos"].images).any()
    monkeypatch.setattr("keras_lgmsnet.data.decoded.resize_image", None)
    for key, examples in decoded.items():
        assert_equal_examples(load(*key), examples)
    assert sorted(path.name for path in prepared_copy(data_dir).glob("*.npy")) == [
        "decoded-v2-16x16-linear.npy",
        "decoded-v2-8x8-lanczos.npy",
        "decoded-v2-8x8-linear.npy",
    ]
    with pytest.raises(ValueError, match="read-only"):
        decoded[8, "linear"].images[0, 0, 0, 0] = 1


def test_decoded_images_are_arrays_that_numpy_reads(data_dir) -> None:
    with open(prepared_copy(data_dir) / "decoded-v2-8x8-linear.npy", "rb") as file:
        assert np.load(file) == [4]
        records, ids, groups, original_sizes = (np.load(file) for _ in range(4))
    examples = load_examples("isic2018_task1", (8, 8), data_dir=data_dir, progress=False)
    assert (ids.tolist(), groups.tolist()) == (examples.ids, examples.groups)
    np.testing.assert_array_equal(original_sizes, examples.original_sizes)
    np.testing.assert_array_equal(records["image"], examples.images)
    np.testing.assert_array_equal(records["segmentation_mask"], examples.segmentation_masks)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:50],
        lambda content: content[:800],
        lambda content: content[:-200],
        lambda content: content[:-1],
        lambda content: content.replace(b"(3,)", b"(4,)"),
        lambda content: content.replace(b"(8, 8, 3)", b"(8, 6, 4)"),
        lambda content: b"PK" + content[2:],
    ],
    ids=["empty", "in header", "in images", "in names", "in sizes", "count", "shape", "kind"],
)
def test_a_damaged_file_of_decoded_images_is_replaced(data_dir, damage) -> None:
    path = prepared_copy(data_dir) / "decoded-v2-8x8-linear.npy"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    load_examples("isic2018_task1", (8, 8), data_dir=data_dir, progress=False)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("lack", ["right", "space"])
def test_examples_are_decoded_into_memory_where_they_cannot_be_written(
    data_dir, lack, monkeypatch
) -> None:
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    expected = load_examples("isic2018_task1", (8, 8), data_dir=data_dir, progress=False)
    folder = prepared_copy(data_dir)
    (folder / "decoded-v2-8x8-linear.npy").unlink()
    before = sorted(folder.iterdir())
    if lack == "right":
        monkeypatch.setattr(os, "mkdir", refuse)  # not even root can write to such a disk
    else:
        usage = shutil.disk_usage(folder)._replace(free=3 * 4 * 64)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    examples = load_examples("isic2018_task1", (8, 8), data_dir=data_dir, progress=False)
    assert_equal_examples(examples, expected)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_decoding_that_fails_leaves_nothing_and_is_not_repeated(
    data_dir, error, monkeypatch
) -> None:
    folder = prepared_copy(data_dir)
    before = sorted(folder.iterdir())
    decoded = []

    def fail(image, *args):
        decoded.append(image)
        raise error

    monkeypatch.setattr("keras_lgmsnet.data.decoded.resize_image", fail)
    with pytest.raises(error):
        load_examples("isic2018_task1", (16, 16), data_dir=data_dir, progress=False)
    assert len(decoded) <= len(IDS)
    assert sorted(folder.iterdir()) == before


def test_what_killed_processes_left_is_removed_after_a_day(data_dir) -> None:
    folder = prepared_copy(data_dir)
    for name, age in ((".unfinished-old", 25), (".unfinished-new", 1)):
        (folder / name).mkdir()
        (folder / name / "decoded-v2-16x16-linear.npy").write_bytes(b"half")
        os.utime(folder / name, (time.time() - 3600 * age,) * 2)
    load_examples("isic2018_task1", (16, 16), data_dir=data_dir, progress=False)
    assert not (folder / ".unfinished-old").exists()
    assert (folder / ".unfinished-new").exists()  # another process may be writing there


def test_examples_decoded_by_several_at_once_are_whole(data_dir) -> None:
    def load(_: int) -> Examples:
        return load_examples("isic2018_task1", (32, 32), data_dir=data_dir, progress=False)

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(load, range(4))
    for examples in others:
        assert_equal_examples(examples, first)
    assert not list(prepared_copy(data_dir).glob(".unfinished-*"))


def test_load_examples_finds_archives_where_tfds_expects_them(manual_dir) -> None:
    data_dir = manual_dir.parent / "data"
    (data_dir / "downloads").mkdir(parents=True)
    manual_dir.rename(data_dir / "downloads" / "manual")
    examples = load_examples("isic2018_task1", (8, 8), data_dir=data_dir, progress=False)
    assert len(examples.ids) == 3


def test_load_examples_says_what_to_download_and_where_to_put_it(tmp_path) -> None:
    folder = tmp_path / "manual"
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*manual \(--manual-dir, man"):
        load_examples("isic2018_task1", (8, 8), folder, tmp_path / "data")
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"--manual-dir.* Download .*zip .*https://.* put"):
        load_examples("isic2018_task1", (8, 8), folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_load_examples_lists_the_builders_if_the_name_is_unknown(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"isic2018_task1.* Received: builder='isic'"):
        load_examples("isic", (8, 8), data_dir=tmp_path)


def test_load_examples_offers_only_what_is_a_builder(tmp_path) -> None:
    with pytest.raises(ValueError, match="must be one of") as raised:
        load_examples("_reading", (8, 8), data_dir=tmp_path)
    known = str(raised.value).partition("one of ")[2].partition(". Received")[0].split(", ")
    folders = (Path(__file__).parents[1] / "tfds_builders").glob("*/*_dataset_builder.py")
    assert known == sorted(path.parent.name for path in folders)


def write_folder(folder: Path, **shades: int) -> Path:
    """A user's own folder of images, each of one shade, by name."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for name, shade in shades.items():
        cv2.imwrite(folder / "images" / f"{name}.png", np.full((8, 8, 3), shade))
        cv2.imwrite(folder / "masks" / f"{name}.png", np.full((8, 8), 255))
    return folder


def test_load_examples_reads_a_folder_of_the_users_anew_when_it_changes(tmp_path) -> None:
    own = write_folder(tmp_path / "own", a=10, b=20)
    arguments = ("image_folder", (8, 8), own, tmp_path / "data")
    before = load_examples(*arguments, progress=False)
    assert sorted(before.ids) == ["a", "b"]
    for folder in ("images", "masks"):
        (own / folder / "b.png").unlink()
    after = load_examples(*arguments, progress=False)
    assert after.ids == ["a"]
    assert after.dataset != before.dataset


def test_a_folder_of_the_users_is_the_same_dataset_wherever_it_lies(tmp_path) -> None:
    def dataset(folder: Path) -> str:
        return load_examples("image_folder", (8, 8), folder, tmp_path, progress=False).dataset

    own = write_folder(tmp_path / "own", a=10, b=20)
    first = dataset(own)
    assert re.fullmatch(r"image_folder@[0-9a-f]{16}/1\.2\.0", first)
    assert dataset(own.rename(tmp_path / "renamed")) == first
    assert dataset(write_folder(tmp_path / "copy", a=10, b=20)) == first
    assert dataset(write_folder(tmp_path / "other", a=10, b=21)) != first
    assert dataset(write_folder(tmp_path / "names", a=10, c=20)) != first


def test_load_examples_reads_an_incomplete_archive_if_allowed(manual_dir) -> None:
    (manual_dir / IMAGES / f"{IDS[1]}.jpg").unlink()
    arguments = ("isic2018_task1", (8, 8), manual_dir, manual_dir.parent / "data")
    mends = r"=True \(lgms-train --set data.allow_incomplete=true, lgms-evaluate and lg"
    with pytest.raises(ValueError, match=mends):
        load_examples(*arguments, progress=False)
    examples = load_examples(*arguments, progress=False, allow_incomplete=True)
    assert sorted(examples.ids) == [IDS[0], IDS[2]]


def test_load_examples_notices_that_an_incomplete_archive_changed(manual_dir) -> None:
    image = manual_dir / IMAGES / f"{IDS[1]}.jpg"
    kept = image.rename(manual_dir.parent / image.name)
    data_dir = manual_dir.parent / "data"

    def load(manual_dir: Path | None) -> Examples:
        arguments = ("isic2018_task1", (8, 8), manual_dir, data_dir)
        return load_examples(*arguments, progress=False, allow_incomplete=True)

    first = load(manual_dir)
    name = f"isic2018_task1/incomplete/{Builder.VERSION}"
    assert re.fullmatch(f"{name}@[0-9a-f]{{16}}", first.dataset)
    assert load(manual_dir).dataset == first.dataset
    kept.rename(image)
    with pytest.raises(ValueError, match=r"changed since; delete it .* Received: .*incomplete"):
        load(manual_dir)
    assert load(None).ids == first.ids  # where the archive is gone, the copy is all there is
    shutil.rmtree(data_dir)
    second = load(manual_dir)
    assert sorted(second.ids) == list(IDS)
    assert second.dataset != first.dataset


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        ("busi/malignant", "config of busi must be one of lesions, all. Received: 'malignant'"),
        ("kvasir_seg/all", "config of kvasir_seg must be one of none. Received: 'all'"),
        ("image_folder", "--manual-dir FOLDER. Received: builder='image_folder'"),
        ("image_folder/a", "--manual-dir FOLDER. Received: builder='image_folder/a'"),
        ("btcv", "must be of images. Received: btcv, which has volumes"),
    ],
)
def test_load_examples_refuses_what_it_cannot_read(tmp_path, builder, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_examples(builder, (8, 8), data_dir=tmp_path)


def test_load_examples_refuses_a_copy_that_needs_tensorflow(manual_dir) -> None:
    data_dir = manual_dir.parent / "data"
    Builder(data_dir=data_dir).download_and_prepare(
        file_format="tfrecord",
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
    )
    with pytest.raises(ValueError, match=r"delete it.* in the tfrecord format"):
        load_examples("isic2018_task1", (8, 8), manual_dir, data_dir, progress=False)
