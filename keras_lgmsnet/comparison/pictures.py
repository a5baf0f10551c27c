"""Pictures of a comparison: the same cases by all networks (paper, Fig. 5 and 6), redundancy."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lgmsnet.comparison.contestants import ScoredRun, source_of
from keras_lgmsnet.comparison.redundancy import redundancy_chart
from keras_lgmsnet.comparison.slices import slices_figure
from keras_lgmsnet.comparison.standings import headline, named, scored_on
from keras_lgmsnet.comparison.tables import Comparison
from keras_lgmsnet.data.images import Examples, ImageBatches
from keras_lgmsnet.data.volumes import VolumeExample, VolumeSource
from keras_lgmsnet.drawing.cases import name_extremes
from keras_lgmsnet.evaluation.images import score_images
from keras_lgmsnet.evaluation.score_tables import read_table
from keras_lgmsnet.evaluation.selection import read_images
from keras_lgmsnet.evaluation.volumes import VolumeScoring
from keras_lgmsnet.figures.captioned import CaptionedFigure
from keras_lgmsnet.figures.features import choose_stages, stage_features
from keras_lgmsnet.figures.panels import panels_figure
from keras_lgmsnet.figures.paper import (
    REDUNDANCY_IMAGES,
    describe_networks,
    describe_size,
    evenly_spread,
)
from keras_lgmsnet.figures.pictures import Cases
from keras_lgmsnet.figures.redundancy import Redundancy, channel_redundancy
from keras_lgmsnet.figures.spectra import spectra_figure
from keras_lgmsnet.inference.scans import segment_scan
from keras_lgmsnet.run import Run, VolumeRun


@dataclass(frozen=True)
class Shown:
    """What is shown of a dataset.

    Args:
        scores: By label the score of each case of the split, by its id.
        rules: What each case shown was chosen as, by its id; empty where it was asked for.
        choice: The sentence that says how they were chosen.
    """

    scores: Mapping[str, Mapping[str, float]]
    rules: Mapping[str, str]
    choice: str


@dataclass(frozen=True)
class Source:
    """Where data are read from: what `CaseScoring.read` takes after the dataset, in that order."""

    manual_dir: str | Path | None
    data_dir: str | Path | None
    allow_incomplete: bool
    mask_threshold: int | None


def draw_pictures(
    comparison: Comparison,
    *,
    images: Sequence[str] = (),
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    allow_incomplete: bool = False,
    mask_threshold: int | None = None,
) -> dict[str, CaptionedFigure]:
    """Draw the same held-out cases as all networks segment them, and how redundant channels are.

    They are of the first split that all labels were trained on; where there is none, of the first
    that most were. Memory holds one network at a time.

    - `panels`: images with the truth and the predictions (paper, Fig. 5), or `slices`, the axial
      plane of volumes in which most is labelled (Fig. 6);
    - of images also `redundancy`, the channels needed for 99 % of the energy of each network's
      stages (Fig. 1c), and `spectra`, the singular values behind.

    Where there are several datasets, the names end in theirs.

    Args:
        comparison: The runs.
        images: Ids of the images or volumes to show, of any of the datasets; by default, of each
            dataset, those with the best, the median and the worst mean score over all networks.
        manual_dir: Folder with the datasets' archives, as downloaded from their publishers.
        data_dir: Folder of prepared datasets; by default TensorFlow Datasets' own.
        allow_incomplete: Whether to go on with archives short of their published counts.
        mask_threshold: As `evaluation.evaluate` takes it.

    Returns:
        The figures by name.

    Raises:
        ValueError: If a run's file is damaged, an id was held out of no dataset, or the data are
            not those that a run was trained on.
        FileNotFoundError: If a dataset is neither prepared nor downloaded, or a run lacks a file.

    Example:
    ```python
    draw_pictures(comparison, data_dir="datasets")["panels"].caption
    ```
    """
    every = comparison.datasets
    source = Source(manual_dir, data_dir, allow_incomplete, mask_threshold)
    held_out = {dataset: _choose_split(comparison, dataset) for dataset in every}
    known = {id_ for runs in held_out.values() for run in runs.values() for id_ in run.ids}
    if unknown := [id_ for id_ in images if id_ not in known]:
        raise ValueError(
            f"Images must be among the {len(known)} that were held out in the split shown, such as "
            f"{min(known)!r}. Received: {unknown[0]!r}"
        )
    labels = [each.label for each in comparison.contestants]
    figures = {}
    for dataset, runs in held_out.items():
        asked = [id_ for id_ in images if id_ in set(next(iter(runs.values())).ids)]
        if images and not asked:
            continue
        if comparison.kind.classes_exclude_each_other:
            drawn = _draw_volumes(runs, asked, dataset, source)
        else:
            drawn = _draw_images(runs, asked, dataset, source, labels)
        for name, figure in drawn.items():
            caption = f"{figure.caption} {_tell_split(comparison, dataset, runs)}"
            figures[named(name, dataset, every)] = figure._replace(caption=caption)
    return figures


def _choose_split(comparison: Comparison, dataset: str) -> dict[str, ScoredRun]:
    """Return by label the runs of the first split that most labels have."""
    by_split: dict[Any, dict[str, ScoredRun]] = {}
    for contestant in comparison.contestants:
        for run in contestant.on(dataset):
            by_split.setdefault(run.split, {})[contestant.label] = run
    return max(by_split.values(), key=len)  # the first of equal ones


def _tell_split(comparison: Comparison, dataset: str, runs: Mapping[str, ScoredRun]) -> str:
    """Return the sentence that says which runs are shown."""
    seed, num_folds, fold = next(iter(runs.values())).split
    text = f"Networks of one split, seed {seed}"
    if num_folds:
        text += f", fold {fold} of {num_folds}"
    missing = [each.label for each in comparison.contestants if each.label not in runs]
    return f"{text}; not trained on it: {', '.join(missing)}." if missing else f"{text}."


def _choose_cases(
    runs: Mapping[str, ScoredRun], asked: Sequence[str], candidates: Sequence[str], what: str
) -> Shown:
    """Choose cases by the mean of all networks' scores of each, or by id.

    Args:
        runs: Of one split.
        asked: Ids to show.
        candidates: Those to choose from where none is asked for, at least one.
        what: What these are, in words.
    """
    scores = {label: _case_scores(run) for label, run in runs.items()}
    if asked:
        return Shown(scores, dict.fromkeys(asked, ""), "")
    means = np.array(
        [np.mean([found.get(id_, 0.0) for found in scores.values()]) for id_ in candidates]
    )
    chosen = name_extremes(means, np.arange(len(candidates)))
    first = next(iter(runs.values()))
    return Shown(
        scores,
        {candidates[index]: rule for index, rule in chosen.items()},
        f"Best, median and worst are by the {headline(first.kind)}, averaged over all networks "
        f"shown, among {what}, {len(candidates)} of {len(first.ids)}.",
    )


def _case_scores(run: ScoredRun) -> dict[str, float]:
    """Return the IoU of every image, or the mean Dice of every volume that has one."""
    _, table = read_table(run.table)
    values: dict[str, list[float]] = {}
    for (id_, *_), row in table.items():
        value = row[run.kind.choose(images="iou", volumes="dice")]
        if value is not None:
            values.setdefault(id_, []).append(value)
    return {id_: float(np.mean(found)) for id_, found in values.items()}


def _other_dataset(run: ScoredRun) -> str | None:
    """Return the dataset a run was scored on, where that is not its own."""
    return source_of(run.dataset) if run.subset == "all" else None


@contextmanager
def _loaded(run: ScoredRun) -> Iterator[Run]:
    """Yield a run with its network, and clear that away afterwards."""
    try:
        yield Run.read(run.directory)
    finally:
        keras.utils.clear_session(free_memory=True)


def _draw_images(
    runs: Mapping[str, ScoredRun],
    asked: Sequence[str],
    dataset: str,
    source: Source,
    labels: Sequence[str],
) -> dict[str, CaptionedFigure]:
    """Draw the images, and how redundant the networks' channels are.

    All of the comparison's labels keep their colours, also where some have no run.
    """
    shown: Shown | None = None
    largest: Examples | None = None
    predictions: dict[str, np.ndarray] = {}
    ious: dict[str, np.ndarray] = {}
    redundancies: dict[str, dict[str, Redundancy]] = {label: {} for label in labels}
    read: dict[tuple[Any, ...], tuple[Examples, Examples]] = {}
    for label, scored in runs.items():
        with _loaded(scored) as run:
            data = run.recipe.data
            key = (data.image_size, data.interpolation)
            if key not in read:
                examples, _ = read_images(
                    [run],
                    _other_dataset(scored),
                    *astuple(source),
                )
                if shown is None:
                    shown = _choose_cases(runs, asked, *_with_lesion(examples, scored.ids))
                spread = evenly_spread(scored.ids, REDUNDANCY_IMAGES)
                read[key] = (examples.subset(list(shown.rules)), examples.subset(spread))
            cases, sample = read[key]
            if largest is None or _pixels(cases) > _pixels(largest):
                largest = cases
            batches = ImageBatches(
                cases, run.recipe.training.batch_size, preprocessing=data.preprocessing
            )
            scores, predictions[label] = score_images(run.network, batches)
            ious[label] = scores["iou"]
            (stages,) = choose_stages([run])
            redundancies[label] = channel_redundancy(stage_features(run, sample.images, stages))
    assert largest is not None  # there is at least one run
    assert shown is not None
    sides = {label: describe_size(run.sides) for label, run in runs.items()}
    size = next(iter(sides.values()))
    if len(set(sides.values())) > 1:
        size = f"the size that each network sees ({', '.join(map(': '.join, sides.items()))})"
    networks = describe_networks({label: run.recipe for label, run in runs.items()})
    origin = (
        f"Features of {len(sample.ids)} of the {len(scored.ids)} {scored_on(scored)}, at {size}."
    )
    return {
        "panels": panels_figure(
            Cases(largest, list(shown.rules.values()), shown.choice),
            predictions,
            ious,
            dataset=source_of(dataset),
            size=size,
        ),
        "redundancy": redundancy_chart(redundancies, networks, origin),
        "spectra": spectra_figure(redundancies, origin),
    }


def _with_lesion(examples: Examples, ids: Sequence[str]) -> tuple[list[str], str]:
    """Return which images have a lesion, and what they are, in words; without any, all.

    A picture without outlines shows nothing, however right it is.
    """
    places = {id_: place for place, id_ in enumerate(examples.ids)}
    found = [id_ for id_ in ids if np.any(examples.segmentation_masks[places[id_]])]
    return (found, "the images with a lesion") if found else (list(ids), "the images")


def _pixels(examples: Examples) -> int:
    return int(np.prod(examples.images.shape[1:3]))


def _draw_volumes(
    runs: Mapping[str, ScoredRun],
    asked: Sequence[str],
    dataset: str,
    source: Source,
) -> dict[str, CaptionedFigure]:
    """Draw a slice of each volume, as all networks segment it."""
    first = next(iter(runs.values()))
    scores = [_case_scores(run) for run in runs.values()]
    known = [id_ for id_ in first.ids if all(id_ in found for found in scores)] or list(first.ids)
    shown = _choose_cases(runs, asked, known, "the volumes that all networks have a score of")
    volumes: VolumeSource | None = None
    window: tuple[float, float] | None = None
    predictions: dict[str, dict[str, np.ndarray]] = {}
    for label, scored in runs.items():
        with _loaded(scored) as run:
            assert isinstance(run, VolumeRun)
            volumes, _ = VolumeScoring().read(
                [run],
                _other_dataset(scored),
                *astuple(source),
            )
            predictions[label] = {id_: _segment(run, volumes.read(id_)) for id_ in shown.rules}
            windows = run.fingerprint.intensity_windows
            window = window or (windows[0] if windows else None)
    assert volumes is not None  # there is at least one run
    return {
        "slices": slices_figure(
            volumes,
            window,
            shown.rules,
            predictions,
            shown.scores,
            f"{source_of(dataset)}. {shown.choice}".strip(),
        )
    }


def _segment(run: VolumeRun, example: VolumeExample) -> np.ndarray:
    """Return the labels that a network predicts of a volume, on its own grid."""
    return segment_scan(run.network, example.image, example.grid, run.fingerprint, run.recipe.data)
