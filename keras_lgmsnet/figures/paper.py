"""Figures: the paper's pictures of data, features and predictions, of any run and dataset."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import keras
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tqdm.auto import tqdm

from keras_lgmsnet.data.images import Examples, ImageBatches, preprocess
from keras_lgmsnet.data.sources import describe_source, read_examples
from keras_lgmsnet.redundancy import ENERGY, Redundancy, channel_redundancy
from keras_lgmsnet.report import PREDICTION_COLOR, TRUTH_COLOR, outlined, style_axes
from keras_lgmsnet.run_directory import (
    atomic_directory,
    require_unused,
    require_writable,
    write_csv,
    write_json,
)
from keras_lgmsnet.scoring import Run, describe_cautions, read_images, score_images

# The stages of `LGMSNet2D` that hold its blocks, in the order of the data.
STAGES = (
    *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
    *("decoder5", "decoder4", "decoder3", "decoder2"),
)

# Images that the redundancy is measured on, at most: enough for it to settle, in little time.
REDUNDANCY_IMAGES = 64

# Okabe and Ito's colours, which the colour-blind tell apart, and lines that do without colour.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LINES = ("-", "--", "-.", ":")

_WIDTH = 7.2  # inches: two columns of a journal's page
_FONT_SIZE = 8
_DPI = 200
_STYLE = {"font.size": _FONT_SIZE, "axes.titlesize": _FONT_SIZE, "pdf.fonttype": 42}
_HEAT = "inferno"
_HEAT_OPACITY = 0.6


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
        _require_stages(run, stages)
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


def foreground_ratios(segmentation_masks: np.ndarray) -> np.ndarray:
    """Return the share of each image that is lesion of any class, 0 to 1.

    Args:
        segmentation_masks: 0 or 1, shape `(images, height, width, num_classes)`.

    Returns:
        Shape `(images,)`.
    """
    return segmentation_masks.any(axis=-1).mean(axis=(1, 2))


@matplotlib.rc_context(_STYLE)
def draw_foreground_ratios(ratios: Mapping[str, np.ndarray]) -> Figure:
    """Draw the density of the foreground ratio of datasets on one axis, with medians.

    The density f is that of the images with a lesion, estimated for the logarithm of the ratio,
    where small lesions have room, and carried back: f(x) = g(ln x) / x, with g a sum of Gaussians
    of Silverman's width, 0.9 · min(standard deviation, interquartile range / 1.34) · n^(−1/5) and
    at least 0.1, reflected at a ratio of 1. So nothing lies outside 0 to 1, and small lesions are
    not smeared over those as small as none. Images without a lesion are counted in the legend.

    Args:
        ratios: For each dataset's name the ratios of its images, 0 to 1.
    """
    figure = Figure(figsize=(_WIDTH * 0.7, 3.2), layout="constrained")
    axes = figure.subplots()
    grid = np.linspace(0, 1, 1001)[1:]
    for (name, values), (color, line) in zip(ratios.items(), _looks(), strict=False):
        lesions = values[values > 0]
        label = f"{_plain(name)}: {len(lesions)} images"
        if len(lesions):
            density = _density(lesions, grid)
            middle = float(np.median(lesions))
            label += f", median {100 * middle:.1f} %"
            axes.fill_between(100 * grid, density, color=color, alpha=0.08, linewidth=0)
            height = np.interp(middle, grid, density)
            axes.plot(100 * middle, height, marker="o", color=color, markersize=5)
        else:
            density = np.zeros_like(grid)
        if len(lesions) < len(values):
            label += f"; {len(values) - len(lesions)} without lesion"
        axes.plot(100 * grid, density, color=color, linestyle=line, label=label)
    axes.set(xlabel="Lesion, % of the image (dot: median)", xlim=(0, 100), ylim=(0, None))
    axes.set(ylabel="Images, % per percentage point")
    axes.legend(frameon=False)
    _style(axes)
    return figure


def _density(ratios: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the density of ratios above 0 at the points of a grid above 0."""
    logarithms = np.log(ratios)
    low, high = np.quantile(logarithms, [0.25, 0.75])
    width = 0.9 * min(logarithms.std(), (high - low) / 1.34) * len(ratios) ** -0.2
    width = max(width, 0.1)
    density = np.zeros_like(grid)
    for point in np.concatenate([logarithms, -logarithms]):
        density += np.exp(-0.5 * ((np.log(grid) - point) / width) ** 2)
    return density / (len(ratios) * width * math.sqrt(2 * math.pi) * grid)


