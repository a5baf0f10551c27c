"""Progress of what takes long: a bar on a terminal, elsewhere a line now and then."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO, TypeVar, overload

from tqdm import tqdm

SECONDS = 30  # from one line to the next

T = TypeVar("T")

_stream: TextIO | None = None  # None for sys.stderr, whatever that is by then


@overload
def track(
    items: Iterable[T],
    *,
    label: str,
    unit: str,
    total: int | None = ...,
    leave: bool = ...,
    shown: bool = ...,
) -> "tqdm[T]": ...


@overload
def track(
    items: None = None,
    *,
    label: str,
    unit: str,
    total: int | None = ...,
    leave: bool = ...,
    shown: bool = ...,
) -> "tqdm[Any]": ...


def track(
    items: Iterable[Any] | None = None,
    *,
    label: str,
    unit: str,
    total: int | None = None,
    leave: bool = True,
    shown: bool = True,
) -> "tqdm[Any]":
    """Return an iterable over the same items that tells how far it has come.

    On a terminal it is a bar; elsewhere, as in a log, a line every `SECONDS`, and none for what is
    done before.

    Args:
        items: What is to be done; without, `update` tells of each that is done, and `close`, or
            the end of a `with` block, of the end.
        label: What is being done: `"Decoding"`.
        unit: What one item is called: `"image"`.
        total: How many items there are, if they do not tell themselves.
        leave: Whether a bar stays on the terminal when all is done.
        shown: Whether to tell anything.

    Example:
    ```python
    for path in track(paths, label="Reading", unit="image"):
        read_image(path)
    ```
    """
    stream = _stream or sys.stderr
    kind = tqdm if stream.isatty() else _Lines
    return kind(
        items, desc=label, unit=unit, total=total, leave=leave, file=stream, disable=not shown
    )


def say(text: str) -> None:
    """Tell in a line what is being done."""
    print(text, file=_stream or sys.stderr, flush=True)


def report_to(stream: TextIO) -> None:
    """Have this process tell its progress there instead of on standard error.

    It is for a process whose parent passes on what it reads from it.
    """
    global _stream
    _stream = stream


class _Lines(tqdm):
    """Tells in a line every `SECONDS` how far it has come."""

    def __init__(self, items: Iterable[Any] | None = None, **options: Any) -> None:
        super().__init__(items, mininterval=SECONDS, delay=SECONDS, miniters=1, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the line, if something was done since the last."""
        if self.n == self.last_print_n:
            return
        elapsed = self.format_dict["elapsed"]
        of_all = left = ""
        if self.total is not None:
            of_all = f" of {self.total}"
            left = f", {self.format_interval(elapsed * (self.total / self.n - 1))} left"
        print(
            f"{self.desc.removesuffix(': ')}: {self.n}{of_all} {self.unit}s after "
            f"{self.format_interval(elapsed)}{left}",
            file=self.fp,
            flush=True,
        )

    def close(self) -> None:
        """End without a word; what follows tells that it is done."""
        self.sp = None  # by which tqdm knows that there is no bar to end
        super().close()
