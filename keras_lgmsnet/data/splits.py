"""Splits by rule: the same ids and seed give the same lists on every machine."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sklearn.model_selection import KFold, train_test_split

# What the examples of a part are called in sentences: "the training images".
PART_NAMES = {"train": "training", "validation": "validation", "test": "test"}


def split_ids(
    ids: Iterable[str],
    *,
    validation_fraction: float = 0.3,
    validation_ids: Sequence[str] = (),
    test_fraction: float = 0.0,
    seed: int = 41,
    num_folds: int | None = None,
    fold: int = 0,
    groups: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Split ids at random into parts that share no group, as the published programs do.

    The groups, by default the ids themselves, are sorted as strings, so `"benign (10)"` comes
    before `"benign (2)"`, and handed to scikit-learn's `train_test_split`.

    - Seeds 41, 64 and 1337 with a validation fraction of 0.3 give the three published splits of
      BUSI, TNSCUI and ISIC 2018: three independent 70/30 splits, not folds.
    - Seed 58800 with a test fraction of 0.1 and a validation fraction of 0.111 gives that of
      Kvasir-SEG (DUCK-Net's).
    - With `num_folds` the parts to validate on are those of scikit-learn's shuffled `KFold`.

    Args:
        ids: The examples' ids, in any order.
        validation_fraction: Share of the groups to validate on, of those that are not tested on;
            between 0 and 1, rounded up to a whole number of groups. Unused with `num_folds` or
            `validation_ids`.
        validation_ids: Ids to validate on, with all of their groups; the others are trained on or,
            where asked for, tested on.
        test_fraction: Share of the groups set aside for a test, from 0 (none) to below 1.
        seed: Seed of the shuffles, an integer from 0 to 2³² − 1.
        num_folds: Number of folds, at least 2, or `None` for a random split.
        fold: Which fold to validate on, from 0 to `num_folds - 1`.
        groups: The group of each id, such as its patient or video.

    Returns:
        Lists of ids by part: `"train"`, `"validation"`, and, if asked for, `"test"`.

    Raises:
        ValueError: If an id occurs twice or one of `validation_ids` not at all, an argument is out
            of range, or a part would be empty.

    Example:
    ```python
    splits = split_ids(examples.ids, seed=64, groups=examples.groups)
    ```
    """
    ids = sorted(ids)
    repeated = [id_ for id_, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"Ids must be unique to be split. Received twice: {repeated[0]!r}")
    _require_fractions(validation_fraction, test_fraction)
    members: dict[str, list[str]] = {}
    for id_ in ids:
        members.setdefault(id_ if groups is None else groups[id_], []).append(id_)

    if unknown := sorted(set(validation_ids) - set(ids)):
        raise ValueError(
            f"The ids to validate on must be among the dataset's, {', '.join(ids[:3])}, …. "
            f"Received: {unknown[0]!r}"
        )
    validation = sorted({id_ if groups is None else groups[id_] for id_ in validation_ids})
    remaining, parts = sorted(members.keys() - validation), {}
    if validation and not remaining:
        raise ValueError(
            "Some ids must be left to train on. "
            f"Received: {len(ids)} ids, {len(validation_ids)} to validate on"
        )
    if test_fraction:
        remaining, parts["test"] = _split(remaining, test_fraction, seed, "test_fraction")
    if validation:
        train = remaining
    elif num_folds is None:
        train, validation = _split(remaining, validation_fraction, seed, "validation_fraction")
    else:
        train, validation = _fold(remaining, num_folds, fold, seed)
    parts = {"train": train, "validation": validation, **parts}
    return {
        part: [id_ for group in groups_ for id_ in members[group]]
        for part, groups_ in parts.items()
    }


def require_separate_groups(splits: Mapping[str, Sequence[str]], groups: Mapping[str, str]) -> None:
    """Raise unless every group lies in one part, so that no patient is on both sides.

    Args:
        splits: Lists of ids by part.
        groups: The group of each id.

    Raises:
        ValueError: If two parts share a group; one is named.
    """
    part_of: dict[str, str] = {}
    for part, ids in splits.items():
        for id_ in ids:
            if part_of.setdefault(groups[id_], part) != part:
                raise ValueError(
                    f"No group (patient, video or case) may be in two parts of a split. Received: "
                    f"{groups[id_]!r} in {PART_NAMES[part_of[groups[id_]]]} and {PART_NAMES[part]}"
                )


def _require_fractions(validation_fraction: float, test_fraction: float) -> None:
    if not 0 < validation_fraction < 1:
        raise ValueError(
            "The validation fraction must lie between 0 and 1. "
            f"Received: validation_fraction={validation_fraction}"
        )
    if not 0 <= test_fraction < 1:
        raise ValueError(
            "The test fraction must be 0 or lie between 0 and 1. "
            f"Received: test_fraction={test_fraction}"
        )


def _split(groups: list[str], fraction: float, seed: int, name: str) -> tuple[list[str], list[str]]:
    if math.ceil(fraction * len(groups)) >= len(groups):
        raise ValueError(
            "Too few ids or groups of them to train on some and hold out others; add examples or "
            f"lower the fraction. Received: {len(groups)}, {name}={fraction}"
        )
    kept, held_out = train_test_split(groups, test_size=fraction, random_state=seed)
    return kept, held_out


def _fold(groups: list[str], num_folds: int, fold: int, seed: int) -> tuple[list[str], list[str]]:
    if not 2 <= num_folds <= len(groups):
        raise ValueError(
            f"There must be from 2 folds to as many as there are ids or groups, {len(groups)}. "
            f"Received: num_folds={num_folds}"
        )
    if not 0 <= fold < num_folds:
        raise ValueError(
            f"Folds are counted from 0 to num_folds - 1. Received: {fold=}, {num_folds=}"
        )
    folds = KFold(num_folds, shuffle=True, random_state=seed).split(groups)
    train, validation = list(folds)[fold]
    return [groups[index] for index in train], [groups[index] for index in validation]
