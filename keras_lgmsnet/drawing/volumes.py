"""Pictures of segmented volumes: planes in radiological convention, montages and surfaces."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from scipy import ndimage

from keras_lgmsnet.data.volumes import VolumeExample
from keras_lgmsnet.drawing.outlines import draw_outlines
from keras_lgmsnet.geometry import to_canonical

# Bright on black and far from one another; labels beyond them begin anew.
_COLORS = (
    *("#ff5a5f", "#3ddc84", "#4da3ff", "#ffd23f", "#f06bff", "#2ee6d6", "#ff9f43", "#b388ff"),
    *("#c6ff4d", "#ff8fb8", "#8ecae6", "#e0a872", "#7cf5a0", "#d0d7e5"),
)

# What is left, right, top and bottom of a plane, seen from the patient's feet, front and left.
_PLANES = {"axial": (2, "RLAP"), "coronal": (1, "RLSI"), "sagittal": (0, "APSI")}

_SIDE = 480  # pixels of a plane's longer side
_SURFACE_SIDE = 320
_FILL = 0.3  # opacity of the truth


@dataclass(frozen=True, eq=False)
class SegmentedVolume:
    """A volume in RAS orientation (x to the right, y to the front, z up) and its segmentations.

    Args:
        image: One channel, shape `(x, y, z)`.
        segmentation_mask: True labels, of the same shape; 0 is background.
        prediction: Predicted labels, of the same shape.
        spacing: Distance of the voxels in mm along x, y and z.
        window: The values shown black and white; by default the volume's 0.5th and 99.5th
            percentiles. For CT, give one in Hounsfield units.
    """

    image: np.ndarray
    segmentation_mask: np.ndarray
    prediction: np.ndarray
    spacing: Sequence[float]
    window: tuple[float, float] | None = None

    @classmethod
    def of_example(
        cls,
        example: VolumeExample,
        prediction: np.ndarray,
        window: tuple[float, float] | None = None,
    ) -> Self:
        """Return what a dataset's volume and its prediction look like, turned to RAS.

        Args:
            example: The volume, of whose image the first channel is shown.
            prediction: Predicted labels, on the volume's own grid.
            window: As above.
        """
        arrays = (example.image[..., 0], example.segmentation_mask, prediction)
        image, segmentation_mask, prediction = (
            to_canonical(array, example.grid, interpolation="nearest") for array in arrays
        )
        spacing = example.grid.oriented().spacing
        return cls(image, segmentation_mask, prediction, spacing, window)

    @functools.cached_property
    def labelled(self) -> np.ndarray:
        """Where truth or prediction have a label."""
        return (self.segmentation_mask > 0) | (self.prediction > 0)

    @functools.cached_property
    def shown(self) -> np.ndarray:
        """The image in 8 bits, windowed."""
        low, high = self.window or np.percentile(self.image, (0.5, 99.5))
        scaled = (self.image.astype("float32") - low) / max(high - low, 1e-6)
        return (255 * np.clip(scaled, 0, 1)).astype("uint8")


def label_color(label: int) -> str:
    """Return the colour of a label in all pictures, such as `"#ff5a5f"`."""
    return _COLORS[(label - 1) % len(_COLORS)]


def draw_planes(volume: SegmentedVolume) -> dict[str, np.ndarray]:
    """Draw the axial, coronal and sagittal plane, each where most is labelled.

    All have one scale. As radiologists have it, the patient's right is left; letters at the edges
    tell right, left, anterior, posterior, superior and inferior. Truth is a tint, prediction an
    outline, both in the label's colour.

    Returns:
        8-bit RGB of shape `(height, width, 3)` for `"axial"`, `"coronal"` and `"sagittal"`.

    Example:
    ```python
    planes = draw_planes(SegmentedVolume(image, mask, prediction, (0.8, 0.8, 2.5), (-160, 240)))
    ```
    """
    x, y, z = np.multiply(volume.image.shape, volume.spacing)
    scale = _SIDE / max(x, y, z)
    size = round(max(x, y) * scale), round(max(y, z) * scale)  # (width, height) of the widest
    pictures = {}
    for name, (axis, letters) in _PLANES.items():
        area = volume.labelled.sum(tuple({0, 1, 2} - {axis}))
        index = int(area.argmax()) if area.any() else len(area) // 2
        pictures[name] = _centred(_draw_plane(volume, axis, index, scale, 2), size)
        _write_letters(pictures[name], letters)
    return pictures


def draw_slice(volume: SegmentedVolume, index: int) -> np.ndarray:
    """Draw one axial plane, in the way of `draw_planes`, with the patient's right marked.

    Args:
        volume: What to draw.
        index: Of the plane, from the foot, counted from 0.

    Returns:
        8-bit RGB, shape `(height, width, 3)`.
    """
    x, y, _ = np.multiply(volume.image.shape, volume.spacing)
    picture = _draw_plane(volume, 2, index, _SIDE / max(x, y), 2)
    _write(picture, "R", (6, picture.shape[0] // 2), 1.2)  # legible in a small print
    return picture


def draw_montage(volume: SegmentedVolume, columns: int = 4, rows: int = 3) -> np.ndarray:
    """Draw axial planes evenly through what is labelled, from head to foot, numbered from the foot.

    Args:
        volume: What to draw.
        columns: Planes beside each other.
        rows: Rows of planes, at most; fewer where fewer planes are labelled.

    Returns:
        8-bit RGB, shape `(height, width, 3)`.
    """
    indices = np.flatnonzero(volume.labelled.any((0, 1)))
    if not indices.size:
        indices = np.arange(volume.image.shape[2])
    count = min(columns * rows, indices[-1] - indices[0] + 1)
    columns = min(columns, count)
    x, y, _ = np.multiply(volume.image.shape, volume.spacing)
    scale = 2 * _SIDE / max(columns * x, rows * y)
    tiles = []
    for index in np.linspace(indices[-1], indices[0], count).round().astype(int):
        tile = _draw_plane(volume, 2, index, scale, 1)
        _write(tile, "R", (4, tile.shape[0] // 2), 0.45)
        _write(tile, f"{index + 1}", (4, 14), 0.45)
        tiles.append(cv2.copyMakeBorder(tile, 1, 1, 1, 1, cv2.BORDER_CONSTANT))
    tiles += [np.zeros_like(tiles[0])] * (-count % columns)
    lines = (np.hstack(tiles[start : start + columns]) for start in range(0, count, columns))
    return np.vstack(list(lines))


def draw_surface(
    labels: np.ndarray, spacing: Sequence[float], azimuth: float = 25.0, elevation: float = 15.0
) -> np.ndarray:
    """Draw the surfaces of labels, lit from the viewer's side, on black.

    Args:
        labels: In RAS orientation, shape `(x, y, z)`; 0 is background.
        spacing: Distance of the voxels in mm along x, y and z.
        azimuth: Degrees that the viewer has moved from the patient's front to the patient's left.
        elevation: Degrees that the viewer has risen towards the patient's head.

    Returns:
        8-bit RGB, shape `(side, side, 3)`; the patient's right is left, as in the planes.
    """
    canvas = np.zeros((_SURFACE_SIDE, _SURFACE_SIDE, 3), "uint8")
    if labels.any():
        box = ndimage.find_objects((labels > 0).astype("uint8"))[0]
        cropped = np.pad(labels[box], 1)  # so that every surface is closed
        shaded = _shade(cropped, np.asarray(spacing, float), azimuth, elevation)
        canvas = (255 * shaded).astype("uint8")
    _write_letters(canvas, "RLSI")
    return canvas


def _draw_plane(
    volume: SegmentedVolume, axis: int, index: int, scale: float, thickness: int
) -> np.ndarray:
    """Draw a plane across an axis at so many pixels a mm."""
    image, truth, prediction = (
        np.flip(np.take(array, index, axis)).T  # the patient's right, or front, goes left; head up
        for array in (volume.shown, volume.segmentation_mask, volume.prediction)
    )
    sides = np.delete(np.asarray(volume.spacing), axis) * image.shape[::-1]
    size = tuple(max(1, round(side * scale)) for side in sides)
    shrinks = size[0] < image.shape[1]
    gray = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    canvas = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
    truth = cv2.resize(truth.astype("uint8"), size, interpolation=cv2.INTER_NEAREST)
    tinted = truth > 0
    tint = _rgb(truth[tinted])
    canvas[tinted] = ((1 - _FILL) * canvas[tinted] + _FILL * tint).astype("uint8")
    for label in np.unique(prediction[prediction > 0]):
        draw_outlines(canvas, (prediction == label)[..., None], label_color(label), thickness)
    return canvas


def _shade(labels: np.ndarray, spacing: np.ndarray, azimuth: float, elevation: float) -> np.ndarray:
    """Return the surfaces of labels as RGB from 0 to 1, by following a ray for each pixel."""
    side = _SURFACE_SIDE
    azimuth, elevation = np.radians((azimuth, elevation))
    sin, cos = np.sin, np.cos
    right = np.array([-cos(azimuth), -sin(azimuth), 0])  # of the picture: the patient's left
    up = np.array([sin(azimuth) * sin(elevation), -cos(azimuth) * sin(elevation), cos(elevation)])
    away = -np.cross(right, up)
    axes = np.stack([-up, right, away])  # rows, columns and depth of the picture
    extent = np.abs(axes) @ (np.array(labels.shape) * spacing)  # of the box, seen so
    step = 1.1 * max(extent[:2]) / side  # mm
    shape = (side, side, int(np.ceil(extent[2] / step)))
    matrix = axes.T * step / spacing[:, None]
    offset = (np.array(labels.shape) - 1) / 2 - matrix @ ((np.array(shape) - 1) / 2)
    inside = ndimage.affine_transform(
        (labels > 0).astype("float32"), matrix, offset, shape, order=1
    )
    hit = np.flatnonzero((inside > 0.5).any(-1))
    depth = (inside > 0.5).argmax(-1).ravel()[hit]
    points = matrix @ np.stack([*np.divmod(hit, side), depth]) + offset[:, None]
    # Voxels have steps; their surface is lit as if it had none.
    coarsest = max(spacing)
    smooth = ndimage.gaussian_filter((labels > 0).astype("float32"), coarsest / spacing)
    normals = np.stack(
        [
            ndimage.map_coordinates(smooth, points - aside[:, None], order=1)
            - ndimage.map_coordinates(smooth, points + aside[:, None], order=1)
            for aside in axes * coarsest / 2 / spacing
        ]
    )
    normals /= np.maximum(np.linalg.norm(normals, axis=0), 1e-6)
    light = np.array([-0.5, -0.4, -0.77])  # from above, from the left, from the viewer
    diffuse = np.clip(light @ normals, 0, 1)
    # A surface lies half a voxel beyond its outermost labels, where there may be none.
    nearby = np.where(labels, labels, ndimage.grey_dilation(labels, size=3))
    seen = ndimage.map_coordinates(nearby, points, order=0)
    picture = np.zeros((side, side, 3))
    picture.reshape(-1, 3)[hit] = _rgb(seen) / 255 * (0.25 + 0.75 * diffuse)[:, None]
    return picture


def _rgb(labels: np.ndarray) -> np.ndarray:
    """Return the colours of labels above 0, from 0 to 255, in a last axis."""
    colors = np.array([tuple(bytes.fromhex(color[1:])) for color in _COLORS])
    return colors[(labels.astype(int) - 1) % len(colors)]


def _centred(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture in the middle of a black one of at least its size, (width, height)."""
    height, width = picture.shape[:2]
    canvas = np.zeros((max(size[1], height), max(size[0], width), 3), "uint8")
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    canvas[top : top + height, left : left + width] = picture
    return canvas


def _write_letters(picture: np.ndarray, letters: str) -> None:
    """Write at the edges of a picture what is left, right, top and bottom of it, in this order."""
    height, width = picture.shape[:2]
    size = 18 * width // _SIDE  # pixels
    places = (
        (size // 3, (height + size) // 2),
        (width - size, (height + size) // 2),
        ((width - size) // 2, size + size // 8),
        ((width - size) // 2, height - size // 2),
    )
    for letter, place in zip(letters, places, strict=True):
        _write(picture, letter, place, size / 30)


def _write(picture: np.ndarray, text: str, place: tuple[int, int], size: float) -> None:
    """Write white on a black rim, from the lower left corner of the text."""
    for color, thickness in ((0, 3), (255, 1)):
        cv2.putText(
            picture,
            text,
            place,
            cv2.FONT_HERSHEY_SIMPLEX,
            size,
            (color,) * 3,
            thickness,
            cv2.LINE_AA,
        )
