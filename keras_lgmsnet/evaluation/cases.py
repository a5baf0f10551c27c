"""How the cases of a kind are scored, compared and tabulated: the base of both kinds' classes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np

from keras_lgmsnet.run import Run
from keras_lgmsnet.scoring.significance import describe_comparison

# The scores of a case by their names, with its `group`: its patient, video or case.
Row: TypeAlias = dict[str, Any]

# Rows by what tells them apart: the id, and of volumes also the region.
ScoreTable: TypeAlias = dict[tuple[str, ...], Row]


@dataclass(frozen=True)
class Pairs:
    """Two runs' values of one score, of the same cases in the same order; there may be none.

    Args:
        ids: Of the cases.
        groups: Their patients, videos or cases.
        values: The first run's, float64 of shape `(cases,)`.
        other: The second run's.
    """

    ids: Sequence[str]
    groups: Sequence[str]
    values: np.ndarray
    other: np.ndarray

    def describe(self) -> dict[str, Any] | None:
        """Return what `scoring.significance.describe_comparison` does; `None` without a pair."""
        if not self.ids:
            return None
        return describe_comparison(self.values, self.other, self.groups)


RunT = TypeVar("RunT", bound=Run)
SourceT = TypeVar("SourceT")


class CaseScoring(ABC, Generic[RunT, SourceT]):
    """How cases are scored and compared, and how that is tabulated."""

    file_name: ClassVar[str]  # of the table of all cases
    keys: ClassVar[tuple[str, ...]]  # the columns that tell its rows apart
    compared: ClassVar[tuple[str, ...]]  # the scores that are compared
    comparison_note: ClassVar[str]  # what to say of the comparison
    scores_may_be_absent: ClassVar[bool]  # whether a case may have no score, an empty cell

    @abstractmethod
    def read(
        self,
        runs: Sequence[RunT],
        dataset: str | None,
        manual_dir: str | Path | None,
        data_dir: str | Path | None,
        allow_incomplete: bool,
        mask_threshold: int | None,
    ) -> tuple[SourceT, list[str]]:
        """Return the data, and the ids of the examples to score; as `selection.read_images`."""

    @abstractmethod
    def score(self, run: RunT, source: SourceT, ids: Sequence[str], tolerance: float) -> ScoreTable:
        """Return the rows of a run's predictions."""

    @abstractmethod
    def describe(self, run: RunT, table: ScoreTable, tolerance: float) -> dict[str, Any]:
        """Return how cases were scored, under "convention", and their mean scores."""

    @abstractmethod
    def pairs(self, table: ScoreTable, other: ScoreTable) -> dict[str, Pairs]:
        """Return for each score that is compared its pairs in two tables of the same cases."""

    @abstractmethod
    def compare(self, table: ScoreTable, other: ScoreTable) -> dict[str, Any]:
        """Return the comparison of two tables of the same cases."""

    @abstractmethod
    def tabulate(self, evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the table of an evaluation."""

    @abstractmethod
    def tabulate_comparison(
        self, comparison: Mapping[str, Any], runs: Sequence[str]
    ) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the table of a comparison of two runs, by their names."""
