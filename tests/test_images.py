import copy
import pickle

import cv2
import keras
import numpy as np
import pytest

from keras_lgmsnet.data.augmentation import KVASIR, Augmentation
from keras_lgmsnet.data.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Examples,
    ImageBatches,
    preprocess,
    resize_image,
)


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
