"""The memory that this process takes, in RAM and on a GPU."""

import re
from pathlib import Path


def held() -> int | None:
    """Return the bytes that this process holds in RAM, shared libraries too.

    `None` where the system does not tell; it does on Linux.
    """
    return _read_status("VmRSS")


def most_held() -> int | None:
    """Return the most bytes that this process ever held in RAM.

    Unlike that of `resource.getrusage` it starts anew with the process, not at its parent's.
    `None` where the system does not tell; it does on Linux.
    """
    return _read_status("VmHWM")


def most_held_on_gpu(backend: str) -> int | None:
    """Return the most bytes that a Keras backend ever held on its first GPU.

    `None` where there is no GPU, or the backend does not tell.
    """
    if backend == "torch":
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    if backend == "jax":
        import jax

        statistics = jax.local_devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use")
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return None
    return tf.config.experimental.get_memory_info("GPU:0")["peak"]


def _read_status(field: str) -> int | None:
    """Return a number of bytes that Linux tells of this process; `None` on other systems."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    (kilobytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    return 1024 * int(kilobytes)
