"""Comparisons made by hand: no run lies behind them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_lgmsnet.comparison.contestants import Contestant, ScoredRun
from keras_lgmsnet.comparison.tables import Comparison
from keras_lgmsnet.kinds import IMAGES
from keras_lgmsnet.recipe.schema import AnyRecipe, Data, Model, Recipe, VolumeData

IMAGE_RECIPE = Recipe(data=Data(source="busi"), model=Model(network="unet", num_classes=1))
VOLUME_RECIPE = Recipe(
    data=VolumeData(source="btcv", patch_size=(32, 32, 32)), model=Model(network="unet")
)


def scored_run(
    score: float | None,
    seed: int = 41,
    *,
    dataset: str = "busi/1.0.0",
    recipe: AnyRecipe = IMAGE_RECIPE,
    subset: str = "validation",
    ids: Sequence[str] = ("a", "b", "c"),
) -> ScoredRun:
    """A run of a mean score."""
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, split_seed=seed))
    scores = {"IoU": score, "F1": score}
    if recipe.kind is not IMAGES:
        scores = {"liver": score, "mean Dice": score}
    directory = Path("runs") / f"split-{seed}"
    caution = "Optimistic."
    table = directory / "per_image.csv"
    return ScoredRun(directory, recipe, dataset, subset, tuple(ids), scores, caution, table)


def comparison(
    scores: Mapping[str, Sequence[float | None]],
    *,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    differences: Mapping[str, tuple[float, float]] | None = None,
    **fields: Any,
) -> Comparison:
    """A comparison of images: of each label the score of each split.

    Args:
        scores: By label.
        sizes: Parameters and multiply-adds by label.
        differences: By label the difference from the best one, and the p-value of Holm.
        **fields: More of the comparison's.
    """
    contestants = [
        Contestant(label, tuple(scored_run(score, seed) for seed, score in enumerate(values)))
        for label, values in scores.items()
    ]
    sizes = sizes or {
        label: (10**6 * number, 10**8 * number) for number, label in enumerate(scores, start=1)
    }
    best = max(scores, key=lambda label: sum(x or 0 for x in scores[label]) / len(scores[label]))
    rows = [
        {
            "network": label,
            "dataset": "busi/1.0.0",
            "score": name,
            "cases": 3,
            "groups": 3,
            "mean": 0.5,
            "reference": 0.6,
            "difference": difference,
            "interval": (difference - 0.01, difference + 0.01),
            "relative": difference / 0.6,
            "wilcoxon_p": p / 2,
            "holm_p": p,
        }
        for label, (difference, p) in (differences or {}).items()
        for name in ("IoU", "F1")
    ]
    made = Comparison(contestants, [], sizes, best, rows)
    return dataclasses.replace(made, **fields)
