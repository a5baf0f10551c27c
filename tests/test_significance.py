"""Intervals and tests, against SciPy and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from keras_lgmsnet.scoring.significance import (
    PairedComparison,
    describe_comparison,
    holm,
    mean_interval,
    paired_comparison,
)

pytestmark = pytest.mark.no_backend


def test_interval_is_the_same_each_time_and_changes_with_the_seed() -> None:
    values = np.random.default_rng(0).random(50)
    assert mean_interval(values) == mean_interval(list(values))
    assert mean_interval(values) != mean_interval(values, seed=1)


def test_interval_lies_where_theory_puts_it() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    half = 1.96 * values.std() / np.sqrt(400)
    expected = (values.mean() - half, values.mean() + half)
    np.testing.assert_allclose(mean_interval(values), expected, atol=0.02)
    low, high = mean_interval(values, confidence=0.5)
    np.testing.assert_allclose(high - low, 2 * 0.6745 * half / 1.96, rtol=0.05)


def test_interval_of_equal_values_is_a_point_and_of_one_value_unknown() -> None:
    assert mean_interval([0.25] * 7) == (0.25, 0.25)
    assert mean_interval([0.25]) is None


def test_interval_needs_little_memory_however_many_values(monkeypatch) -> None:
    values = np.random.default_rng(0).random(30)
    expected = mean_interval(values)
    monkeypatch.setattr("keras_lgmsnet.scoring.significance._VALUES_IN_MEMORY", 90)
    largest = []
    bootstrap = stats.bootstrap

    def recording(data, statistic, **options):
        def recorded(drawn, axis):
            largest.append(drawn.size)
            return statistic(drawn, axis)

        return bootstrap(data, recorded, **options)

    monkeypatch.setattr(stats, "bootstrap", recording)
    np.testing.assert_allclose(mean_interval(values), expected, atol=0.02)
    assert max(largest) <= 90


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(0, 9))
def test_a_group_for_each_value_changes_nothing(values, seed) -> None:
    groups = [f"patient {index}" for index in range(len(values))]
    plain = stats.bootstrap(
        (np.array(values),),
        np.mean,
        method="percentile",
        batch=9999,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    assert mean_interval(values, groups, seed=seed) == (plain.low, plain.high)
    assert mean_interval(values, seed=seed) == (plain.low, plain.high)


def test_groups_are_drawn_whole_by_hand() -> None:
    """Of A (1, 1, 1) and B (0): AA with 1/4 gives 1, AB 3/4 (not the mean of means, 1/2), BB 0."""
    values, groups = [1, 0, 1, 1], ["A", "B", "A", "A"]
    assert mean_interval(values, groups) == (0, 1)
    # The middle 40 % of the resampled means are of AB, which makes up the middle half.
    assert mean_interval(values, groups, confidence=0.4) == (0.75, 0.75)
    # Drawn singly, all four would be 0 once in 4⁴ times: less than 2.5 %.
    low, high = mean_interval(values)
    assert (low, high) == (0.25, 1)


def test_mean_over_regions_by_hand() -> None:
    """Of A (1, none) and B (0, 0.5): AA gives 1, AB (0.5 + 0.5) / 2, BB (0 + 0.5) / 2."""
    values = [[1, np.nan], [0, 0.5]]
    assert mean_interval(values) == (0.25, 1)
    assert mean_interval(values, confidence=0.4) == (0.5, 0.5)


def test_what_has_no_value_is_not_drawn() -> None:
    values = [0.1, np.nan, 0.4, 0.9]
    assert mean_interval(values) == mean_interval([0.1, 0.4, 0.9])
    assert mean_interval([[0.1], [np.nan], [0.4], [0.9]]) == mean_interval([0.1, 0.4, 0.9])
    assert mean_interval([0.1, np.nan]) is None


def test_images_repeated_within_their_groups_tell_no_more() -> None:
    values = np.random.default_rng(0).random(20)
    patients = [str(index) for index in range(20)]
    expected = mean_interval(values, patients)
    repeated = mean_interval(np.repeat(values, 5), np.repeat(patients, 5).tolist())
    np.testing.assert_allclose(repeated, expected, rtol=1e-12)
    low, high = mean_interval(np.repeat(values, 5))
    assert high - low < 0.6 * (expected[1] - expected[0])


def test_groups_are_the_same_in_any_order_of_the_images() -> None:
    values, groups = [0.1, 0.4, 0.5, 0.9, 0.2], ["a", "b", "c", "b", "a"]
    swapped = mean_interval([0.2, 0.9, 0.5, 0.4, 0.1], groups)
    np.testing.assert_allclose(swapped, mean_interval(values, groups), rtol=1e-12)


def test_one_group_tells_nothing_of_the_spread() -> None:
    assert mean_interval([0.1, 0.9], ["a", "a"]) is None
    compared = paired_comparison([0.1, 0.9], [0.2, 0.3], ["a", "a"])
    assert compared.interval is None
    assert compared.wilcoxon_p is not None


def test_values_without_a_group_are_refused() -> None:
    with pytest.raises(ValueError, match=r"its group. Received: 3 values, 2 groups"):
        mean_interval([0.1, 0.2, 0.3], ["a", "b"])


def test_paired_differences_are_drawn_by_group() -> None:
    values, other = np.random.default_rng(0).random((2, 12))
    groups = list("aabbccddeeff")
    compared = paired_comparison(values, other, groups)
    assert compared.interval == mean_interval(values - other, groups)
    alone = paired_comparison(values, other)
    assert compared.interval != alone.interval
    assert (compared.wilcoxon_p, compared.t_test_p) == (alone.wilcoxon_p, alone.t_test_p)


def test_paired_tests_are_scipys() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(30)
    other = values - rng.normal(0.02, 0.05, 30)
    compared = paired_comparison(values, other)
    assert compared.difference == pytest.approx(np.mean(values - other))
    assert compared.interval == mean_interval(values - other)
    assert compared.wilcoxon_p == stats.wilcoxon(values, other).pvalue
    assert compared.t_test_p == stats.ttest_rel(values, other).pvalue


def test_wilcoxon_by_hand() -> None:
    """Six differences of one sign: 2 of the 2⁶ equally likely signs are as extreme."""
    values = np.array([0.1, 0.3, 0.6, 1.0, 1.5, 2.1])
    compared = paired_comparison(values, np.zeros(6))
    assert compared.wilcoxon_p == pytest.approx(2 / 2**6)
    assert compared.mark == "*"
    reverse = paired_comparison(np.zeros(6), values)
    assert reverse.difference == -compared.difference
    assert (reverse.wilcoxon_p, reverse.t_test_p) == (compared.wilcoxon_p, compared.t_test_p)


@pytest.mark.parametrize(
    ("p", "mark"),
    [(0.0, "**"), (0.0099, "**"), (0.01, "*"), (0.0499, "*"), (0.05, ""), (1.0, ""), (None, "")],
)
def test_marks(p, mark) -> None:
    assert PairedComparison(0.1, None, wilcoxon_p=p, t_test_p=None).mark == mark


def test_equal_scores_do_not_differ() -> None:
    compared = paired_comparison([0.5, 0.7], [0.5, 0.7])
    assert compared == PairedComparison(0.0, (0.0, 0.0), 1.0, 1.0)


def test_one_pair_tells_nothing_of_chance() -> None:
    compared = paired_comparison([0.5], [0.25])
    assert compared == PairedComparison(0.25, None, None, None)


def test_a_constant_difference_has_no_t_test() -> None:
    other = np.arange(8) / 10
    compared = paired_comparison(other + 0.1, other)
    assert compared.t_test_p is None
    assert compared.wilcoxon_p == pytest.approx(2 / 2**8, rel=1)
    assert compared.mark in ("*", "**")


def test_many_equal_pairs_and_few_different() -> None:
    values = np.zeros(40)
    values[:2] = 0.1, 0.3
    assert paired_comparison(values, np.zeros(40)).wilcoxon_p > 0.05
    values[1] = 0
    assert paired_comparison(values, np.zeros(40)).wilcoxon_p > 0.05


@pytest.mark.parametrize(("values", "other"), [([1, 2], [1]), ([], []), (1.0, 2.0)])
def test_unpaired_values_are_refused(values, other) -> None:
    with pytest.raises(ValueError, match=r"one value an image.* Received: values.shape="):
        paired_comparison(values, other)


def test_a_comparison_is_described_for_json() -> None:
    described = describe_comparison([0.5, 1.0], [0.25, 0.75], ["a", "b"])
    assert described == {
        "mean": 0.75,
        "other_mean": 0.5,
        "difference": 0.25,
        "interval": (0.25, 0.25),
        "wilcoxon_p": 0.5,
        "t_test_p": None,
        "mark": "",
    }


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        # 4 × 0.005, 3 × 0.01, 2 × 0.03, and 0.04, which must not be below the one before it.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.01, None, 0.04, 0.03, 0.005, None], [0.03, None, 0.06, 0.06, 0.02, None]),
        ([0.6, 0.5, 0.04], [1.0, 1.0, 0.12]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.2], [0.2]),
        ([None], [None]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values, corrected) -> None:
    assert holm(p_values) == [None if p is None else pytest.approx(p) for p in corrected]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_none_and_bonferroni_and_keeps_the_order(p_values) -> None:
    corrected = holm(p_values)
    for p, after in zip(p_values, corrected, strict=True):
        assert p <= after <= min(1, len(p_values) * p)
    order = np.argsort(p_values)
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
