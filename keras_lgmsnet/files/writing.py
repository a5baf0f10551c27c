"""Files and folders that are written whole or not at all."""

import contextlib
import csv
import fnmatch
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What is being written has a name that begins so, and gets its own when it is complete. A file or
# folder that keeps such a name was left behind by a process that was killed.
UNFINISHED = ".unfinished-"


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of the same keys, which become the header, as CSV, atomically."""
    write_text(path, csv_text(rows))


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Return rows of the same keys, which become the header, as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[0] if rows else ())
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write an object as indented JSON, atomically."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_shared_json(path: Path, values: dict[str, Any]) -> None:
    """Write as `write_json` does a file that several processes may write at once; the last stays.

    Raises:
        OSError: If it cannot be written; it names `path`.
    """
    with _written_apart(path) as written:
        write_json(written, values)
        os.replace(written, path)


def write_once(path: Path, text: str) -> None:
    """Write a text file, whole, unless there is one: of several processes the first writes it.

    It is written under another name first, and `path` is given to it as a second one, which all
    file systems that machines share let succeed once. On those without second names, such as memory
    cards and mounted clouds, it is created alone, and another process may find it empty for a
    moment.

    Raises:
        OSError: If it cannot be written; it names `path`.
    """
    with _written_apart(path) as written:
        write_text(written, text)
        try:
            path.hardlink_to(written)
        except FileExistsError:
            pass  # another process was first
        except OSError:
            with (
                contextlib.suppress(FileExistsError),
                open(path, "x", encoding="utf-8", newline="") as file,
            ):
                file.write(text)


@contextmanager
def _written_apart(path: Path) -> Iterator[Path]:
    """Yield where to write a file first, in a folder of this process's own beside it.

    `atomic_write` has one temporary name for all processes.
    """
    with (
        named_in_errors(path),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as folder,
    ):
        yield Path(folder) / path.name


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Name a file or folder in errors of writing to it: the system names none, say of a full disk.

    Raises:
        OSError: As the block raised it, with `path` where it named no file.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which becomes `path` when all went well.

    Whatever happens, `path` is either what it was or complete.

    Raises:
        OSError: If it cannot be written, say on a full disk; it names `path`.
    """
    temporary = path.with_name(f"{UNFINISHED}{path.name}")  # the suffix tells Keras the format
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # a power cut must not leave the new name on an empty file
        os.replace(temporary, path)
        _sync_names(path.parent)  # nor may what follows outlive the new name
    except OSError as error:
        # Whatever it says, it is about this file; HDF5's errors may have no number.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a folder to write to, which becomes `path`, absent or empty, when all went well.

    Whatever happens, `path` is either what it was or complete.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    # On the same file system, so that one rename publishes everything.
    with (
        named_in_errors(path),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as temporary,
    ):
        unfinished = Path(temporary) / path.name
        unfinished.mkdir()
        yield unfinished
        if path.exists():
            path.rmdir()
        unfinished.rename(path)


def require_unused(directory: Path, *, ignore: Sequence[str] = (), mend: str = "") -> None:
    """Raise `FileExistsError` unless the directory is absent or empty.

    Args:
        directory: Where a command is to write.
        ignore: Names of files that do not count, as `fnmatch` has them.
        mend: What else can be done about it, as the end of the message's sentence.
    """
    if not directory.exists():
        return
    if not directory.is_dir() or any(
        not any(fnmatch.fnmatchcase(path.name, pattern) for pattern in ignore)
        for path in directory.iterdir()
    ):
        raise FileExistsError(
            f"{directory} is in use: choose another directory, absent or empty{mend}."
        )


def require_writable(directory: Path, *, mend: str = "") -> None:
    """Raise `OSError` unless files can be created in the directory, which need not exist yet.

    Args:
        directory: Where a command is to write.
        mend: What can be done about it, as the end of the message's sentence.
    """
    directory = directory.absolute()
    existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=UNFINISHED):
            pass
    except OSError as error:
        raise OSError(f"{directory} cannot be written to: {error.strerror}{mend}.") from error


def _sync_names(directory: Path) -> None:
    """Bring the directory's list of names to the disk, where the system lets it be opened."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
