"""Which files prediction is given, what their outputs are called, and where those may go."""

import itertools
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_lgmsnet.files.images import SUFFIXES as IMAGE_SUFFIXES
from keras_lgmsnet.files.nifti import SUFFIXES as SCAN_SUFFIXES
from keras_lgmsnet.files.paths import find_files, printable
from keras_lgmsnet.files.writing import require_unused, require_writable

# Marks an output directory, so that its files are not taken for inputs when its parent is read.
MARKER = "lgms-predict.json"


def list_files(
    given: str | Path | Iterable[str | Path],
    unit: str,
    suffixes: tuple[str, ...],
    output_suffixes: tuple[str, ...],
) -> dict[Path, str]:
    """Return the files to predict, each once, and a name for the outputs of each.

    The name is the file's own without its suffix, below its path in the folder that was given;
    where that is taken already, `-2`, `-3` and so on are added.

    Args:
        given: Files, and folders, which are looked through as by `find_files`, earlier outputs
            left out.
        unit: What a file is called, for messages: `"image"`.
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
                f"{printable(path)} is a dataset, labels and all: name the folder of its {unit}s, "
                f"such as {printable(path / 'imagesTr')}."
            )
        if path.is_dir():
            files = list(find_files(path, suffixes, leave_out=MARKER))
            if not files:
                raise FileNotFoundError(
                    f"{printable(path)} holds no {unit}: no file that ends in "
                    f"{', '.join(suffixes)}."
                )
            relative_paths = {file: file.relative_to(path) for file in files}
        elif os.path.lexists(path):
            relative_paths = {path: Path(path.name)}
        else:
            raise FileNotFoundError(f"There is no {unit} {printable(path)}.")
        for file, relative in relative_paths.items():
            if file not in names:
                names[file] = _unique_name(relative, suffixes, output_suffixes, taken)
    if not names:
        raise FileNotFoundError(f"There must be at least one {unit} to predict. Received: none")
    return names


def require_output_folder(output: Path, file_suffix: str) -> None:
    """Raise an error unless a folder is unused, can be written and is not named like a file.

    Args:
        output: The folder.
        file_suffix: What the name of a file ends in that could be written instead.

    Raises:
        FileExistsError: If it is in use.
        ValueError: If it is named as if it were an image or a scan.
        OSError: If it cannot be written to.
    """
    require_unused(output)
    for suffix in (*SCAN_SUFFIXES, *IMAGE_SUFFIXES):
        if output.name.lower().endswith(suffix):
            folder = output.with_name(output.name[: -len(suffix)] or "predicted")
            raise ValueError(
                f"The outputs need a folder, such as {printable(folder)}, or of one input a file "
                f"in {file_suffix}. Received: {printable(output)}"
            )
    require_writable(output)


def place_beside(
    output: Path, num_inputs: int, unit: str, suffix: str, endings: Sequence[str]
) -> list[Path]:
    """Return the files to write for a single input: `seg.json` beside `seg.png`, and so on.

    Args:
        output: The file that the user names.
        num_inputs: How many inputs there are.
        unit: What an input is called, for messages: `"image"`.
        suffix: What the file's name ends in, in any case.
        endings: What takes the place of the suffix in the other names, such as `".json"`.

    Raises:
        ValueError: If there are several inputs.
        FileExistsError: If one of the files exists already.
        OSError: If they cannot be written.
    """
    if num_inputs > 1:
        raise ValueError(
            f"Of {num_inputs} {unit}s, the outputs need a folder. Received: {printable(output)}"
        )
    stem = output.name[: -len(suffix)]
    paths = [output, *(output.with_name(f"{stem}{ending}") for ending in endings)]
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{printable(path)} exists already: choose another name.")
    require_writable(output.parent)
    return paths


def _unique_name(
    relative: Path, suffixes: tuple[str, ...], output_suffixes: tuple[str, ...], taken: set[str]
) -> str:
    """Return the path without its suffix, made unique also where case does not count."""
    name = printable(relative.name)
    suffix = next((end for end in suffixes if name.lower().endswith(end)), relative.suffix)
    stem = name[: len(name) - len(suffix)] or name
    # Short enough for a suffix and a prefix to fit into the 255 bytes of a file name.
    stem = stem.encode()[:200].decode(errors="ignore")
    # No folder may be named as an output: `scan.jpg` becomes `scan.png`.
    parts = relative.parent.parts
    folders = [f"{part}_" if part.lower().endswith(output_suffixes) else part for part in parts]
    name = printable(Path(*folders) / stem)
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    unique = next(candidate for candidate in candidates if _key(candidate) not in taken)
    taken.add(_key(unique))
    return unique


def _key(name: str) -> str:
    """Return what equal names have in common where case and composition do not count."""
    return unicodedata.normalize("NFC", name).casefold()
