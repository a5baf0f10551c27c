"""Programs in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path


def run_in_fresh_process(program: str, folder: Path, **environment: str) -> None:
    """Run a program in a folder, with the package on its path."""
    package = {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | package | environment,
        check=True,
    )
