"""Splits by rule: the same ids and seed give the same lists on every machine."""

import math
from collections import Counter
from collections.abc import Iterable

from sklearn.model_selection import train_test_split


def train_validation_split(
    ids: Iterable[str], validation_fraction: float = 0.3, seed: int = 41
) -> tuple[list[str], list[str]]:
    """Splits ids at random, as the published program does.

    The ids are sorted as strings, so `"benign (10)"` comes before `"benign (2)"`, and handed to
    scikit-learn's `train_test_split`. Seeds 41, 64 and 1337 with a fraction of 0.3 give the three
    published splits of BUSI, TNSCUI and ISIC 2018: three independent 70/30 splits, not folds.

    Args:
        ids: The examples' ids, in any order.
        validation_fraction: The share of ids to validate on, between 0 and 1, rounded up to a
            whole number of ids.
        seed: Seed of the shuffle, an integer from 0 to 2³² − 1.

    Returns:
        The training ids and the validation ids, each in shuffled order.

    Raises:
        ValueError: If an id occurs twice, the fraction is not between 0 and 1, or either part
            would be empty.

    Example:
    ```python
    train_ids, validation_ids = train_validation_split(examples.ids, seed=64)
    ```
    """
    ids = sorted(ids)
    repeated = [id_ for id_, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"Ids must be unique to be split. Received twice: {repeated[0]!r}")
    if not 0 < validation_fraction < 1:
        raise ValueError(
            "The validation fraction must lie between 0 and 1. "
            f"Received: validation_fraction={validation_fraction}"
        )
    if math.ceil(validation_fraction * len(ids)) >= len(ids):
        raise ValueError(
            "Too few ids to train on some and validate on others; add examples or lower the "
            f"fraction. Received: {len(ids)} ids, validation_fraction={validation_fraction}"
        )
    train_ids, validation_ids = train_test_split(
        ids, test_size=validation_fraction, random_state=seed
    )
    return train_ids, validation_ids
