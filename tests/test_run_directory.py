"""Run directories: whole files, clear refusals."""

import os
import re
import zipfile
from pathlib import Path

import pytest

from keras_lgmsnet.files.writing import (
    atomic_directory,
    atomic_write,
    require_unused,
    require_writable,
    write_csv,
    write_json,
    write_text,
)
from keras_lgmsnet.recipe.schema import Data, Recipe
from keras_lgmsnet.run_directory import (
    lock,
    read_json,
    read_recipe,
    require_network,
    require_no_run,
)

pytestmark = pytest.mark.no_backend


def test_json_round_trip(tmp_path: Path) -> None:
    values = {"numbers": [0.1, 1e-300], "text": "é\n", "none": None}
    write_json(tmp_path / "a.json", values)
    assert read_json(tmp_path, "a.json") == values
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_text_is_written_as_given(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", "x\r\né\n")
    assert (tmp_path / "a.csv").read_bytes() == "x\r\né\n".encode()


def test_csv(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"id": "a, b", "iou": 0.5}, {"id": "é", "iou": 1.0}])
    expected = 'id,iou\r\n"a, b",0.5\r\né,1.0\r\n'
    assert (tmp_path / "a.csv").read_bytes() == expected.encode()


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failed_write_leaves_what_was_there(error, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            assert temporary.suffix == ".keras"
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_is_on_the_disk_before_what_follows(tmp_path: Path, monkeypatch) -> None:
    """A power cut loses what was not synchronised: first the content, then the name."""
    events = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        events.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        events.append(("replace", target.name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_text(tmp_path / "a.txt", "text")
    assert events == [
        ("fsync", ".unfinished-a.txt"),
        ("replace", "a.txt"),
        ("fsync", tmp_path.name),
    ]


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    with (
        lock(tmp_path),
        pytest.raises(BlockingIOError, match=r"Another process is training in"),
        lock(tmp_path),
    ):
        pass
    with lock(tmp_path):  # free again
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_require_unused(tmp_path: Path) -> None:
    require_unused(tmp_path / "none")
    require_unused(tmp_path)
    for name in (".lock", ".unfinished-recipe.json"):
        (tmp_path / name).touch()
    require_no_run(tmp_path)
    with pytest.raises(FileExistsError, match=r"is in use: choose another directory, .* empty\."):
        require_unused(tmp_path)
    (tmp_path / "notes.txt").touch()
    for directory in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(FileExistsError, match=r"is in use.* empty\."):
            require_no_run(directory)
    (tmp_path / "recipe.json").touch()
    with pytest.raises(FileExistsError, match=r"is in use.* or continue .* with --resume"):
        require_no_run(tmp_path)


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")

    def fail(path: Path) -> None:
        with atomic_directory(path) as unfinished:
            (unfinished / "a.txt").touch()
            raise OSError

    for name in ("new/deep", "empty", "link"):
        with pytest.raises(OSError):
            fail(Path(name))
        assert not list(tmp_path.rglob("a.txt"))
        with atomic_directory(Path(name)) as unfinished:
            (unfinished / "a.txt").touch()
        assert (tmp_path / name / "a.txt").exists()
        (tmp_path / name / "a.txt").unlink()
    monkeypatch.chdir(tmp_path / "empty")
    with atomic_directory(Path(".")) as unfinished:
        (unfinished / "a.txt").touch()
    assert (tmp_path / "empty" / "a.txt").exists()
    assert not list(tmp_path.glob(".unfinished-*"))


def test_read_recipe(tmp_path: Path) -> None:
    recipe = Recipe(data=Data(source="x"))
    write_json(tmp_path / "recipe.json", {"recipe": recipe.to_dict(), "backend": "jax"})
    assert read_recipe(tmp_path) == recipe


def test_absent_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none is not a run directory: it has no recipe"):
        read_recipe(tmp_path / "none")


def test_a_folder_of_several_runs_names_them(tmp_path: Path) -> None:
    for name in ("split-1337", "split-41", "split-64"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "recipe.json", {})
    (tmp_path / "split-7").mkdir()  # not begun
    with pytest.raises(
        FileNotFoundError,
        match=rf"holds several runs, split-41, split-64, split-1337: name one, such as "
        rf"{re.escape(str(tmp_path / 'split-41'))}\.$",
    ):
        read_recipe(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe\x00"])
def test_damaged_json(content, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"state.json is damaged"):
        read_json(tmp_path, "state.json")


def test_require_network(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no trained network yet: no model.keras"):
        require_network(tmp_path)
    path = tmp_path / "model.keras"
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"model.keras is damaged: it is not a Keras archive"):
        require_network(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    assert require_network(tmp_path) == path


def test_require_writable(tmp_path: Path) -> None:
    require_writable(tmp_path)
    require_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/run cannot be written to: Not a directory."):
        require_writable(tmp_path / "file" / "run")
