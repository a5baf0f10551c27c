"""How networks stand on a dataset: the one score that charts and advice go by, and their costs."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from keras_lgmsnet.comparison.contestants import ScoredRun, source_of
from keras_lgmsnet.comparison.tables import Comparison
from keras_lgmsnet.evaluation.volumes import MEAN
from keras_lgmsnet.kinds import IMAGES, Kind


@dataclass(frozen=True)
class Standing:
    """How one label stands on a dataset.

    Args:
        label: What tables call it.
        scores: The mean score of each split, a share from 0 to 1, in the order of the splits.
        parameters: Of its network.
        multiply_adds: Of its network, for one image or patch.
        speed: Images, or volumes, a second; `None` where it was not measured.
    """

    label: str
    scores: tuple[float, ...]
    parameters: int
    multiply_adds: int
    speed: float | None = None

    @property
    def mean(self) -> float:
        """The mean over the splits."""
        return statistics.mean(self.scores)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over the splits; `None` of one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


def headline(kind: Kind) -> str:
    """Return the score that charts and advice go by: the IoU of images, the mean Dice of volumes.

    Example:
    ```python
    headline(run.kind)  # "IoU"
    ```
    """
    return kind.choose(images=IMAGES.headlines["iou"], volumes=MEAN)


def standings(comparison: Comparison, dataset: str) -> list[Standing]:
    """Return how the labels that have a score on a dataset stand, in the comparison's order.

    Args:
        comparison: The runs.
        dataset: One of its `datasets`.

    Example:
    ```python
    [each.mean for each in standings(comparison, "busi/1.0.0")]
    ```
    """
    found = []
    for contestant in comparison.contestants:
        scores = [run.scores[headline(run.kind)] for run in contestant.on(dataset)]
        known = tuple(score for score in scores if score is not None)
        if known and len(known) == len(scores):
            found.append(
                Standing(
                    contestant.label,
                    known,
                    *comparison.sizes[contestant.label],
                    comparison.speeds.get(contestant.label),
                )
            )
    return found


def scored_on(run: ScoredRun) -> str:
    """Return what a run was scored on: `"validation images of busi"`."""
    subset = "" if run.subset == "all" else f"{run.subset} "
    return f"{subset}{run.kind.name} of {source_of(run.dataset)}"


def named(name: str, dataset: str, datasets: Sequence[str]) -> str:
    """Return a figure's name, which tells the dataset where there are several.

    Args:
        name: Such as `"score_by_parameters"`.
        dataset: What it is of.
        datasets: All of them.
    """
    if len(datasets) == 1:
        return name
    alike = [each for each in datasets if source_of(each) == source_of(dataset)]
    number = f"_{alike.index(dataset) + 1}" if len(alike) > 1 else ""
    return f"{name}_{source_of(dataset)}{number}"
