"""Geometry: there and back, against nibabel and scipy, and in millimetres."""

import itertools
from collections.abc import Iterator

import nibabel
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings, strategies as st

from keras_lgmsnet.geometry import (
    MAX_VOXELS,
    Grid,
    canonical_grid,
    from_canonical,
    resample_slabs,
    to_canonical,
    weights_from_canonical,
)
from tests.helpers.grids import dice, ellipsoid, grids, resamplings

pytestmark = pytest.mark.no_backend

MANY = settings(max_examples=200, deadline=None)
SOME = settings(max_examples=50, deadline=None)


def noise(grid: Grid, values: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, values, grid.shape, dtype="uint8")


def positions(grid: Grid) -> np.ndarray:
    """Where voxels lie in millimetres, shape `(x, y, z, 3)`."""
    indices = np.moveaxis(np.indices(grid.shape), 0, -1)
    return nibabel.affines.apply_affine(grid.affine, indices)


def test_a_grid_tells_what_it_is() -> None:
    grid = Grid((4, 5, 6), [[0, 0, -2, 9], [0.5, 0, 0, 0], [0, -3, 0, 0], [0, 0, 0, 1]])
    assert grid.spacing == (0.5, 3, 2)
    assert grid.orientation == "AIL"
    assert grid.voxel_volume == pytest.approx(0.003)
    canonical = canonical_grid(grid)
    assert canonical.shape == (6, 4, 5)
    assert canonical.spacing == (2, 0.5, 3)
    assert canonical.orientation == "RAS"
    # The last of 6 voxels along z is the most to the right, the last of 5 along y the lowest.
    np.testing.assert_array_equal(canonical.affine[:3, 3], [9 - 10, 0, -12])


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.eye(3), np.diag([1, np.nan, 1, 1])])
def test_a_grid_needs_an_affine(affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"affine must be of shape \(4, 4\) and invertible"):
        Grid((2, 2, 2), affine)


class TestOrientation:
    @MANY
    @given(grids())
    def test_there_is_nibabels_and_back_is_exact(self, grid: Grid) -> None:
        labels = noise(grid)
        there = to_canonical(labels, grid, interpolation="nearest")
        assert there.dtype == "uint8"
        expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(labels, grid.affine))
        np.testing.assert_array_equal(there, np.asarray(expected.dataobj))
        canonical = canonical_grid(grid)
        assert canonical.orientation == "RAS"
        np.testing.assert_allclose(canonical.affine, expected.affine, atol=1e-9)
        back = from_canonical(there, grid, interpolation="nearest")
        np.testing.assert_array_equal(back, labels)

    def test_channels_stay_together(self) -> None:
        grid = Grid((2, 3, 4), np.diag([-1, 1, -1, 1]) @ np.eye(4)[[1, 0, 2, 3]])
        image = np.arange(48, dtype="float32").reshape(2, 3, 4, 2)
        there = to_canonical(image, grid, (0.7, 1.3, 1))
        for channel in range(2):
            one = to_canonical(image[..., channel], grid, (0.7, 1.3, 1))
            np.testing.assert_array_equal(there[..., channel], one)


