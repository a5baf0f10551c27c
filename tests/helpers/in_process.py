"""What the benchmarks compute in processes, computed in this one: to start one takes seconds."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keras_lgmsnet.benchmark.workers import Outcome, attempt


def try_each_here(
    function: Callable[[Any], Any],
    cases: Iterable[Any],
    backend: str,
    seconds: float,
    *,
    threads: int | None = None,
    gpu: bool = True,
) -> Iterator[Outcome]:
    """Stand in for `keras_lgmsnet.benchmark.workers.try_each`."""
    for case in cases:
        yield attempt(function, case)
