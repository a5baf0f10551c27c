"""Ranges of what training examples measure, and what lies outside of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Statistic:
    """One number of an image, and how far beyond the training images' range it may lie.

    Args:
        unit: What it is counted in.
        phrase: What a sentence says before and after the number.
        factor: The range's low end is divided and its high end multiplied by it.
        margin: Then subtracted from the low end and added to the high end.
    """

    unit: str
    phrase: tuple[str, str]
    factor: float = 1.0
    margin: float = 0.0


Ranges = dict[str, tuple[float, float]]


def find_ranges(rows: Sequence[Mapping[str, float]]) -> Ranges:
    """Return the low and high end of each number: the middle 98 % of the rows."""
    ranges = {}
    for name in rows[0]:
        low, high = np.quantile([row[name] for row in rows], [0.01, 0.99])
        ranges[name] = (float(low), float(high))
    return ranges


def find_deviations(
    values: Mapping[str, float], ranges: Ranges, statistics: Mapping[str, Statistic]
) -> list[str]:
    """Return in words which values lie outside their ranges by more than their statistics allow.

    Example:
    ```python
    statistics = {"brightness": Statistic("mean grey value", ("brightness is", ""), margin=0.1)}
    find_deviations({"brightness": 0.95}, {"brightness": (0.2, 0.8)}, statistics)
    # ["brightness is 0.95, in training 0.2 to 0.8"]
    ```
    """
    deviations = []
    for name, (low, high) in ranges.items():
        statistic, value = statistics[name], values[name]
        lowest = low / statistic.factor - statistic.margin
        highest = high * statistic.factor + statistic.margin
        if not lowest <= value <= highest:
            before, after = statistic.phrase
            trained = " to ".join(dict.fromkeys(map(_number, (low, high))))  # once, if they agree
            deviations.append(f"{before} {_number(value)}{after}, in training {trained}")
    return deviations


def describe_ranges(ranges: Ranges, statistics: Mapping[str, Statistic]) -> dict[str, Any]:
    """Return ranges and their units as plain values, ready for JSON."""
    return {
        name: {"low": low, "high": high, "unit": statistics[name].unit}
        for name, (low, high) in ranges.items()
    }


def parse_ranges(path: Path, described: Any, names: Iterable[str]) -> Ranges:
    """Return the ranges that `describe_ranges` described.

    Args:
        path: The file that they were read from, for the message.
        described: What was read.
        names: Of which numbers there must be ranges.

    Raises:
        ValueError: If one is missing or damaged.
    """
    try:
        ranges = {
            name: (float(described[name]["low"]), float(described[name]["high"])) for name in names
        }
    except (KeyError, TypeError, ValueError):
        ranges = {}
    if not ranges or not all(low <= high for low, high in ranges.values()):
        raise ValueError(
            f"{path} is damaged: its ranges must give a low and a high end of {', '.join(names)}."
        )
    return ranges


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
