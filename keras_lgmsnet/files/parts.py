"""Work shared by several processes, on one machine or many, that see the same folder.

Each process takes every n-th case of the work, by a rule, so that nobody has to hand them out. It
claims a case before it begins, so that a case is never worked on twice at once, whatever was
started by mistake. What no process has finished yet, anyone can tell from the folder.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from keras_lgmsnet.files.writing import write_once

# What Slurm tells each task of an array, in the order of `Part.of_slurm`'s arithmetic.
_SLURM = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "STEP", "COUNT"))

Case = TypeVar("Case")


@dataclass(frozen=True)
class Part:
    """One of several equal parts of some work.

    Args:
        number: Which one, counted from 1.
        of: How many there are.

    Raises:
        ValueError: If there is no such part.

    Example:
    >>> Part.parse("2/3").share(["a", "b", "c", "d", "e"])
    ['b', 'e']
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ValueError(
                "A part is one from 1 to the number of parts, such as 2/3. "
                f"Received: {self.number}/{self.of}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the part that a command names: `"2/3"`, or `"slurm"` for `of_slurm`."""
        if text == "slurm":
            return cls.of_slurm(os.environ)
        found = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
        if found is None:
            raise ValueError(f"A part is k/n, such as 2/3, or slurm. Received: {text}")
        return cls(*map(int, found.groups()))

    @classmethod
    def of_slurm(cls, environment: Mapping[str, str]) -> Self:
        """Return the part of a task of a Slurm array, such as that of `sbatch --array=1-3`."""
        values = [environment.get(name, "") for name in _SLURM]
        if not all(re.fullmatch(r"\d+", value, re.ASCII) for value in values):
            told = ", ".join(f"{name}={value}" for name, value in zip(_SLURM, values, strict=True))
            raise ValueError(
                "The part of a Slurm array is known within its tasks only, those of sbatch "
                f"--array=1-3: elsewhere name it, such as 2/3. Received: {told}"
            )
        task, first, step, count = map(int, values)
        if not step or (task - first) % step:
            raise ValueError(
                "Parts are the tasks of one array, evenly numbered, such as sbatch --array=1-3. "
                f"Received: task {task} of those from {first} in steps of {step}"
            )
        return cls((task - first) // step + 1, count)

    def share(self, cases: Sequence[Case]) -> list[Case]:
        """Return the cases of this part: each case is in one part, and parts are of equal size."""
        return list(cases[self.number - 1 :: self.of])

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def claim(path: Path, part: Part) -> Part:
    """Claim a case for a part, unless it is another's; return whose it is.

    A claim is a file that says so, see `write_once`. A part's own claim, of a process that was
    killed, is its own still.

    Args:
        path: The claim of the case, in the folder that all processes see.
        part: The one that would work on it.

    Raises:
        ValueError: If there is such a file, which is no claim.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_once(path, str(part))
    return claimed_by(path) or part


def claimed_by(path: Path) -> Part | None:
    """Return the part that claimed a case; `None` where none did."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    try:
        return Part.parse(text)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def release(path: Path) -> None:
    """Take back a claim, once the case is finished."""
    path.unlink(missing_ok=True)
