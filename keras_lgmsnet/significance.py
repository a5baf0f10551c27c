"""How far a mean over images can be trusted, and whether two runs differ."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

# Keeps the resampled values, 8 bytes each, below about 80 MB at a time.
_VALUES_IN_MEMORY = 10_000_000


@dataclass(frozen=True)
class PairedComparison:
    """Values minus others, image by image, and how likely such differences are by chance.

    Args:
        difference: Mean difference.
        interval: Its 95 % bootstrap interval; None for a single pair.
        wilcoxon_p: Two-sided p-value of the Wilcoxon signed-rank test.
        t_test_p: Two-sided p-value of the paired t-test.

    Both p-values are 1 where all differences are 0, and None for a single pair; that of the
    t-test is None, too, where all differences are equal, since it divides by their deviation.
    """

    difference: float
    interval: tuple[float, float] | None
    wilcoxon_p: float | None
    t_test_p: float | None

    @property
    def mark(self) -> str:
        """`"**"` for p < 0.01, `"*"` for p < 0.05, else `""`, by the Wilcoxon test.

        Scores of images pile up near 1 with a tail of failures: far from the normal distribution
        that the t-test supposes.
        """
        if self.wilcoxon_p is None or self.wilcoxon_p >= 0.05:
            return ""
        return "**" if self.wilcoxon_p < 0.01 else "*"


def mean_interval(
    values: Any, confidence: float = 0.95, num_resamples: int = 9999, seed: int = 0
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a mean; the same one for the same seed.

    Values are drawn as if independent: where images come from few patients or videos, the
    interval is too narrow.

    Args:
        values: One value an image, shape `(images,)`.
        confidence: Share of resampled means inside the interval, between 0 and 1.
        num_resamples: How often the images are drawn anew.
        seed: Seed of the draws, an integer ≥ 0.

    Returns:
        The lower and the upper end; None for a single value, which tells nothing of its spread.

    Example:
    ```python
    low, high = mean_interval(ious)
    ```
    """
    values = np.asarray(values, "float64")
    if len(values) < 2:
        return None
    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=num_resamples,
        batch=max(1, _VALUES_IN_MEMORY // len(values)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def paired_comparison(values: Any, other: Any) -> PairedComparison:
    """Compare two scores of each of the same images.

    Args:
        values: One value an image, shape `(images,)`.
        other: The values to compare with, of the same images in the same order.

    Raises:
        ValueError: If the numbers of values differ, or are 0.

    Example:
    ```python
    compared = paired_comparison(ious, other_ious)
    f"{compared.difference:+.3f}{compared.mark}"  # "+0.012**"
    ```
    """
    values, other = np.asarray(values, "float64"), np.asarray(other, "float64")
    if values.ndim != 1 or values.shape != other.shape or not values.size:
        raise ValueError(
            "Both must hold one value an image, of at least one image. "
            f"Received: values.shape={values.shape}, other.shape={other.shape}"
        )
    differences = values - other
    if len(differences) == 1:
        wilcoxon_p = t_test_p = None
    elif not differences.any():
        wilcoxon_p = t_test_p = 1.0
    else:
        wilcoxon_p = float(stats.wilcoxon(differences).pvalue)
        all_equal = np.allclose(differences, differences[0], rtol=1e-12, atol=0)
        t_test_p = None if all_equal else float(stats.ttest_rel(values, other).pvalue)
    return PairedComparison(
        difference=float(differences.mean()),
        interval=mean_interval(differences),
        wilcoxon_p=wilcoxon_p,
        t_test_p=t_test_p,
    )
