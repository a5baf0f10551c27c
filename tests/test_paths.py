"""Files found in folders, and their names in messages and on terminals."""

import contextlib
import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st

from keras_lgmsnet.files.images import SUFFIXES
from keras_lgmsnet.files.paths import find_files, let_any_text_print, printable

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


@settings(deadline=None, max_examples=50)
@given(
    st.text(st.characters(exclude_categories=())),  # with halves of pairs, as names on a disk have
    st.sampled_from(["ascii", "cp437", "cp932", "cp1251", "cp1252", "shift_jis", "utf-8"]),
)
@example("Ł 病 é – × \udcff", "cp1252")
def test_any_text_prints(text: str, encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding, newline="")
    with contextlib.redirect_stdout(stream):
        let_any_text_print()
        print(text, flush=True)
    assert stream.buffer.getvalue() == f"{text}\n".encode(encoding, "backslashreplace")


def test_what_is_no_stream_of_bytes_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    monkeypatch.setattr(sys, "stderr", None)  # as without a console on Windows
    let_any_text_print()
    print("Ł")
    assert text.getvalue() == "Ł\n"
