"""What exports are fed with and tried on: a run's own images, or patches of its volumes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_lgmsnet.data.images import Rows, preprocess
from keras_lgmsnet.data.patches import PreparedVolume, cut_patch, prepare_volumes
from keras_lgmsnet.data.volumes import load_volumes
from keras_lgmsnet.evaluation.selection import choose_ids, read_images
from keras_lgmsnet.export import model_card
from keras_lgmsnet.export.promises import terms_for
from keras_lgmsnet.run import ImageRun, Run, VolumeRun

NUM_CALIBRATION_EXAMPLES = 100
SEED = 0


@dataclass(frozen=True, eq=False)
class ExportExamples:
    """Some of the examples that a run held out, as exports take them.

    Args:
        ids: Of each.
        inputs: What an export takes, shape `(examples, *sides, channels)`: 8-bit RGB images, or
            normalised `float32` patches, one from the middle of what is labelled in each volume.
        segmentation_masks: 0 and 1 in the channels of the network's output, shape `(examples,
            *sides, num_classes)`.
        num_held_out: How many the run held out in all.
        prepare: From inputs to what the Keras network takes, `float32`.
        representative: Inputs that the run was trained on, for the ranges of int8.
        classes: Names of the output's channels.
        input: How to feed an export, for people and programs.
    """

    ids: Sequence[str]
    inputs: np.ndarray | Rows
    segmentation_masks: np.ndarray | Rows
    num_held_out: int
    prepare: Callable[[np.ndarray], np.ndarray]
    representative: np.ndarray | None
    classes: Sequence[str]
    input: dict[str, Any]


def read_export_examples(
    run: Run, manual_dir: str | None, data_dir: str | None, *, calibrate: bool
) -> ExportExamples:
    """Read what a run's exports are tried on.

    Args:
        run: The run.
        manual_dir: As for `keras_lgmsnet.export.export`.
        data_dir: As for `keras_lgmsnet.export.export`.
        calibrate: Whether to read `representative`, too.

    Raises:
        ValueError: If the network is none for the data of the run's recipe, or the data are damaged
            or not those of the run.
        FileNotFoundError: If the data are neither prepared nor downloaded.
    """
    read: Callable[..., ExportExamples] = run.kind.choose(
        images=_read_images, volumes=_read_patches
    )
    try:
        return read(run, manual_dir, data_dir, calibrate)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Its own held-out {run.kind.name} are needed to check the files on: say where they "
            f"are by --manual-dir (manual_dir=) or --data-dir (data_dir=). {error}"
        ) from error


def sample(ids: Sequence[str], count: int) -> list[str]:
    """Return so many of the ids, or all if there are no more, in their order."""
    if len(ids) <= count:
        return list(ids)
    chosen = np.random.default_rng(SEED).choice(len(ids), count, replace=False)
    return [ids[position] for position in sorted(chosen)]


def _read_images(
    run: ImageRun, manual_dir: str | None, data_dir: str | None, calibrate: bool
) -> ExportExamples:
    data = run.recipe.data
    _require_input_shape(run, (*data.image_size, 3))
    examples, held_out = read_images([run], None, manual_dir, data_dir)
    compared = examples.subset(sample(held_out, terms_for(run.kind).max_examples))
    shown = examples.subset(sample(run.train_ids, NUM_CALIBRATION_EXAMPLES))
    return ExportExamples(
        ids=compared.ids,
        inputs=compared.images,
        segmentation_masks=compared.segmentation_masks,
        num_held_out=len(held_out),
        prepare=lambda images: preprocess(images, data.preprocessing),
        representative=np.asarray(shown.images) if calibrate else None,
        classes=model_card.read_classes(data.source),
        input=model_card.describe_input(data),
    )


def _read_patches(
    run: VolumeRun, manual_dir: str | None, data_dir: str | None, calibrate: bool
) -> ExportExamples:
    data = run.recipe.data
    fingerprint = run.fingerprint
    _require_input_shape(run, (*data.patch_size, len(fingerprint.channels)))
    source = load_volumes(
        data.source,
        manual_dir,
        data_dir,
        allow_incomplete=data.allow_incomplete,
    )
    held_out = choose_ids([run], None, source, manual_dir)
    ids = sample(held_out, terms_for(run.kind).max_examples)
    volumes = prepare_volumes(
        source,
        ids,
        fingerprint,
        crop_foreground=data.crop_foreground,
    )
    patches = [cut_patch(volumes[id_], _middle(volumes[id_]), data.patch_size) for id_ in ids]
    images, labels = map(np.stack, zip(*patches, strict=True))
    return ExportExamples(
        ids=ids,
        inputs=images,
        segmentation_masks=labels[..., None] == np.arange(len(source.labels), dtype=labels.dtype),
        num_held_out=len(held_out),
        prepare=lambda images: images,
        representative=None,
        classes=list(source.labels.values()),
        input=model_card.describe_patch_input(data, fingerprint),
    )


def _middle(volume: PreparedVolume) -> tuple[int, ...]:
    """Return the middle of what is labelled in a volume; of one without labels, its own."""
    sides = volume.segmentation_mask.shape
    if not len(volume.labelled):
        return tuple(side // 2 for side in sides)
    return tuple(int(axis.mean()) for axis in np.unravel_index(volume.labelled, sides))


def _require_input_shape(run: Run, expected: tuple[int, ...]) -> None:
    """Raise `ValueError` unless the network is one for what the run's recipe says."""
    if run.network.input_shape[1:] != expected:
        raise ValueError(
            f"{run.directory / 'model.keras'} must be a network for {run.kind.name} of shape "
            f"{expected}, as the recipe says. Received: input_shape={run.network.input_shape[1:]}"
        )
