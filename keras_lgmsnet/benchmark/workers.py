"""The benchmarks' processes: one for each contestant, whose cores and memory are then its own."""

import importlib
import multiprocessing
import os
import platform
from concurrent.futures import ProcessPoolExecutor

from keras_lgmsnet.process import memory
from keras_lgmsnet.process.quiet import quieten


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
    return None if imported is None or peak is None else peak - imported


def _prepare(backend: str | None, threads: int | None, gpu: bool) -> None:
    """Set up a worker, before it imports anything that reads these variables."""
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
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
