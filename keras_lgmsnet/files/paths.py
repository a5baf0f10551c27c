"""Paths: files found in folders, opened, named in messages, and printed."""

import contextlib
import io
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# A file, or a file in a zip file.
AnyPath = Path | zipfile.Path


def find_files(
    folder: str | Path, suffixes: tuple[str, ...], leave_out: str | None = None
) -> Iterator[Path]:
    """Yield the files of a kind in a folder and its subfolders, in the same order everywhere.

    Hidden files and folders are left out, and links to folders are not followed.

    Args:
        folder: Folder to look through.
        suffixes: What the names of those files end in, in any case.
        leave_out: Folders that hold a file of this name are left out with all that is in them.

    Raises:
        OSError: If a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        if leave_out in files:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(suffixes):
                yield Path(parent, name)


def size_on_disk(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder and its subfolders."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def printable(path: object) -> str:
    """Return a path as text, also where its bytes are none in UTF-8."""
    return os.fsencode(str(path)).decode("utf-8", "replace")


def let_any_text_print() -> None:
    """Have this process print escapes for what its terminal's or log's encoding lacks.

    Otherwise the name of a file or an organ ends the process that prints it: `"Ł"` in code page
    1252, where it becomes the escape that Python has for it.

    Example:
    ```python
    let_any_text_print()
    print("Ł 病.png", flush=True)
    ```
    """
    for stream in (sys.stdout, sys.stderr):
        # Others, such as a notebook's, encode nothing; without a terminal there may be none.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def opened(path: AnyPath) -> Iterator[IO[bytes]]:
    """Open a file, or the file in a zip file, and name it in what goes wrong in reading it.

    Raises:
        ValueError: For whatever the file system or a damaged zip file raises, also in the block.
    """
    try:
        with path.open("rb") as file:
            yield file
    # A RuntimeError is an encrypted member, a NotImplementedError an unknown compression.
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{printable(path)} cannot be read: {error}") from error


def read_bytes(path: AnyPath, limit: int) -> bytes:
    """Return a file's content.

    Args:
        path: The file, or the file in a zip file.
        limit: The most bytes that it may have, to be known before they are read.

    Raises:
        ValueError: If it is too long or cannot be read, because of the file system or of a damaged
            zip file.
    """
    with opened(path) as file:
        if isinstance(path, zipfile.Path):
            size = path.root.getinfo(path.at).file_size
        else:
            size = path.stat().st_size
        if size > limit:
            raise ValueError(
                f"{path} must have at most {limit:,} bytes, uncompressed. Received: {size:,}"
            )
        # With the size, because zipfile inflates all there is when it is told none.
        return file.read(size)
