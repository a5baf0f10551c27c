"""Distances between the boundaries of masks, in 2D and 3D: Hausdorff, boundary F-score, NSD.

A boundary element is a pixel (voxel) inside the mask with a direct neighbour outside, or at the
image's edge, as in MedPy and MONAI. Each counts once, however large the surface it stands for.

Where there is no boundary to measure to, a miss and a false alarm are the worst there is: a
distance of the image's diagonal (which BraTS uses too) and scores of 0. Two empty masks agree: a
distance of 0 and scores of 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.spatial import cKDTree


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances from the boundary of each of two masks to the nearest boundary of the other.

    `surface_distances` makes one; the order of the masks changes none of the scores.

    Args:
        from_mask: Distance of every boundary element of the mask; empty if the mask is.
        from_prediction: Distance of every boundary element of the prediction.
        diagonal: Length of the image's diagonal, in the same unit.
    """

    from_mask: np.ndarray
    from_prediction: np.ndarray
    diagonal: float

    def hausdorff(self, percentile: float = 95.0) -> float:
        """Return the Hausdorff distance, the larger of both directions: 0 for equal masks.

        Args:
            percentile: Percentile of the distances of each direction, in [0, 100]; 95 gives
                HD95, robust to a few stray pixels, and 100 the distance as Hausdorff defined it.

        Raises:
            ValueError: If the percentile is out of range.
        """
        if not 0 <= percentile <= 100:
            raise ValueError(f"The percentile must lie in [0, 100]. Received: {percentile=}")
        if self._any_empty:
            return 0.0 if self._all_empty else self.diagonal
        return float(
            max(np.percentile(side, percentile) for side in (self.from_mask, self.from_prediction))
        )

    def f_score(self, tolerance: float) -> float:
        """Return the boundary F-score, in [0, 1].

        It is the harmonic mean of the share of the prediction's boundary that lies within the
        tolerance of the mask's (precision) and the reverse (recall).

        Args:
            tolerance: Largest distance that still agrees, ≥ 0, in the unit of the spacing.

        Raises:
            ValueError: If the tolerance is negative or not finite.
        """
        require_tolerance(tolerance)
        if self._any_empty:
            return float(self._all_empty)
        recall, precision = (
            float(np.mean(side <= tolerance)) for side in (self.from_mask, self.from_prediction)
        )
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def normalized_surface_distance(self, tolerance: float) -> float:
        """Return the share of both boundaries, taken together, within the tolerance: in [0, 1].

        Args:
            tolerance: Largest distance that still agrees, ≥ 0, in the unit of the spacing.

        Raises:
            ValueError: If the tolerance is negative or not finite.
        """
        require_tolerance(tolerance)
        if self._any_empty:
            return float(self._all_empty)
        return float(np.mean(np.concatenate([self.from_mask, self.from_prediction]) <= tolerance))

    @property
    def _any_empty(self) -> bool:
        return not self.from_mask.size or not self.from_prediction.size

    @property
    def _all_empty(self) -> bool:
        return not self.from_mask.size and not self.from_prediction.size


def surface_distances(
    segmentation_mask: ArrayLike, prediction: ArrayLike, spacing: Sequence[float] | None = None
) -> SurfaceDistances:
    """Measure how far apart the boundaries of two masks are.

    Args:
        segmentation_mask: True mask of one image or volume and one class, shape `(*sides)`; what
            is not 0 is inside.
        prediction: Predicted mask of the same shape.
        spacing: Distance between neighbouring elements along each axis, such as millimetres; by
            default 1, so that distances are in pixels.

    Raises:
        ValueError: If the shapes differ or hold no element, or the spacing is not one positive
            number an axis.

    Example:
    ```python
    distances = surface_distances(mask, prediction, spacing=(1.5, 1.5, 2.0))  # in mm
    distances.hausdorff(95), distances.normalized_surface_distance(tolerance=2.0)
    ```
    """
    masks = [np.asarray(mask, bool) for mask in (segmentation_mask, prediction)]
    sides = masks[0].shape
    if masks[1].shape != sides or not masks[0].size or not sides:
        raise ValueError(
            "Mask and prediction must have one shape, (*sides), of at least one element. "
            f"Received: segmentation_mask.shape={sides}, prediction.shape={masks[1].shape}"
        )
    spacing = (1.0,) * len(sides) if spacing is None else tuple(spacing)
    if len(spacing) != len(sides) or not all(0 < step < np.inf for step in spacing):
        raise ValueError(
            f"The spacing must be a positive number for each of the {len(sides)} axes. "
            f"Received: {spacing=}"
        )
    diagonal = float(np.linalg.norm(np.multiply(sides, spacing)))
    # No boundary lies outside the box around both masks: less to go through, the same distances.
    box = ndimage.find_objects((masks[0] | masks[1]).astype("uint8"))
    boundaries = [_boundary(mask[box[0]]) if box else np.zeros(0, bool) for mask in masks]
    if not all(boundary.any() for boundary in boundaries):
        from_mask, from_prediction = (
            np.full(np.count_nonzero(boundary), np.inf) for boundary in boundaries
        )
        return SurfaceDistances(from_mask, from_prediction, diagonal)
    mask_points, prediction_points = (np.argwhere(boundary) for boundary in boundaries)
    return SurfaceDistances(
        from_mask=_distances(mask_points, prediction_points, spacing),
        from_prediction=_distances(prediction_points, mask_points, spacing),
        diagonal=diagonal,
    )


def require_tolerance(tolerance: float) -> None:
    """Raise `ValueError` unless a tolerance is a finite number of at least 0."""
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"The tolerance must be at least 0 and finite. Received: {tolerance=}")


def _boundary(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)  # which sees background beyond the edge


def _distances(points: np.ndarray, others: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the distance of each point, an index into the image, to the nearest of the others.

    Boundaries are few among an image's elements, so a tree of them takes less time and memory than
    a distance transform, above all where one stray voxel stretches the box over a whole scan.
    """
    _, nearest = cKDTree(others * spacing).query(points * spacing)
    # Measured once more: the differences of indices are exact, those of scaled ones are rounded.
    return np.linalg.norm((points - others[nearest]) * spacing, axis=-1)
