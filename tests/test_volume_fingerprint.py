"""Fingerprints of volumes: proposals and ranges by hand, and what they are for."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from keras_lgmsnet.data import volume_fingerprint
from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.files.writing import write_json
from keras_lgmsnet.geometry import Grid
from keras_lgmsnet.recipe.schema import VolumeData
from keras_lgmsnet.run_directory import read_json
from tests.helpers.volumes import make_source

pytestmark = pytest.mark.no_backend


def of(source, ids=None, **fields) -> VolumeFingerprint:
    data = VolumeData(source="btcv", **fields)
    return VolumeFingerprint.of_volumes(source, ids or source.ids, data, progress=False)


def ramp(factor: float = 1.0) -> np.ndarray:
    """The values 0 to 26, times a factor, of a 3 × 3 × 3 volume."""
    return factor * np.arange(27.0).reshape(3, 3, 3)


LABELS = np.arange(27).reshape(3, 3, 3) >= 16  # of the values 16 to 26


def spaced(*spacings: tuple[float, float, float], folder: Path, shape=(3, 3, 3), **fields):
    images = [np.arange(np.prod(shape), dtype="float64").reshape(shape)] * len(spacings)
    affine = [np.diag([*spacing, 1]) for spacing in spacings]
    source = make_source(folder, images, [image > 3 for image in images], affine=affine)
    return of(source, **fields)


# Proposals


def test_spacing_is_the_median_along_each_axis(tmp_path: Path) -> None:
    fingerprint = spaced((1, 0.7, 2), (3, 0.9, 2), (2, 0.8, 1), folder=tmp_path)
    assert fingerprint.spacing == (2, 0.8, 2)
    assert "spacing" in fingerprint.proposed


def test_spacing_is_of_canonical_axes(tmp_path: Path) -> None:
    # The file's axes run to the front, to the left and up.
    affine = np.array([[0, -2, 0, 0], [1, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    source = make_source(tmp_path, [ramp()], [LABELS], affine=affine)
    fingerprint = of(source)
    assert fingerprint.spacing == (2, 1, 3)
    assert fingerprint.ranges["size along x in mm"] == (6, 6)


@pytest.mark.parametrize(
    ("shape", "coarse", "expected"),
    [
        ((10, 10, 3), (4, 5, 6), 4.2),  # the tenth percentile
        ((10, 10, 3), (0.5, 5, 6), 1.4),  # of 0.5, 5, 6
        ((10, 10, 3), (0.5, 0.6, 5, 6, 7), 1),  # 0.54, but not finer than the other axes
        ((10, 10, 4), (4, 5, 6), 5),  # not so few voxels: the median
        ((10, 10, 3), (2, 3, 4), 3),  # not so coarse
    ],
)
def test_coarse_axes_keep_more_than_the_median(tmp_path: Path, shape, coarse, expected) -> None:
    fingerprint = spaced(*((1, 1, side) for side in coarse), folder=tmp_path, shape=shape)
    assert fingerprint.spacing == pytest.approx((1, 1, expected))


def test_ct_is_windowed_by_its_labelled_voxels(tmp_path: Path) -> None:
    source = make_source(tmp_path, [ramp(), ramp(2)], [LABELS, np.zeros_like(LABELS)])
    fingerprint = of(source)
    assert fingerprint.normalization == "window"
    # Of 16, 17 … 26: positions 0.05 and 9.95 of 0 … 10, rounded outwards to tenths.
    assert fingerprint.intensity_windows == ((16, 26),)
    assert fingerprint.proposed == ("spacing", "normalization", "intensity_window")


@pytest.mark.parametrize("channels", [["MRI"], ["CT", "PET"]])
def test_anything_else_is_normalised_volume_by_volume(tmp_path: Path, channels) -> None:
    image = np.stack([ramp()] * len(channels), axis=-1)
    fingerprint = of(make_source(tmp_path, [image], [LABELS], channels=channels))
    assert (fingerprint.normalization, fingerprint.intensity_windows) == ("z_score", None)
    assert fingerprint.proposed == ("spacing", "normalization")


def test_what_the_recipe_says_is_taken(tmp_path: Path) -> None:
    source = make_source(tmp_path, [ramp()], [LABELS], channels=["ct"])
    published = of(source, spacing=(1.5, 1.5, 2.0), intensity_window=(-175.0, 250.0))
    assert published.spacing == (1.5, 1.5, 2)
    assert published.normalization == "window"
    assert published.intensity_windows == ((-175, 250),)
    assert published.proposed == ()
    z_score = of(source, normalization="z_score")
    assert (z_score.normalization, z_score.intensity_windows) == ("z_score", None)
    assert z_score.proposed == ("spacing",)


def test_a_window_of_the_recipe_is_for_all_channels(tmp_path: Path) -> None:
    image = np.stack([ramp(), ramp(3)], axis=-1)
    source = make_source(tmp_path, [image], [LABELS], channels=["T1", "T2"])
    fingerprint = of(source, intensity_window=(0.0, 9.0))
    assert fingerprint.intensity_windows == ((0, 9), (0, 9))
    by_channel = of(source, normalization="window").intensity_windows
    assert by_channel == ((16, 26), (48, 78))  # 48.15 and 77.85, to ones


@pytest.mark.parametrize("image", [ramp(), np.zeros((3, 3, 3))])
def test_a_window_needs_labelled_voxels_that_differ(tmp_path: Path, image) -> None:
    source = make_source(tmp_path, [image], [LABELS if not image.any() else LABELS & False])
    with pytest.raises(ValueError, match=r"labelled voxels of several intensities; set data.int"):
        of(source)
    assert of(source, intensity_window=(0.0, 1.0)).num_volumes == 1


def test_other_volumes_than_the_training_ones_do_not_count(tmp_path: Path) -> None:
    source = make_source(tmp_path, [ramp(), ramp(1000)], [LABELS] * 2)
    fingerprint = of(source, ["volume0"])
    assert fingerprint.num_volumes == 1
    assert fingerprint.intensity_windows[0][1] == 26


def test_folds_that_differ_little_share_a_window() -> None:
    windows = volume_fingerprint._propose_windows([(-171.3, 246.1), (0.1213, 0.1988)])
    assert windows == [(-180, 250), (0.121, 0.199)]
    assert windows == volume_fingerprint._propose_windows([(-174.9, 249.2), (0.1217, 0.1984)])


def test_volumes_are_read_once(tmp_path: Path) -> None:
    source = make_source(tmp_path, [ramp()], [LABELS])
    first = of(source)
    assert of(dataclasses.replace(source, examples=[])) == first


# Normalisation


def test_a_window_by_hand() -> None:
    image = np.array([-1000, -100, 0, 100, 400.0]).reshape(5, 1, 1, 1)
    normalized = CT.normalize(image)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized.ravel(), [0, 0, 1 / 3, 2 / 3, 1], rtol=1e-6)
    assert image[0] == -1000  # the image is left alone


def test_z_scores_by_hand() -> None:
    # The blank background of 0 does not count: mean 4, deviation 2, and mean -1, deviation 1.
    image = np.array([[0, -5], [2, -2], [6, 0.0]]).reshape(3, 1, 1, 2)
    normalized = MR.normalize(image)
    np.testing.assert_allclose(
        normalized.reshape(3, 2), [[-2, -4], [-1, -1], [1, 1]], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_z_scores_do_not_depend_on_the_scanners_scale(scale) -> None:
    image = np.random.default_rng(0).uniform(0, 1, (4, 4, 4, 2))
    np.testing.assert_allclose(MR.normalize(scale * image), MR.normalize(image), atol=1e-5)


def test_an_image_of_one_value_becomes_0() -> None:
    np.testing.assert_array_equal(MR.normalize(np.full((2, 2, 2, 2), 7.0)), 0)


@pytest.mark.parametrize("far", [-1e4, 1e30])
def test_what_lies_far_from_the_mean_is_bounded(far: float) -> None:
    image = np.random.default_rng(0).uniform(0, 3e-3, (40, 30, 20, 2)).astype("float32")
    image[:2, 0, 0] = far
    normalized = MR.normalize(image)
    assert np.isfinite(normalized.astype("float16")).all()
    assert np.abs(normalized).max() == pytest.approx(100, rel=1e-3)
    if far < 0:  # the others are what they are without it
        alone = MR.normalize(image[2:])
        np.testing.assert_allclose(normalized[2:], alone, atol=0.05)


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 2, 2, 2)])
def test_other_channels_are_refused(shape) -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    with pytest.raises(ValueError, match=r"\(x, y, z, 1\), with the channels CT. Received: shape"):
        CT.normalize(np.zeros(shape))
    with pytest.raises(ValueError, match=r"\(x, y, z, 1\), with the channels CT. Received: shape"):
        CT.deviations(np.zeros(shape), grid)


def test_one_of_several_channels_is_told_how_to_bring_the_others() -> None:
    message = "T1, T2; of several files, one a channel, give all, named NAME_0000, NAME_0001 .* or "
    message += "stack them along a fourth axis. Received: shape"
    with pytest.raises(ValueError, match=message):
        MR.normalize(np.zeros((2, 2, 2, 1)))


# Ranges and deviations


CT = VolumeFingerprint(
    num_volumes=20,
    channels=("CT",),
    labels=("background", "organ"),
    spacing=(1.0, 1.0, 2.0),
    normalization="window",
    intensity_windows=((-100.0, 200.0),),
    ranges={
        **{f"spacing along {axis} in mm": (1.0, 2.0) for axis in "xyz"},
        **{f"size along {axis} in mm": (30.0, 60.0) for axis in "xyz"},
        "CT percentile 5": (-90.0, -80.0),
        "CT percentile 50": (0.0, 50.0),
        "CT percentile 95": (100.0, 150.0),
    },
)
MR = dataclasses.replace(
    CT,
    channels=("T1", "T2"),
    normalization="z_score",
    intensity_windows=None,
    ranges={},
)


def test_ranges_by_hand(tmp_path: Path) -> None:
    source = make_source(tmp_path, [ramp(), ramp(-1)], [LABELS] * 2, affine=np.diag([1, 2, 3, 1]))
    ranges = of(source, intensity_window=(6.0, 16.0)).ranges
    assert ranges["spacing along z in mm"] == (3, 3)
    assert ranges["size along y in mm"] == (6, 6)
    # The first volume's voxels above 6: 7 … 16, then 16 ten times; the second's are all clipped to
    # 6. The middle 98 % lies a hundredth of the way in.
    low, high = ranges["CT percentile 5"]
    assert (low, high) == pytest.approx((6 + 0.01 * 1.95, 6 + 0.99 * 1.95))
    assert ranges["CT percentile 95"] == pytest.approx((6.1, 15.9))


def scan(
    shape=(40, 40, 40), spacing=(1.0, 1.0, 1.0), values=(-85, 25, 120)
) -> tuple[np.ndarray, Grid]:
    """A scan with air round it and a third of the rest of each value."""
    image = np.full((*shape, 1), -1000.0)
    inside = image[2:-2, 2:-2, 2:-2, 0]
    inside[:] = np.resize(np.repeat(values, 7), inside.shape)
    return image, Grid(shape, np.diag([*spacing, 1]))


def test_a_scan_like_the_training_volumes_is_not_flagged() -> None:
    assert CT.deviations(*scan()) == []
    assert CT.deviations(*scan(spacing=(0.7, 1, 2.2))) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"shape": (40, 40, 12), "spacing": (1, 1, 3.5)},
            "voxels are 3.5 mm apart along z, in training 1 to 2",
        ),
        ({"spacing": (0.6, 1, 1)}, "voxels are 0.6 mm apart along x, in training 1 to 2"),
        ({"shape": (40, 40, 100)}, "the scan covers 100 mm along z, in training 30 to 60"),
        ({"shape": (40, 19, 40)}, "the scan covers 19 mm along y, in training 30 to 60"),
        ({"values": (1, 25, 120)}, "dark CT values (5th percentile) are 1, in training -90 to -80"),
        (
            {"values": (-85, 25, 50)},
            "bright CT values (95th percentile) are 50, in training 100 to 150",
        ),
    ],
)
def test_what_lies_outside_is_flagged(options, sentence) -> None:
    image, grid = scan(**options)
    assert CT.deviations(image, grid) == [sentence]


def test_z_scores_are_flagged_in_deviations_from_the_mean() -> None:
    ranges = CT.ranges | {
        f"{name} percentile {percentile}": (-3.0, 3.0)
        for name in MR.channels
        for percentile in (5, 50, 95)
    }
    del ranges["CT percentile 5"], ranges["CT percentile 50"], ranges["CT percentile 95"]
    trained = dataclasses.replace(MR, ranges=ranges | {"T2 percentile 50": (2.0, 2.0)})
    image, grid = scan()
    (sentence,) = trained.deviations(image.repeat(2, axis=-1), grid)
    assert re.fullmatch(
        r"middle T2 values \(50th percentile\) are -?[\d.]+ standard deviations from the mean, "
        "in training 2",
        sentence,
    )


@pytest.mark.parametrize("scale", [lambda image: image + 1024, lambda image: image / 1000 + 1])
def test_other_units_than_hounsfields_are_flagged(scale) -> None:
    image, grid = scan()
    assert any("CT values (5th" in sentence for sentence in CT.deviations(scale(image), grid))


# In words, and as a file


def test_in_words(tmp_path: Path) -> None:
    source = make_source(tmp_path, [ramp()], [LABELS], channels=["MRI"])
    assert of(source).describe() == (
        "Volumes are resampled to 1 × 1 × 1 mm, and each is brought to mean 0 and standard "
        "deviation 1. That is proposed from 1 training volumes of MRI; set data.spacing, "
        "data.normalization to choose otherwise."
    )
    assert CT.describe() == (
        "Volumes are resampled to 1 × 1 × 2 mm, and CT from -100 to 200 is scaled to 0 to 1."
    )


def test_as_a_table_that_tells_where_values_come_from(tmp_path: Path) -> None:
    source = make_source(tmp_path, [ramp(), ramp()], [LABELS] * 2, affine=np.diag([1, 1.5, 2, 1]))
    assert of(source).tabulate().splitlines() == [
        "| field                 | value            | taken from                             |",
        "| --------------------- | ---------------- | -------------------------------------- |",
        "| data.spacing          | 1 × 1.5 × 2 mm   | the spacings of 2 training volumes     |",
        "| data.normalization    | window           | the channels, CT                       |",
        "| data.intensity_window | CT from 16 to 26 | the middle 99 % of the labelled voxels |",
    ]
    told = of(source, spacing=(1, 2, 3), normalization="z_score").tabulate().splitlines()
    assert told[2:] == [
        "| data.spacing       | 1 × 2 × 3 mm                       | the recipe |",
        "| data.normalization | z_score, to mean 0 and deviation 1 | the recipe |",
    ]


@pytest.mark.parametrize("channels", [["CT"], ["MRI"], ["T1", "T1"]])
def test_round_trip(tmp_path: Path, channels) -> None:
    image = np.stack([ramp()] * len(channels), axis=-1)
    fingerprint = of(make_source(tmp_path, [image], [LABELS], channels=channels))
    fingerprint.write(tmp_path)
    assert VolumeFingerprint.read(tmp_path) == fingerprint
    assert fingerprint.labels == ("background", "organ", "tumour")
    ranges = read_json(tmp_path, "fingerprint.json")["ranges"]
    assert ranges["size along x in mm"] == {"low": 3, "high": 3, "unit": "mm"}


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing": None},
        {"spacing": [1, 1]},
        {"spacing": [1, 1, 0]},
        {"spacing": [1, 1, float("nan")]},
        {"normalization": "mean"},
        {"normalization": "z_score"},
        {"intensity_windows": None},
        {"intensity_windows": [[1, 0]]},
        {"intensity_windows": [[0, 1, 2]]},
        {"intensity_windows": [[0, 1], [0, 1]]},
        {"channels": 1},
        {"labels": None},
        {"channels": []},
        {"ranges": {}},
    ],
)
def test_damaged(changes, tmp_path: Path) -> None:
    CT.write(tmp_path)
    assert VolumeFingerprint.read(tmp_path) == CT
    write_json(tmp_path / "fingerprint.json", read_json(tmp_path, "fingerprint.json") | changes)
    with pytest.raises(ValueError, match=r"fingerprint.json is damaged: "):
        VolumeFingerprint.read(tmp_path)


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        VolumeFingerprint.read(tmp_path)
