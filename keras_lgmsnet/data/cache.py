"""What is computed once, kept in a file and mapped into memory."""

import contextlib
import errno
import math
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from keras_lgmsnet.files.writing import UNFINISHED, require_writable

if TYPE_CHECKING:
    pass


def compute_once(path: Path, compute: Callable[[], Sequence[np.ndarray]]) -> tuple[np.ndarray, ...]:
    """Return arrays that are computed once, kept in a file and mapped into memory.

    The file holds their number and them, one after the other, as `numpy.save` writes them. One that
    is cut short is replaced; one that is deleted is written again. Where it cannot be written, or
    would not fit, the arrays lie in a temporary file that goes with them, and are computed by each
    process.

    Args:
        path: The file; its name and folder must tell everything that decides the arrays. The
            folder is made if need be.
        compute: Returns the arrays.

    Returns:
        The arrays, not to be written to. As long as one is in use, its file counts as open.

    Raises:
        OSError: If the temporary file does not fit either, or too many files are open.

    Example:
    ```python
    (mean,) = compute_once(folder / "mean-v1.npy", lambda: [volumes.mean(axis=0)])
    ```
    """
    try:
        with open(path, "rb") as file:
            return _map_arrays(file)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # which another file would not mend
            raise
    except ValueError:
        pass
    # Not computed yet, cut short, or not to be mapped on this file system.
    arrays = compute()
    size = sum(array.nbytes for array in arrays)
    if has_room(path.parent, size):
        remove_abandoned(path.parent)
        with contextlib.suppress(OSError):  # a quota is met only in writing
            with write_whole(path) as file:
                _save_arrays(file, arrays)
            with open(path, "rb") as file:
                return _map_arrays(file)
    temporary = Path(tempfile.gettempdir())
    if not has_room(temporary, size):
        raise OSError(
            f"Neither {path.parent} nor {temporary} can be written to and has room for {size:,} "
            "bytes: free some, or choose another folder of prepared datasets (--data-dir, "
            "data_dir=)."
        )
    with tempfile.TemporaryFile() as file:
        _save_arrays(file, arrays)
        file.flush()
        return _map_arrays(file)


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to, which becomes `path` when all went well, replacing what was there.

    Several processes may write to one path: each has a file of its own, and the last one stays.
    """
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=path.parent) as temporary:
        unfinished = Path(temporary) / path.name
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave the name on an empty file
        os.replace(unfinished, path)


def has_room(folder: Path, size: int) -> bool:
    """Say whether a file of so many bytes can be written to a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_writable(folder)
    except OSError:
        return False
    return shutil.disk_usage(folder).free > 1.1 * size


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left unfinished; nothing is written for as long as a day."""
    for abandoned in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):  # another process may be at it
            if time.time() - abandoned.stat().st_mtime > 24 * 60 * 60:
                shutil.rmtree(abandoned)


def _save_arrays(file: BinaryIO, arrays: Sequence[np.ndarray]) -> None:
    for array in (np.array([len(arrays)]), *arrays):
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def _map_arrays(file: BinaryIO) -> tuple[np.ndarray, ...]:
    """Map a file's arrays into memory.

    Raises:
        OSError: If it cannot be mapped.
        ValueError: If it is empty or cut short.
    """
    buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    arrays, end = [], 0
    while end < len(buffer):
        file.seek(end)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        begin = file.tell()
        end = begin + math.prod(shape) * dtype.itemsize
        if end > len(buffer):
            raise ValueError("The last array is cut short.")
        arrays.append(np.ndarray(shape, dtype, buffer, begin))
    count, *arrays = arrays
    if len(arrays) != count:
        raise ValueError(f"There must be {count} arrays. Received: {len(arrays)}")
    return tuple(arrays)
