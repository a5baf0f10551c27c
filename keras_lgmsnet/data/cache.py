"""Arrays that are computed once, kept in a file and mapped into memory."""

import contextlib
import errno
import math
import mmap
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from keras_lgmsnet.files.writing import UNFINISHED, require_writable

# NumPy reads a header by Python's parser, which in Python 3.11 fails with a `SystemError` now and
# then where several threads are in it.
_READING = threading.Lock()


@dataclass(frozen=True)
class Chunks:
    """An array that is made a few rows at a time, since all of them may not fit into memory.

    Args:
        shape: The array's shape.
        dtype: Its type.
        make: Returns the rows in order, some at a time; called again where they could not all be
            written.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], Iterable[np.ndarray]]

    @property
    def nbytes(self) -> int:
        """The array's size."""
        return math.prod(self.shape) * self.dtype.itemsize


# A list is made an array when its turn to be written comes: the chunks before it may fill it.
Computed: TypeAlias = np.ndarray | Chunks | list


def compute_once(
    path: Path,
    compute: Callable[[], Sequence[Computed]],
    fits: Callable[[Sequence[np.ndarray]], bool] = lambda arrays: True,
) -> tuple[np.ndarray, ...]:
    """Return arrays that are computed once, kept in a file and mapped into memory.

    The file holds their number and them, one after the other, as `numpy.save` writes them. One that
    is cut short is replaced; one that is deleted is written again. Where it cannot be written, or
    there is no room for it, the arrays lie in a temporary file that goes with them, and are
    computed by each process. What computing raises is no reason to compute once more.

    Args:
        path: The file; its name and folder must tell everything that decides the arrays. The
            folder is made if need be.
        compute: Returns the arrays.
        fits: Says whether the arrays of a file can be the right ones; others are replaced.

    Returns:
        The arrays, not to be written to. As long as one is in use, its file counts as open.

    Raises:
        NoFileError: If the temporary file cannot be written, or does not fit, either.
        OSError: If too many files are open, or `compute` raises it.

    Example:
    ```python
    (mean,) = compute_once(folder / "mean-v1.npy", lambda: [volumes.mean(axis=0)])
    ```
    """
    try:
        with open(path, "rb") as file:
            arrays = _map(file)
        if fits(arrays):
            return arrays
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # which another file would not mend
            raise
    except ValueError:
        pass
    # Not computed yet, cut short, or not to be mapped on this file system.
    computed = compute()
    try:
        return _keep(path, computed)
    except _ComputingError as wrapped:
        computing_error = wrapped.error
    raise computing_error


class NoFileError(OSError):
    """Neither the file nor a temporary one can hold the arrays."""


class _ComputingError(Exception):
    """Wraps an `OSError` of what computes, which is none of the file that is written."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


def _keep(path: Path, computed: Sequence[Computed]) -> tuple[np.ndarray, ...]:
    """Write arrays to a file, or else to a temporary one, and map them into memory."""
    size = sum(0 if isinstance(array, list) else array.nbytes for array in computed)
    if _has_room(path.parent, size):
        _remove_abandoned(path.parent)
        with contextlib.suppress(OSError):  # a quota is met only in writing
            with _write_whole(path) as file:
                _save(file, computed)
            with open(path, "rb") as file:
                return _map(file)
    temporary = Path(tempfile.gettempdir())
    failure: OSError | None = None
    if _has_room(temporary, size):
        try:
            with tempfile.TemporaryFile() as file:
                _save(file, computed)
                file.flush()
                return _map(file)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            failure = error
    raise NoFileError(
        f"Neither {path.parent} nor {temporary} can be written to and has room for {size:,} "
        "bytes: free some, or choose another folder of prepared datasets (--data-dir, data_dir=)."
    ) from failure


def _save(file: BinaryIO, arrays: Sequence[Computed]) -> None:
    for array in (np.array([len(arrays)]), *arrays):
        if isinstance(array, Chunks):
            np.lib.format.write_array_header_1_0(
                file,
                {
                    "descr": np.lib.format.dtype_to_descr(array.dtype),
                    "fortran_order": False,
                    "shape": array.shape,
                },
            )
            made = 0
            for rows in _make(array):
                file.write(rows.data)
                made += len(rows)
            if made != array.shape[0]:
                raise ValueError(f"There must be {array.shape[0]} rows. Received: {made}")
        else:
            np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def _make(chunks: Chunks) -> Iterator[np.ndarray]:
    """Yield the rows, and wrap an `OSError` of what makes them."""
    try:
        yield from chunks.make()
    except OSError as error:
        raise _ComputingError(error) from error


def _map(file: BinaryIO) -> tuple[np.ndarray, ...]:
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
        with _READING:
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


@contextlib.contextmanager
def _write_whole(path: Path) -> Iterator[BinaryIO]:
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


def _has_room(folder: Path, size: int) -> bool:
    """Say whether a file of so many bytes can be written to a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_writable(folder)
    except OSError:
        return False
    return shutil.disk_usage(folder).free > 1.1 * size


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left unfinished; nothing is written for as long as a day."""
    for abandoned in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):  # another process may be at it
            if time.time() - abandoned.stat().st_mtime > 24 * 60 * 60:
                shutil.rmtree(abandoned)
