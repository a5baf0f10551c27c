"""How far a mean over images can be trusted, and whether two runs differ."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

# Keeps what is resampled, three numbers of 8 bytes a value, below about 80 MB at a time.
_VALUES_IN_MEMORY = 3_000_000


@dataclass(frozen=True)
class PairedComparison:
    """Values minus others, image by image, and how likely such differences are by chance.

    Args:
        difference: Mean difference.
        interval: Its 95 % bootstrap interval; None for a single pair or group.
        wilcoxon_p: Two-sided p-value of the Wilcoxon signed-rank test.
        t_test_p: Two-sided p-value of the paired t-test.

    Both p-values take the pairs as independent. They are 1 where all differences are 0, and None
    for a single pair; that of the t-test is None, too, where all differences are equal, since it
    divides by their deviation.
    """

    difference: float
    interval: tuple[float, float] | None
    wilcoxon_p: float | None
    t_test_p: float | None

    @property
    def mark(self) -> str:
        """What `mark_of` returns of the Wilcoxon test.

        Scores of images pile up near 1 with a tail of failures: far from the normal distribution
        that the t-test supposes.
        """
        return mark_of(self.wilcoxon_p)


def mark_of(p: float | None) -> str:
    """Return `"**"` for p < 0.01, `"*"` for p < 0.05, else `""`, also of `None`."""
    if p is None or p >= 0.05:
        return ""
    return "**" if p < 0.01 else "*"


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number by Holm's method.

    Where the corrected values below a level are called significant, the probability of calling any
    true hypothesis false is at most that level, however the tests depend on one another.

    Args:
        p_values: From 0 to 1, in any order; `None` is no test, and does not count.

    Returns:
        In the same order, the corrected values, at most 1; `None` stays `None`.

    Example:
    ```python
    holm([0.01, 0.04, 0.03, 0.005])  # [0.03, 0.06, 0.06, 0.02]
    ```
    """
    ascending = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0  # so far: a smaller p-value must not get a larger corrected one
    for done, (p, place) in enumerate(ascending):
        largest = max(largest, min(1.0, (len(ascending) - done) * p))
        corrected[place] = largest
    return corrected


def mean_interval(
    values: ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 9999,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a mean; the same one for the same seed.

    Images of one patient or video resemble each other: drawn as if independent, they would make
    the interval too narrow. So whole groups are drawn (cluster bootstrap), as many as there are,
    each with all of its images; what is resampled is the mean over the images drawn.

    Args:
        values: One value an image, shape `(images,)`; or one an image and region, shape `(images,
            regions)`, where the mean over regions of each region's mean is resampled. NaN is no
            value: the mean is over the images that have one.
        groups: The patient, video or case of each image; by default every image is its own.
        confidence: Share of resampled means inside the interval, between 0 and 1.
        num_resamples: How often the groups are drawn anew.
        seed: Seed of the draws, an integer ≥ 0.

    Returns:
        The lower and the upper end; None for a single group, which tells nothing of the spread.

    Raises:
        ValueError: If there are more or fewer groups than values.

    Example:
    ```python
    low, high = mean_interval(ious, groups=patients)
    ```
    """
    values = np.asarray(values, "float64")
    clusters: Sequence[Hashable] = range(len(values)) if groups is None else groups
    if len(clusters) != len(values):
        raise ValueError(
            "Every value must have its group. "
            f"Received: {len(values)} values, {len(clusters)} groups"
        )
    values = values.reshape(len(values), -1)
    positions: dict[Hashable, list[int]] = {}
    for position, group in enumerate(clusters):
        if not np.isnan(values[position]).all():
            positions.setdefault(group, []).append(position)
    if len(positions) < 2:
        return None
    sums = np.array([np.nansum(values[members], axis=0) for members in positions.values()])
    sizes = np.array([(~np.isnan(values[members])).sum(0) for members in positions.values()])

    def mean(drawn: np.ndarray, axis: int) -> np.ndarray:
        sums_drawn, sizes_drawn = sums[drawn].sum(axis=-2), sizes[drawn].sum(axis=-2)
        with np.errstate(invalid="ignore"):  # 0/0 where no image drawn has the region
            return np.nanmean(sums_drawn / sizes_drawn, axis=-1)

    interval = stats.bootstrap(
        (np.arange(len(sums)),),
        mean,
        n_resamples=num_resamples,
        batch=max(1, _VALUES_IN_MEMORY // sums.size),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def paired_comparison(
    values: ArrayLike, other: ArrayLike, groups: Sequence[str] | None = None
) -> PairedComparison:
    """Compare two scores of each of the same images.

    Args:
        values: One value an image, shape `(images,)`.
        other: The values to compare with, of the same images in the same order.
        groups: The patient, video or case of each image, for the interval as in `mean_interval`.

    Raises:
        ValueError: If the numbers of values differ, or are 0; or as `mean_interval` raises.

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
        interval=mean_interval(differences, groups),
        wilcoxon_p=wilcoxon_p,
        t_test_p=t_test_p,
    )


def describe_comparison(
    values: ArrayLike, other: ArrayLike, groups: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return what tables tell of two scores of each of the same images, ready for JSON.

    Args:
        values: As for `paired_comparison`.
        other: As for `paired_comparison`.
        groups: As for `paired_comparison`.

    Returns:
        The two means, "mean" and "other_mean", the fields of `PairedComparison`, and its "mark".
    """
    paired = paired_comparison(values, other, groups)
    return {
        "mean": float(np.mean(np.asarray(values))),
        "other_mean": float(np.mean(np.asarray(other))),
        **asdict(paired),
        "mark": paired.mark,
    }
