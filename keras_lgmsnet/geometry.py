"""Where voxels lie: orientation and resampling of volumes, and the way back.

A network is trained on volumes of one orientation and spacing. `to_canonical` brings a scan there,
`from_canonical` brings labels back onto the scan's own voxels, and `resample_slabs` brings back
probabilities, which are too many to be held at once, slab by slab. Axes are permuted and flipped
exactly; what is oblique stays oblique, since a rotation would blur every voxel for the sake of a
few degrees. Resampling goes axis by axis between grids with one centre.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import nibabel
import numpy as np
import scipy.sparse
from nibabel import orientations

Interpolation: TypeAlias = Literal["nearest", "linear"]

# What each voxel along a side weighs in each new voxel, shape `(new_side, side)`.
Weights: TypeAlias = scipy.sparse.csr_array

MAX_VOXELS = 2**29  # of a file with its channels, and of a grid: 2 GiB as float32
ALIKE = 1e-4  # relative; spacings that differ by less are taken for one


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a volume in space.

    Args:
        shape: Voxels along each axis.
        affine: `float64` of shape `(4, 4)`, from a voxel's indices to millimetres to the patient's
            right, front and top (RAS+, as nibabel has it); indices are those of voxels' centres.

    Raises:
        ValueError: If the affine has another shape or cannot be inverted.

    Example:
    ```python
    grid = Grid((512, 512, 90), affine)
    grid.spacing, grid.orientation  # (0.7, 0.7, 5.0), "LPS"
    ```
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, "float64")
        if affine.shape != (4, 4) or not is_invertible(affine):
            raise ValueError(
                "A grid's affine must be of shape (4, 4) and invertible. "
                f"Received: {affine.tolist()}"
            )
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(map(int, self.shape)))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres from a voxel to the next along each axis."""
        return tuple(nibabel.affines.voxel_sizes(self.affine).tolist())

    @property
    def orientation(self) -> str:
        """What each axis points to most, such as `"RAS"` for right, anterior, superior."""
        return "".join(nibabel.aff2axcodes(self.affine))

    @property
    def voxel_volume(self) -> float:
        """A voxel's volume in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def oriented(self) -> "Grid":
        """Return the grid of the same voxels with its axes permuted and flipped to RAS."""
        orientation = nibabel.io_orientation(self.affine)
        shape = np.empty(3, int)
        shape[orientation[:, 0].astype(int)] = self.shape
        affine = self.affine @ orientations.inv_ornt_aff(orientation, self.shape)
        return Grid(tuple(shape.tolist()), affine)


def canonical_grid(grid: Grid, spacing: tuple[float, float, float] | None = None) -> Grid:
    """Return the grid that a network sees a scan on.

    Its axes run along the scan's, in the order and direction of RAS. It has the scan's centre, and
    as many voxels along an axis as it takes to cover the scan.

    Args:
        grid: The scan's own grid.
        spacing: Millimetres between voxels along the RAS axes; `None` keeps the scan's. A spacing
            that differs by less than a ten thousandth keeps the scan's, too.

    Raises:
        ValueError: If the spacing is not positive, or the volume would have more than `MAX_VOXELS`
            voxels.

    Example:
    ```python
    canonical_grid(Grid((512, 512, 90), affine), (1.5, 1.5, 2.0)).shape  # (239, 239, 225)
    ```
    """
    oriented = grid.oriented()
    if spacing is None:
        return oriented
    if len(spacing) != 3 or not all(0 < distance < np.inf for distance in spacing):
        raise ValueError(f"The spacing must be three numbers above 0. Received: {spacing=}")
    ratios = np.array(spacing) / oriented.spacing
    ratios[np.abs(ratios - 1) < ALIKE] = 1
    sides = np.array(oriented.shape)
    # A thousandth of a voxel need not be covered.
    shape = np.maximum(1, np.ceil(sides / ratios - 1e-3))
    if np.prod(shape) > MAX_VOXELS:
        raise ValueError(
            f"At a spacing of {_describe(spacing)} mm, the volume must have at most "
            f"{MAX_VOXELS:,} voxels; crop it, or correct its affine. "
            f"Received: shape {grid.shape} at {_describe(grid.spacing)} mm"
        )
    affine = oriented.affine @ np.diag([*ratios, 1])
    affine[:3, 3] = oriented.affine[:3] @ [*((sides - 1) / 2 - ratios * (shape - 1) / 2), 1]
    return Grid(tuple(shape.tolist()), affine)


def to_canonical(
    array: np.ndarray,
    grid: Grid,
    spacing: tuple[float, float, float] | None = None,
    *,
    interpolation: Interpolation = "linear",
) -> np.ndarray:
    """Bring a volume onto its `canonical_grid`.

    Args:
        array: Shape `(x, y, z)` or `(x, y, z, channels)`, on `grid`.
        grid: The volume's own grid.
        spacing: As `canonical_grid` takes it.
        interpolation: How to resample: `"nearest"` is for labels, `"linear"` for images. Where the
            new voxels are larger, the latter averages over as much as a new voxel is wider, as a
            scanner does that takes thicker slices: otherwise noise would stay as strong as it was,
            and structures finer than a voxel come and go. Beyond the outermost voxels, the volume
            goes on with their values.

    Returns:
        The volume on `canonical_grid(grid, spacing)`, in the array's dtype for `"nearest"`,
        `float32` otherwise.

    Raises:
        ValueError: If the array is not on the grid, or `canonical_grid` refuses the spacing.

    Example:
    ```python
    image = to_canonical(volume.image, volume.grid, (1.5, 1.5, 2.0))
    segmentation_mask = to_canonical(labels, volume.grid, (1.5, 1.5, 2.0), interpolation="nearest")
    ```
    """
    _require_on_grid(array, grid)
    target = canonical_grid(grid, spacing)
    oriented = orientations.apply_orientation(array, nibabel.io_orientation(grid.affine))
    return _resample(oriented, grid.oriented(), target, interpolation)


def from_canonical(
    array: np.ndarray,
    grid: Grid,
    spacing: tuple[float, float, float] | None = None,
    *,
    interpolation: Interpolation = "linear",
) -> np.ndarray:
    """Bring a volume from its `canonical_grid` back onto `grid`: the inverse of `to_canonical`.

    Args:
        array: Shape `(x, y, z)` or `(x, y, z, channels)`, on `canonical_grid(grid, spacing)`.
        grid: Where to bring it, voxel by voxel.
        spacing: As it was given to `to_canonical`.
        interpolation: As in `to_canonical`.

    Returns:
        The volume on `grid`; the dtype is as in `to_canonical`.

    Raises:
        ValueError: If the array is not on the canonical grid.

    Example:
    ```python
    labels = from_canonical(labels, volume.grid, (1.5, 1.5, 2.0), interpolation="nearest")
    ```
    """
    source = canonical_grid(grid, spacing)
    _require_on_grid(array, source)
    resampled = _resample(array, source, grid.oriented(), interpolation)
    there = nibabel.io_orientation(grid.affine)
    back = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), there)
    return orientations.apply_orientation(resampled, back)


def foreground_box(image: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box that holds the foreground: voxels brighter than the darkest.

    Of CT, whose window's low end is 0, these are the voxels above 0, as in the published program.

    Args:
        image: Normalised, shape `(x, y, z, channels)`; a voxel counts that is brighter than the
            darkest in any channel.

    Returns:
        A slice for each axis; the whole image where all voxels are alike.
    """
    foreground = np.any(image > image.min(axis=(0, 1, 2)), axis=-1)
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        (planes,) = np.nonzero(foreground.any(axis=others))
        box.append(slice(planes[0], planes[-1] + 1) if len(planes) else slice(None))
    return tuple(box)


