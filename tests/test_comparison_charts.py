"""Charts of comparisons: labels that cover nothing, and the numbers behind the figures."""

import math

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib.figure import Figure

from keras_lgmsnet.comparison import charts
from keras_lgmsnet.comparison.changes import Change
from keras_lgmsnet.comparison.charts import colors_of, draw_charts
from keras_lgmsnet.comparison.contestants import Contestant
from keras_lgmsnet.comparison.placement import Box, place_labels
from keras_lgmsnet.comparison.redundancy import redundancy_chart
from keras_lgmsnet.figures.redundancy import channel_redundancy
from tests.helpers.comparisons import VOLUME_RECIPE, comparison, scored_run

pytestmark = pytest.mark.no_backend

WITHIN = Box(0, 0, 400, 220)


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def assert_apart(boxes, points, radii, within, obstacles=()) -> None:
    for number, box in enumerate(boxes):
        assert within.left <= box.left < box.right <= within.right + 1e-6
        assert within.bottom <= box.bottom < box.top <= within.top + 1e-6
        for other in [*boxes[number + 1 :], *obstacles]:
            assert (
                box.right <= other.left
                or other.right <= box.left
                or box.top <= other.bottom
                or other.top <= box.bottom
            )
        for point, radius in zip(points, radii, strict=True):
            nearest = np.clip(point, box[:2], box[2:])
            assert math.dist(nearest, point) >= radius


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([5.0, 40.0, 1000.0]))
def test_labels_never_overlap_and_stay_inside(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    middle = rng.uniform((30, 30), (370, 190))
    points = np.clip(middle + rng.normal(0, spread, (20, 2)), (15, 15), (385, 205))
    radii = rng.uniform(2, 12, 20)
    sizes = np.stack([rng.uniform(25, 80, 20), np.full(20, 9.0)], axis=1)
    obstacles = [Box(x - 1, y - 20, x + 1, y + 20) for x, y in points[:5]]
    boxes = place_labels(points, radii, sizes, WITHIN, obstacles)
    assert boxes is not None
    assert_apart(boxes, points, radii, WITHIN, obstacles)
    assert boxes == place_labels(points, radii, sizes, WITHIN, obstacles)


def test_a_lonely_label_stands_beside_its_bubble() -> None:
    (box,) = place_labels(np.array([[100.0, 100.0]]), np.array([8.0]), np.array([[40, 9]]), WITHIN)
    assert box == pytest.approx((110, 95.5, 150, 104.5))


def test_where_there_is_no_room_that_is_said() -> None:
    point, radius = np.array([[50.0, 50.0]]), np.array([4.0])
    assert place_labels(point, radius, np.array([[500.0, 9.0]]), WITHIN) is None
    assert place_labels(point, radius, np.array([[98.0, 98.0]]), Box(0, 0, 100, 100)) is None


def test_charts_tell_means_and_deviations() -> None:
    found = comparison({"one": [0.5, 0.7], "$two$": [0.4, 0.5]}, speeds={"one": 5.0, "$two$": 9.0})
    drawn = draw_charts(found)
    assert list(drawn) == ["score_by_parameters", "score_by_speed"]
    figure, caption, rows = drawn["score_by_parameters"]
    assert [row["network"] for row in rows] == ["one", "$two$"]
    assert rows[0]["mean"] == pytest.approx(0.6)
    assert rows[0]["standard_deviation"] == pytest.approx(math.sqrt(0.02))
    assert {"one", r"\$two\$", "IoU, %", "Parameters, million", "Multiply-adds"} <= set(
        texts(figure)
    )
    assert "mean over 2 splits" in caption
    assert "validation images of busi" in caption
    speed = drawn["score_by_speed"]
    assert [row["speed"] for row in speed.rows] == [5, 9]
    assert "Images a second" in texts(speed.figure)


def test_one_split_has_no_deviation_and_says_so() -> None:
    drawn = draw_charts(comparison({"one": [0.5], "two": [0.4]}))
    assert list(drawn) == ["score_by_parameters"]
    assert [row["standard_deviation"] for row in drawn["score_by_parameters"].rows] == [None, None]
    assert "Of one split" in drawn["score_by_parameters"].caption


def test_what_has_no_score_is_not_drawn() -> None:
    (drawn,) = draw_charts(comparison({"one": [0.5, 0.6], "two": [None, 0.4]})).values()
    assert [row["network"] for row in drawn.rows] == ["one"]
    assert draw_charts(comparison({"one": [None]})) == {}


def test_labels_of_many_networks_at_one_place_get_a_higher_chart() -> None:
    scores = {f"a network with a name of many words, {number}": [0.5] for number in range(20)}
    sizes = dict.fromkeys(scores, (10**6, 10**9))
    figure = draw_charts(comparison(scores, sizes=sizes))["score_by_parameters"].figure
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 20
    frame = axes.get_window_extent()
    for number, box in enumerate(boxes):
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])


