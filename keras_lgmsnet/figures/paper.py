"""The paper's figures of data, features and predictions, of any run on images and any dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.data.images import Examples, ImageBatches
from keras_lgmsnet.data.sources import describe_source, read_examples
from keras_lgmsnet.drawing.cases import has_outlines, name_extremes
from keras_lgmsnet.evaluation.images import score_images
from keras_lgmsnet.evaluation.selection import describe_cautions, read_images
from keras_lgmsnet.figures.captioned import CaptionedFigure, write_figures
from keras_lgmsnet.figures.features import choose_stages, stage_features
from keras_lgmsnet.figures.foreground import foreground_figure, foreground_ratios
from keras_lgmsnet.figures.panels import panels_figure
from keras_lgmsnet.figures.pictures import Cases
from keras_lgmsnet.figures.redundancy import channel_redundancy
from keras_lgmsnet.figures.spectra import redundancy_figure, spectra_figure
from keras_lgmsnet.figures.stage_maps import stage_maps_figure
from keras_lgmsnet.files.writing import (
    atomic_directory,
    require_unused,
    require_writable,
    write_json,
)
from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.schema import AnyRecipe
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
    stages: Sequence[str] = (),
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    allow_incomplete: bool = False,
    mask_threshold: int | None = None,
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
        against: Another run directory, drawn beside the first: of another network, or of one with
            other arguments. Stages of the same name share a place.
        dataset: Name of a dataset in `tfds_builders`, such as one that the runs never saw; by
            default the run's own test images, or its validation images where none were set aside
            for a test.
        foreground_of: Names of more datasets for `foreground_ratio`.
        images: Ids of the images in `stages` and `panels`; by default those with the best, the
            median and the worst IoU of the first run, images without any outline left out.
        stages: Names of layers to look at, in whichever network has them; by default those that
            `keras_lgmsnet.models.registry` lists for each network.
        manual_dir: Folder with the datasets' archives, as downloaded from their publishers.
        data_dir: Folder of prepared datasets; by default TensorFlow Datasets' own.
        allow_incomplete: Whether to go on with archives short of their published counts.
        mask_threshold: As `evaluation.evaluate` takes it.

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
    stages_of_runs = dict(zip(_names(runs), choose_stages(runs, stages), strict=True))
    recipe = runs[0].recipe
    examples, ids = read_images(
        runs, dataset, manual_dir, data_dir, allow_incomplete, mask_threshold
    )
    caution = describe_cautions(runs, dataset, examples)
    dataset = describe_source(dataset or recipe.data.source, manual_dir)
    if not ids:
        raise ValueError(f"{run_directory} held out no image of {dataset}: there is none to draw.")
    if unknown := [id_ for id_ in images if id_ not in set(ids)]:
        raise ValueError(
            f"Images must be among the {len(ids)} of {dataset} that can be scored, such as "
            f"{ids[0]!r}. Received: {unknown[0]!r}"
        )
    ratios = {dataset: _ratios_by_id(examples)}
    for name in foreground_of:
        ratios[name] = _ratios_by_id(
            read_examples(
                recipe, manual_dir, data_dir, source=name, allow_incomplete=allow_incomplete
            )
        )
    named_runs = dict(zip(_names(runs), runs, strict=True))
    scored = examples.subset(ids)
    size = describe_size(recipe.data.image_size)
    figures = {
        "foreground_ratio": foreground_figure(ratios, size),
        **_draw_redundancy(named_runs, scored, stages_of_runs, dataset, size),
        **_draw_cases(named_runs, scored, images, stages_of_runs, dataset, size),
    }
    outcome = {
        "run": str(run_directory),
        "against": None if against is None else str(against),
        "dataset": dataset,
        "backend": keras.backend.backend(),
        "caution": caution,
        "captions": {name: figure.caption for name, figure in figures.items()},
    }
    with atomic_directory(output_directory) as unfinished:
        write_figures(unfinished, figures)
        write_json(unfinished / "figures.json", outcome)
    return outcome


def _draw_redundancy(
    runs: Mapping[str, Run],
    examples: Examples,
    stages: Mapping[str, Sequence[str]],
    dataset: str,
    size: str,
) -> dict[str, CaptionedFigure]:
    """Measure the redundancy of the channels on some of the images, and draw it."""
    sample = examples.subset(evenly_spread(examples.ids, REDUNDANCY_IMAGES))
    redundancies = {
        name: channel_redundancy(stage_features(run, sample.images, stages[name]))
        for name, run in runs.items()
    }
    networks = describe_networks({name: run.recipe for name, run in runs.items()})
    described = "; ".join(f"{name}: {network}" for name, network in networks.items())
    origin = (
        f"Features of {len(sample.ids)} of the {len(examples.ids)} images of {dataset} that can be "
        f"scored, at {size}. Networks: {described}."
    )
    return {
        "redundancy": redundancy_figure(redundancies, networks, origin),
        "spectra": spectra_figure(redundancies, origin),
    }


def _draw_cases(
    runs: Mapping[str, Run],
    examples: Examples,
    image_ids: Sequence[str],
    stages: Mapping[str, Sequence[str]],
    dataset: str,
    size: str,
) -> dict[str, CaptionedFigure]:
    """Choose images by how the first run segments them, or by id, and draw them."""
    predictions, ious = {}, {}
    for name, run in runs.items():
        data, batch_size = run.recipe.data, run.recipe.training.batch_size
        batches = ImageBatches(examples, batch_size, preprocessing=data.preprocessing)
        scores, predictions[name] = score_images(run.network, batches)
        ious[name] = scores["iou"]
    if image_ids:
        chosen = {examples.ids.index(id_): "" for id_ in image_ids}
        choice = ""
    else:
        first = next(iter(runs))
        shows = has_outlines(examples.segmentation_masks, predictions[first])
        chosen = choose_extremes(ious[first], shows)
        choice = (
            f"Best, median and worst are by the IoU of {first} among {len(examples.ids)} images, "
            "those with nothing to outline left out."
        )
    indices = list(chosen)
    ids = [examples.ids[index] for index in indices]
    cases = Cases(examples.subset(ids), list(chosen.values()), choice)
    figures = {
        figure: stage_maps_figure(name, run, cases, stages[name])
        for figure, (name, run) in zip(("stages", "stages_against"), runs.items(), strict=False)
    }
    figures["panels"] = panels_figure(
        cases,
        {name: values[indices] for name, values in predictions.items()},
        {name: values[indices] for name, values in ious.items()},
        dataset=dataset,
        size=size,
    )
    return figures


def describe_networks(recipes: Mapping[str, AnyRecipe]) -> dict[str, str]:
    """Return the network of each recipe, by the recipe's name: `"U-Net with filters=(8, 16)"`.

    Of its arguments, those are told that are not the defaults in all recipes of that network.
    """
    networks = {
        name: registry.find(recipe.model.network, recipe.rank) for name, recipe in recipes.items()
    }
    arguments = {
        name: network.complete(recipes[name].model.arguments) for name, network in networks.items()
    }
    described = {}
    for name, network in networks.items():
        alike = [arguments[other] for other in recipes if networks[other] is network]
        told = [
            f"{argument}={arguments[name][argument]!r}"
            for argument, default in network.arguments().items()
            if any(values[argument] != default for values in alike)
        ]
        described[name] = network.title + (f" with {', '.join(told)}" if told else "")
    return described


def choose_extremes(ious: np.ndarray, shows: np.ndarray) -> dict[int, str]:
    """Return the images of best, median and worst IoU, and which they are.

    Args:
        ious: One an image.
        shows: Whether an image has anything to outline; one that has not is chosen only where none
            has.
    """
    return name_extremes(ious, np.flatnonzero(shows) if shows.any() else np.arange(len(ious)))


def evenly_spread(ids: Sequence[str], count: int) -> list[str]:
    """Return so many ids, at most, at even distances in their order."""
    count = min(len(ids), count)
    positions = np.linspace(0, len(ids) - 1, count).round().astype(int)
    return [sorted(ids)[position] for position in positions]


def _ratios_by_id(examples: Examples) -> dict[str, float]:
    """Return the foreground ratio of each image."""
    ratios = foreground_ratios(np.asarray(examples.segmentation_masks))
    return dict(zip(examples.ids, ratios.tolist(), strict=True))


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the runs' names, as short as they differ."""
    names = [run.directory.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.directory) for run in runs]


def describe_size(image_size: Sequence[int]) -> str:
    """Return a size in words: `"256 × 256 pixels"`."""
    return f"{' × '.join(map(str, image_size))} pixels"
