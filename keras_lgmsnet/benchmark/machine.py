"""The machine that is timed: its processor and devices, and how its times and sizes print."""

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")


def describe_machine(
    threads: int | None = None, packages: Sequence[str] = ("keras", *BACKENDS)
) -> str:
    """Return the processor, the cores in use, and the versions that the times belong to.

    Args:
        threads: Cores in use; `None` for all.
        packages: Distributions, of which those installed are named.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    processor = next(iter(models), platform.processor() or platform.machine())
    versions = []
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    return (
        f"{processor}, {threads or os.cpu_count()} of {os.cpu_count()} cores, "
        f"{platform.system()}; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def default_device(backend: str) -> str:
    """Return what a backend computes on by default: `"CPU"`, `"GPU"` or what JAX calls it."""
    if backend == "tensorflow":
        import tensorflow

        return "GPU" if tensorflow.config.list_physical_devices("GPU") else "CPU"
    if backend == "jax":
        import jax

        return jax.default_backend().upper()
    import torch

    return "GPU" if torch.cuda.is_available() else "CPU"


def milliseconds(seconds: float | None) -> str:
    """Return a time for a table, in milliseconds."""
    if seconds is None:
        return "–"
    return f"{1000 * seconds:.0f}" if seconds >= 0.1 else f"{1000 * seconds:.1f}"


def megabytes(number: int | None) -> str:
    """Return a number of bytes for a table, in MB."""
    return "–" if number is None else f"{number / 1e6:,.0f}"


def ratio(number: float | None) -> str:
    """Return the ratio of two measurements for a table."""
    return "–" if number is None else f"{number:.3g}"
