"""Training killed at random moments ends as if it had not been."""

import subprocess
import sys
from pathlib import Path

KILLS = 7  # on each of three backends


def test_killed_runs_resume_exactly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.helpers.interruption", str(tmp_path), str(KILLS)]
    child = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert child.returncode == 0, child.stderr + logs
    assert f"{KILLS} attempts were killed" in child.stdout
