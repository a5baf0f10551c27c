"""Figures: the paper's pictures of data, features and predictions, of any run and dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_lgmsnet.data.images import ImageBatches
from keras_lgmsnet.data.sources import describe_source, read_examples
from keras_lgmsnet.evaluation.images import score_images
from keras_lgmsnet.evaluation.selection import describe_cautions, read_images
from keras_lgmsnet.figures.features import (
    HEAT_OPACITY,
    STAGES,
    activation_map,
    draw_redundancy,
    draw_spectra,
    draw_stage_maps,
    require_stages,
    stage_features,
)
from keras_lgmsnet.figures.foreground import draw_foreground_ratios, foreground_ratios
from keras_lgmsnet.figures.panels import draw_panels
from keras_lgmsnet.figures.redundancy import ENERGY, channel_redundancy
from keras_lgmsnet.figures.style import DPI, STYLE
from keras_lgmsnet.files.writing import (
    atomic_directory,
    require_unused,
    require_writable,
    write_csv,
    write_json,
)
from keras_lgmsnet.run import Run

# Images that the redundancy is measured on, at most: enough for it to settle, in little time.
REDUNDANCY_IMAGES = 64


def draw_figures(
    run_directory: str | Path,
    output_directory: str | Path,
    *,
    against: str | Path | None = None,
    dataset: str | None = None,
    foreground_of: Sequence[str] = (),
    images: Sequence[str] = (),
    stages: Sequence[str] = STAGES,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    allow_incomplete: bool = False,
) -> dict[str, Any]:
    """Draw what the paper shows of data, features and predictions.

    The output directory appears whole or not at all. Each figure is a PNG and a PDF:

    - `foreground_ratio`: the density of the share of an image that is lesion, in every image of
      the dataset and of those in `foreground_of` (paper, Fig. 1a); numbers in
      `foreground_ratio.csv`;
    - `redundancy`: how many channels of each stage hold 99 % of the energy, see
      `channel_redundancy` (Fig. 1c), and `spectra`, the singular values behind; numbers in
      `redundancy.csv` and `spectra.csv`. Measured on up to 64 of the images that can be scored,
      at even distances in the order of their ids;
    - `stages`: the activation of each stage over the chosen images, see `activation_map` (Fig. 1d
      and 5), and `stages_against`, of the other run;
    - `panels`: the chosen images with the truth and the predictions (Fig. 5); IoU in `panels.csv`.

    `figures.json` holds a caption for each, which says how it was made.

    Args:
        run_directory: What `lgms-train` wrote, on any backend.
        output_directory: Where to write; absent or empty.
        against: Another run directory, drawn beside the first: of another network, or one of
            other `kernel_sizes`.
        dataset: Name of a dataset in `tfds_builders`, such as one that the runs never saw; by
            default the run's own test images, or its validation images where none were set aside
            for a test.
        foreground_of: Names of more datasets for `foreground_ratio`.
        images: Ids of the images in `stages` and `panels`; by default those with the best, the
            median and the worst IoU of the first run, images without any outline left out.
        stages: Names of the network's layers to look at.
        manual_dir: Folder with the datasets' archives, as downloaded from their publishers.
        data_dir: Folder of prepared datasets; by default TensorFlow Datasets' own.
        allow_incomplete: Whether to go on with archives short of their published counts.

    Returns:
        The contents of `figures.json`: "run", "against", "dataset", "backend", "caution" (what
        must be said with the scores, or `None`) and "captions", some sentences for each figure.

    Raises:
        ValueError: If a file of a run is damaged, a network has no such stage, an id is not among
            the images, the dataset is unknown or was trained on, or the two runs cannot be scored
            on the same images.
        OSError: If a directory is no run, data is absent, or `output_directory` is in use or
            cannot be written to.

    Example:
    ```python
    figures = draw_figures("runs/isic", "figures", against="runs/single_kernel")
    figures["captions"]["redundancy"]
    ```
    """
    output_directory = Path(output_directory)
    require_unused(output_directory)
    require_writable(output_directory)
    runs = [Run.read(Path(run)) for run in (run_directory, against) if run is not None]
    named_runs = dict(zip(_names(runs), runs, strict=True))
    for run in runs:
        require_stages(run, stages)
    examples, ids = read_images(runs, dataset, manual_dir, data_dir, allow_incomplete)
    caution = describe_cautions(runs, dataset, examples)
    dataset = describe_source(dataset or runs[0].recipe.data.source, manual_dir)
    if not ids:
        raise ValueError(f"{run_directory} held out no image of {dataset}: there is none to draw.")
    if unknown := [id_ for id_ in images if id_ not in set(ids)]:
        raise ValueError(
            f"Images must be among the {len(ids)} of {dataset} that can be scored, such as "
            f"{ids[0]!r}. Received: {unknown[0]!r}"
        )

    ratios = {dataset: (examples.ids, foreground_ratios(examples.segmentation_masks))}
    examples = examples.subset(ids)
    for name in foreground_of:
        more = read_examples(
            runs[0].recipe, manual_dir, data_dir, source=name, allow_incomplete=allow_incomplete
        )
        ratios[name] = (more.ids, foreground_ratios(more.segmentation_masks))
        del more

    predictions, ious = {}, {}
    for name, run in named_runs.items():
        data, batch_size = run.recipe.data, run.recipe.training.batch_size
        batches = ImageBatches(examples, batch_size, preprocessing=data.preprocessing)
        scores, predictions[name] = score_images(run.network, batches)
        ious[name] = scores["iou"]
    first = next(iter(named_runs))
    positions = {id_: position for position, id_ in enumerate(ids)}
    chosen = {positions[id_]: "" for id_ in images} or _extreme_cases(
        ious[first],
        np.logical_or(examples.segmentation_masks, predictions[first]).any(axis=(1, 2, 3)),
    )
    indices = list(chosen)
    cases = examples.subset([ids[index] for index in indices])
    labels = [
        f"{rule}\n{id_}".strip() for rule, id_ in zip(chosen.values(), cases.ids, strict=True)
    ]
    sample = examples.subset(_sample(ids))
    redundancies = {
        name: channel_redundancy(stage_features(run, sample.images, stages))
        for name, run in named_runs.items()
    }
    figures = {
        "foreground_ratio": draw_foreground_ratios(
            {k: values for k, (_, values) in ratios.items()}
        ),
        "redundancy": draw_redundancy(redundancies),
        "spectra": draw_spectra(redundancies),
    }
    for name, run in named_runs.items():
        maps = [
            {stage: activation_map(values) for stage, values in features.items()}
            for features in stage_features(run, cases.images, stages)
        ]
        figure = "stages" if name == first else "stages_against"
        figures[figure] = draw_stage_maps(cases, labels, maps)
    figures["panels"] = draw_panels(
        cases,
        labels,
        {name: values[indices] for name, values in predictions.items()},
        {name: values[indices] for name, values in ious.items()},
    )
    tables = {
        "foreground_ratio": [
            {"dataset": name, "id": id_, "foreground_ratio": ratio}
            for name, (ids_, values) in ratios.items()
            for id_, ratio in zip(ids_, values.tolist(), strict=True)
        ],
        "redundancy": [
            {
                "run": name,
                "kernel_sizes": " ".join(map(str, run.recipe.model.kernel_sizes)),
                "stage": stage,
                "channels": redundancy.num_channels,
                "components_needed": redundancy.components_needed,
                "share_needed": redundancy.components_needed / redundancy.num_channels,
                "effective_rank": redundancy.effective_rank,
                "components_needed_per_image": redundancy.per_image.mean(),
                "standard_deviation": redundancy.per_image.std(),
                "images": len(redundancy.per_image),
            }
            for name, run in named_runs.items()
            for stage, redundancy in redundancies[name].items()
        ],
        "spectra": [
            {"run": name, "stage": stage, "number": number, "energy_share": share}
            for name, stages_ in redundancies.items()
            for stage, redundancy in stages_.items()
            for number, share in enumerate(redundancy.energy.tolist(), start=1)
        ],
        "panels": [
            {"id": ids[index], "rule": rule, **{f"iou {name}": ious[name][index] for name in ious}}
            for index, rule in chosen.items()
        ],
    }
    captions = _captions(named_runs, dataset, len(ids), len(sample.ids), bool(images))
    outcome = {
        "run": str(run_directory),
        "against": None if against is None else str(against),
        "dataset": dataset,
        "backend": keras.backend.backend(),
        "caution": caution,
        "captions": {name: captions[name] for name in figures},
    }
    _write(output_directory, figures, tables, outcome)
    return outcome


# Foreground ratio


# Features


# Pictures


# Choices, words and files


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the runs' names, as short as they differ."""
    names = [run.directory.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.directory) for run in runs]


