"""Finished runs as they lie on disk, written by hand: recipe, splits and scores, no network."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_lgmsnet.files.writing import write_csv, write_json
from keras_lgmsnet.recipe.schema import (
    AnyRecipe,
    Data,
    Model,
    Recipe,
    Training,
    VolumeData,
    VolumeTraining,
)

IMAGES = Recipe(
    data=Data(source="busi", image_size=(32, 32)),
    model=Model(network="unet", num_classes=1, filters=(4, 4)),
    training=Training(epochs=1),
)
VOLUMES = Recipe(
    data=VolumeData(source="btcv", patch_size=(32, 32, 32)),
    model=Model(network="unet", filters=(4, 4)),
    training=VolumeTraining(epochs=1, warmup_epochs=0),
)


def changed(recipe: AnyRecipe, section: str, **fields: Any) -> AnyRecipe:
    """Return a recipe with other fields in one of its sections."""
    values = dataclasses.replace(getattr(recipe, section), **fields)
    return dataclasses.replace(recipe, **{section: values})


def with_model(recipe: AnyRecipe, **model: Any) -> AnyRecipe:
    """Return a recipe with another network."""
    return dataclasses.replace(recipe, model=Model(num_classes=recipe.model.num_classes, **model))


def write_image_run(
    directory: Path,
    ious: Mapping[str, float],
    recipe: AnyRecipe = IMAGES,
    *,
    seed: int = 41,
    dataset: str = "busi/lesions/1.0.0",
    subset: str = "validation",
    groups: Mapping[str, str] | None = None,
) -> Path:
    """Write a run on images; F1 of each is made of its IoU."""
    directory.mkdir(parents=True)
    _begin(directory, changed(recipe, "data", split_seed=seed), dataset, subset, list(ious))
    rows = [
        {"id": id_, **({"group": groups[id_]} if groups else {}), "iou": iou, "f1": f1(iou)}
        for id_, iou in ious.items()
    ]
    write_csv(directory / "per_image.csv", rows)
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("iou", "f1")}
    write_json(directory / "metrics.json", {"subset": subset, "means": means, "caution": "Beware."})
    return directory


def f1(iou: float) -> float:
    """Return the F1 score that goes with an IoU."""
    return 2 * iou / (1 + iou)


def write_volume_run(
    directory: Path,
    dice: Mapping[str, Mapping[str, float | None]],
    recipe: AnyRecipe = VOLUMES,
    *,
    seed: int = 41,
    dataset: str = "btcv/1.0.0",
) -> Path:
    """Write a run on volumes, by the Dice of each region of each volume."""
    directory.mkdir(parents=True)
    _begin(directory, changed(recipe, "data", split_seed=seed), dataset, "validation", list(dice))
    rows = [
        {"id": id_, "region": region, "dice": score}
        for id_, regions in dice.items()
        for region, score in regions.items()
    ]
    write_csv(directory / "per_case.csv", rows)
    regions: dict[str, list[float]] = {}
    for row in rows:
        known = regions.setdefault(row["region"], [])
        known += [] if row["dice"] is None else [row["dice"]]
    of_regions = {name: float(np.mean(known)) if known else None for name, known in regions.items()}
    mean = float(np.mean([score for score in of_regions.values() if score is not None]))
    summary = {
        "regions": {name: {"scores": {"dice": {"mean": x}}} for name, x in of_regions.items()},
        "mean": {"dice": {"mean": mean, "interval": None}},
    }
    metrics = {"subset": "validation", "means": {"dice": mean}, "caution": None}
    write_json(directory / "metrics.json", {**metrics, "summary": summary})
    fingerprint = {"channels": ["CT"], "labels": ["background", *regions]}
    write_json(directory / "fingerprint.json", fingerprint)
    return directory


def write_study(directory: Path, recipes: Mapping[str, AnyRecipe], seeds: Sequence[int]) -> Path:
    """Write what a study is, without its runs."""
    directory.mkdir(parents=True)
    told = {label: recipe.to_dict() for label, recipe in recipes.items()}
    write_json(directory / "study.json", {"seeds": list(seeds), "recipes": told})
    return directory


def _begin(
    directory: Path, recipe: AnyRecipe, dataset: str, subset: str, ids: Sequence[str]
) -> None:
    begun = {"dataset": dataset, "backend": "torch", "versions": {}}
    write_json(directory / "recipe.json", {"recipe": recipe.to_dict(), **begun})
    write_json(directory / "splits.json", {"train": ["other"], subset: list(ids)})
