"""The benchmarks' processes: one for each contestant, whose cores and memory are then its own."""

import importlib
import multiprocessing
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from keras_lgmsnet.process import memory
from keras_lgmsnet.process.quiet import quieten

# What begins the failure of a case that was never begun.
LEFT_OUT = "Left out"


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Args:
        value: What the function returned.
        failure: Why it returned nothing, in a sentence; it begins with `LEFT_OUT` where the case
            was not begun.
        details: The traceback of a function that raised.
    """

    value: Any = None
    failure: str | None = None
    details: str | None = None

    @property
    def left_out(self) -> bool:
        """Whether the case was never begun."""
        return (self.failure or "").startswith(LEFT_OUT)


def try_each(
    function: Callable[[Any], Any],
    cases: Iterable[Any],
    backend: str | None,
    seconds: float,
    *,
    threads: int | None = None,
    gpu: bool = True,
) -> Iterator[Outcome]:
    """Yield what comes of each case, computed one after the other in a process of its own.

    A case that fails is told of, and the next goes on; so it does, in another process, after a case
    that ended its process. When the time is up, the process is ended, whatever it does.

    Args:
        function: From a case to what can be pickled; it is found by its name.
        cases: What it takes, one after the other.
        backend: Keras's in that process; `None` where it uses no Keras.
        seconds: For all cases together, and for starting the process.
        threads: Processor cores that the process may use; `None` for all.
        gpu: Whether it sees the machine's GPUs.

    Yields:
        An outcome for each case.
    """
    end = time.monotonic() + seconds
    process, connection = None, None
    try:
        for case in cases:
            left = end - time.monotonic()
            if left <= 0:
                yield Outcome(failure=f"{LEFT_OUT}: no time was left.")
                continue
            if process is None or connection is None:
                process, connection = _start(function, backend, threads, gpu)
            try:
                connection.send(case)
                if connection.poll(left):
                    yield connection.recv()
                    continue
                failure = f"Stopped after {left:.0f} s, when the time of its part was up."
            except (EOFError, OSError):
                process.join()
                failure = f"Its process ended, with exit code {process.exitcode}."
            process.kill()
            process = None
            yield Outcome(failure=failure)
    finally:
        if process is not None:
            process.kill()
            process.join()  # and so a GPU's memory is free again


def attempt(function: Callable[[Any], Any], case: Any) -> Outcome:
    """Return what comes of a case that is computed here."""
    try:
        return Outcome(function(case))
    except Exception as error:
        return Outcome(failure=in_a_sentence(error), details=traceback.format_exc())


def in_a_sentence(error: Exception) -> str:
    """Return what an error says, in one line of no more than 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def start_worker(
    backend: str | None, threads: int | None, *, gpu: bool = True
) -> ProcessPoolExecutor:
    """Return a process that computes what it is given, one after the other.

    Args:
        backend: Keras's in that process; `None` where it uses no Keras.
        threads: Processor cores that it may use; `None` for all.
        gpu: Whether it sees the machine's GPUs.
    """
    return ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        initargs=(backend, threads, gpu),
    )


def require_threads(threads: int | None) -> None:
    """Raise `ValueError` unless processes can be limited to so many cores."""
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"threads must be positive. Received: threads={threads}")
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError(
            f"threads cannot be limited on {platform.system()}: leave it out. "
            f"Received: threads={threads}"
        )


def import_packages(*names: str) -> int | None:
    """Import packages in a worker; return the memory that it then holds: see `peak_memory`."""
    for name in names:
        importlib.import_module(name)
    return memory.held()


def peak_memory(imported: int | None) -> int | None:
    """Return the most memory that a worker ever held, beyond what it held at an earlier moment.

    It is resident memory, in bytes: what the process holds in RAM, shared libraries too, and no
    GPU's. Unlike that of `resource.getrusage` it starts anew with the process, not at its parent's.

    Args:
        imported: What `import_packages` returned.

    Returns:
        The difference; `None` where the system does not tell (it does on Linux).
    """
    peak = memory.most_held()
    # Linux counts pages by processor and adds them up late, so the peak may lag behind.
    return None if imported is None or peak is None else max(0, peak - imported)


def _start(
    function: Callable[[Any], Any], backend: str | None, threads: int | None, gpu: bool
) -> tuple[Any, Any]:
    """Start a process of `try_each`; return it and the connection to it."""
    context = multiprocessing.get_context("spawn")
    ours, others = context.Pipe()
    process = context.Process(target=_serve, args=(others, function, backend, threads, gpu))
    process.start()
    others.close()  # so that the connection ends with the process
    return process, ours


def _serve(
    connection: Any,
    function: Callable[[Any], Any],
    backend: str | None,
    threads: int | None,
    gpu: bool,
) -> None:
    """Compute cases until there are no more."""
    _prepare(backend, threads, gpu)
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        connection.send(attempt(function, case))


def _prepare(backend: str | None, threads: int | None, gpu: bool) -> None:
    """Set up a worker, before it imports anything that reads these variables."""
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    if backend in ("torch", None):  # plain PyTorch is timed beside
        memory.keep_freed_memory()
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
    quieten()
    # Several processes share a GPU: none may take all of its memory.
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if threads is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if backend is not None:
        from keras_lgmsnet.keras_settings import ignore_keras_json

        ignore_keras_json()
