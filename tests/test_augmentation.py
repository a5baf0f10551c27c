import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lgmsnet.data.augmentation import Augmentation

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
