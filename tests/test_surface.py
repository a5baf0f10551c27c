"""Surface distances: by hand, against a search through all pairs, and at the edges."""

import itertools
import math

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest

from keras_lgmsnet.scoring.surface import SurfaceDistances, surface_distances

pytestmark = pytest.mark.no_backend


def mask(shape: tuple[int, ...], *inside: tuple) -> np.ndarray:
    """A mask of ones at the given indices, which may be slices."""
    result = np.zeros(shape, "uint8")
    for index in inside:
        result[index] = 1
    return result


def square(left: int, right: int) -> np.ndarray:
    return mask((20, 20), (slice(left, right), slice(left, right)))


def test_lesions_of_one_pixel() -> None:
    distances = surface_distances(mask((8, 8), (1, 1)), mask((8, 8), (4, 5)))
    assert distances.from_mask.tolist() == distances.from_prediction.tolist() == [5.0]  # 3-4-5
    assert distances.hausdorff(95) == 5
    assert [distances.f_score(tolerance) for tolerance in (4.9, 5)] == [0, 1]
    assert [distances.normalized_surface_distance(t) for t in (4.9, 5)] == [0, 1]


def test_spacing_stretches_each_axis() -> None:
    shape = (4, 4, 4)
    distances = surface_distances(
        mask(shape, (0, 0, 0)), mask(shape, (1, 2, 3)), spacing=(3.0, 1.0, 0.5)
    )
    assert distances.hausdorff(100) == pytest.approx(math.hypot(3, 2, 1.5))
    assert distances.diagonal == pytest.approx(math.hypot(12, 4, 2))
    # The nearest voxel is the near one in millimetres, not in voxels.
    distances = surface_distances(
        mask((9, 9), (4, 4)), mask((9, 9), (5, 4), (4, 7)), spacing=(5.0, 1.0)
    )
    assert distances.from_mask.tolist() == [3.0]
    assert distances.from_prediction.tolist() == [3.0, 5.0]


def test_nested_squares() -> None:
    """A 4 × 4 square has 12 boundary pixels, a 6 × 6 square around it 20."""
    distances = surface_distances(square(8, 12), square(7, 13))
    assert len(distances.from_mask) == 12
    assert sorted(distances.from_prediction) == [1.0] * 16 + [math.sqrt(2)] * 4
    assert set(distances.from_mask) == {1.0}
    assert distances.hausdorff(100) == math.sqrt(2)
    # Linear between the order statistics: 0.95 · 19 = 18.05 lies among the four corners.
    assert distances.hausdorff(95) == math.sqrt(2)
    assert distances.hausdorff(50) == 1
    precision, recall = 16 / 20, 12 / 12
    assert distances.f_score(1) == pytest.approx(2 * precision * recall / (precision + recall))
    assert distances.normalized_surface_distance(1) == pytest.approx((16 + 12) / 32)
    assert distances.f_score(0) == distances.normalized_surface_distance(0) == 0


def test_hd95_passes_over_few_stray_pixels_and_is_the_worse_direction() -> None:
    lesion = square(5, 11)  # 20 boundary pixels
    with_stray = lesion.copy()
    with_stray[5, 19] = 1
    distances = surface_distances(lesion, with_stray)
    assert distances.hausdorff(100) == 9
    # 21 distances, one of them 9: the 95th percentile is the last but one.
    assert distances.hausdorff(95) == 0
    # Far from one side only: distances 0 … 20, and 0.
    distances = surface_distances(mask((1, 30), (0, slice(0, 21))), mask((1, 30), (0, 0)))
    assert distances.from_prediction.tolist() == [0]
    assert distances.hausdorff(95) == 19


def test_two_empty_masks_agree() -> None:
    distances = surface_distances(mask((6, 8)), mask((6, 8)))
    assert distances.hausdorff(95) == 0
    assert distances.f_score(0) == distances.normalized_surface_distance(0) == 1


@pytest.mark.parametrize("lesion", [mask((6, 8), (2, 2)), np.ones((6, 8))])
def test_a_miss_and_a_false_alarm_are_the_worst(lesion) -> None:
    for pair in ((lesion, mask((6, 8))), (mask((6, 8)), lesion)):
        distances = surface_distances(*pair)
        assert distances.hausdorff(95) == 10  # the diagonal of 6 × 8
        # However large the tolerance.
        assert distances.f_score(1e9) == distances.normalized_surface_distance(1e9) == 0
    farthest = surface_distances(mask((6, 8), (0, 0)), mask((6, 8), (5, 7))).hausdorff(95)
    assert farthest < 10
    assert surface_distances(lesion, mask((6, 8)), spacing=(2, 2)).hausdorff(95) == 20


