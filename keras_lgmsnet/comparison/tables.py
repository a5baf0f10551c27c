"""Tables of runs beside one another: scores by network, and differences from a reference."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_lgmsnet.comparison.contestants import (
    Contestant,
    ScoredRun,
    datasets_of,
    read_contestants,
    source_of,
)
from keras_lgmsnet.evaluation.score_tables import case_scoring, read_table
from keras_lgmsnet.files.writing import csv_text, require_unused, write_text
from keras_lgmsnet.scoring.significance import holm, mark_of, paired_comparison
from keras_lgmsnet.tables import RankedCell, latex_table, markdown_table, p_cell

FILES = ("comparison.md", "comparison.tex", "comparison.csv")


@dataclass(frozen=True)
class Comparison:
    """What was found of runs beside one another.

    Args:
        contestants: The runs by label.
        notes: What was left out, in sentences.
        sizes: Of each label the parameters of its network and, of one image or volume, the
            multiply-adds.
        reference: The label that the others are compared with case by case, if any.
        differences: Of each other label, dataset and score what `_difference` returned.
    """

    contestants: Sequence[Contestant]
    notes: Sequence[str]
    sizes: Mapping[str, tuple[int, int]]
    reference: str | None
    differences: Sequence[Mapping[str, Any]]

    def text(self, style: str) -> str:
        r"""Return the tables, `"markdown"`, or `"latex"`, which needs `\usepackage{booktabs}`."""
        tables = [self._scores()]
        if self.reference is not None:
            tables.append(self._differences())
        if style == "latex":
            return "\n\n".join(latex_table(*table) for table in tables) + "\n"
        return "\n\n".join(
            f"{markdown_table(header, rows)}\n\n{notes}" for header, rows, notes in tables
        )

    def csv(self) -> str:
        """Return every score of every run, a line each."""
        return csv_text(
            [
                {
                    "network": contestant.label,
                    "dataset": run.dataset,
                    "subset": run.subset,
                    "split_seed": run.recipe.data.split_seed,
                    "fold": run.recipe.data.fold if run.recipe.data.num_folds else None,
                    "score": name,
                    "value": value,
                    "parameters": self.sizes[contestant.label][0],
                    "multiply_adds": self.sizes[contestant.label][1],
                    "run": str(run.directory),
                }
                for contestant in self.contestants
                for run in contestant.runs
                for name, value in run.scores.items()
            ]
        )

    def _scores(self) -> tuple[list[str], list[list[str]], str]:
        """Return header, rows and notes of the table of all."""
        columns = [
            (dataset, name)
            for dataset in datasets_of(self.contestants)
            for name in next(each.on(dataset) for each in self.contestants if each.on(dataset))[
                0
            ].scores
        ]
        several = len(datasets_of(self.contestants)) > 1
        header = ["", "parameters", "multiply-adds"] + [
            f"{source_of(dataset)}, {name} %" if several else f"{name} %"
            for dataset, name in columns
        ]
        scores = [
            [[run.scores.get(name) for run in each.on(dataset)] for dataset, name in columns]
            for each in self.contestants
        ]
        ranks = [_ranks([_mean(row[place]) for row in scores]) for place in range(len(columns))]
        most = {
            dataset: max(len(each.on(dataset)) for each in self.contestants)
            for dataset in datasets_of(self.contestants)
        }
        rows = []
        for number, (each, row) in enumerate(zip(self.contestants, scores, strict=True)):
            parameters, multiply_adds = self.sizes[each.label]
            cells: list[str] = [each.label, f"{parameters / 1e6:.2f} M", f"{multiply_adds / 1e9:.2f} G"]
            for place, ((dataset, _), values) in enumerate(zip(columns, row, strict=True)):
                text = _score_text(values)
                if 0 < len(values) < most[dataset]:
                    text += f" ({len(values)} of {most[dataset]})"
                cells.append(RankedCell(text, ranks[place][number]))
            rows.append(cells)
        return header, rows, " ".join(self._explain())

    def _explain(self) -> Iterable[str]:
        """Yield the sentences below the table of all."""
        kind = self.contestants[0].runs[0].kind
        yield "Best scores are bold, second ones underlined."
        for dataset in datasets_of(self.contestants):
            runs = [run for each in self.contestants for run in each.on(dataset)]
            splits = max(len(each.on(dataset)) for each in self.contestants)
            counts = sorted({len(run.ids) for run in runs})
            held_out = f"the {runs[0].subset} {kind.name} of {source_of(dataset)}, "
            held_out += "to ".join(f"{count} " for count in counts[:: max(1, len(counts) - 1)])
            if splits == 1:
                yield f"Scores are means over {held_out}of one split: they tell nothing of chance."
            else:
                yield (
                    f"Scores are means over {held_out}of a split, averaged over {splits} splits, ± "
                    "their sample standard deviation: of splits, not of pooled images."
                )
            sides = {run.sides for run in runs}
            if len(sides) > 1:
                yield from self._explain_sides(dataset)
            if caution := next((run.caution for run in runs if run.caution), None):
                yield caution
        yield from self.notes

    def _explain_sides(self, dataset: str) -> Iterable[str]:
        """Yield which networks see images or volumes of other sides than most."""
        sides = {
            each.label: sorted({run.sides for run in each.on(dataset)})
            for each in self.contestants
            if each.on(dataset)
        }
        told = (
            f"{label} {' and '.join(' × '.join(map(str, each)) for each in found)}"
            for label, found in sides.items()
        )
        yield f"They see {source_of(dataset)} at different sizes: {', '.join(told)}."

    def _differences(self) -> tuple[list[str], list[list[str]], str]:
        """Return header, rows and notes of the table against the reference."""
        kind = self.contestants[0].runs[0].kind
        header = ["", "dataset", "score", "mean", self.reference or "", "relative", "difference"]
        header += ["Wilcoxon p", "Holm p"]
        rows = []
        for found in self.differences:
            low_high = ""
            if found["interval"] is not None:
                low, high = found["interval"]
                low_high = f" [{100 * low:.2f}, {100 * high:.2f}]"
            rows.append(
                [
                    found["network"],
                    source_of(found["dataset"]),
                    found["score"],
                    f"{100 * found['mean']:.2f}",
                    f"{100 * found['reference']:.2f}",
                    "–" if found["relative"] is None else f"{100 * found['relative']:+.2f} %",
                    f"{100 * found['difference']:+.2f}{low_high}{mark_of(found['wilcoxon_p'])}",
                    p_cell(found["wilcoxon_p"]),
                    p_cell(found["holm_p"]),
                ]
            )
        notes = (
            f"Each network minus {self.reference}, {kind.example} by {kind.example}: the score of "
            f"one is its mean over the splits in which both were scored on it. By the Wilcoxon "
            f"signed-rank test ** p < 0.01 and * p < 0.05, of {kind.name} taken as independent; "
            "Holm's correction is for all rows of this table, and the stars are without it, as in "
            "the paper. Intervals are 95 % bootstrap intervals. The relative change is that of the "
            "means."
        )
        return header, rows, notes


def compare_runs(
    paths: Sequence[str | Path],
    output_directory: str | Path | None = None,
    *,
    reference: str | None = None,
) -> Comparison:
    """Compare finished runs, as the paper's tables compare networks.

    Args:
        paths: As for `read_contestants`.
        output_directory: Where to write `comparison.md`, `comparison.tex` and `comparison.csv`,
            which has the scores of every run; absent or empty. By default nothing is written.
        reference: A label, with which the others are compared case by case, over the splits that
            both were trained on.

    Returns:
        What was found; its `text` is the tables.

    Raises:
        ValueError: As `read_contestants`; or if there is no such label, or the reference has no run
            in common with another.
        OSError: As `read_contestants`; or if the output directory is in use.

    Example:
    ```python
    print(compare_runs(["studies/busi"], reference="LGMSNet").text("markdown"))
    ```
    """
    if output_directory is not None:
        require_unused(Path(output_directory))
    contestants, notes = read_contestants(paths)
    labels = [each.label for each in contestants]
    if reference is not None and reference not in labels:
        raise ValueError(
            f"The reference is one of {', '.join(labels)}. Received: reference={reference!r}"
        )
    comparison = Comparison(
        contestants,
        notes,
        {each.label: _size(each.runs[0]) for each in contestants},
        reference,
        [] if reference is None else _compare_with(contestants, reference),
    )
    if output_directory is not None:
        texts = (comparison.text("markdown") + "\n", comparison.text("latex"), comparison.csv())
        Path(output_directory).mkdir(parents=True, exist_ok=True)
        for name, text in zip(FILES, texts, strict=True):
            write_text(Path(output_directory) / name, text)
    return comparison


def _size(run: ScoredRun) -> tuple[int, int]:
    """Return parameters and multiply-adds of a run's network, at the sides that it saw."""
    from keras_lgmsnet.models import complexity
    from keras_lgmsnet.run import load_network

    network = load_network(run.directory)
    shape = (*run.sides, network.input_shape[-1])
    if None in network.input_shape[1:]:
        network = type(network).from_config(network.get_config() | {"input_shape": shape})
    return tuple(complexity.count(network))


def _mean(scores: Sequence[float | None]) -> float | None:
    """Return the mean of the runs' scores; `None` where one has none, or there is none."""
    known = [score for score in scores if score is not None]
    return statistics.mean(known) if known and len(known) == len(scores) else None


def _ranks(means: Sequence[float | None]) -> list[int | None]:
    """Return 1 for the best mean and 2 for the second best, equal ones alike, as printed."""
    printed = [None if mean is None else round(100 * mean, 2) for mean in means]
    best = sorted({mean for mean in printed if mean is not None}, reverse=True)[:2]
    return [best.index(mean) + 1 if mean in best else None for mean in printed]


def _score_text(scores: Sequence[float | None]) -> str:
    """Return the mean of the splits' scores in percent, with their deviation where there are two."""
    mean = _mean(scores)
    if mean is None:
        return "–"
    text = f"{100 * mean:.2f}"
    if len(scores) == 1:
        return text
    return f"{text} ± {100 * statistics.stdev(score for score in scores if score is not None):.2f}"