# Features


def stage_features(
    run: Run, images: np.ndarray, stages: Sequence[str] = STAGES
) -> Iterator[dict[str, np.ndarray]]:
    """Yield what the stages of a run's network make of each image, one image at a time.

    Args:
        run: The run; its recipe's preprocessing is applied.
        images: 8-bit RGB, shape `(images, height, width, 3)`.
        stages: Names of layers of the network.

    Yields:
        For each stage its output, shape `(height, width, channels)` at the stage's resolution.

    Raises:
        ValueError: If the network has no such layer, or its features are not finite.
    """
    _require_stages(run, stages)
    network = run.network
    outputs = {stage: network.get_layer(stage).output for stage in stages}
    features_of = keras.Model(network.input, outputs)
    for image in tqdm(images, desc="Looking into the network", unit="image", disable=None):
        batch = preprocess(image[None], run.recipe.data.preprocessing)
        features = features_of.predict_on_batch(batch)
        yield {stage: np.asarray(features[stage])[0] for stage in stages}


@matplotlib.rc_context(_STYLE)
def draw_redundancy(redundancies: Mapping[str, Mapping[str, Redundancy]]) -> Figure:
    """Draw the components needed in each stage, by its channels, a bar for each run.

    Args:
        redundancies: For each run's name what `channel_redundancy` returned, of the same stages.
    """
    figure = Figure(figsize=(_WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    stages = list(next(iter(redundancies.values())))
    width = 0.8 / len(redundancies)
    for number, (run, color) in enumerate(zip(redundancies, _COLORS, strict=False)):
        rows = [redundancies[run][stage] for stage in stages]
        x = np.arange(len(stages)) + (number - (len(redundancies) - 1) / 2) * width
        needed = np.array([row.components_needed / row.num_channels for row in rows])
        means = np.array([row.per_image.mean() / row.num_channels for row in rows])
        axes.bar(x, 100 * needed, 0.92 * width, color=color, label=_plain(run))
        look = {"marker": "D", "s": 14, "facecolor": "white", "edgecolor": "black", "zorder": 3}
        axes.scatter(x, 100 * means, linewidth=0.8, **look)
        for row, middle, height in zip(rows, x, 100 * np.maximum(needed, means), strict=True):
            # Above the diamond, too, which can be higher than the bar.
            text = {"ha": "center", "va": "bottom", "fontsize": _FONT_SIZE - 1}
            axes.text(middle, height + 2, str(row.components_needed), **text)
    points = axes.scatter([], [], linewidth=0.8, label="mean of single images", **look)
    channels = [redundancies[run][stage].num_channels for stage in stages]
    names = [f"{_plain(stage)}\n{count}" for stage, count in zip(stages, channels, strict=True)]
    axes.set_xticks(range(len(stages)), names)
    axes.set(xlabel="Stage and number of its channels", ylim=(0, 108))
    axes.set(ylabel=f"Components for {100 * ENERGY:.0f} % of\nthe energy, % of the channels")
    _style(axes)
    axes.grid(visible=False, axis="x")
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda index: handles[index] is points)  # runs first
    figure.legend(
        [handles[index] for index in order],
        [names[index] for index in order],
        loc="outside upper center",
        ncols=3,
        frameon=False,
    )
    return figure


@matplotlib.rc_context(_STYLE)
def draw_spectra(redundancies: Mapping[str, Mapping[str, Redundancy]]) -> Figure:
    """Draw each stage's singular values, as shares of the largest, a line for each run.

    Args:
        redundancies: For each run's name what `channel_redundancy` returned, of the same stages.
    """
    stages = list(next(iter(redundancies.values())))
    columns = min(3, len(stages))
    rows = math.ceil(len(stages) / columns)
    figure = Figure(figsize=(_WIDTH, 1.7 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    energies = [row.energy for stages_ in redundancies.values() for row in stages_.values()]
    ends = [math.sqrt(energy[-1] / energy[0]) for energy in energies if energy[-1] > 0]
    lowest = max(1e-4, 0.7 * min(ends, default=1e-4))
    for stage, axes in itertools.zip_longest(stages, grid.flat):
        if stage is None:
            axes.set_visible(False)
            continue
        for run, (color, line) in zip(redundancies, _looks(), strict=False):
            redundancy = redundancies[run][stage]
            needed = redundancy.components_needed
            if not needed:
                continue  # constant features have no singular values to draw
            values = np.sqrt(redundancy.energy / redundancy.energy[0])
            numbers = np.arange(1, len(values) + 1)
            axes.plot(numbers, values, color=color, linestyle=line)
            axes.plot(needed, values[needed - 1], marker="o", color=color, markersize=5)
        axes.set(title=f"{_plain(stage)}, {redundancy.num_channels} channels")
        axes.set(yscale="log", ylim=(lowest, 1.5), xlim=(0, redundancy.num_channels + 1))
        axes.xaxis.get_major_locator().set_params(integer=True)
        _style(axes)
    reached = f"dot: {100 * ENERGY:.0f} % of the energy reached"
    figure.supxlabel(f"Number of the singular value ({reached})", fontsize=_FONT_SIZE)
    figure.supylabel("Singular value / largest", fontsize=_FONT_SIZE)
    handles = [
        Line2D([], [], color=color, linestyle=line, marker="o", markersize=5, label=_plain(run))
        for run, (color, line) in zip(redundancies, _looks(), strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


# Pictures


def activation_map(features: np.ndarray) -> np.ndarray:
    """Return where a stage is active: mean of the absolute values of its channels, 0 to 1.

    Each map is normalised alone, its least value to 0 and its greatest to 1; one that is the same
    everywhere is 0. So maps tell where a stage is active, not how strongly.

    Args:
        features: Shape `(*sides, channels)`.

    Returns:
        Shape `sides`.
    """
    activation = np.abs(features).mean(axis=-1)
    low, high = activation.min(), activation.max()
    return (activation - low) / (high - low) if high > low else np.zeros_like(activation)


@matplotlib.rc_context(_STYLE)
def draw_stage_maps(
    examples: Examples, labels: Sequence[str], maps: Sequence[Mapping[str, np.ndarray]]
) -> Figure:
    """Draw images with the true outline, and the activation maps of the stages over them.

    Maps are enlarged linearly to their image, and images are shown in their original proportions.

    Args:
        examples: The images.
        labels: What to write beside each image.
        maps: For each image and stage what `activation_map` returned.
    """
    stages = list(maps[0])
    columns = min(5, 1 + len(stages))
    rows = math.ceil((1 + len(stages)) / columns)
    figure, grid = _picture_grid(examples, columns, rows, between=0.21, below=0.62)
    for index, label in enumerate(labels):
        panels = grid[index * rows : (index + 1) * rows].ravel()
        image, mask = examples.images[index], examples.segmentation_masks[index]
        _show(panels[0], outlined(image, mask), examples, index, "image and truth")
        panels[0].set_ylabel(_plain(label))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, axis=-1)
        for panel, (stage, map_) in zip(panels[1:], maps[index].items(), strict=False):
            _show(panel, _heat(grey, mask, map_), examples, index, stage)
        for panel in panels[1 + len(stages) :]:
            panel.set_visible(False)
    bar = figure.colorbar(
        ScalarMappable(cmap=_HEAT),
        ax=grid,
        location="bottom",
        aspect=50,
        shrink=0.5,
        ticks=[0, 1],
        label="mean of the absolute activations of a stage's channels, each map on its own scale",
    )
    bar.ax.set_xticklabels(["least", "greatest"])
    return figure


@matplotlib.rc_context(_STYLE)
def draw_panels(
    examples: Examples,
    labels: Sequence[str],
    predictions: Mapping[str, np.ndarray],
    ious: Mapping[str, np.ndarray],
) -> Figure:
    """Draw images beside the truth and the predictions of one run or more, outlined.

    Images are shown in their original proportions.

    Args:
        examples: The images.
        labels: What to write beside each image.
        predictions: For each run's name its masks, shape `(images, height, width, num_classes)`.
        ious: For each run's name the IoU of every image.
    """
    figure, grid = _picture_grid(examples, 2 + len(predictions), 1, between=0.3, below=0.4)
    for index, label in enumerate(labels):
        image, mask = examples.images[index], examples.segmentation_masks[index]
        nothing = np.zeros_like(mask)
        shown = [
            ("image", outlined(image, nothing), ""),
            ("truth", outlined(image, mask), "" if mask.any() else "no lesion"),
        ]
        for run, masks in predictions.items():
            drawn = outlined(image, mask, masks[index])
            shown.append((run, drawn, f"IoU {ious[run][index]:.3f}"))
        for panel, (title, picture, below) in zip(grid[index], shown, strict=True):
            _show(panel, picture, examples, index, title if index == 0 else "")
            panel.set_xlabel(below)
        grid[index, 0].set_ylabel(_plain(label))
    handles = [
        Line2D([], [], color=color, linewidth=3, label=label)
        for color, label in ((TRUTH_COLOR, "truth"), (PREDICTION_COLOR, "prediction"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _picture_grid(
    examples: Examples, columns: int, rows: int, between: float, below: float
) -> tuple[Figure, np.ndarray]:
    """Return axes for pictures, `rows` for each image, as high as its proportions ask for.

    Args:
        examples: The images.
        columns: Pictures side by side.
        rows: Rows of pictures for each image.
        between: Inches that words take between two rows.
        below: Inches that words take below the last row.
    """
    heights = [height / width for height, width in examples.original_sizes for _ in range(rows)]
    panel = (_WIDTH - 0.42) / columns - 0.08
    size = (_WIDTH, sum(panel * height + between for height in heights) + below)
    figure = Figure(figsize=size, layout="compressed")
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    return figure, grid


def _show(panel: Axes, picture: np.ndarray, examples: Examples, index: int, title: str) -> None:
    height, width = examples.original_sizes[index]
    # Pixels as high for their width as the resized ones were before.
    panel.imshow(picture, aspect=(height / width) * (picture.shape[1] / picture.shape[0]))
    panel.set(xticks=[], yticks=[])
    panel.set_title(_plain(title), pad=3)
    panel.spines[:].set_visible(False)


def _heat(grey: np.ndarray, mask: np.ndarray, map_: np.ndarray) -> np.ndarray:
    enlarged = cv2.resize(map_.astype("float32"), grey.shape[1::-1])
    heat = 255 * matplotlib.colormaps[_HEAT](enlarged)[..., :3]
    blended = _HEAT_OPACITY * heat + (1 - _HEAT_OPACITY) * grey
    return outlined(np.rint(blended).astype("uint8"), mask)


# Choices, words and files


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the runs' names, as short as they differ."""
    names = [run.directory.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.directory) for run in runs]


def _require_stages(run: Run, stages: Sequence[str]) -> None:
    layers = [layer.name for layer in run.network.layers]
    if not stages:
        raise ValueError(f"There must be at least one stage. Received: {stages!r}")
    if unknown := [stage for stage in stages if stage not in layers]:
        raise ValueError(
            f"Stages must be layers of the network in {run.directory}: {', '.join(layers)}. "
            f"Received: {', '.join(unknown)}"
        )


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
        f"{100 * _HEAT_OPACITY:.0f} % opacity; outline: truth."
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


@matplotlib.rc_context(_STYLE)
def _write(
    output_directory: Path,
    figures: Mapping[str, Figure],
    tables: Mapping[str, list[dict[str, Any]]],
    outcome: dict[str, Any],
) -> None:
    with atomic_directory(output_directory) as unfinished:
        for name, figure in figures.items():
            figure.savefig(unfinished / f"{name}.png", dpi=_DPI)
            # Without a date, the same figure is the same file.
            figure.savefig(unfinished / f"{name}.pdf", dpi=300, metadata={"CreationDate": None})
        for name, rows in tables.items():
            write_csv(unfinished / f"{name}.csv", rows)
        write_json(unfinished / "figures.json", outcome)


def _looks() -> Iterator[tuple[str, str]]:
    """Yield colours and line styles, each pair once before any is repeated."""
    for number in itertools.count():
        yield _COLORS[number % len(_COLORS)], _LINES[number % len(_LINES)]


def _style(axes: Axes) -> None:
    style_axes(axes)
    axes.tick_params(labelsize=_FONT_SIZE)


def _plain(text: str) -> str:
    """Return the text that Matplotlib prints as given, not as a formula."""
    return text.replace("$", r"\$")
