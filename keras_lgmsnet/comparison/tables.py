"""Tables of runs beside one another: the paper's Tables 1, 2, 3 and 6."""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_lgmsnet.comparison.changes import Change
from keras_lgmsnet.comparison.contestants import (
    Contestant,
    ScoredRun,
    datasets_of,
    source_of,
    splits_of,
)
from keras_lgmsnet.comparison.differences import relative_change
from keras_lgmsnet.evaluation.volumes import MEAN
from keras_lgmsnet.files.writing import csv_text
from keras_lgmsnet.kinds import Kind
from keras_lgmsnet.scoring.significance import mark_of
from keras_lgmsnet.tables import (
    TABLE_STYLES,
    Cell,
    RankedCell,
    latex_table,
    markdown_table,
    p_cell,
)

STARS = "** p < 0.01, * p < 0.05"


@dataclass(frozen=True)
class Table:
    """A table with its title, and what must be said below it.

    Args:
        title: A sentence.
        header: What stands above the columns.
        rows: The cells of each row.
        notes: Sentences.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str]


@dataclass(frozen=True)
class Comparison:
    """What was found of runs beside one another.

    Args:
        contestants: The runs by label; where there is an `unseen` dataset, with their scores on
            that.
        notes: What was left out, and how speeds were timed, in sentences.
        sizes: Of each label the parameters of its network and, of one image or volume, the
            multiply-adds.
        reference: The label that the others are compared with case by case, if any.
        differences: What `compare_with` found.
        speeds: Images, or volumes, a second, of each label whose network was timed.
        changes: Which labels differ from another in one argument only.
        unseen: What to call the dataset that was scored in place of what the runs held out.
    """

    contestants: Sequence[Contestant]
    notes: Sequence[str]
    sizes: Mapping[str, tuple[int, int]]
    reference: str | None
    differences: Sequence[Mapping[str, Any]]
    speeds: Mapping[str, float] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    unseen: str | None = None

    @property
    def kind(self) -> Kind:
        """Whether the runs are of images or of volumes."""
        return self.contestants[0].runs[0].kind

    @property
    def datasets(self) -> list[str]:
        """The datasets that runs were scored on, in the order in which they were read."""
        return datasets_of(self.contestants)

    def text(self, style: str = "markdown") -> str:
        r"""Return the tables for a paper.

        Args:
            style: `"markdown"`, or `"latex"`, which needs `\usepackage{booktabs}`.

        Raises:
            ValueError: If the style is unknown.
        """
        if style not in TABLE_STYLES:
            raise ValueError(f"Styles are {', '.join(TABLE_STYLES)}. Received: {style=}")
        if style == "latex":
            return "\n\n".join(
                latex_table(table.header, table.rows, " ".join([table.title, *table.notes]))
                for table in self.tables()
            )
        return "\n\n".join(
            "\n\n".join(
                [table.title, markdown_table(table.header, table.rows), " ".join(table.notes)]
            )
            for table in self.tables()
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
                    "cases": len(run.ids),
                    "score": name,
                    "value": value,
                    "parameters": self.sizes[contestant.label][0],
                    "multiply_adds": self.sizes[contestant.label][1],
                    "images_per_second": self.speeds.get(contestant.label),
                    "run": str(run.directory),
                }
                for contestant in self.contestants
                for run in contestant.runs
                for name, value in run.scores.items()
            ]
        )

    def tables(self) -> Iterator[Table]:
        """Yield the tables: of scores and, where there is any, of differences and of changes."""
        yield self._scores()
        if self.differences:
            yield self._differences()
        if self.changes:
            yield self._changes()

    def _columns(self) -> list[tuple[str, str]]:
        """Return each dataset and score, in the order of the columns."""
        return [
            (dataset, name)
            for dataset in self.datasets
            for name in next(_runs(self.contestants, dataset)).scores
        ]

    def _title_of(self, dataset: str, name: str) -> str:
        """Return the heading of a score's column."""
        several = len(self.datasets) > 1
        return f"{source_of(dataset)}, {name} %" if several else f"{name} %"

    def _scores(self) -> Table:
        columns = self._columns()
        speeds = [f"{self.kind.name} a second"] if self.speeds else []
        header = ["", "parameters", "multiply-adds", *speeds]
        header += [self._title_of(*column) for column in columns]
        rows: list[list[Cell]] = []
        for each in self.contestants:
            parameters, multiply_adds = self.sizes[each.label]
            row: list[Cell] = [
                RankedCell(each.label),
                f"{_rounded(parameters / 1e6)} M",
                f"{_rounded(multiply_adds / 1e9)} G",
            ]
            if self.speeds:
                speed = self.speeds.get(each.label)
                row.append("–" if speed is None else f"{speed:.3g}")
            rows.append(row)
        marks = {
            (found["network"], found["dataset"], found["score"]): mark_of(found["wilcoxon_p"])
            for found in self.differences
        }
        for dataset, name in columns:
            scores = [[run.scores[name] for run in each.on(dataset)] for each in self.contestants]
            total = len(splits_of(self.contestants, dataset))
            ranks = _ranks([mean(row) if len(row) == total else None for row in scores])
            for each, row, values, rank in zip(self.contestants, rows, scores, ranks, strict=True):
                text = _score_text(values)
                if 0 < len(values) < total:
                    text += f" ({len(values)} of {total})"
                row.append(RankedCell(text, rank, marks.get((each.label, dataset, name), "")))
        title = "Scores of networks."
        if self.unseen is not None:
            title = f"Scores of networks on {self.unseen}, which none of them was trained on."
        return Table(title, header, rows, list(self._explain()))

    def _explain(self) -> Iterator[str]:
        """Yield the sentences below the table of scores."""
        kind = self.kind
        datasets = self.datasets
        of_first = f" of {source_of(datasets[0])}" if len(datasets) > 1 else ""
        yield f"Multiply-adds are for one {kind.example}{of_first}, at the size that a network saw."
        for dataset in self.datasets:
            yield from self._explain_dataset(dataset)
        yield "The best score of a column is bold, the second underlined, equal ones alike."
        if self.differences:
            yield f"{STARS} against {self.reference}, as the table of differences tells."
        cautions = [run.caution for each in self.contestants for run in each.runs if run.caution]
        yield from dict.fromkeys(cautions)
        yield from self.notes

    def _explain_dataset(self, dataset: str) -> Iterator[str]:
        """Yield of what the scores on a dataset are means, and which networks saw other sides."""
        kind = self.kind
        runs = list(_runs(self.contestants, dataset))
        splits = splits_of(self.contestants, dataset)
        counts = sorted({len(run.ids) for run in runs})
        counted = " to ".join(map(str, counts[:: max(1, len(counts) - 1)]))
        what = f"{counted} {kind.noun(counts[-1])} of {source_of(dataset)}"
        if self.unseen is None:
            what = f"{counted} {runs[0].subset} {kind.noun(counts[-1])} of {source_of(dataset)}"
        if len(splits) == 1:
            yield (
                f"Scores are means over the {what}, after training on one split, which tells "
                "nothing of how scores vary with the split."
            )
        else:
            yield (
                f"Scores are means over the {what} after training on one split, averaged over "
                f"{len(splits)} splits, ± the sample standard deviation of the splits' means: the "
                f"mean is of splits, not of {kind.name} pooled from all of them."
            )
            if any(0 < len(each.on(dataset)) < len(splits) for each in self.contestants):
                yield (
                    "Where a score is of some of the splits only, their number stands behind it, "
                    "and it has no rank."
                )
        of_label = {
            each.label: each.on(dataset)[0].sides for each in self.contestants if each.on(dataset)
        }
        usual = Counter(of_label.values()).most_common(1)[0][0]
        others = [f"{label} {_sides(sides)}" for label, sides in of_label.items() if sides != usual]
        parts = kind.choose(images="images", volumes="patches of volumes")
        told = ", ".join([f"networks saw {parts} of {_sides(usual)}", *others])
        yield f"Of {source_of(dataset)}, {told}."

    def _differences(self) -> Table:
        kind, reference = self.kind, self.reference
        header = ["", "dataset", "score", kind.name, "mean %", f"{reference} %", "difference"]
        header += ["relative", "Wilcoxon p", "Holm p"]
        rows: list[list[Cell]] = []
        for found in self.differences:
            difference = f"{100 * found['difference']:+.2f}"
            if found["interval"] is not None:
                low, high = found["interval"]
                difference += f" [{100 * low:.2f}, {100 * high:.2f}]"
            rows.append(
                [
                    RankedCell(found["network"]),
                    source_of(found["dataset"]),
                    found["score"],
                    str(found["cases"]),
                    f"{100 * found['mean']:.2f}",
                    f"{100 * found['reference']:.2f}",
                    RankedCell(difference, mark=mark_of(found["wilcoxon_p"])),
                    _percent(found["relative"]),
                    p_cell(found["wilcoxon_p"]),
                    p_cell(found["holm_p"]),
                ]
            )
        several = any(len(splits_of(self.contestants, dataset)) > 1 for dataset in self.datasets)
        notes = [f"Differences are in percentage points, paired by {kind.example}."]
        if several:
            held_out = (
                ""
                if self.unseen
                else "; each split holds out others, so that may be one or several"
            )
            notes.append(
                f"The score of {kind.choose(images='an image', volumes='a volume')} is its mean "
                "over the splits that both networks were trained on and scored on it"
                f"{held_out}. So these means, which weigh every {kind.example} alike, may be "
                "others than those of the splits above."
            )
        drawn = f"of {kind.name} taken as independent"
        if any(found["groups"] < found["cases"] for found in self.differences):
            drawn = f"for which patients, videos or cases are drawn with all their {kind.name}"
        notes += [
            f"Brackets are 95 % bootstrap intervals, {drawn}. {STARS} by the Wilcoxon signed-rank "
            f"test, which takes {kind.name} as independent; as in LGMSNet's paper, the stars are "
            "not corrected for the number of tests. Holm p is: for all rows of this table.",
        ]
        if kind.classes_exclude_each_other:
            notes.append(
                "A region that neither network predicts where there is none is left out, and one "
                "that only one of them predicts there counts as a Dice of 1 for the other."
            )
        return Table(f"Differences from {reference}.", header, rows, notes)

    def _changes(self) -> Table:
        columns = [
            (dataset, name)
            for dataset, name in self._columns()
            if name == MEAN or not self.kind.classes_exclude_each_other
        ]
        header = ["", "network", "argument", "value"]
        for column in columns:
            header += [self._title_of(*column), "change", "relative"]
        of_label = {each.label: each for each in self.contestants}
        rows: list[list[Cell]] = []
        told = set()
        # What was changed in the same argument of the same network stands together.
        for change in sorted(self.changes, key=self._place):
            base, each = of_label[change.base], of_label[change.label]
            network = base.runs[0].recipe.model.network
            if (change.base, change.argument) not in told:
                told.add((change.base, change.argument))
                row: list[Cell] = [
                    RankedCell(base.label),
                    network,
                    change.argument,
                    _value(change.base_value),
                ]
                for dataset, name in columns:
                    row += [_score_text(_values(base.on(dataset), name)), "", ""]
                rows.append(row)
            row = [RankedCell(each.label), network, change.argument, _value(change.value)]
            for dataset, name in columns:
                row += [
                    _score_text(_values(each.on(dataset), name)),
                    *_change(each, base, dataset, name),
                ]
            rows.append(row)
        notes = [
            "Each network differs in one argument from the first row of its argument, and in "
            "nothing else. Changes are in percentage points, and relative to the score of that "
            "first row, over the splits that both were trained on."
        ]
        return Table("One argument changed.", header, rows, notes)

    def _place(self, change: Change) -> tuple[int, int]:
        """Return where a change stands in the table: by its base, then by the first such one."""
        labels = [each.label for each in self.contestants]
        alike = [(each.base, each.argument) for each in self.changes]
        return labels.index(change.base), alike.index((change.base, change.argument))


