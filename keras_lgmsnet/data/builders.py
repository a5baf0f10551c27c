"""Prepared copies of datasets, and what is kept beside them."""

import contextlib
import errno
import functools
import importlib
import math
import mmap
import os
import pkgutil
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import filelock
import numpy as np

import tfds_builders
from keras_lgmsnet.run_directory import UNFINISHED, require_writable

if TYPE_CHECKING:
    from tfds_builders._reading import SegmentationBuilder


def prepare_dataset(
    source: str,
    kind: Literal["images", "volumes"],
    manual_dir: str | Path | None,
    data_dir: str | Path | None,
    *,
    allow_incomplete: bool,
    progress: bool,
) -> "SegmentationBuilder":
    """Return the builder of a dataset that has a prepared copy, made now if need be.

    Args:
        source: Name of a dataset in the `tfds_builders` package, such as `"btcv"`, or of one of its
            configs, such as `"busi/all"`.
        kind: What the dataset must be of: `"images"` (2D) or `"volumes"`.
        manual_dir: Folder that holds the publisher's archives, read only where no prepared copy
            exists; for a dataset of the user's own, its folder. `None` for `downloads/manual` in
            `data_dir`.
        data_dir: Folder of prepared datasets; `None` for TensorFlow Datasets' own.
        allow_incomplete: Whether an archive may be short of its published count.
        progress: Whether to show progress bars.

    Raises:
        ValueError: If the dataset is unknown, of the other kind, incomplete or damaged.
        FileNotFoundError: If there is neither a prepared copy nor an archive.
    """
    name, _, config = source.partition("/")
    modules = pkgutil.iter_modules(tfds_builders.__path__)
    known = sorted(module.name for module in modules if module.ispkg)  # a folder each
    if name not in known:
        raise ValueError(
            f"The dataset builder must be one of {', '.join(known)}. Received: builder={name!r}"
        )
    if manual_dir is not None and not Path(manual_dir).expanduser().is_dir():
        raise FileNotFoundError(
            f"There is no folder {manual_dir} (--manual-dir, manual_dir=) to read {name} from."
        )
    # Takes seconds to import, which generated data need not pay.
    import tensorflow_datasets as tfds

    from tfds_builders._reading import FolderBuilder, VolumeBuilder

    (tfds.enable_progress_bar if progress else tfds.disable_progress_bar)()
    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    found = "volumes" if issubclass(module.Builder, VolumeBuilder) else "images"
    if found != kind:
        raise ValueError(f"The dataset must be of {kind}. Received: {name}, which has {found}")
    if issubclass(module.Builder, FolderBuilder):
        if config or manual_dir is None:
            raise ValueError(
                f"{name} reads a folder of your own, which must be given as the folder to read: "
                f"--manual-dir FOLDER. Received: builder={source!r}, {manual_dir=}"
            )
        config = module.Config(folder=str(manual_dir))
    elif config and config not in module.Builder.builder_configs:
        raise ValueError(
            f"The config of {name} must be one of "
            f"{', '.join(module.Builder.builder_configs) or 'none'}. Received: {config!r}"
        )
    make_builder = functools.partial(
        module.Builder,
        data_dir=data_dir,
        config=config or None,
        allow_incomplete=allow_incomplete,
    )
    builder = make_builder()
    manual_dir = Path(manual_dir or builder.data_dir_root / "downloads/manual").expanduser()
    if not builder.data_path.exists():
        if not manual_dir.is_dir() or not any(manual_dir.iterdir()):
            raise FileNotFoundError(
                f"{name} is neither prepared in {builder.data_dir_root} nor downloaded to "
                f"{manual_dir}: name the folder with its archives (--manual-dir, manual_dir=). "
                f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        root = Path(builder.data_dir_root)
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f".{name}.lock"):
            builder = make_builder()  # another process may have prepared it meanwhile
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
                file_format="array_record",
            )
    elif builder.info.file_format.value != "array_record":
        raise ValueError(
            f"The prepared copy must be in the array_record format to be read without TensorFlow; "
            f"delete it or choose another data_dir. "
            f"Received: {builder.data_path} in the {builder.info.file_format.value} format"
        )
    elif allow_incomplete:
        builder.require_current(manual_dir)
    return builder


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
