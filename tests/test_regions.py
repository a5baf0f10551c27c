"""Scores of volumes: by hand, with anisotropic voxels, and where there is nothing to score."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from keras_lgmsnet.geometry import Grid
from keras_lgmsnet.scoring.regions import (
    MEAN_SCORES,
    SCORES,
    list_regions,
    mean_dice,
    mean_over_regions,
    score_case,
    summarize,
)
from keras_lgmsnet.scoring.significance import mean_interval

pytestmark = pytest.mark.no_backend

SHAPE = (9, 9, 9)
CUBE = slice(3, 6)
REGIONS = {"organ": (1,), "tumour": (2,)}


def labels(*parts: tuple[tuple, int], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Labels of 0 but for a part, an index, of each label given."""
    result = np.zeros(shape, "uint8")
    for index, label in parts:
        result[index] = label
    return result


def grid(*spacing: float, shape: tuple[int, ...] = SHAPE) -> Grid:
    """A grid along the patient's axes."""
    return Grid(shape, np.diag([*spacing, 1]))


def test_a_cube_in_a_larger_one() -> None:
    """The surface of 3³ has 26 voxels; of the 98 of 5³, sides differ from edges and corners."""
    mask = labels(((CUBE, CUBE, CUBE), 1))
    prediction = labels(((slice(2, 7),) * 3, 1))
    scores = score_case(mask, prediction, {"organ": (1,)}, grid(2, 1, 1), tolerance=1.5)["organ"]
    # To the small cube: 36 at 1, 12 at √2, 18 at 2, 24 at √5 and 8 corners at √6, above 95 %.
    # To the large one: 24 at 1, and the middles of the two sides across x at 2.
    assert scores == pytest.approx(
        {
            "dice": 2 * 27 / (27 + 125),
            "iou": 27 / 125,
            "hd95": math.sqrt(6),
            "nsd": (36 + 12 + 24) / (98 + 26),
            "volume_difference": (125 - 27) * 2 / 1000,
            "volume": 0.054,
            "predicted_volume": 0.25,
        },
        rel=1e-12,
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_axis_has_its_spacing(axis) -> None:
    """Voxels 0 … 3 along an axis of 0.7 mm against voxel 0: at 0, 0.7, 1.4 and 2.1 mm."""
    line, spacing = [0, 0, 0], [2.0, 2.0, 2.0]
    line[axis], spacing[axis] = slice(0, 4), 0.7
    mask, prediction = labels((tuple(line), 1)), labels(((0, 0, 0), 1))
    scores = score_case(mask, prediction, {"organ": (1,)}, grid(*spacing), tolerance=1.4)["organ"]
    assert scores == pytest.approx(
        {
            "dice": 2 / 5,
            "iou": 1 / 4,
            "hd95": 1.4 + 0.85 * 0.7,  # linear between the order statistics: 0.95 · 3 = 2.85
            "nsd": (3 + 1) / (4 + 1),  # the tolerance is within
            "volume_difference": 3 * 0.0028,
            "volume": 4 * 0.0028,
            "predicted_volume": 0.0028,
        },
        rel=1e-12,
    )


def test_a_tilted_gantry_leaves_less_of_a_voxel_than_its_sides_multiply_to() -> None:
    """Planes 3 mm apart, each moved by 4 mm along y: a step of 5 mm, and 2 · 1 · 3 mm³."""
    tilted = Grid(SHAPE, np.array([[2, 0, 0, 0], [0, 1, 4, 0], [0, 0, 3, 0], [0, 0, 0, 1]]))
    mask, prediction = labels(((4, 4, 4), 1)), labels(((4, 4, slice(4, 6)), 1))
    scores = score_case(mask, prediction, {"organ": (1,)}, tilted)["organ"]
    assert scores["hd95"] == pytest.approx(0.95 * 5)  # between order statistics, 0 and 5
    for name, volume in (("volume", 6), ("predicted_volume", 12), ("volume_difference", 6)):
        assert scores[name] == pytest.approx(volume / 1000)


def test_a_lesion_of_one_voxel() -> None:
    mask, prediction = labels(((4, 4, 4), 2)), labels(((4, 5, 5), 2))
    scores = score_case(mask, prediction, REGIONS, grid(1, 3, 4))["tumour"]
    assert [scores[name] for name in SCORES] == [0, 0, 5, 0, 0]
    assert score_case(mask, mask, REGIONS, grid(1, 3, 4))["tumour"]["hd95"] == 0
    assert score_case(mask, prediction, REGIONS, grid(1, 3, 4), tolerance=5)["tumour"]["nsd"] == 1


def test_a_miss_and_a_false_alarm_are_the_worst_and_absence_is_not_scored() -> None:
    one, none = labels(((1, 1, 1), 1)), labels()
    worst = {"dice": 0, "iou": 0, "hd95": 9 * math.sqrt(1 + 4 + 9), "nsd": 0}
    missed = score_case(one, none, REGIONS, grid(1, 2, 3))
    assert missed["organ"] == pytest.approx(
        {**worst, "volume_difference": 0.006, "volume": 0.006, "predicted_volume": 0}
    )
    false_alarm = score_case(none, one, REGIONS, grid(1, 2, 3))
    assert false_alarm["organ"] == pytest.approx(
        {**worst, "volume_difference": 0.006, "volume": 0, "predicted_volume": 0.006}
    )
    absent = dict.fromkeys(SCORES) | {"volume": 0, "predicted_volume": 0}
    assert missed["tumour"] == false_alarm["tumour"] == absent
    assert mean_over_regions(missed) == pytest.approx(worst)
    assert mean_over_regions(score_case(none, none, REGIONS, grid(1, 2, 3))) == dict.fromkeys(
        MEAN_SCORES
    )


def test_a_region_is_the_union_of_its_labels() -> None:
    kidneys = list_regions("kits23/1.0.0", {0: "background", 1: "kidney", 2: "tumour", 3: "cyst"})
    mask = labels(((0, 0, 0), 1), ((0, 0, 1), 2), ((0, 0, 2), 3))
    prediction = labels(((0, 0, 0), 1), ((0, 0, 1), 3), ((0, 0, 2), 3))
    scores = score_case(mask, prediction, kidneys, grid(1, 1, 1))
    assert {name: of["dice"] for name, of in scores.items()} == {
        "kidney and masses": 1,
        "masses": 1,
        "tumour": 0,
    }


def test_other_datasets_are_scored_by_label() -> None:
    names = {0: "background", 1: "spleen", 2: "right kidney"}
    assert list_regions("btcv/1.0.0", names) == {"spleen": (1,), "right kidney": (2,)}


@st.composite
def _cases(draw) -> tuple[np.ndarray, np.ndarray, Grid]:
    sides = draw(st.tuples(*[st.integers(1, 4)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spacing = draw(st.tuples(*[st.floats(0.3, 8)] * 3))
    mask, prediction = (
        rng.choice(3, sides, p=draw(st.sampled_from([(0.8, 0.1, 0.1), (0.4, 0.3, 0.3)])))
        for _ in range(2)
    )
    return mask, prediction, grid(*spacing, shape=sides)


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(_cases())
def test_missing_a_region_never_helps(case) -> None:
    mask, prediction, grid = case
    hypothesis.assume(np.any(mask == 1))
    without = np.where(prediction == 1, 0, prediction)
    found, missed = (score_case(mask, of, REGIONS, grid) for of in (prediction, without))
    for name, sign in (("dice", 1), ("iou", 1), ("nsd", 1), ("hd95", -1)):
        assert sign * missed["organ"][name] <= sign * found["organ"][name]
        assert missed["tumour"][name] == found["tumour"][name]
        means = [mean_over_regions(scores)[name] for scores in (found, missed)]
        assert sign * means[1] <= sign * means[0] + 1e-12


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(_cases())
def test_missing_what_was_right_never_lowers_the_mean_volume_difference(case) -> None:
    mask, prediction, grid = case
    cases = [
        [score_case(mask, of, REGIONS, grid) for of in (prediction, last)]
        for last in (mask, np.zeros_like(mask))
    ]
    right, missed = (summarize(pair, ["a", "b"])["regions"] for pair in cases)
    for name in REGIONS:
        means = [of[name]["scores"]["volume_difference"]["mean"] for of in (right, missed)]
        assert means[0] is means[1] is None or means[0] <= means[1]


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(_cases())
def test_imagining_a_region_never_helps(case) -> None:
    mask, prediction, grid = case
    mask[mask == 1] = prediction[prediction == 1] = 0
    hypothesis.assume(not prediction.all())
    imagined = prediction.copy()
    imagined[tuple(np.argwhere(prediction == 0)[0])] = 1
    before, after = (
        mean_over_regions(score_case(mask, of, REGIONS, grid)) for of in (prediction, imagined)
    )
    for name, sign in (("dice", 1), ("iou", 1), ("nsd", 1), ("hd95", -1)):
        assert before[name] is None or sign * after[name] <= sign * before[name] + 1e-12


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(_cases())
def test_scores_are_shares_that_agree_and_do_not_depend_on_the_side(case) -> None:
    mask, prediction, grid = case
    scores, reverse = (
        score_case(*pair, REGIONS, grid) for pair in ((mask, prediction), (prediction, mask))
    )
    for name, of in scores.items():
        if of["dice"] is None:
            continue
        assert of["iou"] == pytest.approx(of["dice"] / (2 - of["dice"]))
        assert 0 <= of["nsd"] <= 1
        for score in MEAN_SCORES:
            assert reverse[name][score] == of[score]
        assert reverse[name]["volume_difference"] == of["volume_difference"]


def _case(organ: float | None, tumour: float | None, *, volumes=(1.0, 1.0)) -> dict:
    return {
        name: dict.fromkeys(SCORES, value) | {"volume": volume, "predicted_volume": value or 0}
        for name, value, volume in zip(REGIONS, (organ, tumour), volumes, strict=True)
    }


def test_means_over_cases_and_regions() -> None:
    cases = [
        _case(1.0, 0.5),
        _case(0.5, None, volumes=(1, 0)),  # no tumour, none predicted
        _case(0.0, 0.0),  # both missed
        _case(0.5, 0.1, volumes=(1, 0)),  # a tumour where there is none
    ]
    patients = ["a", "b", "c", "c"]
    summary = summarize(cases, patients)
    organ, tumour = summary["regions"].values()
    counts = ("present", "missed", "absent", "false_alarms")
    assert [organ[name] for name in counts] == [4, 1, 0, 0]
    assert [tumour[name] for name in counts] == [2, 1, 2, 1]
    assert organ["scores"].keys() == tumour["scores"].keys() == SCORES.keys()
    assert organ["scores"]["dice"]["mean"] == 0.5
    assert organ["scores"]["dice"]["interval"] == mean_interval([1, 0.5, 0, 0.5], patients)
    assert tumour["scores"]["hd95"]["mean"] == pytest.approx(0.2)
    assert tumour["scores"]["hd95"]["interval"] == mean_interval([0.5, 0, 0.1], ["a", "c", "c"])
    # Of the regions' means, not of the cases': (0.5 + 0.2) / 2.
    assert summary["mean"].keys() == set(MEAN_SCORES)
    assert summary["mean"]["nsd"]["mean"] == pytest.approx(0.35)
    low, high = summary["mean"]["nsd"]["interval"]
    assert 0 <= low < 0.35 < high <= 0.75


def test_mean_dice_is_that_of_the_summary() -> None:
    masks = [labels((CUBE, 1), ((0, 0), 2)), labels((CUBE, 1)), labels()]
    predictions = [labels((slice(2, 5), 1)), labels((CUBE, 1)), labels()]
    cases = [
        score_case(*pair, REGIONS, grid(1, 1, 1)) for pair in zip(masks, predictions, strict=True)
    ]
    mean = mean_dice(zip(masks, predictions, strict=True), REGIONS)
    assert mean == ((2 / 3 + 1) / 2 + 0) / 2  # the tumour is missed where it is
    assert mean == summarize(cases, ["a", "b", "c"])["mean"]["dice"]["mean"]
    assert mean_dice([(labels(), labels())], REGIONS) is None


def test_a_region_without_any_score_is_left_out_of_the_mean() -> None:
    cases = [_case(0.25, None, volumes=(1, 0)), _case(0.75, None, volumes=(1, 0))]
    summary = summarize(cases, ["a", "b"])
    assert summary["regions"]["tumour"]["scores"]["dice"] == {"mean": None, "interval": None}
    assert summary["mean"]["dice"]["mean"] == 0.5
    empty = summarize([_case(None, None, volumes=(0, 0))], ["a"])
    assert empty["mean"]["dice"] == {"mean": None, "interval": None}


@pytest.mark.parametrize(
    "shapes", [((2, 2, 2), (2, 2, 3)), ((2, 2), (2, 2)), ((2, 2, 3), (2, 2, 3))]
)
def test_shapes_must_be_those_of_the_grid(shapes) -> None:
    mask, prediction = (np.zeros(shape, "uint8") for shape in shapes)
    with pytest.raises(ValueError, match=r"\(2, 2, 2\). Received: .*2, 2"):
        score_case(mask, prediction, REGIONS, grid(1, 1, 1, shape=(2, 2, 2)))


def test_tolerance_must_be_in_range() -> None:
    with pytest.raises(ValueError, match="tolerance"):
        score_case(labels(), labels(), REGIONS, grid(1, 1, 1), tolerance=-1)