class TestResampling:
    @SOME
    @given(resamplings())
    def test_voxels_lie_where_the_affine_says(self, resampling: tuple) -> None:
        grid, spacing = resampling
        canonical = canonical_grid(grid, spacing)
        np.testing.assert_allclose(canonical.spacing, spacing, rtol=1e-4)
        assert canonical.orientation == "RAS"
        centres = [positions(on).reshape(-1, 3).mean(axis=0) for on in (grid, canonical)]
        np.testing.assert_allclose(*centres, atol=1e-6)
        oriented = canonical_grid(grid)
        lengths = np.multiply(oriented.shape, oriented.spacing)
        surplus = np.multiply(canonical.shape, spacing) - lengths
        assert np.all((-0.01 * np.array(spacing) < surplus) & (surplus < spacing))

    @SOME
    @given(resamplings())
    def test_a_ramp_in_millimetres_survives(self, resampling: tuple) -> None:
        grid, spacing = resampling
        canonical = canonical_grid(grid, spacing)
        slope = np.array([1.0, -2, 0.5])
        origin = positions(grid).reshape(-1, 3).mean(axis=0)
        ramp, expected = ((positions(on) - origin) @ slope for on in (grid, canonical))
        there = to_canonical(ramp, grid, spacing)
        assert there.dtype == "float32"
        # Near the border, what lies beyond it counts, too.
        oriented = canonical_grid(grid)
        indices = nibabel.affines.apply_affine(np.linalg.inv(oriented.affine), positions(canonical))
        ratios = np.array(spacing) / oriented.spacing
        reach = np.sqrt(np.maximum(0, ratios**2 - 1)) / 2
        inner = (indices >= reach) & (indices <= np.array(oriented.shape) - 1 - reach)
        inner = inner.all(axis=-1)
        np.testing.assert_allclose(there[inner], expected[inner], atol=1e-5 * np.ptp(ramp) + 1e-4)

    @SOME
    @given(resamplings(most=1))
    def test_finer_voxels_are_scipys(self, resampling: tuple) -> None:
        grid, spacing = resampling
        oriented, target = canonical_grid(grid), canonical_grid(grid, spacing)
        array = np.random.default_rng(0).random(grid.shape, "float32")
        transform = np.linalg.inv(oriented.affine) @ target.affine
        expected = scipy.ndimage.affine_transform(
            to_canonical(array, grid),
            transform[:3, :3],
            transform[:3, 3],
            target.shape,
            order=1,
            mode="nearest",
        )
        np.testing.assert_allclose(to_canonical(array, grid, spacing), expected, atol=1e-3)

    @pytest.mark.parametrize("ratio", [0.4, 1.3, 2.5, 7])
    def test_voxels_are_means_of_the_interpolated_line(self, ratio: float) -> None:
        line = np.random.default_rng(0).random(43)
        voxels = np.arange(-8, 51)
        padded = np.pad(line, 8, mode="edge")
        count = int(np.ceil(43 / ratio - 1e-3))
        centres = 21 + ratio * (np.arange(count) - (count - 1) / 2)
        # A box of one voxel, blurred by a box of that width, spreads as one of the new size.
        width = np.sqrt(max(0, ratio**2 - 1))
        around = centres[:, None] + width * np.linspace(-0.5, 0.5, 2001)
        there = to_canonical(line.reshape(1, 43, 1), Grid((1, 43, 1), np.eye(4)), (1, ratio, 1))
        expected = np.interp(around, voxels, padded).mean(axis=1)
        np.testing.assert_allclose(there.ravel(), expected, atol=0.01 if width else 1e-6)

    def test_hand_computed_lines(self) -> None:
        grid = Grid((4, 1, 1), np.eye(4))
        line = np.float32([0, 0, 8, 8]).reshape(4, 1, 1)
        # From 4 voxels of 1 mm to 2 of 2 mm: centres at 0.5 and 2.5; of 7 points √3 / 7 = 0.2474
        # apart, the last rises from 0 at 1 to 8 at 2: at 0.5 + 3 * 0.2474 = 1.2423, 1.9384.
        halved = to_canonical(line, grid, (2, 1, 1))
        np.testing.assert_allclose(halved.ravel(), [1.9384 / 7, 8 - 1.9384 / 7], atol=1e-4)
        # To 8 of 0.5 mm: centres at -0.25, 0.25, 0.75 and so on.
        doubled = to_canonical(line, grid, (0.5, 1, 1))
        assert doubled.ravel().tolist() == [0, 0, 0, 2, 6, 8, 8, 8]
        nearest = to_canonical(line, grid, (0.5, 1, 1), interpolation="nearest")
        assert nearest.ravel().tolist() == [0, 0, 0, 0, 8, 8, 8, 8]

    @MANY
    @given(resamplings(most=1))
    def test_labels_come_back_from_finer_voxels_exactly(self, resampling: tuple) -> None:
        grid, spacing = resampling
        spacing = tuple(np.minimum(spacing, canonical_grid(grid).spacing))
        labels = noise(grid)
        there = to_canonical(labels, grid, spacing, interpolation="nearest")
        back = from_canonical(there, grid, spacing, interpolation="nearest")
        np.testing.assert_array_equal(back, labels)

    @SOME
    @given(resamplings())
    def test_labels_move_by_half_a_voxel_of_either_grid_at_most(self, resampling: tuple) -> None:
        grid, spacing = resampling
        where = np.moveaxis(np.indices(grid.shape), 0, -1)
        there = to_canonical(where, grid, spacing, interpolation="nearest")
        back = from_canonical(there, grid, spacing, interpolation="nearest")
        moved = np.abs(back - where).reshape(-1, 3).max(axis=0)
        order = nibabel.io_orientation(grid.affine)[:, 0].astype(int)
        assert np.all(moved <= np.array(spacing)[order] / grid.spacing / 2 + 0.5 + 0.01)

    @SOME
    @given(resamplings(), st.lists(st.integers(1, 4), min_size=1))
    def test_slabs_come_back_as_the_whole_does(self, resampling: tuple, rows: list[int]) -> None:
        grid, spacing = resampling
        sides = canonical_grid(grid, spacing).shape
        array = np.random.default_rng(0).random((*sides, 2), "float32")
        weights, region = weights_from_canonical(grid, spacing, (slice(None),) * 3)
        slab = np.empty_like(array)  # one buffer, used over and over

        def slabs() -> Iterator[np.ndarray]:
            tops = [0, *itertools.takewhile(lambda top: top < sides[0], itertools.accumulate(rows))]
            for top, end in itertools.pairwise([*tops, sides[0]]):
                slab[: end - top] = array[top:end]
                yield slab[: end - top]

        pieces = [np.array(piece) for piece in resample_slabs(slabs(), weights)]
        whole = np.zeros((*grid.oriented().shape, 2), "float32")
        whole[region] = np.concatenate(pieces)
        back = from_canonical(whole, grid, interpolation="nearest")
        np.testing.assert_allclose(back, from_canonical(array, grid, spacing), atol=1e-6)

    @SOME
    @given(resamplings(), st.randoms(use_true_random=False))
    def test_a_box_comes_back_as_if_zeros_were_around(self, resampling: tuple, random) -> None:
        grid, spacing = resampling
        sides = canonical_grid(grid, spacing).shape
        box = tuple(slice(*sorted(random.sample(range(side + 1), 2))) for side in sides)
        inside = np.zeros(sides, "float32")
        inside[box] = 1
        weights, region = weights_from_canonical(grid, spacing, box)
        whole = np.zeros(grid.oriented().shape, "float32")
        pieces = list(resample_slabs([inside[box][..., None]], weights))
        whole[region] = np.concatenate(pieces)[..., 0]
        back = from_canonical(whole, grid, interpolation="nearest")
        np.testing.assert_allclose(back, from_canonical(inside, grid, spacing), atol=1e-6)

    @MANY
    @given(resamplings(most=3), st.integers(0, 2**32 - 1))
    def test_smooth_structures_come_back_from_any_voxels(self, resampling: tuple, seed) -> None:
        """What reaches 4 voxels or more to each side, as the share of each that it fills."""
        grid, spacing = resampling
        mask, grid = ellipsoid(grid, spacing, radii=np.array([4, 4.5, 5]), seed=seed)
        share = to_canonical(mask, grid, spacing)
        back = from_canonical(share, grid, spacing) > 0.5
        assert dice(back, mask) >= 0.97

    @pytest.mark.parametrize(("radius", "least"), [(3, 0.80), (6, 0.90), (18, 0.97)])
    def test_labels_come_back_from_larger_voxels_about_as_well(
        self, radius: int, least: float
    ) -> None:
        """A border that is told by whole voxels is uncertain by half a one: size helps."""
        grid = Grid((8, 8, 8), np.diag([-0.8, 0.7, 1.2, 1]))
        mask, grid = ellipsoid(grid, (1.5, 1.5, 2.0), radii=[radius] * 3)
        labels = to_canonical(mask, grid, (1.5, 1.5, 2.0), interpolation="nearest")
        back = from_canonical(labels, grid, (1.5, 1.5, 2.0), interpolation="nearest")
        assert least <= dice(back, mask) < 1


