import copy
import errno
import os
import pickle
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_lgmsnet.data.augmentation import KVASIR, Augmentation
from keras_lgmsnet.data.decoded import load_examples
from keras_lgmsnet.data.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Examples,
    ImageBatches,
    preprocess,
    resize_image,
)
from tfds_builders.isic2018_task1.isic2018_task1_dataset_builder import IMAGES, Builder
from tfds_builders.isic2018_task1.isic2018_task1_dataset_builder_test import IDS, write_archive


def make_examples(count: int, size: int = 8) -> Examples:
    """Images of one value each, its index, except for a mark that shows how it was turned."""
    images = np.zeros((count, size, size, 3), dtype=np.uint8)
    images += np.arange(count, dtype=np.uint8)[:, None, None, None]
    images[:, 0, 1] = 200
    segmentation_masks = (images[..., :1] == 200).astype(np.uint8)
    ids = [f"id{n}" for n in range(count)]
    groups = [f"group of {id_}" for id_ in ids]
    return Examples(ids, images, segmentation_masks, groups=groups, dataset="test/1.0.0")


class Recorder(ImageBatches):
    """Keeps the batches that `fit` asked for, by epoch."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.served: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def set_epoch(self, epoch, logs=None) -> None:
        super().set_epoch(epoch, logs)
        self.served[epoch] = []

    def __getitem__(self, index):
        batch = super().__getitem__(index)
        self.served.setdefault(self.epoch, []).append(batch)
        return batch


def assert_equal_batches(first, second) -> None:
    assert len(first) == len(second)
    for (images, masks), (other_images, other_masks) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(masks, other_masks)


# Examples


@pytest.mark.no_backend
def test_subset_follows_the_order_of_the_ids() -> None:
    examples = make_examples(4)
    subset = examples.subset(["id2", "id0"])
    assert subset.ids == ["id2", "id0"]
    assert subset.groups == ["group of id2", "group of id0"]
    assert subset.dataset == "test/1.0.0"
    np.testing.assert_array_equal(subset.images, examples.images[[2, 0]])
    np.testing.assert_array_equal(subset.segmentation_masks, examples.segmentation_masks[[2, 0]])
    np.testing.assert_array_equal(subset.original_sizes, [[8, 8], [8, 8]])


@pytest.mark.no_backend
def test_a_subset_of_a_subset_copies_no_image() -> None:
    examples = make_examples(4)
    subset = examples.subset(["id3", "id0", "id2"]).subset(["id2", "id3"])
    for rows, array in (
        (subset.images, examples.images),
        (subset.segmentation_masks, examples.segmentation_masks),
    ):
        assert rows.array is array
        assert np.shares_memory(rows[0], array)
        assert (len(rows), rows.shape, rows.dtype) == (2, (2, *array.shape[1:]), np.uint8)
        np.testing.assert_array_equal(rows[0, ..., 0], array[2, ..., 0])
        np.testing.assert_array_equal(rows[:1], array[[2]])
        np.testing.assert_array_equal(np.stack(list(rows)), array[[2, 3]])
        np.testing.assert_array_equal(np.logical_or(rows, False), array[[2, 3]] > 0)
        with pytest.raises(IndexError):
            rows[2]


@pytest.mark.no_backend
def test_subset_of_an_unknown_id_is_refused() -> None:
    with pytest.raises(ValueError, match=r"4 loaded examples. Received: 'id7'"):
        make_examples(4).subset(["id1", "id7"])


# resize_image


@pytest.mark.no_backend
def test_images_are_resized_as_asked() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype="uint8")
    for name, flag in (("linear", cv2.INTER_LINEAR), ("lanczos", cv2.INTER_LANCZOS4)):
        expected = cv2.resize(image, (32, 64), interpolation=flag)
        np.testing.assert_array_equal(resize_image(image, (64, 32), name), expected)


# load_examples


@pytest.fixture
def manual_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Builder, "NUM_EXAMPLES", len(IDS))
    write_archive(tmp_path / "manual")
    return tmp_path / "manual"


@pytest.mark.no_backend
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


@pytest.mark.no_backend
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


@pytest.mark.no_backend
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


@pytest.mark.no_backend
def test_decoded_images_are_arrays_that_numpy_reads(data_dir) -> None:
    with open(prepared_copy(data_dir) / "decoded-v2-8x8-linear.npy", "rb") as file:
        assert np.load(file) == [4]
        records, ids, groups, original_sizes = (np.load(file) for _ in range(4))
    examples = load_examples("isic2018_task1", (8, 8), data_dir=data_dir, progress=False)
    assert (ids.tolist(), groups.tolist()) == (examples.ids, examples.groups)
    np.testing.assert_array_equal(original_sizes, examples.original_sizes)
    np.testing.assert_array_equal(records["image"], examples.images)
    np.testing.assert_array_equal(records["segmentation_mask"], examples.segmentation_masks)


@pytest.mark.no_backend
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


@pytest.mark.no_backend
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


@pytest.mark.no_backend
def test_decoding_that_fails_leaves_nothing(data_dir, monkeypatch) -> None:
    folder = prepared_copy(data_dir)
    before = sorted(folder.iterdir())

    def fail(image, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_lgmsnet.data.decoded.resize_image", fail)
    with pytest.raises(KeyboardInterrupt):
        load_examples("isic2018_task1", (16, 16), data_dir=data_dir, progress=False)
    assert sorted(folder.iterdir()) == before


@pytest.mark.no_backend
def test_what_killed_processes_left_is_removed_after_a_day(data_dir) -> None:
    folder = prepared_copy(data_dir)
    for name, age in ((".unfinished-old", 25), (".unfinished-new", 1)):
        (folder / name).mkdir()
        (folder / name / "decoded-v2-16x16-linear.npy").write_bytes(b"half")
        os.utime(folder / name, (time.time() - 3600 * age,) * 2)
    load_examples("isic2018_task1", (16, 16), data_dir=data_dir, progress=False)
    assert not (folder / ".unfinished-old").exists()
    assert (folder / ".unfinished-new").exists()  # another process may be writing there


@pytest.mark.no_backend
def test_examples_decoded_by_several_at_once_are_whole(data_dir) -> None:
    def load(_: int) -> Examples:
        return load_examples("isic2018_task1", (32, 32), data_dir=data_dir, progress=False)

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(load, range(4))
    for examples in others:
        assert_equal_examples(examples, first)
    assert not list(prepared_copy(data_dir).glob(".unfinished-*"))


@pytest.mark.no_backend
def test_load_examples_finds_archives_where_tfds_expects_them(manual_dir) -> None:
    data_dir = manual_dir.parent / "data"
    (data_dir / "downloads").mkdir(parents=True)
    manual_dir.rename(data_dir / "downloads" / "manual")
    examples = load_examples("isic2018_task1", (8, 8), data_dir=data_dir, progress=False)
    assert len(examples.ids) == 3


@pytest.mark.no_backend
def test_load_examples_says_what_to_download_and_where_to_put_it(tmp_path) -> None:
    folder = tmp_path / "manual"
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*manual \(--manual-dir, man"):
        load_examples("isic2018_task1", (8, 8), folder, tmp_path / "data")
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"--manual-dir.* Download .*zip .*https://.* put"):
        load_examples("isic2018_task1", (8, 8), folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.no_backend
def test_load_examples_lists_the_builders_if_the_name_is_unknown(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"isic2018_task1.* Received: builder='isic'"):
        load_examples("isic", (8, 8), data_dir=tmp_path)


@pytest.mark.no_backend
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


@pytest.mark.no_backend
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


@pytest.mark.no_backend
def test_a_folder_of_the_users_is_the_same_dataset_wherever_it_lies(tmp_path) -> None:
    def dataset(folder: Path) -> str:
        return load_examples("image_folder", (8, 8), folder, tmp_path, progress=False).dataset

    own = write_folder(tmp_path / "own", a=10, b=20)
    first = dataset(own)
    assert re.fullmatch(r"image_folder@[0-9a-f]{16}/1\.1\.0", first)
    assert dataset(own.rename(tmp_path / "renamed")) == first
    assert dataset(write_folder(tmp_path / "copy", a=10, b=20)) == first
    assert dataset(write_folder(tmp_path / "other", a=10, b=21)) != first
    assert dataset(write_folder(tmp_path / "names", a=10, c=20)) != first


@pytest.mark.no_backend
def test_load_examples_reads_an_incomplete_archive_if_allowed(manual_dir) -> None:
    (manual_dir / IMAGES / f"{IDS[1]}.jpg").unlink()
    arguments = ("isic2018_task1", (8, 8), manual_dir, manual_dir.parent / "data")
    mends = r"=True \(lgms-train --set data.allow_incomplete=true, lgms-evaluate and lg"
    with pytest.raises(ValueError, match=mends):
        load_examples(*arguments, progress=False)
    examples = load_examples(*arguments, progress=False, allow_incomplete=True)
    assert sorted(examples.ids) == [IDS[0], IDS[2]]


@pytest.mark.no_backend
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


@pytest.mark.no_backend
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


@pytest.mark.no_backend
def test_load_examples_refuses_a_copy_that_needs_tensorflow(manual_dir) -> None:
    data_dir = manual_dir.parent / "data"
    Builder(data_dir=data_dir).download_and_prepare(
        file_format="tfrecord",
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
    )
    with pytest.raises(ValueError, match=r"delete it.* in the tfrecord format"):
        load_examples("isic2018_task1", (8, 8), manual_dir, data_dir, progress=False)


# preprocess


@pytest.mark.no_backend
def test_preprocessing_by_hand() -> None:
    image = np.array([[[255, 0, 51]]], dtype=np.uint8)  # red 1, green 0, blue 0.2
    imagenet = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    published = [(0.2 - 0.485) / 0.229 / 255, (0 - 0.456) / 0.224 / 255, (1 - 0.406) / 0.225 / 255]
    np.testing.assert_allclose(preprocess(image, "imagenet")[0, 0], imagenet, rtol=1e-6)
    np.testing.assert_allclose(preprocess(image, "published")[0, 0], published, rtol=1e-6)
    assert preprocess(image, "imagenet").dtype == preprocess(image, "published").dtype == np.float32


@pytest.mark.no_backend
def test_preprocessing_looks_up_what_arithmetic_gives() -> None:
    levels = np.arange(256, dtype="uint8")
    image = np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=-1)[None]
    imagenet = (image.astype("float32") / 255 - IMAGENET_MEAN) / IMAGENET_STD
    published = (image[..., ::-1].astype("float32") / 255 - IMAGENET_MEAN) / IMAGENET_STD / 255
    np.testing.assert_array_equal(preprocess(image, "imagenet"), imagenet)
    np.testing.assert_array_equal(preprocess(image, "published"), published)


@pytest.mark.no_backend
def test_unknown_preprocessing_is_refused() -> None:
    with pytest.raises(ValueError, match="preprocessing='paper'"):
        preprocess(np.zeros((1, 1, 3), dtype=np.uint8), "paper")
    with pytest.raises(ValueError, match="preprocessing='paper'"):
        ImageBatches(make_examples(1), 1, preprocessing="paper")


# ImageBatches


@pytest.mark.no_backend
def test_batches_hold_every_example_once_and_in_order() -> None:
    examples = make_examples(5)
    batches = list(ImageBatches(examples, batch_size=2))
    assert [len(images) for images, _ in batches] == [2, 2, 1]
    images = np.concatenate([images for images, _ in batches])
    masks = np.concatenate([masks for _, masks in batches])
    assert images.dtype == masks.dtype == np.float32
    np.testing.assert_array_equal(images, preprocess(examples.images))
    np.testing.assert_array_equal(masks, examples.segmentation_masks)


@pytest.mark.no_backend
def test_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = ImageBatches(make_examples(20), batch_size=20, shuffle=True, seed=seed)
        batches.set_epoch(epoch)
        values = batches[0][0][:, 4, 4, 0] * 0.229 * 255
        return np.round(values - values.min()).astype(int).tolist()

    assert sorted(order(0, 0)) == list(range(20))
    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.no_backend
def test_augmentation_depends_on_seed_epoch_and_example_alone() -> None:
    def masks_by_example(seed: int, epoch: int, **kwargs) -> dict[int, bytes]:
        batches = ImageBatches(make_examples(9), augmentation=Augmentation(), seed=seed, **kwargs)
        batches.set_epoch(epoch)
        found = {}
        for images, masks in batches:
            np.testing.assert_array_equal(masks[..., 0], images[..., 0] > 1)  # they move together
            for image, mask in zip(images, masks, strict=True):
                found[round(image[4, 4, 0] * 0.229 * 255 + 0.485 * 255)] = mask.tobytes()
        return found

    reference = masks_by_example(0, 0, batch_size=9)
    assert masks_by_example(0, 0, batch_size=2, shuffle=True) == reference
    assert len(set(reference.values())) > 3
    assert masks_by_example(0, 1, batch_size=9) != reference
    assert masks_by_example(1, 0, batch_size=9) != reference


@pytest.mark.no_backend
def test_threads_make_what_one_thread_makes() -> None:
    examples = make_examples(12, size=40)
    batches = ImageBatches(examples, 12, augmentation=KVASIR, seed=3)
    batches.set_epoch(2)
    made = [batches[0] for _ in range(5)]
    for position in range(12):
        image, mask = KVASIR(
            examples.images[position],
            examples.segmentation_masks[position],
            np.random.default_rng([3, 2, 1 + position]),
        )
        for served_images, served_masks in made:
            np.testing.assert_array_equal(served_images[position], preprocess(image))
            np.testing.assert_array_equal(served_masks[position], mask)


@pytest.mark.no_backend
def test_what_fails_in_a_thread_is_raised() -> None:
    def fail(image, mask, rng):
        raise ValueError("no such colour")

    with pytest.raises(ValueError, match="no such colour"):
        ImageBatches(make_examples(3), 2, augmentation=fail)[0]


@pytest.mark.no_backend
def test_batches_can_be_copied_and_pickled() -> None:
    batches = ImageBatches(make_examples(4), 2, augmentation=Augmentation(), shuffle=True)
    expected = list(batches)
    for again in (copy.deepcopy(batches), pickle.loads(pickle.dumps(batches))):
        assert_equal_batches(list(again), expected)


@pytest.mark.no_backend
def test_augmentation_leaves_the_examples_alone() -> None:
    examples = make_examples(4)
    list(ImageBatches(examples, 4, augmentation=Augmentation(), shuffle=True))
    np.testing.assert_array_equal(examples.images, make_examples(4).images)


def test_training_resumed_at_an_epoch_sees_what_uninterrupted_training_sees() -> None:
    def fit(initial_epoch: int) -> dict[int, list]:
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(1, 1)])
        model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
        examples = make_examples(6)
        batches = Recorder(examples, 3, augmentation=Augmentation(), shuffle=True, seed=7)
        model.fit(
            batches,
            initial_epoch=initial_epoch,
            epochs=3,
            validation_data=ImageBatches(examples, batch_size=2),
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=batches.set_epoch)],
            shuffle=False,
            verbose=0,
        )
        return batches.served

    served = fit(initial_epoch=0)
    assert sorted(served) == [0, 1, 2]
    for epoch in range(3):
        expected = ImageBatches(
            make_examples(6), 3, augmentation=Augmentation(), shuffle=True, seed=7
        )
        expected.set_epoch(epoch)
        assert_equal_batches(served[epoch], list(expected))
    resumed = fit(initial_epoch=1)
    for epoch in (1, 2):
        assert_equal_batches(resumed[epoch], served[epoch])


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"batch_size": 0}, "batch_size=0"), ({"batch_size": 1, "seed": -1}, "seed=-1")],
)
def test_arguments_out_of_range_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=f"Received: {message}"):
        ImageBatches(make_examples(2), **arguments)


@pytest.mark.no_backend
def test_no_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        ImageBatches(make_examples(2).subset([]), batch_size=1)
