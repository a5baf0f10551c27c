"""The task of training on images: data, network, loss, optimizer and report."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.data.augmentation import AUGMENTATIONS
from keras_lgmsnet.data.image_fingerprint import Fingerprint
from keras_lgmsnet.data.images import (
    Examples,
    ImageBatches,
    describe_one_sided,
    describe_own_scales,
    describe_pixels_between,
)
from keras_lgmsnet.data.keras_cv_augmentation import KerasCVAugmentation
from keras_lgmsnet.data.sources import read_examples
from keras_lgmsnet.data.splits import PART_NAMES
from keras_lgmsnet.evaluation.images import describe_convention, score_images
from keras_lgmsnet.files.writing import write_csv, write_json, write_text
from keras_lgmsnet.losses import BCEDiceLoss
from keras_lgmsnet.metrics import THRESHOLD, ImageF1, ImageIoU
from keras_lgmsnet.models import registry
from keras_lgmsnet.optimizers import LaggedPolynomialDecay, TorchSGD
from keras_lgmsnet.recipe.schema import ImageRecipe
from keras_lgmsnet.reports.images import render_image_report
from keras_lgmsnet.training.task import EpochScores, Task


class ImageTask(Task):
    """Training on images, which are validated on in `fit`."""

    recipe: ImageRecipe

    def __init__(
        self,
        recipe: ImageRecipe,
        scope: Callable[[], AbstractContextManager[Any]],
        manual_dir: str | Path | None,
        data_dir: str | Path | None,
    ) -> None:
        self.recipe = recipe
        self.manual_dir = manual_dir
        # What cannot be built should not wait for the data to be read.
        augmentation = _build_augmentation(recipe)
        with scope():
            self.model = _build_network(recipe, recipe.training.precision)
        self.float32_network = _build_network(recipe, "float32")
        examples = read_examples(recipe, manual_dir, data_dir)
        self.dataset = examples.dataset
        self.splits = self._split(examples.ids, examples.groups)
        self.examples = {part: examples.subset(ids) for part, ids in self.splits.items()}
        for part, examples in self.examples.items():
            if one_sided := describe_one_sided(examples.segmentation_masks):
                raise ValueError(
                    f"The {PART_NAMES[part]} images must have a labelled pixel and one of the "
                    "background: correct their masks, or choose others by data.split_seed or "
                    f"data.validation_ids. Received: {len(examples.ids)} masks, all {one_sided}"
                )
        self.batches = self._share(
            ImageBatches(
                self.examples["train"],
                recipe.training.batch_size,
                preprocessing=recipe.data.preprocessing,
                augmentation=augmentation,
                shuffle=True,
                seed=recipe.training.seed,
            )
        )
        self.validation_data = self._share(self._in_order(self.examples["validation"]))

    def prepare(self, run_directory: Path) -> None:
        """Write the fingerprint, and say what was decided on images and masks."""
        training = self.examples["train"]
        if training.bits:
            print(
                "The images of more than 8 bits whose files do not say how many they use are read "
                f"as of {training.bits}, as the one that uses most.",
                flush=True,
            )
        for part, examples in self.examples.items():
            for told in (describe_own_scales(examples), describe_pixels_between(examples)):
                if told:
                    print(f"{PART_NAMES[part].capitalize()} images: {told}", flush=True)
        if not (run_directory / "fingerprint.json").exists():
            Fingerprint.of_images(
                training.images, training.original_sizes, bits=training.bits
            ).write(run_directory)

    def compile(self, network: keras.Model) -> None:
        """Compile with the published 2D settings."""
        training = self.recipe.training
        schedule = LaggedPolynomialDecay(
            training.learning_rate, total_steps=training.epochs * len(self.batches)
        )
        network.compile(
            optimizer=TorchSGD(schedule, training.momentum, training.weight_decay),
            loss=BCEDiceLoss(),
            weighted_metrics=[ImageIoU(), ImageF1()],  # what fills a batch up weighs nothing
        )

    def evaluate(self, run_directory: Path, best_epoch: int, history: list[EpochScores]) -> None:
        """Score every held-out image and write the report."""
        subset = "test" if "test" in self.splits else "validation"
        examples = self.examples[subset]
        scores, predictions, means = self._score(examples)
        cautions = [
            self.recipe.kind.caution if subset == "validation" else None,
            describe_own_scales(examples),
            describe_pixels_between(examples),
        ]
        metrics = {
            "subset": subset,
            "means": means,
            "images": len(examples.ids),
            "best_epoch": best_epoch,
            "threshold": THRESHOLD,
            "convention": describe_convention(self.recipe.data.image_size),
            "caution": " ".join(filter(None, cautions)) or None,
        }
        if subset == "test":
            *_, metrics["validation_means"] = self._score(self.examples["validation"])
        write_csv(
            run_directory / "per_image.csv",
            [
                {"id": id_, **{name: float(values[row]) for name, values in scores.items()}}
                for row, id_ in enumerate(examples.ids)
            ],
        )
        write_text(
            run_directory / "report.html",
            render_image_report(
                title=self.title,
                metrics=metrics,
                history=history,
                ids=examples.ids,
                images=examples.images,
                segmentation_masks=examples.segmentation_masks,
                predictions=predictions,
                ious=scores["iou"],
                recipe=self.recipe.to_dict(),
                environment=self._environment(run_directory),
            ),
        )
        # Last, since it tells that the run is finished.
        write_json(run_directory / "metrics.json", metrics)

    def _score(
        self, examples: Examples
    ) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, float]]:
        scores, predictions = score_images(self.float32_network, self._in_order(examples))
        return scores, predictions, {name: float(values.mean()) for name, values in scores.items()}

    def _in_order(self, examples: Examples) -> ImageBatches:
        return ImageBatches(
            examples,
            self.recipe.training.batch_size,
            preprocessing=self.recipe.data.preprocessing,
        )


def _build_augmentation(recipe: ImageRecipe) -> Callable[..., Any] | None:
    chosen = recipe.data.augmentation
    return KerasCVAugmentation(chosen) if isinstance(chosen, dict) else AUGMENTATIONS[chosen]


def _build_network(recipe: ImageRecipe, precision: str) -> keras.Model:
    assert recipe.model.num_classes is not None  # of images a recipe always tells it
    return registry.create(
        recipe.model.network,
        input_shape=(*recipe.data.image_size, 3),
        num_classes=recipe.model.num_classes,
        dtype=precision,
        **recipe.model.arguments,
    )
