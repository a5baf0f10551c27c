"""Which examples runs may be scored on, and what must be said with such scores."""

from collections.abc import Sequence
from pathlib import Path

from keras_lgmsnet.data.image_fingerprint import Fingerprint
from keras_lgmsnet.data.images import (
    Examples,
    describe_one_sided,
    describe_own_scales,
    describe_pixels_between,
)
from keras_lgmsnet.data.sources import describe_source, read_examples
from keras_lgmsnet.data.volumes import VolumeSource
from keras_lgmsnet.run import ImageRun, Run
from keras_lgmsnet.run_directory import describe_unfinished


def read_images(
    runs: Sequence[Run],
    dataset: str | None,
    manual_dir: str | Path | None,
    data_dir: str | Path | None,
    allow_incomplete: bool = False,
    mask_threshold: int | None = None,
) -> tuple[Examples, list[str]]:
    """Read a dataset, and tell which of its images all runs can be scored on.

    Args:
        runs: One or more runs.
        dataset: Name of a dataset; by default the runs' own.
        manual_dir: Folder with the dataset's archives, as downloaded from its publisher.
        data_dir: Folder of prepared datasets; by default TensorFlow Datasets' own.
        allow_incomplete: Whether to go on with an archive short of its published count.
        mask_threshold: As `read_examples` takes it.

    Returns:
        All images of the dataset, and the ids of those to score: of the runs' own dataset those
        that they held out; of another one all, and never one that a run was trained on.

    Raises:
        ValueError: If the runs cannot be scored on the same images, or the dataset is unknown,
            damaged or was trained on.
        FileNotFoundError: If the dataset is neither prepared nor downloaded.
    """
    first = runs[0]
    for run in runs:
        if not isinstance(run, ImageRun):
            raise ValueError(
                f"The run must be one on images. Received: {run.directory}, trained on "
                f"{run.kind.name}"
            )
        if run.recipe.data.image_size != first.recipe.data.image_size:
            raise ValueError(
                "Runs can be compared at one image_size only, since their masks differ otherwise. "
                f"Received: {_size(first)} in {first.directory}, {_size(run)} in {run.directory}"
            )
        if run.recipe.data.interpolation != first.recipe.data.interpolation:
            raise ValueError(
                "Runs can be compared on images resized in one way only. Received: "
                f"{first.recipe.data.interpolation} in {first.directory}, "
                f"{run.recipe.data.interpolation} in {run.directory}"
            )
    require_same_subset(runs, dataset)
    examples = read_examples(
        first.recipe,
        manual_dir,
        data_dir,
        source=dataset,
        allow_incomplete=allow_incomplete,
        mask_threshold=mask_threshold,
    )
    return examples, choose_ids(runs, dataset, examples, manual_dir)


def require_same_subset(runs: Sequence[Run], dataset: str | None) -> None:
    """Raise `ValueError` unless runs can be compared on what they held out, or on `dataset`."""
    first = runs[0]
    for run in runs[1:]:
        if dataset is None and (
            _builder(run.dataset) != _builder(first.dataset)
            or set(run.subset_ids) != set(first.subset_ids)
        ):
            raise ValueError(
                f"{first.directory} and {run.directory} held out different {first.kind.name}, so "
                "they cannot be compared there; name a dataset that neither was trained on: "
                "--dataset (dataset=)."
            )


def choose_ids(
    runs: Sequence[Run],
    dataset: str | None,
    examples: Examples | VolumeSource,
    manual_dir: str | Path | None,
) -> list[str]:
    """Return which examples of a dataset all runs can be scored on.

    Args:
        runs: One or more runs of one kind.
        dataset: Name of the dataset; `None` for the runs' own.
        examples: What was read of it.
        manual_dir: Folder that it was read from.

    Returns:
        Of the runs' own dataset the ids that they held out; of another one all.

    Raises:
        ValueError: If their own dataset is no longer the one they were trained on, or a run was
            trained on examples of the other one.
    """
    first = runs[0]
    if dataset is None:
        if examples.dataset != first.dataset:
            raise ValueError(
                f"The {first.kind.name} of {describe_source(first.recipe.data.source, manual_dir)} "
                f"are not those that {first.directory} was trained on: give it the same data, or "
                f"score all of other data by --dataset (dataset=). Received: {examples.dataset} "
                f"instead of {first.dataset}"
            )
        return list(first.subset_ids)
    for run in runs:
        trained_on = _trained_on(run, examples)
        if _builder(examples.dataset) == _builder(run.dataset) and trained_on:
            raise ValueError(
                f"{run.directory} was trained on {len(trained_on)} of the {len(examples.ids)} "
                f"{run.kind.name} of {describe_source(dataset, manual_dir)}, such as "
                f"{min(trained_on)}: leave --dataset (dataset=) out to score its {run.subset} "
                f"{run.kind.name}."
            )
    return examples.ids


def describe_cautions(
    runs: Sequence[Run], dataset: str | None, examples: Examples | VolumeSource
) -> str | None:
    """Return what must be said with the scores of runs on the examples that were read, if any."""
    cautions = []
    if dataset is None and runs[0].subset == "validation":
        cautions.append(runs[0].kind.caution)
    for run in runs:
        if unfinished := describe_unfinished(run.directory):
            cautions.append(unfinished)
        # Only folders of the user's get here with ids trained on, since theirs may mean anything.
        if dataset == run.recipe.data.source and (same_names := _trained_on(run, examples)):
            cautions.append(
                f"{run.directory} was trained on {run.kind.name} of {len(same_names)} of these "
                f"names in another folder: where they are the same {run.kind.name}, its scores are "
                "optimistic."
            )
        if isinstance(examples, Examples) and dataset is not None and examples.bits:
            path = run.directory / "fingerprint.json"
            trained_on = Fingerprint.read(run.directory).bits if path.exists() else None
            if examples.bits != trained_on:
                told = f", those that {run.directory} was trained on of {trained_on}"
                cautions.append(
                    "Images whose files do not say how many bits they use are read as of "
                    f"{examples.bits}{told if trained_on else ''}."
                )
    if isinstance(examples, Examples):
        if one_sided := describe_one_sided(examples.segmentation_masks):
            told = {"empty": "false alarms", "full": "what is missed"}[one_sided]
            cautions.append(f"All masks are {one_sided}: the scores tell {told} only.")
        if own_scales := describe_own_scales(examples):
            cautions.append(own_scales)
        if between := describe_pixels_between(examples):
            cautions.append(between)
    elif remarks := examples.describe_remarks():
        cautions.append(remarks)
    return " ".join(cautions) or None


def _builder(dataset: str) -> str:
    """Return the part of a dataset's name within which equal ids mean equal images.

    A config or version only chooses among a dataset's images.
    """
    return dataset.partition("/")[0]


def _trained_on(run: Run, examples: Examples | VolumeSource) -> set[str]:
    """Return the examples' ids that are also ids of what the run was trained on."""
    return set(run.train_ids) & set(examples.ids)


def _size(run: Run) -> str:
    return " × ".join(map(str, run.recipe.data.image_size))
