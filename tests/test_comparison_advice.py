"""Which network to take: never more than the numbers carry."""

import dataclasses

import pytest

from keras_lgmsnet.comparison import advice
from keras_lgmsnet.comparison.advice import Difference, advise, which_to_take
from keras_lgmsnet.comparison.standings import Standing
from tests.helpers.comparisons import comparison

pytestmark = pytest.mark.no_backend

M, G = 10**6, 10**9


def answers(found, differences, **changes) -> dict[str, str]:
    arguments = {"score": "IoU", "held_out": "195 validation images of busi"} | changes
    return {each.question: each.answer for each in which_to_take(found, differences, **arguments)}


def test_a_clear_winner() -> None:
    found = [
        Standing("big", (0.70, 0.71, 0.72, 0.71, 0.70), 30 * M, 10 * G),
        Standing("small", (0.60, 0.61, 0.62, 0.61, 0.60), M, G),
    ]
    told = answers(found, {"small": Difference(-0.1, (-0.12, -0.08), 0.001)})
    assert told["Highest score"].startswith("big, IoU 70.80 % (± 0.84 over 5 splits), 30.00 M")
    assert "None but big itself" in told["Smaller networks"]
    assert "score distinguishably lower: small (1.00 M parameters" in told["Smaller networks"]
    assert "-10.00 points, 95 % interval -12.00 to -8.00" in told["Smaller networks"]
    assert "ahead of the second, small, in 5" in told["How sure that is"]
    assert "cannot tell" not in told["How sure that is"]
    assert "Not distinguishably lower" not in told
    assert "Not considered" not in told


