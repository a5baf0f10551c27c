"""The task of training on volumes: data, network, loss, optimizer, validation and report."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.data.augmentation import VOLUME_AUGMENTATIONS
from keras_lgmsnet.data.patches import PatchBatches, prepare_volumes
from keras_lgmsnet.data.splits import PART_NAMES
from keras_lgmsnet.data.volume_fingerprint import VolumeFingerprint
from keras_lgmsnet.data.volumes import load_volumes
from keras_lgmsnet.drawing.volumes import SegmentedVolume
from keras_lgmsnet.evaluation.volumes import describe_convention, score_volumes
from keras_lgmsnet.files.writing import write_csv, write_json, write_text
from keras_lgmsnet.inference.scans import segment_scan
from keras_lgmsnet.inference.windows import segment_volume
from keras_lgmsnet.losses import DiceCELoss
from keras_lgmsnet.metrics import ClassDice
from keras_lgmsnet.models import registry
from keras_lgmsnet.optimizers import adamw_warmup_cosine
from keras_lgmsnet.process.progress import track
from keras_lgmsnet.recipe.schema import VolumeRecipe
from keras_lgmsnet.reports.volumes import render_volume_report
from keras_lgmsnet.scoring.regions import TOLERANCE, Scores, list_regions, mean_dice, summarize
from keras_lgmsnet.training.task import EpochScores, Task


class VolumeTask(Task):
    """Training on patches of volumes; now and then, whole volumes are validated on."""

    recipe: VolumeRecipe

    def __init__(
        self,
        recipe: VolumeRecipe,
        scope: Callable[[], AbstractContextManager[Any]],
        manual_dir: str | Path | None,
        data_dir: str | Path | None,
    ) -> None:
        self.recipe = recipe
        self.manual_dir = manual_dir
        # The data tell channels and classes, but what cannot be built should not wait for them.
        _build_network(recipe, 1, 2, "float32")
        self.source = load_volumes(
            recipe.data.source,
            manual_dir,
            data_dir,
            allow_incomplete=recipe.data.allow_incomplete,
        )
        self.dataset = self.source.dataset
        self.splits = self._split(self.source.ids, self.source.groups)
        num_channels, self.num_classes = len(self.source.channels), len(self.source.labels)
        if recipe.model.num_classes not in (None, self.num_classes):
            raise ValueError(
                f"model.num_classes must be None or the {self.num_classes} labels of "
                f"{recipe.data.source}, background included. Received: {recipe.model.num_classes}"
            )
        # Anew, since the preparation of a dataset draws random numbers.
        keras.utils.set_random_seed(recipe.training.seed)
        with scope():
            precision = recipe.training.precision
            self.model = _build_network(recipe, num_channels, self.num_classes, precision)
        self.float32_network = _build_network(recipe, num_channels, self.num_classes, "float32")

    def prepare(self, run_directory: Path) -> None:
        """Decide how volumes are read, say so, and read them once."""
        data, training = self.recipe.data, self.recipe.training
        for part, ids in self.splits.items():
            if not any(self.source.read(id_).segmentation_mask.any() for id_ in ids):
                raise ValueError(
                    f"The {PART_NAMES[part]} volumes must have a labelled voxel: choose others by "
                    f"data.split_seed or data.validation_ids. Received: {ids}"
                )
        if (run_directory / "fingerprint.json").exists():
            self.fingerprint = VolumeFingerprint.read(run_directory)
        else:
            self.fingerprint = VolumeFingerprint.of_volumes(self.source, self.splits["train"], data)
            self.fingerprint.write(run_directory)
        print(
            f"How volumes are read:\n\n{self.fingerprint.tabulate()}\n\n"
            "To choose otherwise, set the field, such as --set data.spacing=1,1,2.",
            flush=True,
        )
        if remarks := self.source.describe_remarks():
            print(remarks, flush=True)
        self.volumes = prepare_volumes(
            self.source,
            self.splits["train"] + self.splits["validation"],
            self.fingerprint,
            crop_foreground=data.crop_foreground,
        )
        if not any(len(self.volumes[id_].labelled) for id_ in self.splits["validation"]):
            raise ValueError(
                "The validation volumes must keep a labelled voxel once they are resampled and "
                "cropped: set a finer data.spacing, or choose others. "
                f"Received: spacing {self.fingerprint.spacing}"
            )
        batches = PatchBatches(
            self.volumes,
            self.splits["train"],
            data.patch_size,
            training.batch_size,
            patches_per_volume=data.patches_per_volume,
            positive_fraction=data.positive_fraction,
            augmentation=VOLUME_AUGMENTATIONS[data.augmentation],
            seed=training.seed,
        )
        self.batches = self._share(batches)

    def compile(self, network: keras.Model) -> None:
        """Compile with the published 3D settings."""
        training = self.recipe.training
        network.compile(
            optimizer=adamw_warmup_cosine(
                training.warmup_epochs * len(self.batches),
                training.epochs * len(self.batches),
                training.learning_rate,
                training.weight_decay,
            ),
            loss=DiceCELoss(),
            weighted_metrics=[ClassDice(self.num_classes, name="dice")],
        )

    def validate(self, epoch: int) -> EpochScores:
        """Segment the volumes to validate on, where it is their turn."""
        training = self.recipe.training
        if epoch % training.validate_every and epoch < training.epochs:
            following = epoch + training.validate_every - epoch % training.validate_every
            print(f"Validation skipped until epoch {min(following, training.epochs)}.", flush=True)
            return {self.recipe.kind.best_by: None}
        self.float32_network.set_weights(self.model.get_weights())
        regions = list_regions(self.dataset, self.source.labels)
        ids = track(self.splits["validation"], label="Validating", unit="volume", leave=False)
        dice = mean_dice(map(self._segment, ids), regions)
        print(f"Validation Dice {dice:.4f}.", flush=True)
        return {self.recipe.kind.best_by: dice}

    def evaluate(self, run_directory: Path, best_epoch: int, history: list[EpochScores]) -> None:
        """Score every held-out volume on its own grid and write the report."""
        subset = "test" if "test" in self.splits else "validation"
        cases, summary = self._score(subset)
        metrics = {
            "subset": subset,
            "means": {name: score["mean"] for name, score in summary["mean"].items()},
            "volumes": len(cases),
            "best_epoch": best_epoch,
            "tolerance": TOLERANCE,
            "convention": describe_convention(TOLERANCE),
            "caution": self.recipe.kind.caution if subset == "validation" else None,
            "summary": summary,
        }
        if subset == "test":
            _, metrics["validation_summary"] = self._score("validation")
        write_csv(
            run_directory / "per_case.csv",
            [
                {"id": id_, "region": region, **scores}
                for id_, case in cases.items()
                for region, scores in case.items()
            ],
        )
        write_text(
            run_directory / "report.html",
            render_volume_report(
                title=self.title,
                metrics=metrics,
                history=history,
                cases=cases,
                read_case=self._read_case,
                labels=self.source.labels,
                preparation=self.fingerprint.describe(),
                recipe=self.recipe.to_dict(),
                environment=self._environment(run_directory),
            ),
        )
        # Last, since it tells that the run is finished.
        write_json(run_directory / "metrics.json", metrics)

    def _segment(self, id_: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the true and the predicted labels of a prepared volume."""
        volume, data = self.volumes[id_], self.recipe.data
        prediction = segment_volume(
            self.float32_network,
            np.asarray(volume.image, "float32"),
            data.patch_size,
            overlap=data.overlap,
        )
        return volume.segmentation_mask, prediction

    def _score(self, subset: str) -> tuple[dict[str, dict[str, Scores]], dict[str, Any]]:
        """Return the scores of every case of a part, by its id, and their summary."""
        ids = self.splits[subset]
        print(f"Evaluating {len(ids)} {subset} volumes.", flush=True)  # which takes minutes
        cases = score_volumes(
            self.float32_network, self.source, ids, self.fingerprint, self.recipe.data
        )
        group_of = dict(zip(self.source.ids, self.source.groups, strict=True))
        summary = summarize(list(cases.values()), [group_of[id_] for id_ in ids])
        dice = summary["mean"]["dice"]["mean"]
        print(f"{subset.capitalize()} Dice {dice:.4f} on the volumes' own grids.", flush=True)
        return cases, summary

    def _read_case(self, id_: str) -> SegmentedVolume:
        """Return a case as the report shows it, which segments it once more."""
        example = self.source.read(id_)
        prediction = segment_scan(
            self.float32_network,
            example.image,
            example.grid,
            self.fingerprint,
            self.recipe.data,
        )
        windows = self.fingerprint.intensity_windows
        return SegmentedVolume.of_example(example, prediction, windows[0] if windows else None)


def _build_network(
    recipe: VolumeRecipe, num_channels: int, num_classes: int, precision: str
) -> keras.Model:
    return registry.create(
        recipe.model.network,
        input_shape=(*recipe.data.patch_size, num_channels),
        num_classes=num_classes,
        dtype=precision,
        **recipe.model.arguments,
    )
