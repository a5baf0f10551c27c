"""The benchmarks' processes: their cores, their backend and their memory."""

import os
import sys

import numpy as np
import pytest

from keras_lgmsnet.benchmark.workers import (
    import_packages,
    peak_memory,
    require_threads,
    start_worker,
)

pytestmark = pytest.mark.no_backend


def _fill(number: int) -> None:
    np.ones(number)  # 8 bytes each, and given back


def test_peak_memory_is_the_most_that_was_held_at_once():
    with start_worker(None, None) as worker:
        imported = worker.submit(import_packages, "numpy").result()
        for _ in range(2):
            worker.submit(_fill, 10_000_000).result()
        assert 70e6 < worker.submit(peak_memory, imported).result() < 120e6


def test_peak_memory_does_not_begin_at_the_parents():
    held = np.ones(50_000_000)
    with start_worker(None, None) as worker:
        assert worker.submit(peak_memory, 0).result() < held.nbytes < peak_memory(0)


def test_memory_is_unknown_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr("pathlib.Path.exists", lambda path: False)
    assert import_packages() is None
    assert peak_memory(None) is None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_workers_have_their_backend_and_cores():
    with start_worker("jax", 1) as worker:
        assert worker.submit(os.getenv, "KERAS_BACKEND").result() == "jax"
        assert len(worker.submit(os.sched_getaffinity, 0).result()) == 1


def test_numbers_of_threads_that_cannot_be(monkeypatch):
    require_threads(None)
    with pytest.raises(ValueError, match="Received: threads=0"):
        require_threads(0)
    monkeypatch.delattr("os.sched_setaffinity", raising=False)
    with pytest.raises(ValueError, match=r"leave it out\. Received: threads=1"):
        require_threads(1)
