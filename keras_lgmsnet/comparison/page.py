"""A comparison as a page that needs no other file: which network to take, and how sure that is."""

import dataclasses
from collections.abc import Iterator, Mapping

from keras_lgmsnet.comparison.advice import advise
from keras_lgmsnet.comparison.contestants import ScoredRun, source_of
from keras_lgmsnet.comparison.standings import headline, scored_on
from keras_lgmsnet.comparison.tables import Comparison
from keras_lgmsnet.figures.captioned import CaptionedFigure, pixels_of
from keras_lgmsnet.figures.paper import describe_networks
from keras_lgmsnet.reports.page import picture_uri, render, svg_uri
from keras_lgmsnet.tables import listed


def render_comparison(
    comparison: Comparison,
    charts: Mapping[str, CaptionedFigure],
    pictures: Mapping[str, CaptionedFigure],
) -> str:
    """Return a comparison as a page, with everything in it, to be read without the program.

    Args:
        comparison: The runs.
        charts: What `draw_charts` returned.
        pictures: What `draw_pictures` returned; empty to leave them out.

    Raises:
        ValueError: As `advise` raises; so does `FileNotFoundError`.

    Example:
    ```python
    comparison = compare_runs(["studies/busi"], reference="LGMSNet")
    page = render_comparison(comparison, draw_charts(comparison), {})
    ```
    """
    told = set(comparison.notes)
    tables = [
        # Notes of the comparison have a place of their own.
        dataclasses.replace(table, notes=[note for note in table.notes if note not in told])
        for table in comparison.tables()
    ]
    names = listed([source_of(dataset) for dataset in comparison.datasets])
    return render(
        "keras_lgmsnet.comparison",
        "comparison.html.jinja",
        title=_count_networks(comparison) + f" on {names}",
        kind=comparison.kind,
        score=headline(comparison.kind),
        compared=list(_tell_compared(comparison)),
        advice=advise(comparison),
        tables=tables,
        charts=[_shown(name, figure, svg_uri(figure.figure)) for name, figure in charts.items()],
        pictures=[
            # Photographs would be ten times as large in a drawing.
            _shown(
                name,
                figure,
                _webp_uri(figure)
                if name.startswith(("panels", "slices"))
                else svg_uri(figure.figure),
            )
            for name, figure in pictures.items()
        ],
        reading=list(_tell_reading(comparison)),
        cautions=list(_tell_cautions(comparison)),
        notes=comparison.notes,
    )


def _count_networks(comparison: Comparison) -> str:
    count = len(comparison.contestants)
    return f"{count} networks" if count > 1 else comparison.contestants[0].label


def _shown(name: str, figure: CaptionedFigure, image: str) -> dict[str, str]:
    return {"image": image, "alt": name.replace("_", " "), "caption": figure.caption}


def _webp_uri(figure: CaptionedFigure) -> str:
    """Return a figure of pictures as a data URI."""
    return picture_uri(pixels_of(figure.figure))


def _tell_compared(comparison: Comparison) -> Iterator[str]:
    """Yield what was compared, in plain words."""
    first = {each.label: each.runs[0].recipe for each in comparison.contestants}
    for label, network in describe_networks(first).items():
        yield label if label == network else f"{label}: {network}"
    for dataset in comparison.datasets:
        runs = _runs(comparison, dataset)
        splits = {run.split for run in runs}
        seeds = sorted({seed for seed, _, _ in splits})
        told = f"{'seed' if len(seeds) == 1 else 'seeds'} {listed([str(seed) for seed in seeds])}"
        counts = sorted({len(run.ids) for run in runs})
        count = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
        trained_on = listed(list(dict.fromkeys(run.recipe.data.source for run in runs)))
        number = "1 split" if len(splits) == 1 else f"{len(splits)} splits"
        text = f"Trained on {number} of {trained_on} ({told}), scored on {count} "
        held_out = {
            "test": ", which were held out",
            "validation": ", which were not trained on, but picked the best epoch",
        }
        yield f"{text}{scored_on(runs[0])}{held_out.get(runs[0].subset, '')}."
    every = [run for dataset in comparison.datasets for run in _runs(comparison, dataset)]
    epochs = listed([str(number) for number in sorted({r.recipe.training.epochs for r in every})])
    sides = listed([" × ".join(map(str, each)) for each in sorted({run.sides for run in every})])
    what = comparison.kind.choose(images="images", volumes="patches of volumes")
    yield f"Trained for {epochs} epochs, on {what} of {sides} {comparison.kind.element}s."


