import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_lgmsnet.data.augmentation import (
    KVASIR,
    Augmentation,
    VolumeAugmentation,
    _elastic_shifts,
    _inverse_affine,
)

pytestmark = pytest.mark.no_backend

augmentations = st.builds(Augmentation, rotate=st.booleans(), flip=st.booleans())


def image_and_mask(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose pixels all differ, and a mask that is a function of each pixel."""
    image = np.arange(height * width * 3, dtype="uint8").reshape(height, width, 3)
    return image, image[..., :1] % 2


@settings(deadline=None)
@given(augmentations, st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32))
def test_pixels_move_with_their_mask_and_are_kept(augment, height, width, seed) -> None:
    image, mask = image_and_mask(height, width)
    moved_image, moved_mask = augment(image, mask, np.random.default_rng(seed))
    assert moved_image.shape == image.shape
    assert moved_image.dtype == moved_mask.dtype == np.uint8
    np.testing.assert_array_equal(moved_mask, moved_image[..., :1] % 2)
    np.testing.assert_array_equal(
        np.unique(moved_image.reshape(-1, 3), axis=0), np.unique(image.reshape(-1, 3), axis=0)
    )


@settings(deadline=None)
@given(augmentations, st.integers(0, 2**32))
def test_equal_seeds_give_equal_results_and_leave_the_arguments_alone(augment, seed) -> None:
    image, mask = image_and_mask(4, 4)
    first = augment(image, mask, np.random.default_rng(seed))
    np.testing.assert_array_equal(image, image_and_mask(4, 4)[0])
    second = augment(image, mask, np.random.default_rng(seed))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def outcomes(augment: Augmentation, height: int, width: int) -> dict[bytes, int]:
    image, mask = image_and_mask(height, width)
    rng = np.random.default_rng(0)
    counts: dict[bytes, int] = {}
    for _ in range(800):
        moved, _ = augment(image, mask, rng)
        counts[moved.tobytes()] = counts.get(moved.tobytes(), 0) + 1
    return counts


@pytest.mark.parametrize(
    ("augment", "number"),
    [
        (Augmentation(), 8),
        (Augmentation(flip=False), 4),
        (Augmentation(rotate=False), 4),
        (Augmentation(rotate=False, flip=False), 1),
    ],
)
def test_symmetries_of_a_square_are_equally_likely(augment: Augmentation, number: int) -> None:
    counts = outcomes(augment, 3, 3)
    assert len(counts) == number
    assert min(counts.values()) > 0.7 * 800 / number


def test_rotations_of_a_square_are_quarter_turns() -> None:
    image, _ = image_and_mask(3, 3)
    expected = {np.rot90(image, turns).tobytes() for turns in range(4)}
    assert outcomes(Augmentation(flip=False), 3, 3).keys() == expected


def test_an_oblong_is_turned_by_180_degrees_only() -> None:
    image, _ = image_and_mask(2, 3)
    expected = {image.tobytes(), image[::-1, ::-1].tobytes()}
    assert outcomes(Augmentation(flip=False), 2, 3).keys() == expected


def photograph(height: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A smooth coloured image, and an ellipse in two exclusive classes."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([4 * rows, 3 * columns, 100 + rows], axis=-1).astype("uint8")
    ellipse = ((rows - 18) / 10) ** 2 + ((columns - 30) / 14) ** 2 < 1
    mask = np.stack([ellipse, ~ellipse], axis=-1).astype("uint8")
    image[ellipse] = (200, 40, 90)
    return image, mask


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["color_jitter", "affine", "elastic"]),
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(0, 2**32),
)
def test_every_change_keeps_shapes_types_and_labels(name, height, width, seed) -> None:
    augment = Augmentation(rotate=False, flip=False, **{name: 1.0})
    image, mask = photograph(height, width)
    kept = image.copy(), mask.copy()
    changed, changed_mask = augment(image, mask, np.random.default_rng(seed))
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert (changed_mask.shape, changed_mask.dtype) == (mask.shape, np.uint8)
    assert set(np.unique(changed_mask)) <= {0, 1}
    assert changed_mask.sum(axis=-1).max() <= 1  # exclusive classes stay exclusive
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(mask, kept[1])
    again = augment(image, mask, np.random.default_rng(seed))
    np.testing.assert_array_equal(changed, again[0])
    np.testing.assert_array_equal(changed_mask, again[1])


@pytest.mark.parametrize("name", ["affine", "elastic"])
def test_masks_move_with_their_image(name: str) -> None:
    """The red of the ellipse is where the mask of the ellipse is, but for its blurred border."""
    image, mask = photograph()
    augment = Augmentation(rotate=False, flip=False, **{name: 1.0})
    moved = 0
    for seed in range(20):
        changed, changed_mask = augment(image, mask, np.random.default_rng(seed))
        red = (np.abs(changed.astype(int) - (200, 40, 90)).max(axis=-1) < 3).astype("uint8")
        ellipse = changed_mask[..., 0]
        kernel = np.ones((5, 5), np.uint8)
        # Next to the border, black is blended in.
        assert not (cv2.erode(ellipse, kernel, borderValue=0) & (1 - red)).any()
        assert not (cv2.erode(red, kernel, borderValue=0) & (1 - ellipse)).any()
        moved += (ellipse != mask[..., 0]).any()
    assert moved >= 8


def test_an_affine_and_elastic_change_fetch_each_pixel_once() -> None:
    """What an affine change alone would have pushed out of sight comes back."""
    image, mask = photograph(64, 64)
    augment = Augmentation(rotate=False, flip=False, affine=1.0, elastic=1.0)
    rng = np.random.default_rng(5)
    changed, _ = augment(image, mask, np.random.default_rng(5))
    rng.random()
    inverse = _inverse_affine(64, 64, rng)
    rng.random()
    shifts = _elastic_shifts(64, 64, rng)
    rows, columns = np.mgrid[:64, :64]
    places = np.stack([columns, rows], axis=-1) + shifts
    sources = places @ inverse[:, :2].T + inverse[:, 2]
    expected = cv2.remap(image, sources.astype("float32"), None, cv2.INTER_LINEAR)
    assert np.abs(changed.astype(int) - expected).max() <= 1


def test_color_jitter_changes_colors_only() -> None:
    image, mask = photograph()
    augment = Augmentation(rotate=False, flip=False, color_jitter=1.0)
    brightness = []
    for seed in range(50):
        changed, changed_mask = augment(image, mask, np.random.default_rng(seed))
        np.testing.assert_array_equal(changed_mask, mask)
        brightness.append(changed.mean() / image.mean())
    assert 0.5 < min(brightness) < 0.75
    assert 1.25 < max(brightness) < 1.7


def test_an_affine_change_of_a_large_image_is_within_the_documented_range() -> None:
    mask = np.zeros((200, 200, 1), "uint8")
    mask[80:120, 80:120] = 1
    areas, centers = [], []
    for seed in range(100):
        augment = Augmentation(rotate=False, flip=False, affine=1.0)
        _, moved = augment(np.zeros((200, 200, 3), "uint8"), mask, np.random.default_rng(seed))
        areas.append(np.sqrt(moved.sum() / mask.sum()))
        centers.append(np.argwhere(moved[..., 0]).mean(axis=0) - 99.5)
    assert 0.48 < min(areas) < 0.6
    assert 1.4 < max(areas) < 1.52
    assert 20 < np.abs(centers).max() < 26


def test_probabilities_are_kept() -> None:
    image, mask = photograph(8, 8)
    rng = np.random.default_rng(0)
    augment = Augmentation(rotate=False, flip=False, color_jitter=0.5)
    changed = sum((augment(image, mask, rng)[0] != image).any() for _ in range(400))
    assert 160 < changed < 240


@pytest.mark.parametrize("name", ["color_jitter", "affine", "elastic"])
@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_probabilities_out_of_range_are_refused(name: str, probability: float) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 1. Received: {name}={probability}"):
        Augmentation(**{name: probability})


def test_kvasir_has_them_all_but_rotations_by_right_angles() -> None:
    assert Augmentation(False, True, 0.5, 0.5, 0.5) == KVASIR


# VolumeAugmentation


def volume_and_labels(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A volume whose voxels all differ, and labels that are a function of each voxel."""
    image = np.arange(2 * np.prod(shape), dtype="float32").reshape(*shape, 2)
    return image, (image[..., 0] % 5).astype("uint8")


@settings(deadline=None, max_examples=50)
@given(st.tuples(*[st.integers(1, 4)] * 3), st.integers(0, 2**32))
def test_voxels_move_with_their_labels_and_are_kept(shape, seed) -> None:
    augment = VolumeAugmentation(flip=0.5, rotate=1.0, scale=0.0, shift=0.0)
    image, labels = volume_and_labels(shape)
    moved_image, moved_labels = augment(image, labels, np.random.default_rng(seed))
    assert moved_image.shape == image.shape
    assert (moved_image.dtype, moved_labels.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(moved_labels, moved_image[..., 0] % 5)
    np.testing.assert_array_equal(np.sort(moved_image, axis=None), np.sort(image, axis=None))
    again, _ = augment(image, labels, np.random.default_rng(seed))
    np.testing.assert_array_equal(again, moved_image)
    np.testing.assert_array_equal(image, volume_and_labels(shape)[0])


@pytest.mark.parametrize(
    ("augment", "shape", "number"),
    [
        (VolumeAugmentation(0.5, 0.0, 0.0, 0.0), (2, 2, 2), 8),  # a flip along any of three axes
        (VolumeAugmentation(0.0, 0.9, 0.0, 0.0), (2, 2, 2), 10),  # 3 turns in 3 planes, and none
        (VolumeAugmentation(0.0, 0.9, 0.0, 0.0), (2, 3, 2), 6),  # 3 turns in 1 plane, 180° in 2
        (VolumeAugmentation(0.0, 0.9, 0.0, 0.0), (2, 3, 4), 4),
    ],
)
def test_every_flip_and_rotation_occurs(augment, shape, number) -> None:
    rng = np.random.default_rng(0)
    outcomes = {augment(*volume_and_labels(shape), rng)[0].tobytes() for _ in range(400)}
    assert len(outcomes) == number


def test_published_changes_are_as_likely_as_published() -> None:
    rng, image = np.random.default_rng(0), np.ones((1, 1, 3, 1), "float32")
    image[..., 2, :] = 2  # flips along the last axis show, and so do rotations, by 180°
    changed = [
        VolumeAugmentation()(image, image[..., 0], rng)[0].ravel().tolist() for _ in range(4000)
    ]
    # Two of the three planes hold the axis: 0.2 · 2/3 of the rotations, unless a flip undoes it.
    flipped = np.mean([first > last for first, _, last in changed])
    assert flipped == pytest.approx(0.2 * (1 - 0.4 / 3) + 0.8 * 0.4 / 3, abs=0.03)
    first, middle, last = np.transpose(changed)
    scaled = np.maximum(first, last) - middle
    shifted = middle - scaled
    for values, neutral in ((scaled, 1), (shifted, 0)):
        moved = values[np.abs(values - neutral) > 1e-5]
        assert len(moved) / len(values) == pytest.approx(0.1, abs=0.02)
        assert moved.min() == pytest.approx(neutral - 0.1, abs=0.005)
        assert moved.max() == pytest.approx(neutral + 0.1, abs=0.005)


@pytest.mark.parametrize("name", ["flip", "rotate", "scale", "shift"])
def test_probabilities_of_volumes_are_checked(name) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 1. Received: {name}=1.1"):
        VolumeAugmentation(**{name: 1.1})
