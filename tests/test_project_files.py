"""What stands at the top of the repository agrees with the package and with its checks."""

import os
import re
from pathlib import Path

import pytest

from keras_lgmsnet.about import __version__

CHECKOUT = Path(__file__).parents[1]

pytestmark = pytest.mark.no_backend


def read(name: str) -> str:
    return (CHECKOUT / name).read_text()


def commands() -> list[str]:
    """Return the commands of .ci/run that check something."""
    found = re.findall(r"\.venv/bin/(?!pip)([^&\n]+)", read(".ci/run"))
    return [command.strip() for command in found]


def test_the_citation_and_the_changelog_know_the_version() -> None:
    (version,) = re.findall(r"^version: (.+)$", read("CITATION.cff"), re.MULTILINE)
    assert version == __version__
    (date,) = re.findall(r"^date-released: (.+)$", read("CITATION.cff"), re.MULTILINE)
    headings = re.findall(r"^## (.+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert headings[1] == f"[{version}] - {date}"


def test_the_workflow_runs_what_ci_runs() -> None:
    workflow = read(".github/workflows/ci.yml")
    for command in commands():
        if command in ("python -m tests", "python -m tests --networks"):  # a job for each backend
            continue
        assert command in workflow, command
    backends = ", ".join(
        re.findall(r'"(\w+)"', re.search(r"BACKENDS = \((.+)\)", read("tests/__main__.py"))[1])
    )
    assert f"backend: [{backends}]" in workflow
    assert "tests/networks.py" in workflow


def test_what_runs_before_a_commit_runs_in_ci() -> None:
    entries = re.findall(r"entry: \.venv/bin/(.+)", read(".pre-commit-config.yaml"))
    assert {"mypy", "lint-imports", "ruff check", "ruff format"} == set(entries)
    for entry in entries:
        assert any(command.startswith(entry) for command in commands()), entry


def test_a_files_tests_share_a_process(request: pytest.FixtureRequest) -> None:
    """Else each of the processes would train and export what the fixtures make once."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@test_project_files")
