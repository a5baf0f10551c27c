"""How redundant the channels of a network's features are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

# Share of the energy that the components needed must hold.
ENERGY = 0.99


@dataclass(frozen=True, eq=False)
class Redundancy:
    """How the energy of a stage's features is spread over its channels' singular values.

    Args:
        energy: Share of the energy of each singular value over all images, the largest first,
            shape `(channels,)`. Sums to 1, or to 0 where the features are constant.
        per_image: Components needed in each image alone, shape `(images,)`.
    """

    energy: np.ndarray
    per_image: np.ndarray

    @property
    def num_channels(self) -> int:
        """Channels of the stage."""
        return len(self.energy)

    @property
    def components_needed(self) -> int:
        """Least number of singular values that hold 99 % of the energy; 0 if there is none."""
        return _components_needed(self.energy)

    @property
    def effective_rank(self) -> float:
        """Roy and Vetterli's effective rank, 1 to `num_channels`; 0 if there is no energy."""
        values = np.sqrt(self.energy[self.energy > 0])
        if not len(values):
            return 0.0
        shares = values / values.sum()
        return float(np.exp(-(shares * np.log(shares)).sum()))


def channel_redundancy(features: Iterable[Mapping[str, np.ndarray]]) -> dict[str, Redundancy]:
    r"""Return how redundant the channels of each stage are, by singular value decomposition.

    The features of a stage are flattened to a matrix X of one row for every pixel (or voxel) and
    one column for every channel C, and centred: each channel's mean is subtracted, so that a
    constant offset counts nothing; channels are not scaled. With the singular values
    σ₁ ≥ … ≥ σ_C of X, the energy is Σσᵢ², the total variance, and

    - the components needed are the least k with σ₁² + … + σₖ² ≥ 0.99 · Σσᵢ² (principal components
      of a layer's activations, as Garg et al. count them in "A low effort approach to structured
      CNN design using PCA", IEEE Access 2020; the threshold is ours): C where all channels are
      orthogonal and equally strong, 1 where all are multiples of one;
    - the effective rank is exp(−Σ pᵢ log pᵢ) with pᵢ = σᵢ / Σσ (Roy and Vetterli, "The effective
      rank: a measure of effective dimensionality", EUSIPCO 2007), which needs no threshold.

    Both are of X over the pixels of all images. The paper averages "the number of channel
    singular values" without saying which count; nearest to it are the components needed in each
    image alone, X being its pixels only, which are in `per_image`. They cannot exceed the number
    of the stage's pixels.

    σᵢ² are computed as eigenvalues of XᵀX, summed image by image in double precision, so memory
    does not grow with the number of images.

    Args:
        features: For each image, its features in each stage, shape `(*sides, channels)`, such as
            `stage_features` yields.

    Raises:
        ValueError: If features are not finite, or there is no image.

    Example:
    ```python
    run = Run.read(Path("runs/isic"))
    redundancies = channel_redundancy(stage_features(run, images))
    redundancies["encoder1"].components_needed  # of 16
    ```
    """
    sums: dict[str, _Sums] = {}
    for stages in features:
        for stage, values in stages.items():
            sums.setdefault(stage, _Sums(values.shape[-1])).add(stage, values)
    if not sums:
        raise ValueError("Redundancy needs the features of at least one image. Received: none")
    return {stage: sum_.redundancy() for stage, sum_ in sums.items()}


class _Sums:
    """Means and products of channels, image by image."""

    def __init__(self, num_channels: int) -> None:
        self.means: list[np.ndarray] = []
        self.per_image: list[int] = []
        self.products = np.zeros((num_channels, num_channels))  # about each image's own means
        self.pixels = 0

    def add(self, stage: str, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            raise ValueError(
                f"The network's features in {stage} are not finite: train it again, or use an "
                "earlier checkpoint."
            )
        matrix = values.reshape(-1, values.shape[-1]).astype("float64")
        if self.means and len(matrix) != self.pixels:
            raise ValueError(
                f"The features in {stage} must have the same pixels in every image. "
                f"Received: {self.pixels} and {len(matrix)}"
            )
        self.pixels = len(matrix)
        mean = matrix.mean(axis=0)
        centred = matrix - mean
        products = centred.T @ centred
        self.means.append(mean)
        self.products += products
        self.per_image.append(_components_needed(_energy(products, self.pixels * (mean @ mean))))

    def redundancy(self) -> Redundancy:
        means = np.stack(self.means)
        centred = means - means.mean(axis=0)
        products = self.products + self.pixels * centred.T @ centred
        offset = self.pixels * len(means) * (means.mean(axis=0) ** 2).sum()
        return Redundancy(_energy(products, offset), np.array(self.per_image))


def _energy(products: np.ndarray, offset: float) -> np.ndarray:
    """Return each singular value's share of the energy, the largest first.

    Args:
        products: XᵀX of centred features.
        offset: Energy of the means that were subtracted, beside which rounding is no energy.
    """
    energy = np.linalg.eigvalsh(products)[::-1].clip(0)
    total = energy.sum()
    return energy / total if total > 1e-12 * offset else np.zeros_like(energy)


def _components_needed(energy: np.ndarray) -> int:
    if not energy.any():
        return 0
    # The last digits of a sum are rounding.
    return int(np.searchsorted(np.cumsum(energy), ENERGY * energy.sum() - 1e-9)) + 1