def mean(scores: Sequence[float | None]) -> float | None:
    """Return the mean of the runs' scores; `None` where one has none, or there is no run."""
    known = [score for score in scores if score is not None]
    return statistics.mean(known) if known and len(known) == len(scores) else None


def _runs(contestants: Sequence[Contestant], dataset: str) -> Iterator[ScoredRun]:
    return (run for each in contestants for run in each.on(dataset))


def _values(runs: Sequence[ScoredRun], name: str) -> list[float | None]:
    return [run.scores[name] for run in runs]


def _ranks(means: Sequence[float | None]) -> list[int | None]:
    """Return 1 for the best mean and 2 for the second best, equal ones alike, as printed."""
    printed = [None if mean is None else f"{100 * mean:.2f}" for mean in means]
    best = sorted({text for text in printed if text is not None}, key=float, reverse=True)[:2]
    return [best.index(text) + 1 if text in best else None for text in printed]


def _score_text(scores: Sequence[float | None]) -> str:
    """Return the mean of the splits' scores in percent, and their deviation if there are two."""
    if (of_splits := mean(scores)) is None:
        return "–"
    text = f"{100 * of_splits:.2f}"
    if len(scores) == 1:
        return text
    return f"{text} ± {100 * statistics.stdev(score for score in scores if score is not None):.2f}"


def _change(each: Contestant, base: Contestant, dataset: str, name: str) -> tuple[str, str]:
    """Return the cells of a change, over the splits that both have."""
    runs, base_runs = ({run.split: run for run in one.on(dataset)} for one in (each, base))
    common = [split for split in runs if split in base_runs]
    value, base_value = (
        mean([of[split].scores[name] for split in common]) for of in (runs, base_runs)
    )
    if value is None or base_value is None:
        return "–", "–"
    return f"{100 * (value - base_value):+.2f}", _percent(relative_change(value, base_value))


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:+.2f} %"


def _rounded(number: float) -> str:
    return f"{number:.2f}" if number >= 0.1 else f"{number:.2g}"


def _value(value: Any) -> str:
    """Return an argument's value as `--set` takes it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _sides(sides: Sequence[int]) -> str:
    return " × ".join(map(str, sides))
