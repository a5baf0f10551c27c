"""Tells what the extras resolve to where the tests do not run: `python -m tests.resolve`.

It asks uv, which honours the packages' markers for another system, as pip does not, and takes
wheels only, but for `promise`, which is pure Python and has none. Nothing is installed or run.
"""

import subprocess
import sys
from pathlib import Path

from keras_lgmsnet.tables import markdown_table

CHECKOUT = Path(__file__).parents[1]
PLATFORMS = ("windows", "macos", "linux", "aarch64-manylinux_2_28")
PYTHON_VERSIONS = ("3.11", "3.12", "3.13", "3.14")
BACKENDS = ("tensorflow", "jax", "torch")
EXTRAS = (("predict", "dicom"), ("train", "dicom"))
COMPILE = (sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml")
COMPILE += ("--quiet", "--no-header", "--no-annotate", "--prerelease", "disallow")
COMPILE += ("--only-binary", ":all:", "--no-binary", "promise")


def resolve(extras: tuple[str, ...], platform: str, python_version: str) -> int | None:
    """Return how many packages extras take on a system; `None` if they do not resolve."""
    asked = [f"--extra={extra}" for extra in extras]
    where = ("--python-platform", platform, "--python-version", python_version)
    child = subprocess.run(
        [*COMPILE, *asked, *where], cwd=CHECKOUT, capture_output=True, encoding="utf-8"
    )
    if "unsatisfiable" in child.stderr:
        return None
    child.check_returncode()
    return len(child.stdout.splitlines())


def main() -> int:
    """Print how many packages each extra takes; return 1 if one resolves nowhere on a system."""
    rows = []
    for platform in PLATFORMS:
        for extras in EXTRAS:
            for backend in BACKENDS:
                counts = [
                    resolve((*extras, backend), platform, version) for version in PYTHON_VERSIONS
                ]
                rows.append((platform, f"[{','.join((*extras, backend))}]", *counts))
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    print(markdown_table(["packages on", "for", *PYTHON_VERSIONS], cells))
    return int(any(not any(counts) for _, _, *counts in rows))


if __name__ == "__main__":
    sys.exit(main())
