"""Pictures of volumes: each side where a radiologist looks for it, in millimetres."""

import numpy as np
import pytest

from keras_lgmsnet.data.volumes import VolumeExample
from keras_lgmsnet.drawing import volumes as volume_pictures
from keras_lgmsnet.drawing.volumes import (
    SegmentedVolume,
    draw_montage,
    draw_planes,
    draw_surface,
    label_color,
)
from keras_lgmsnet.geometry import Grid

pytestmark = pytest.mark.no_backend

SHAPE = (20, 24, 12)
SPACING = (2.0, 1.0, 3.0)  # 40 × 24 × 36 mm
MIDDLE = (slice(8, 12), slice(10, 14), slice(5, 7))

# Which corner of a plane, as (row, column), a bright spot on the patient's side shows up in.
SIDES = {
    "right": (slice(17, 20), slice(10, 14), slice(5, 7)),
    "left": (slice(0, 3), slice(10, 14), slice(5, 7)),
    "front": (slice(8, 12), slice(21, 24), slice(5, 7)),
    "back": (slice(8, 12), slice(0, 3), slice(5, 7)),
    "head": (slice(8, 12), slice(10, 14), slice(10, 12)),
    "foot": (slice(8, 12), slice(10, 14), slice(0, 2)),
}


def volume(mask=MIDDLE, prediction=MIDDLE, bright=None, **changes) -> SegmentedVolume:
    image = np.zeros(SHAPE, "float32")
    if bright is not None:
        image[bright] = 1000
    labels = np.zeros((2, *SHAPE), "uint8")
    for array, part in zip(labels, (mask, prediction), strict=True):
        if part is not None:
            array[part] = 1
    return SegmentedVolume(image, *labels, SPACING, **({"window": (0.0, 1000.0)} | changes))


def near(picture: np.ndarray, color: str, tolerance: int = 40) -> np.ndarray:
    """Return rows and columns, from 0 to 1, of the pixels near a colour."""
    difference = np.abs(picture.astype(int) - list(bytes.fromhex(color[1:])))
    return np.argwhere(difference.max(-1) < tolerance) / picture.shape[:2]


@pytest.mark.parametrize(
    ("side", "seen"),
    [
        ("right", {"axial": "left", "coronal": "left"}),
        ("left", {"axial": "right", "coronal": "right"}),
        ("front", {"axial": "top", "sagittal": "left"}),
        ("back", {"axial": "bottom", "sagittal": "right"}),
        ("head", {"coronal": "top", "sagittal": "top"}),
        ("foot", {"coronal": "bottom", "sagittal": "bottom"}),
    ],
)
def test_sides_are_where_radiologists_have_them(side, seen) -> None:
    planes = draw_planes(volume(bright=SIDES[side]))
    for name, place in seen.items():
        inner = planes[name][40:-40, 40:-40]  # without the letters
        row, column = near(inner, "#ffffff").mean(axis=0)
        middle = {"left": column, "right": 1 - column, "top": row, "bottom": 1 - row}
        assert middle[place] < 0.35, (name, place)


def test_planes_have_one_scale_in_millimetres() -> None:
    """A cube of 12 mm is square, and of one size, in all planes: 480 pixels are 40 mm."""
    cube = (slice(7, 13), slice(6, 18), slice(4, 8))
    planes = draw_planes(volume(mask=cube, prediction=None, bright=cube))
    assert {plane.shape for plane in planes.values()} == {(432, 480, 3)}
    for plane in planes.values():
        rows, columns = np.nonzero(plane[..., 0] > plane[..., 1])  # tinted red
        assert np.ptp(rows) + 1 == pytest.approx(144, abs=4)
        assert np.ptp(columns) + 1 == pytest.approx(144, abs=4)


def test_truth_is_a_tint_and_prediction_an_outline_in_the_labels_color() -> None:
    first, second = volume(), volume()
    second.prediction[MIDDLE] = 2
    outlines = [near(draw_planes(drawn)["axial"], label_color(2)) for drawn in (first, second)]
    assert not len(outlines[0])
    assert len(outlines[1])
    tinted = draw_planes(volume(prediction=None))["axial"]
    untouched = draw_planes(volume(mask=None, prediction=None))["axial"]
    changed = (tinted != untouched).any(-1).sum()
    assert changed == pytest.approx(96 * 48, rel=0.05)  # 8 × 4 mm at 12 pixels a mm


def test_the_plane_with_most_labels_is_drawn() -> None:
    spot = (slice(2, 3), slice(20, 21), slice(10, 11))
    picture = draw_planes(volume(mask=spot, prediction=spot))["axial"]
    ((row, column),) = near(picture, label_color(1)).mean(axis=0, keepdims=True)
    assert (row, column) == pytest.approx((0.28, 0.875), abs=0.05)  # of 36 mm, 24 are the body