def weights_from_canonical(
    grid: Grid,
    spacing: tuple[float, float, float] | None,
    box: tuple[slice, ...],
) -> tuple[list[Weights | None], tuple[slice, ...]]:
    """Return how `from_canonical` interpolates linearly, for use slab by slab.

    Args:
        grid: Where to bring what lies on the canonical grid.
        spacing: As it was given to `to_canonical`.
        box: The part of the canonical grid that there is, a slice for each axis. Around it there
            are zeros; beyond the canonical grid, its outermost values go on.

    Returns:
        For each axis the weights that `resample_slabs` takes, `None` where spacing and voxels are
        `grid`'s own; and the part of `grid.oriented()` whose voxels depend on the box.

    Example:
    ```python
    box = foreground_box(image)
    weights, region = weights_from_canonical(grid, (1.5, 1.5, 2.0), box)
    whole = np.zeros((*grid.oriented().shape, 14), "float32")
    whole[region] = np.concatenate(list(resample_slabs([probabilities[box]], weights)))
    ```
    """
    source, target = canonical_grid(grid, spacing), grid.oriented()
    weights: list[Weights | None] = []
    region = []
    for axis, (positions, ratio) in enumerate(_positions(source, target)):
        start, stop, _ = box[axis].indices(source.shape[axis])
        if ratio == 1:
            weights.append(None)
            region.append(slice(start, stop))
            continue
        box_weights = _linear_weights(positions, ratio, source.shape[axis])[:, start:stop]
        dependent = np.flatnonzero(box_weights.sum(axis=1))
        first, last = int(dependent[0]), int(dependent[-1]) + 1
        weights.append(box_weights[first:last])
        region.append(slice(first, last))
    return weights, tuple(region)