def _tell_reading(comparison: Comparison) -> Iterator[str]:
    """Yield how scores, stars and charts are to be read."""
    yield comparison.kind.choose(
        images="IoU is the area that truth and prediction share, over the area of both together; "
        "F1, or Dice, is twice the shared area over the sum of the two. 100 % is the same outline, "
        "0 % none in common. Every image counts the same.",
        volumes="Dice is twice the volume that truth and prediction share, over the sum of the "
        "two. 100 % is the same shape, 0 % none in common. Every volume counts the same.",
    )
    if any(
        len(each.on(dataset)) > 1
        for each in comparison.contestants
        for dataset in comparison.datasets
    ):
        yield (
            "± is the sample standard deviation over the splits: how much a score moves when other "
            f"{comparison.kind.name} are held out, and the network is trained on the rest."
        )
    yield (
        "A p-value is the probability of a difference at least as large as this one, if the "
        f"networks did not truly differ on such {comparison.kind.name}. Stars: ** p < 0.01, "
        "* p < 0.05, each test by "
        "itself. Of many tests some reach that by chance alone; the p-value by Holm is corrected "
        "for their number."
    )
    yield (
        "“Distinguishably lower” means: lower than the highest score with a p-value by Holm below "
        "0.05, corrected for all comparisons with that network. Not distinguishable is not the "
        f"same as equal: with few {comparison.kind.name}, much goes unseen."
    )


def _tell_cautions(comparison: Comparison) -> Iterator[str]:
    """Yield what a reader must not conclude."""
    kind = comparison.kind
    every = [run for dataset in comparison.datasets for run in _runs(comparison, dataset)]
    splits = max(len(each.on(d)) for each in comparison.contestants for d in comparison.datasets)
    if splits == 1:
        yield "One split and one training each: nothing is known of how scores vary with either."
    elif splits < 5:
        yield f"{splits} splits tell roughly how scores vary; a deviation of so few is uncertain."
    if any(run.subset == "validation" for run in every):
        yield (
            f"The best epoch of each network was picked by its score on the same validation "
            f"{kind.name} that it is scored on here. That flatters every network, and those whose "
            "scores vary much from epoch to epoch the most."
        )
    published = {type(run.recipe.training)().epochs for run in every}
    if any(run.recipe.training.epochs < min(published) for run in every):
        fewest = min(run.recipe.training.epochs for run in every)
        yield (
            f"Trainings were short, {fewest} epochs where the published setting is "
            f"{min(published)}: a network that learns slowly may overtake the others later."
        )
    if len({run.recipe.training for run in every}) == 1:
        yield (
            "All networks were trained by the same settings, which may suit one better than "
            "another: none was tuned."
        )
    else:
        yield "Networks were trained by different settings, which are part of what is compared."
    if len({run.sides for run in every}) > 1:
        yield (
            f"Networks saw {kind.name} of different sizes, and were scored at them: part of a "
            "difference may be the size's."
        )
    yield (
        "Speeds are of the machine, program and size that the notes name: on a phone, the order "
        "may be another."
        if comparison.speeds
        else "No speed was measured: fewer multiply-adds are often faster, but not always."
    )
    yield (
        f"Scores are of the datasets named: of {kind.name} of other devices, hospitals and "
        "patients, nothing is shown."
    )


def _runs(comparison: Comparison, dataset: str) -> list[ScoredRun]:
    return [run for each in comparison.contestants for run in each.on(dataset)]
