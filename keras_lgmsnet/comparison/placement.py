"""Where the labels of a chart's bubbles go, so that nothing covers anything."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_STEP = 3.0  # between the places that are tried
_GAP = 2.0  # left free around a label
_TRIED = 80  # free places, nearest first, whose leader lines are looked at
_CROSSING = 60.0  # how much farther off a label may lie for a leader line that crosses nothing


class Box(NamedTuple):
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float


def place_labels(
    points: np.ndarray,
    radii: np.ndarray,
    sizes: np.ndarray,
    within: Box,
    obstacles: Sequence[Box] = (),
) -> list[Box] | None:
    """Place a label near each bubble, over no other label, no bubble and no obstacle.

    The same bubbles get the same places. Labels of crowded bubbles are placed first, each at the
    nearest free place, or at a farther one where the line from it to its bubble crosses less.

    Args:
        points: Middles of the bubbles, shape `(bubbles, 2)`.
        radii: Of the bubbles, shape `(bubbles,)`.
        sizes: Width and height of the labels, shape `(bubbles, 2)`.
        within: Where labels may lie.
        obstacles: What else must not be covered.

    Returns:
        The place of each label; `None` if there is not enough room.

    Example:
    ```python
    middle, radius, size = np.array([[50.0, 50.0]]), np.array([4.0]), np.array([[30.0, 8.0]])
    place_labels(middle, radius, size, Box(0, 0, 100, 100))
    ```
    """
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    crowding = (1 / (1 + distances)).sum(axis=1)
    placed: dict[int, Box] = {}
    for number in np.argsort(-crowding, kind="stable").tolist():
        taken = np.array([*obstacles, *placed.values()], float).reshape(-1, 4)
        box = _place(number, points, radii, sizes[number], within, taken)
        if box is None:
            return None
        placed[number] = box
    return [placed[number] for number in range(len(points))]


def nearest(box: Box, point: np.ndarray) -> np.ndarray:
    """Return the point of a box that is nearest to a point, shape `(2,)`."""
    return np.clip(point, box[:2], box[2:])


def _place(
    number: int,
    points: np.ndarray,
    radii: np.ndarray,
    size: np.ndarray,
    within: Box,
    taken: np.ndarray,
) -> Box | None:
    """Return the best free place of one label."""
    low, high = np.array(within[:2]), np.array(within[2:]) - size
    if high[0] < low[0] or high[1] < low[1]:
        return None
    around = [np.arange(low[axis], high[axis] + 1e-9, _STEP) for axis in (0, 1)]
    corners = np.stack(np.meshgrid(*around, indexing="ij"), axis=-1).reshape(-1, 2)
    # Beside, above and below the bubble, exactly.
    point, reach = points[number], radii[number] + _GAP
    beside = np.array(
        [
            (reach, -size[1] / 2),
            (-reach - size[0], -size[1] / 2),
            (-size[0] / 2, reach),
            (-size[0] / 2, -reach - size[1]),
        ]
    )
    beside = point + beside
    beside = beside[((beside >= low) & (beside <= high)).all(axis=1)]
    boxes = np.concatenate([beside, corners])
    boxes = np.concatenate([boxes, boxes + size], axis=1)
    touches = (
        (boxes[:, None, :2] < taken[None, :, 2:] + _GAP)
        & (boxes[:, None, 2:] > taken[None, :, :2] - _GAP)
    ).all(axis=-1)
    to_bubbles = _distances(boxes, points) - radii
    boxes, to_bubbles = (
        values[~np.any(touches, axis=1) & np.all(to_bubbles >= _GAP - 1e-6, axis=1)]
        for values in (boxes, to_bubbles)
    )
    if not len(boxes):
        return None
    order = np.argsort(to_bubbles[:, number], kind="stable")[:_TRIED]
    boxes, costs = boxes[order], to_bubbles[order, number]
    others = np.arange(len(points)) != number
    costs = costs + _CROSSING * _crossings(boxes, point, points[others], radii[others], taken)
    return Box(*boxes[int(np.argmin(costs))].tolist())


def _distances(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return how far each box is from each point, shape `(boxes, points)`."""
    inside = np.clip(points[None], boxes[:, None, :2], boxes[:, None, 2:])
    return np.linalg.norm(inside - points[None], axis=-1)


def _crossings(
    boxes: np.ndarray,
    point: np.ndarray,
    centers: np.ndarray,
    radii: np.ndarray,
    taken: np.ndarray,
) -> np.ndarray:
    """Return how many bubbles and boxes the line from each box to its own bubble crosses."""
    ends = np.clip(point, boxes[:, :2], boxes[:, 2:])
    along = np.linspace(0, 1, 12)[None, :, None]
    line = ends[:, None] * (1 - along) + point * along  # (boxes, 12, 2)
    to_centers = np.linalg.norm(line[:, :, None] - centers, axis=-1)
    through = ((line[:, :, None] > taken[:, :2]) & (line[:, :, None] < taken[:, 2:])).all(axis=-1)
    return (to_centers < radii).any(axis=1).sum(axis=1) + through.any(axis=1).sum(axis=1)
