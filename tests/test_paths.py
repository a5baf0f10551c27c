"""Files found in folders, and their names in messages."""

import os
from pathlib import Path

import pytest

from keras_lgmsnet.files.images import SUFFIXES
from keras_lgmsnet.files.paths import find_files, printable

pytestmark = pytest.mark.no_backend


def test_find_files(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.JPG", "a/é ü.dcm", "z.tiff", "notes.txt", ".x.png", ".h/x.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "in" / "b" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "b" / "loop.png").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "broken.png").symlink_to("nowhere")
    paths = [
        path.relative_to(tmp_path).as_posix() for path in find_files(tmp_path / "in", SUFFIXES)
    ]
    assert paths == ["in/broken.png", "in/z.tiff", "in/a/é ü.dcm", "in/b/10.JPG", "in/b/2.png"]


def test_marked_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png", "b/c/3.png", "b/mark"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_files(tmp_path, SUFFIXES, leave_out="mark")] == ["1.png"]
    assert [path.name for path in find_files(tmp_path, SUFFIXES)] == ["1.png", "2.png", "3.png"]


def test_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(find_files(tmp_path / "none", SUFFIXES))


def test_printable() -> None:
    assert printable(Path("a é.png")) == "a é.png"
    assert printable(os.fsdecode(b"a\xff.png")) == "a\ufffd.png"