def test_a_label_has_one_colour_in_all_charts() -> None:
    labels = [f"net {number}" for number in range(9)]
    found = comparison({label: [0.5] for label in labels})
    colors = colors_of(found)
    assert list(colors) == labels
    assert len(set(colors.values())) == 7
    features = [{"a": np.random.default_rng(0).normal(size=(8, 3))}]
    measured = {label: channel_redundancy(features) for label in labels} | {"net 0": {}}
    figure, caption, rows = redundancy_chart(measured, dict.fromkeys(labels, "U-Net"), "Of here.")
    first = figure.axes[0].patches[0]
    assert matplotlib.colors.to_hex(first.get_facecolor()) == colors["net 1"]
    assert [row["run"] for row in rows] == labels[1:]
    assert caption.endswith("Of here.")


def test_changes_are_of_the_splits_in_common() -> None:
    found = comparison(
        {"base": [0.5, 0.6, 0.9], "changed": [0.55, 0.54]},
        changes=[Change("changed", "base", "kernel_sizes", (3, 3), (3, 5))],
    )
    figure, _, (row,) = draw_charts(found)["changes"]
    assert row["splits"] == 2
    assert row["base_mean"] == pytest.approx(0.55)
    assert row["relative"] == pytest.approx((0.545 - 0.55) / 0.55)
    assert row["relative_standard_deviation"] == pytest.approx(0.2 / math.sqrt(2))
    assert any("kernel_sizes: 3–5 → 3–3" in text for text in texts(figure))


def test_changes_without_a_split_in_common_are_left_out() -> None:
    found = comparison(
        {"base": [0.5], "changed": [None]},
        changes=[Change("changed", "base", "ratio", 1, 0)],
    )
    assert "changes" not in draw_charts(found)


def test_each_dataset_has_its_charts_and_volumes_their_score() -> None:
    runs = [
        scored_run(0.6, dataset=dataset, recipe=VOLUME_RECIPE)
        for dataset in ("btcv/1.0.0", "acdc/1.0.0")
    ]
    found = comparison({"one": [0.5]}, contestants=[Contestant("one", tuple(runs))])
    drawn = draw_charts(found)
    assert list(drawn) == ["score_by_parameters_btcv", "score_by_parameters_acdc"]
    for figure, _, rows in drawn.values():
        assert rows[0]["score"] == "mean Dice"
        assert "mean Dice, %" in texts(figure)


@pytest.mark.parametrize(
    ("low", "high", "most"), [(0.4, 4, 9), (1e8, 1e9, 3), (2.1, 2.4, 9), (1e-3, 1e4, 9), (5, 5, 3)]
)
def test_ticks_are_few_and_round(low: float, high: float, most: int) -> None:
    numbers = charts._round_numbers(low, high, most)
    assert 1 <= len(numbers) <= most
    assert all(0.9 * low <= number <= 1.1 * high for number in numbers)
