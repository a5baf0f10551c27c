"""What is computed once: files that are written whole, mapped, replaced and done without."""

import errno
import gc
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from keras_lgmsnet.data.cache import Chunks, NoFileError, compute_once

pytestmark = pytest.mark.no_backend

ARRAYS = (
    np.arange(30, dtype="float16").reshape(2, 3, 5),
    np.array([], "uint32"),
    np.arange(7, dtype="uint8"),
)


class Computation:
    """Returns `ARRAYS` and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> tuple[np.ndarray, ...]:
        self.count += 1
        return ARRAYS


def assert_whole(arrays: tuple[np.ndarray, ...]) -> None:
    for array, expected in zip(arrays, ARRAYS, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


def test_arrays_are_computed_once(tmp_path: Path) -> None:
    compute, path = Computation(), tmp_path / "made" / "a.npy"
    for _ in range(2):
        arrays = compute_once(path, compute)
        assert_whole(arrays)
    assert compute.count == 1
    assert [file.name for file in path.parent.iterdir()] == ["a.npy"]
    with pytest.raises(ValueError, match="read-only"):
        arrays[0][0] = 1


def test_the_file_is_what_numpy_saves(tmp_path: Path) -> None:
    compute_once(tmp_path / "a.npy", Computation())
    with open(tmp_path / "a.npy", "rb") as file:
        assert np.load(file) == [3]
        assert_whole(tuple(np.load(file) for _ in ARRAYS))


def test_arrays_of_any_layout_are_kept(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(24).reshape(2, 3, 4))[:, ::-1]
    for _ in range(2):
        (kept,) = compute_once(tmp_path / "a.npy", lambda: [array])
        np.testing.assert_array_equal(kept, array)


def test_arrays_made_in_chunks_are_kept_with_lists_filled_meanwhile(
    tmp_path: Path, monkeypatch
) -> None:
    rows = np.array([(1, [2, 3]), (4, [5, 6]), (7, [8, 9])], [("a", "u1"), ("b", "u1", 2)])
    names: list[str] = []
    refused = [OSError(errno.EDQUOT, "Disk quota exceeded")]

    def make():
        names.clear()
        for start in (0, 2):
            names.extend("abc"[start : start + 2])
            yield rows[start : start + 2]

    def replace(source: str, target: Path, rename=os.replace) -> None:
        if refused:
            raise refused.pop()
        rename(source, target)

    # The first time, the chunks are made once more, for a temporary file.
    monkeypatch.setattr(os, "replace", replace)
    for kept in (False, True, True):
        arrays = compute_once(tmp_path / "a.npy", lambda: [Chunks((3,), rows.dtype, make), names])
        np.testing.assert_array_equal(arrays[0], rows)
        assert arrays[1].tolist() == ["a", "b", "c"]
        assert (tmp_path / "a.npy").exists() == kept


def test_a_file_cut_short_anywhere_is_replaced(tmp_path: Path) -> None:
    path, compute = tmp_path / "a.npy", Computation()
    compute_once(path, compute)
    whole = path.read_bytes()
    # In a header, in an array, and between arrays, where a header of 128 bytes begins.
    number, first = 128 + 8, 128 + 60
    lengths = [0, 1, 50, number, number + 50, number + first - 1, number + first, len(whole) - 1]
    for length in lengths:
        path.write_bytes(whole[:length])
        assert_whole(compute_once(path, compute))
        assert path.read_bytes() == whole
    assert compute.count == 1 + len(lengths)


def test_a_deleted_file_is_written_again_and_its_arrays_stay(tmp_path: Path) -> None:
    path, compute = tmp_path / "a.npy", Computation()
    arrays = compute_once(path, compute)
    path.unlink()
    assert_whole(arrays)
    compute_once(path, compute)
    assert (path.exists(), compute.count) == (True, 2)


@pytest.mark.parametrize("lack", ["right", "space", "quota"])
def test_a_temporary_file_takes_the_place_of_one_that_cannot_be_written(
    tmp_path: Path, lack, monkeypatch
) -> None:
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    folder, temporary = tmp_path / "copy", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    if lack == "right":
        require = "keras_lgmsnet.data.cache.require_writable"
        monkeypatch.setattr(require, lambda path: path == temporary or refuse())
    elif lack == "space":
        usage = shutil.disk_usage(folder)
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path: usage._replace(free=usage.free * (path == temporary))
        )
    else:
        monkeypatch.setattr(os, "replace", refuse)
    compute = Computation()
    for _ in range(2):
        assert_whole(compute_once(folder / "a.npy", compute))
    assert compute.count == 2
    assert not list(folder.iterdir()) + list(temporary.iterdir())


def test_no_room_at_all_is_said(tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        NoFileError, match=r"Neither .* nor .* has room for 67 bytes: free some, or"
    ):
        compute_once(tmp_path / "a.npy", Computation())


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail():
        raise OSError("no such volume")

    with pytest.raises(OSError, match="no such volume"):
        compute_once(tmp_path / "a.npy", fail)
    assert not list(tmp_path.iterdir())


def test_what_chunks_raise_is_raised_at_once(tmp_path: Path, monkeypatch) -> None:
    """Another file would not mend it, as it does what writing raises."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    attempts = []

    def make():
        attempts.append("one")
        yield np.zeros(1, "u1")
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output") as raised:
        compute_once(tmp_path / "a.npy", lambda: [Chunks((2,), np.dtype("u1"), make)])
    assert (raised.type, attempts) == (OSError, ["one"])
    assert not list(tmp_path.iterdir())


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path: Path) -> None:
    for name, age in ((".unfinished-old", 25), (".unfinished-new", 1)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - 3600 * age,) * 2)
    compute_once(tmp_path / "a.npy", Computation())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".unfinished-new", "a.npy"]


def test_many_threads_map_files_at_once(tmp_path: Path) -> None:
    # The garbage collector lets another thread go on in the middle of reading a header.
    def give_way(phase: str, info: dict) -> None:
        time.sleep(0)

    path = tmp_path / "array"
    compute_once(path, lambda: [np.zeros(3)])
    often, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(give_way)
    try:
        gc.set_threshold(5)
        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(8) as pool:
            mapped = list(pool.map(lambda _: compute_once(path, list), range(400)))
    finally:
        gc.callbacks.remove(give_way)
        gc.set_threshold(*often)
        sys.setswitchinterval(interval)
    assert all(len(arrays) == 1 for arrays in mapped)
