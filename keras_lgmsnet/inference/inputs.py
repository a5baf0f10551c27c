"""What prediction is given, what its outputs are called, and what they tell of their making."""

import itertools
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

from keras_lgmsnet.about import NOTICE, __version__
from keras_lgmsnet.files import images as image_files
from keras_lgmsnet.files import nifti as volume_files
from keras_lgmsnet.files.paths import find_files, printable

# Marks an output directory, so that its files are not taken for inputs when its parent is read.
MARKER = "lgms-predict.json"


def list_files(
    given: str | Path | Iterable[str | Path],
    kind: str,
    suffixes: tuple[str, ...],
    output_suffixes: tuple[str, ...],
) -> dict[Path, str]:
    """Return the files to predict, each once, and a name for the outputs of each.

    The name is the file's own without its suffix, below its path in the folder that was given;
    where that is taken already, `-2`, `-3` and so on are added.

    Args:
        given: Files, and folders, which are looked through as by `find_files`, earlier outputs
            left out.
        kind: What a file holds, for messages.
        suffixes: What the names of such files in folders end in.
        output_suffixes: What the outputs' names end in.

    Raises:
        FileNotFoundError: If a file or folder does not exist, a folder holds no such file, or
            nothing is given.
        ValueError: If a folder is a dataset, which holds label maps, too.
    """
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in map(Path, [given] if isinstance(given, str | Path) else given):
        if (path / "dataset.json").is_file():
            raise ValueError(
                f"{printable(path)} is a dataset, labels and all: name the folder of its {kind}s, "
                f"such as {printable(path / 'imagesTr')}."
            )
        if path.is_dir():
            inside = find_files(path, suffixes, leave_out=MARKER)
            found = {file: file.relative_to(path) for file in inside}
            if not found:
                raise FileNotFoundError(
                    f"{printable(path)} holds no {kind}: no file that ends in "
                    f"{', '.join(suffixes)}."
                )
        elif os.path.lexists(path):
            found = {path: Path(path.name)}
        else:
            raise FileNotFoundError(f"There is no {kind} {printable(path)}.")
        for file, relative in found.items():
            if file not in names:
                names[file] = _unique_name(relative, suffixes, output_suffixes, taken)
    if not names:
        raise FileNotFoundError(f"There must be at least one {kind} to predict. Received: none")
    return names


def require_folder_name(output: Path) -> None:
    """Raise `ValueError` if a folder to write would be named as if it were an image or a scan."""
    name = output.name.lower()
    for suffix in (*volume_files.SUFFIXES, *image_files.SUFFIXES):
        if name.endswith(suffix):
            folder = output.with_name(output.name[: -len(suffix)] or "predicted")
            raise ValueError(
                f"The outputs need a folder, not a file in {suffix}: name one, such as "
                f"{printable(folder)}. Received: {printable(output)}"
            )


def describe(run_directory: Path, method: dict[str, Any]) -> dict[str, Any]:
    """Return what is written beside predictions: where they come from and what they are not."""
    return {
        "notice": NOTICE,
        "run_directory": printable(run_directory.absolute()),
        "method": method,
        "backend": keras.backend.backend(),
        "versions": {"keras_lgmsnet": __version__, "keras": keras.__version__},
    }


def table_row(row: Any, **measures: str) -> dict[str, str]:
    """Return a row of `results.csv`.

    Args:
        row: What became of a file, a `Prediction` or a `VolumePrediction`.
        **measures: What was measured, by the names of further columns.
    """
    flags = "not checked" if row.flags is None else "; ".join(row.flags)
    return {
        "path": row.path,
        "name": row.name,
        "status": "predicted" if row.error is None else "failed",
        **measures,
        "flags": flags if row.error is None else "",
        "error": row.error or "",
    }


def sentence(error: Exception) -> str:
    """Return in one sentence why a file was not read."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {printable(error.filename)}"
    return " ".join(str(error).split())


def _unique_name(
    relative: Path, suffixes: tuple[str, ...], output_suffixes: tuple[str, ...], taken: set[str]
) -> str:
    """Return the path without its suffix, made unique also where case does not count."""
    name = printable(relative.name)
    suffix = next((each for each in suffixes if name.lower().endswith(each)), relative.suffix)
    stem = name[: len(name) - len(suffix)] or name
    # Short enough for a suffix and a prefix to fit into the 255 bytes of a file name.
    stem = stem.encode()[:200].decode(errors="ignore")
    # No folder may be named as an output: `scan.jpg` becomes `scan.png`.
    parts = relative.parent.parts
    folders = [f"{part}_" if part.lower().endswith(output_suffixes) else part for part in parts]
    name = printable(Path(*folders) / stem)
    for candidate in itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2))):
        key = unicodedata.normalize("NFC", candidate).casefold()
        if key not in taken:
            taken.add(key)
            return candidate