def test_window_defaults_to_percentiles_and_clips() -> None:
    image = np.linspace(-1, 1, 1000).reshape(10, 10, 10)
    empty = np.zeros_like(image, "uint8")
    shown = SegmentedVolume(image, empty, empty, (1, 1, 1)).shown
    assert (shown.min(), shown.max()) == (0, 255)
    assert np.count_nonzero(shown == 0) == pytest.approx(10, abs=6)
    windowed = SegmentedVolume(image, empty, empty, (1, 1, 1), (0.0, 2.0)).shown
    assert windowed.max() == 127
    assert SegmentedVolume(np.ones((2, 2, 2)), empty, empty, (1, 1, 1)).shown.max() == 0


@pytest.mark.parametrize(
    ("labelled", "tiles"), [(12, (3, 4)), (5, (2, 4)), (2, (1, 2)), (0, (3, 4))]
)
def test_montage_has_a_tile_for_each_of_up_to_twelve_planes(labelled, tiles) -> None:
    part = (slice(8, 12), slice(10, 14), slice(0, labelled))
    picture = draw_montage(volume(mask=part, prediction=None))
    height, width, _ = picture.shape
    assert height / tiles[0] * 40 == pytest.approx(width / tiles[1] * 24, rel=0.03)
    assert max(height, width) <= 970


def test_montage_goes_from_head_to_foot() -> None:
    column = (slice(8, 12), slice(10, 14), slice(0, 12))
    plain, bright = (
        draw_montage(volume(mask=column, bright=part)) for part in (None, SIDES["head"])
    )
    rows, columns = np.nonzero((plain != bright).any(-1))
    height, width = plain.shape[:2]
    assert rows.max() < height / 3  # the first two of twelve planes
    assert columns.max() < width / 2


def test_of_a_dataset_a_volume_is_turned_to_ras() -> None:
    """Axes to the head, the left and the back, of 3, 1 and 2 mm."""
    grid = Grid((4, 5, 6), [[0, -1, 0, 0], [0, 0, -2, 0], [3, 0, 0, 0], [0, 0, 0, 1]])
    image = np.arange(120, dtype="float32").reshape(4, 5, 6, 1)
    mask, prediction = (image[..., 0] > limit for limit in (60, 90))
    example = VolumeExample("a", image, mask.astype("uint8"), grid)
    turned = SegmentedVolume.of_example(example, prediction.astype("uint8"), (0.0, 1.0))
    assert turned.image.shape == (5, 6, 4)
    assert turned.spacing == pytest.approx((1, 2, 3))
    assert turned.image[0, 0, 3] == image[3, 4, 5, 0]  # left, back and head
    np.testing.assert_array_equal(turned.prediction, turned.image > 90)
    np.testing.assert_array_equal(turned.segmentation_mask, turned.image > 60)


def test_surface_is_seen_from_the_front(monkeypatch) -> None:
    monkeypatch.setattr(volume_pictures, "_SURFACE_SIDE", 120)
    labels = np.zeros((30, 30, 30), "uint8")
    labels[22:28, 10:20, 10:20] = 1  # right
    labels[2:8, 10:20, 10:20] = 2  # left
    labels[12:18, 2:8, 10:20] = 3  # behind
    labels[8:22, 22:28, 8:22] = 4  # in front, and hides what is behind
    picture = draw_surface(labels, (1, 1, 1), azimuth=0, elevation=0)
    hues = picture / np.maximum(picture.max(-1, keepdims=True), 1)
    columns = {}
    for label in range(1, 5):
        color = np.array(list(bytes.fromhex(label_color(label)[1:])))
        same = (np.abs(hues - color / color.max()).max(-1) < 0.05) & (picture.max(-1) > 40)
        columns[label] = np.nonzero(same)[1]
    assert columns[1].mean() < 40 < 80 < columns[2].mean()
    assert len(columns[3]) == 0
    assert columns[4].mean() == pytest.approx(59.5, abs=1.5)
    assert np.ptp(columns[4]) / np.ptp(columns[1]) == pytest.approx(14 / 6, rel=0.1)


def test_one_voxel_has_a_surface_and_none_has_none(monkeypatch) -> None:
    monkeypatch.setattr(volume_pictures, "_SURFACE_SIDE", 120)
    labels = np.zeros((6, 6, 6), "uint8")
    empty = draw_surface(labels, (1, 1, 4))
    labels[3, 3, 3] = 5
    one = draw_surface(labels, (1, 1, 4))
    assert np.count_nonzero((one != empty).any(-1)) > 100
