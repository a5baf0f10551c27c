"""Work that processes share: the rule, and the claims."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keras_lgmsnet.files.parts import Part, claim, claimed_by, release

pytestmark = pytest.mark.no_backend

SLURM = {
    "SLURM_ARRAY_TASK_ID": "14",
    "SLURM_ARRAY_TASK_MIN": "10",
    "SLURM_ARRAY_TASK_STEP": "2",
    "SLURM_ARRAY_TASK_COUNT": "5",
}


@pytest.mark.parametrize("count", [0, 1, 7, 12])
@pytest.mark.parametrize("of", [1, 3, 9])
def test_every_case_is_in_one_part(count: int, of: int) -> None:
    cases = list(range(count))
    shares = [Part(number, of).share(cases) for number in range(1, of + 1)]
    assert sorted(case for share in shares for case in share) == cases
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_parts_are_named() -> None:
    assert Part.parse("2/3") == Part(2, 3)
    assert str(Part(2, 3)) == "2/3"
    assert str(Part()) == "1/1"


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0"])
def test_parts_that_there_are_not(text: str) -> None:
    with pytest.raises(ValueError, match=f"from 1 to the number of parts.* Received: {text}"):
        Part.parse(text)


@pytest.mark.parametrize("text", ["", "2", "2/3/4", "a/b", "-1/3", "1/3 ", "1 / 3", "²/3"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2/3, or slurm"):
        Part.parse(text)


def test_the_part_of_a_slurm_task(monkeypatch) -> None:
    assert Part.of_slurm(SLURM) == Part(3, 5)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert Part.parse("slurm") == Part(3, 5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"SLURM_ARRAY_TASK_ID": ""}, "within its tasks only.*SLURM_ARRAY_TASK_ID=, SLURM"),
        ({"SLURM_ARRAY_TASK_ID": "13"}, "task 13 of those from 10 in steps of 2"),
        ({"SLURM_ARRAY_TASK_STEP": "0"}, "in steps of 0"),
        ({"SLURM_ARRAY_TASK_ID": "20"}, "Received: 6/5"),
        ({"SLURM_ARRAY_TASK_ID": "8"}, "Received: 0/5"),
    ],
)
def test_what_is_no_slurm_task(changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Part.of_slurm(SLURM | changes)


def test_a_case_is_claimed_once(tmp_path) -> None:
    path = tmp_path / "folder" / "case.claim"
    assert claimed_by(path) is None
    assert claim(path, Part(1, 2)) == Part(1, 2)
    assert claim(path, Part(2, 2)) == Part(1, 2)
    assert claim(path, Part(1, 2)) == Part(1, 2)  # as after it was killed
    assert claimed_by(path) == Part(1, 2)
    release(path)
    release(path)
    assert claim(path, Part(2, 2)) == Part(2, 2)


def test_a_file_that_is_no_claim_is_told(tmp_path) -> None:
    path = tmp_path / "case.claim"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"case.claim is damaged: A part is k/n"):
        claim(path, Part(2, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["case.claim"]


def test_cases_are_claimed_where_a_file_has_one_name_only(tmp_path, monkeypatch) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", str(target))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "case.claim"
    assert claim(path, Part(1, 2)) == Part(1, 2)
    assert claim(path, Part(2, 2)) == Part(1, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["case.claim"]


def test_of_many_that_claim_at_once_one_does(tmp_path) -> None:
    path, start = tmp_path / "case.claim", threading.Barrier(8)

    def run(number: int) -> Part:
        start.wait()
        return claim(path, Part(number, 8))

    with ThreadPoolExecutor(8) as pool:
        (owner,) = set(pool.map(run, range(1, 9)))
    assert claimed_by(path) == owner