def _extreme_cases(ious: np.ndarray, outlined_: np.ndarray) -> dict[int, str]:
    """Return the images of best, median and worst IoU, and which they are."""
    # A picture without outlines shows nothing, however right it is.
    candidates = np.flatnonzero(outlined_) if outlined_.any() else np.arange(len(ious))
    order = candidates[np.argsort(-ious[candidates], kind="stable")].tolist()
    rules: dict[int, str] = {}
    for rule, index in (
        ("best", order[0]),
        ("median", order[(len(order) - 1) // 2]),
        ("worst", order[-1]),
    ):
        rules[index] = f"{rules[index]}, {rule}" if index in rules else rule
    return rules


def _sample(ids: Sequence[str]) -> list[str]:
    """Return ids at even distances in their order, `REDUNDANCY_IMAGES` at most."""
    count = min(len(ids), REDUNDANCY_IMAGES)
    positions = np.linspace(0, len(ids) - 1, count).round().astype(int)
    return [sorted(ids)[position] for position in positions]


def _captions(
    runs: Mapping[str, Run], dataset: str, scored: int, sampled: int, named: bool
) -> dict[str, str]:
    kernels = "; ".join(
        f"{name}: {', '.join(map(str, run.recipe.model.kernel_sizes))}"
        for name, run in runs.items()
    )
    first = next(iter(runs))
    resized = " × ".join(map(str, runs[first].recipe.data.image_size)) + " pixels"
    features = (
        f"Features of {sampled} of the {scored} images of {dataset} that can be scored, at "
        f"{resized}. Kernel sizes of the local multiscale blocks: {kernels}."
    )
    activations = (
        "mean of the absolute activations over each stage's channels, from its least to its "
        "greatest value in each map, enlarged linearly over the image in grey, at "
        f"{100 * HEAT_OPACITY:.0f} % opacity; outline: truth."
    )
    rule = (
        f" Best, median and worst are by the IoU of {first} among {scored} images, those with "
        "nothing to outline left out."
    )
    return {
        "foreground_ratio": (
            f"Density of the share of an image that is lesion, at {resized}, in images with a "
            "lesion; dots: medians. Gaussian kernels of Silverman's width on the logarithm."
        ),
        "redundancy": (
            f"Bars: least number of singular values, printed above, that hold {100 * ENERGY:.0f} % "
            "of the energy of a stage's features, in percent of its channels; fewer means more "
            "redundancy. Rows of the decomposed matrix are the pixels of all images, columns are "
            "channels, each minus its mean. Diamonds: the same of each image alone, averaged; a "
            f"stage of fewer pixels than channels cannot reach 100 %. {features}"
        ),
        "spectra": (
            "Singular values of each stage's features, by the largest; dots: the number at which "
            f"{100 * ENERGY:.0f} % of the energy, their sum of squares, is reached. {features}"
        ),
        **{
            figure: f"{name}: {activations}"
            for figure, name in zip(("stages", "stages_against"), runs, strict=False)
        },
        "panels": (
            f"Images of {dataset}, truth and predictions at a probability of 0.5 and {resized}, "
            f"shown in their original proportions.{'' if named else rule}"
        ),
    }


@matplotlib.rc_context(STYLE)
def _write(
    output_directory: Path,
    figures: Mapping[str, Figure],
    tables: Mapping[str, list[dict[str, Any]]],
    outcome: dict[str, Any],
) -> None:
    with atomic_directory(output_directory) as unfinished:
        for name, figure in figures.items():
            figure.savefig(unfinished / f"{name}.png", dpi=DPI)
            # Without a date, the same figure is the same file.
            figure.savefig(unfinished / f"{name}.pdf", dpi=300, metadata={"CreationDate": None})
        for name, rows in tables.items():
            write_csv(unfinished / f"{name}.csv", rows)
        write_json(unfinished / "figures.json", outcome)
