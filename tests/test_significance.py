"""Intervals and tests, against SciPy and by hand."""

import numpy as np
import pytest
from scipy import stats

from keras_lgmsnet.significance import PairedComparison, mean_interval, paired_comparison

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
    monkeypatch.setattr("keras_lgmsnet.significance._VALUES_IN_MEMORY", 90)
    largest = []
    mean = np.mean

    def recording(values, axis=None):
        largest.append(np.size(values))
        return mean(values, axis=axis)

    monkeypatch.setattr(np, "mean", recording)
    np.testing.assert_allclose(mean_interval(values), expected, atol=0.02)
    assert max(largest) <= 90


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
