"""Channel redundancy: of features whose singular values are known, and against NumPy's."""

import numpy as np
import pytest

from keras_lgmsnet.figures import redundancy as module
from keras_lgmsnet.figures.redundancy import Redundancy, channel_redundancy

pytestmark = pytest.mark.no_backend


def redundancy_of(*images: np.ndarray) -> Redundancy:
    return channel_redundancy({"stage": image} for image in images)["stage"]


def test_channels_that_are_multiples_of_one_need_one() -> None:
    map_ = np.random.default_rng(0).normal(size=(8, 8, 1))
    redundancy = redundancy_of(map_ * [1.0, -2.0, 0.5, 3.0] + [5.0, 0.0, -1.0, 2.0])
    assert redundancy.num_channels == 4
    assert redundancy.components_needed == 1
    assert redundancy.effective_rank == pytest.approx(1, abs=1e-4)
    np.testing.assert_array_equal(redundancy.per_image, [1])


def test_orthogonal_channels_are_all_needed() -> None:
    hadamard = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    redundancy = redundancy_of(hadamard[:, 1:].reshape(2, 2, 3).astype("float32"))
    np.testing.assert_allclose(redundancy.energy, [1 / 3] * 3)
    assert redundancy.components_needed == 3
    assert redundancy.effective_rank == pytest.approx(3)


def test_a_constant_is_no_energy_and_a_scale_is() -> None:
    """Energies 16 : 1, and a dead channel; the third value of 99 % is not needed."""
    features = np.zeros((4, 1, 3))
    features[:, 0, 0] = [4, -4, 4, -4]
    features[:, 0, 1] = [1, 1, -1, -1]
    features[:, 0, 2] = 100
    redundancy = redundancy_of(features)
    np.testing.assert_allclose(redundancy.energy, [16 / 17, 1 / 17, 0], atol=1e-12)
    assert redundancy.components_needed == 2
    shares = np.array([4 / 5, 1 / 5])
    assert redundancy.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_the_threshold_is_99_percent() -> None:
    assert module._components_needed(np.array([0.99, 0.01])) == 1
    assert module._components_needed(np.array([0.989, 0.011])) == 2
    assert module._components_needed(np.array([0.25] * 4)) == 4


def test_constant_features_need_no_channel() -> None:
    redundancy = redundancy_of(np.full((4, 4, 3), 0.1, "float32"))
    assert (redundancy.components_needed, redundancy.effective_rank) == (0, 0.0)
    np.testing.assert_array_equal(redundancy.per_image, [0])


def test_all_images_together_and_each_alone() -> None:
    """Each image uses one channel, not the same; beside their own means they differ, too."""
    first, second = np.zeros((2, 4, 1, 2))
    first[:, 0, 0] = second[:, 0, 1] = [1, -1, 1, -1]
    second[..., 0] = 3
    redundancy = redundancy_of(first, second)
    np.testing.assert_array_equal(redundancy.per_image, [1, 1])
    assert redundancy.components_needed == 2
    # About the common mean 1.5, the first channel has 4 + 8 · 1.5², the second 4.
    np.testing.assert_allclose(redundancy.energy, [22 / 26, 4 / 26])


@pytest.mark.parametrize("sides", [(6, 5), (3, 4, 5)])
def test_energies_are_those_of_the_singular_value_decomposition(sides) -> None:
    """Of images and of volumes."""
    images = np.random.default_rng(0).normal(2, 1, (3, *sides, 7)).astype("float32")
    images[..., 6] = images[..., 0] - images[..., 1]
    matrix = images.reshape(-1, 7).astype("float64")
    values = np.linalg.svd(matrix - matrix.mean(axis=0), compute_uv=False)
    redundancy = redundancy_of(*images)
    np.testing.assert_allclose(redundancy.energy, values**2 / (values**2).sum(), atol=1e-9)


def test_features_that_are_not_finite_are_named() -> None:
    with pytest.raises(ValueError, match=r"features in stage are not finite"):
        redundancy_of(np.full((2, 2, 3), np.nan))


def test_redundancy_of_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one image"):
        channel_redundancy([])