def test_full_masks_have_the_edge_as_boundary() -> None:
    full = np.ones((5, 7))
    distances = surface_distances(full, full)
    assert len(distances.from_mask) == 2 * 7 + 2 * 3
    assert distances.hausdorff(100) == 0
    assert distances.f_score(0) == 1
    # The pixel in the middle of 5 × 7 is 2 from the nearest edge; a corner is farthest from it.
    distances = surface_distances(full, mask((5, 7), (2, 3)))
    assert distances.from_prediction.tolist() == [2.0]
    assert distances.hausdorff(100) == math.hypot(2, 3)


@hypothesis.given(
    masks=hypothesis.extra.numpy.arrays(
        bool,
        hypothesis.strategies.sampled_from([(2, 1), (2, 6), (2, 4, 5), (2, 1, 5), (2, 3, 3, 4)]),
    ),
    spacing=hypothesis.strategies.tuples(*[hypothesis.strategies.floats(0.25, 4)] * 3),
)
@hypothesis.settings(deadline=None)
def test_equals_the_search_through_all_pairs(masks, spacing) -> None:
    spacing = spacing[: masks.ndim - 1]
    first, second = ([np.multiply(i, spacing) for i in boundary_indices(m)] for m in masks)
    distances = surface_distances(*masks, spacing)
    if not first or not second:
        assert (len(distances.from_mask), len(distances.from_prediction)) == (
            len(first),
            len(second),
        )
        return
    pairs = np.array([[np.linalg.norm(a - b) for b in second] for a in first])
    np.testing.assert_allclose(distances.from_mask, pairs.min(axis=1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(distances.from_prediction, pairs.min(axis=0), rtol=1e-6, atol=1e-6)
    assert distances.hausdorff(95) <= distances.hausdorff(100) < distances.diagonal
    swapped = surface_distances(masks[1], masks[0], spacing)
    assert swapped.f_score(1.0) == distances.f_score(1.0)
    assert swapped.hausdorff(95) == distances.hausdorff(95)


def boundary_indices(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Elements inside with a direct neighbour outside the mask or the image, one by one."""

    def outside(index: tuple[int, ...]) -> bool:
        inside_image = all(0 <= i < side for i, side in zip(index, mask.shape, strict=True))
        return not (inside_image and mask[index])

    return [
        index
        for index in itertools.product(*map(range, mask.shape))
        if mask[index]
        and any(
            outside((*index[:axis], index[axis] + step, *index[axis + 1 :]))
            for axis in range(mask.ndim)
            for step in (-1, 1)
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((4, 4)), np.ones((4, 5))), r"prediction.shape=\(4, 5\)"),
        ((np.ones(()), np.ones(())), r"at least one element"),
        ((np.ones((0, 4)), np.ones((0, 4))), r"at least one element"),
        ((np.ones((4, 4)), np.ones((4, 4)), (1.0,)), r"each of the 2 axes. .*\(1.0,\)"),
        ((np.ones((4, 4)), np.ones((4, 4)), (1.0, 0.0)), r"positive number"),
        ((np.ones((4, 4)), np.ones((4, 4)), (1.0, math.nan)), r"positive number"),
    ],
)
def test_wrong_masks_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        surface_distances(*arguments)


@pytest.mark.parametrize("tolerance", [-1, math.inf, math.nan])
def test_wrong_tolerance_is_refused(tolerance) -> None:
    distances = SurfaceDistances(np.zeros(0), np.zeros(0), 1.0)
    for score in (distances.f_score, distances.normalized_surface_distance):
        with pytest.raises(ValueError, match=f"tolerance={tolerance}"):
            score(tolerance)


@pytest.mark.parametrize("percentile", [-1, 101, math.nan])
def test_wrong_percentile_is_refused(percentile) -> None:
    with pytest.raises(ValueError, match=f"percentile={percentile}"):
        SurfaceDistances(np.zeros(0), np.zeros(0), 1.0).hausdorff(percentile)