class TestRefusals:
    GRID = Grid((2, 3, 4), np.eye(4))

    @pytest.mark.parametrize("shape", [(2, 3), (3, 2, 4), (2, 3, 4, 1, 1)])
    def test_another_shape(self, shape: tuple) -> None:
        message = r"must have the grid's shape, \(2, 3, 4\), .* Received: shape \("
        for move in (to_canonical, from_canonical):
            with pytest.raises(ValueError, match=message):
                move(np.zeros(shape), self.GRID)

    @pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, -1, 1), (np.nan, 1, 1)])
    def test_no_spacing(self, spacing: tuple) -> None:
        with pytest.raises(ValueError, match=r"spacing must be three numbers above 0"):
            canonical_grid(self.GRID, spacing)

    def test_an_axis_thinner_than_what_need_not_be_covered(self) -> None:
        thin = Grid((1, 4, 4), np.diag([1e-4, 1, 1, 1]))
        assert canonical_grid(thin, (1.0, 1.0, 1.0)).shape == (1, 4, 4)

    def test_more_voxels_than_there_is_room_for(self) -> None:
        message = (
            rf"At a spacing of 0.5 × 0.5 × 2 mm, the volume must have at most {MAX_VOXELS:,} voxels"
            r"; crop it, or correct its affine. Received: shape \(512, 512, 90\) at 70 × 70 × 5 mm"
        )
        with pytest.raises(ValueError, match=message):
            canonical_grid(Grid((512, 512, 90), np.diag([70, 70, 5, 1])), (0.5, 0.5, 2))

    def test_an_unknown_interpolation(self) -> None:
        message = r"must be 'nearest' or 'linear'. Received: interpolation='cubic'"
        with pytest.raises(ValueError, match=message):
            to_canonical(np.zeros(self.GRID.shape), self.GRID, interpolation="cubic")