def resample_slabs(
    slabs: Iterable[np.ndarray], weights: Sequence[Weights | None]
) -> Iterator[np.ndarray]:
    """Resample a volume that comes slab by slab, of which memory holds a few planes.

    Args:
        slabs: Consecutive parts of the volume along its first side, shape `(rows, *sides,
            channels)`; each may be overwritten once the next is asked for.
        weights: For each side those of its voxels, shape `(new_side, side)`, or `None` where it
            stays as it is.

    Yields:
        Consecutive parts of the resampled volume, of shape `(rows, *new_sides, channels)`,
        `float32` if the slabs are.

    Example:
    ```python
    for slab in resample_slabs(np.split(probabilities, 4), weights):
        labels.append(slab.argmax(axis=-1))
    ```
    """
    along, *across = weights
    planes = (_apply(across, plane[None], first=1) for slab in slabs for plane in slab)
    if along is None:
        yield from planes
        return
    spans = [
        (along.indices[start:stop].min(), along.indices[start:stop].max())
        for start, stop in itertools.pairwise(along.indptr)
    ]
    held, top, done = None, 0, 0  # `held` begins with plane `top`
    for row, plane in enumerate(planes):
        held = plane.copy() if held is None else np.concatenate([held, plane])
        ready = done
        while ready < len(spans) and spans[ready][1] <= row:
            ready += 1
        yield _apply([along[done:ready, top : row + 1]], held)
        needed = min(spans[ready][0], row + 1) if ready < len(spans) else row + 1
        held, top, done = held[needed - top :], needed, ready


def is_invertible(affine: np.ndarray) -> bool:
    """Return whether an affine is finite and maps no two points to one."""
    return bool(np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3)


def _resample(
    array: np.ndarray, source: Grid, target: Grid, interpolation: Interpolation
) -> np.ndarray:
    """Resample between grids of the same axes and centre."""
    if interpolation == "nearest":
        for axis, (positions, ratio) in enumerate(_positions(source, target)):
            if ratio != 1:
                nearest = np.floor(positions + 0.5).astype(int)
                array = array.take(nearest, axis, mode="clip")
        return array
    if interpolation != "linear":
        raise ValueError(
            f"The interpolation must be 'nearest' or 'linear'. Received: {interpolation=}"
        )
    weights = [
        None if ratio == 1 else _linear_weights(positions, ratio, side)
        for (positions, ratio), side in zip(_positions(source, target), source.shape, strict=True)
    ]
    return _apply(weights, np.asarray(array, "float32"))


def _positions(source: Grid, target: Grid) -> list[tuple[np.ndarray, float]]:
    """Return where the target's voxels lie in the source's along each axis, and their ratio.

    The ratio is that of the target's size to the source's, exactly 1 where the two are alike.
    """
    positions = []
    for axis in range(3):
        ratio = target.spacing[axis] / source.spacing[axis]
        if abs(ratio - 1) < ALIKE:
            ratio = 1
        sides = source.shape[axis], target.shape[axis]
        from_centre = np.arange(sides[1]) - (sides[1] - 1) / 2
        positions.append(((sides[0] - 1) / 2 + ratio * from_centre, ratio))
    return positions


def _apply(weights: Sequence[Weights | None], array: np.ndarray, first: int = 0) -> np.ndarray:
    """Resample an array's axes, beginning with the `first`."""
    changed = [(axis, matrix) for axis, matrix in enumerate(weights, first) if matrix is not None]
    # The axis that loses most comes first, to spare the others the work.
    for axis, matrix in sorted(changed, key=lambda change: np.divide(*change[1].shape)):
        lines = np.moveaxis(array, axis, 0)
        resampled = matrix @ lines.reshape(len(lines), -1)
        array = np.moveaxis(resampled.reshape(len(resampled), *lines.shape[1:]), 0, axis)
    return array


def _linear_weights(positions: np.ndarray, ratio: float, side: int) -> Weights:
    """Return what each voxel of a line weighs in each new voxel, shape `(new_side, side)`.

    A new voxel is the interpolated line at its centre or, where it is the larger one, the mean of
    several points, evenly around its centre.

    Args:
        positions: Where the new voxels lie, in voxels of the line.
        ratio: The new voxels' size, in voxels of the line.
        side: Voxels of the line.
    """
    width = np.sqrt(max(0, ratio**2 - 1))  # so that a box of 1 becomes as wide as one of `ratio`
    count = max(1, int(np.ceil(4 * width)))
    points = positions[:, None] + width * ((np.arange(count) + 0.5) / count - 0.5)
    voxels = np.floor(points).astype(int)[..., None] + np.arange(2)  # on either side of a point
    weights = (1 - np.abs(voxels - points[..., None])) / count
    rows = np.indices(voxels.shape)[0]
    entries = (weights.ravel(), (rows.ravel(), voxels.clip(0, side - 1).ravel()))
    return scipy.sparse.coo_array(entries, (len(positions), side)).tocsr().astype("float32")


def _require_on_grid(array: np.ndarray, grid: Grid) -> None:
    if array.ndim not in (3, 4) or array.shape[:3] != grid.shape:
        raise ValueError(
            f"The volume must have the grid's shape, {grid.shape}, and at most a further axis of "
            f"channels. Received: shape {array.shape}"
        )


def _describe(spacing: tuple[float, ...]) -> str:
    return " × ".join(f"{distance:.3g}" for distance in spacing)
