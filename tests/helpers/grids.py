"""Grids of voxels, drawn by hypothesis, and smooth structures on them."""

import itertools

import nibabel
import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from keras_lgmsnet.geometry import Grid, canonical_grid

DIRECTIONS = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


@st.composite
def grids(draw: st.DrawFn, largest_side: int = 12) -> Grid:
    """One of the 48 orders and directions of the axes, turned by up to 40°, at 0.3 to 8 mm."""
    turned = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-0.4, 0.4)] * 3))).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = (
        turned
        @ draw(st.sampled_from(DIRECTIONS))
        @ np.diag(draw(st.tuples(*[st.floats(0.3, 8)] * 3)))
    )
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return Grid(draw(st.tuples(*[st.integers(1, largest_side)] * 3)), affine)


@st.composite
def resamplings(draw: st.DrawFn, least: float = 0.4, most: float = 10) -> tuple[Grid, tuple]:
    """A grid and a spacing of 0.3 to 8 mm, `least` to `most` times the grid's."""
    grid = draw(grids(largest_side=8))
    ratios = draw(st.tuples(*[st.floats(least, most)] * 3))
    return grid, tuple(np.clip(np.multiply(canonical_grid(grid).spacing, ratios), 0.3, 8))


def ellipsoid(
    grid: Grid, spacing: tuple, radii: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, Grid]:
    """A turned ellipsoid anywhere on a grid like the given one, just large enough for it.

    Its radii are in voxels of the given spacing, or of the grid where those are larger.
    """
    order = nibabel.io_orientation(grid.affine)[:, 0].astype(int)
    unit = np.maximum(1, np.array(spacing)[order] / grid.spacing)
    rng = np.random.default_rng(seed)
    shape = np.ceil(2 * unit * (np.max(radii) + 3)).astype(int)
    centre = (shape - 1) / 2 + rng.uniform(-1, 1, 3)
    points = np.moveaxis(np.indices(shape), 0, -1) - centre
    points = Rotation.random(random_state=seed).apply((points / unit).reshape(-1, 3)) / radii
    mask = np.linalg.norm(points, axis=-1).reshape(shape) < 1
    return mask, Grid(shape, grid.affine)


def dice(mask: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(mask & other) / (np.count_nonzero(mask) + np.count_nonzero(other))