def test_a_tie_names_the_small_one_and_what_remains_possible() -> None:
    found = [
        Standing("big", (0.70, 0.71), 30 * M, 10 * G),
        Standing("small", (0.71, 0.69), M, G),
        Standing("lean", (0.69, 0.70), 2 * M, G // 2),
        Standing("poor", (0.3, 0.3), M // 2, G // 4),
    ]
    told = answers(
        found,
        {
            "small": Difference(-0.005, (-0.02, 0.01), 0.6),
            "lean": Difference(-0.01, (-0.03, 0.01), 0.3),
            "poor": Difference(-0.4, (-0.5, -0.3), 0.0),
        },
    )
    assert told["Not distinguishably lower"].startswith("small and lean:")
    small, lean = told["Smaller networks"].split("By fewest multiply-adds: ")
    assert small.startswith("By fewest parameters: small (1.00 M parameters")
    assert "up to 2.00 points lower remains possible" in small
    assert "not to say that it is as good" in small
    assert lean.startswith("lean (2.00 M parameters")
    assert "the splits cannot tell which of the two is better" in told["How sure that is"]
    assert "2 splits is itself uncertain" in told["How sure that is"]


def test_the_smallest_may_be_the_best() -> None:
    found = [Standing("small", (0.7,), M, G), Standing("big", (0.6,), 2 * M, 2 * G)]
    told = answers(found, {"big": Difference(-0.1, (-0.2, -0.05), 0.01)})
    assert "it is also the one of fewest parameters" in told["Smaller networks"]


def test_one_split_tells_nothing_of_another() -> None:
    found = [Standing("big", (0.7,), 3 * M, 3 * G), Standing("small", (0.6,), M, G)]
    told = answers(found, {"small": Difference(-0.1, (-0.2, -0.05), 0.001)})
    assert "one split" in told["How sure that is"]
    assert "not what another split or another training would give" in told["How sure that is"]
    assert "±" not in told["Highest score"]


def test_nothing_is_said_of_differences_that_are_not_known() -> None:
    found = [Standing("big", (0.7,), 3 * M, 3 * G), Standing("small", (0.69,), M, G)]
    told = answers(found, None)
    assert "Not distinguishably lower" not in told
    assert "1.00 points of IoU less" in told["Smaller networks"]
    assert "was not tested" in told["Smaller networks"]
    assert "distinguishably" not in " ".join(told.values())
    told = answers(found[:1], None)
    assert told["Smaller networks"] == "None was compared with it on the same splits."


def test_a_network_without_a_test_is_neither_lower_nor_as_good() -> None:
    found = [Standing("big", (0.7,), 3 * M, 3 * G), Standing("small", (0.69,), M, G)]
    told = answers(found, {"small": Difference(-0.01, None, None)})
    assert "Of small there is no test" in told["Smaller networks"]
    assert "Not distinguishably lower" not in told


@pytest.mark.parametrize(
    ("difference", "lower", "undecided"),
    [
        (Difference(-0.1, (-0.2, -0.1), 0.01), True, False),
        (Difference(-0.1, (-0.2, 0.1), 0.01), True, False),
        (Difference(-0.1, (-0.2, -0.1), 0.5), False, True),  # the interval is not corrected
        (Difference(-0.1, (-0.2, 0.1), 0.05), False, True),
        (Difference(0.1, (-0.1, 0.2), 0.01), False, True),  # it is higher, if anything
        (Difference(-0.1, None, None), False, False),
    ],
)
def test_what_counts_as_lower(difference: Difference, lower: bool, undecided: bool) -> None:
    assert (difference.is_lower, difference.is_open) == (lower, undecided)


def test_the_fastest_of_all_and_of_those_as_good() -> None:
    found = [
        Standing("big", (0.70,), 30 * M, 10 * G, 10.0),
        Standing("small", (0.69,), M, G, 40.0),
        Standing("poor", (0.3,), M, G, 90.0),
        Standing("untimed", (0.69,), M, G),
    ]
    differences = {
        "small": Difference(-0.01, (-0.03, 0.01), 0.3),
        "untimed": Difference(-0.01, (-0.03, 0.01), 0.3),
        "poor": Difference(-0.4, (-0.5, -0.3), 0.001),
    }
    told = answers(found, differences)["Fastest"]
    assert told == (
        "poor, 90 a second; big: 10. It scores distinguishably lower than big. "
        "Of those that do not, small: 40 a second."
    )
    assert "Fastest" not in answers(found[3:], None)


def test_networks_of_fewer_splits_are_not_considered() -> None:
    found = [
        Standing("lucky", (0.9,), M, G),
        Standing("one", (0.7, 0.6), M, G),
        Standing("two", (0.6, 0.5), 2 * M, 2 * G),
    ]
    told = answers(found, {"two": Difference(-0.1, (-0.2, -0.1), 0.01)})
    assert told["Highest score"].startswith("one, ")
    assert told["Not considered"].startswith("lucky: ")


def test_equal_scores_are_told() -> None:
    found = [Standing("one", (0.7,), M, G), Standing("two", (0.7,), 2 * M, G)]
    assert "two has the same score" in answers(found, None)["Highest score"]


def test_the_comparisons_differences_are_used_where_they_are_from_the_best() -> None:
    found = comparison(
        {"small": [0.6, 0.6], "big": [0.7, 0.7]}, differences={"small": (-0.1, 0.001)}
    )
    told = {each.question: each.answer for each in advise(found)["busi"]}
    assert "small (1.00 M parameters, 0.10 G multiply-adds" in told["Smaller networks"]
    assert "3 validation images of busi" in told["How sure that is"]


def test_with_another_reference_the_cases_are_compared_anew(monkeypatch) -> None:
    found = comparison(
        {"small": [0.6, 0.6], "big": [0.7, 0.7]}, differences={"small": (-0.1, 0.001)}
    )
    asked = []

    def compare_with(contestants, reference):
        asked.append((contestants, reference))
        return found.differences, []

    monkeypatch.setattr(advice, "compare_with", compare_with)
    other = dataclasses.replace(found, reference=None, differences=[])
    assert advise(other) == advise(found)
    assert asked == [(found.contestants, "big")]
