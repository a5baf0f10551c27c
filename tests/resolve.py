"""Tells what the extras resolve to where the tests do not run: `python -m tests.resolve`.

It asks uv, which honours the packages' markers for another system, as pip does not, and takes
wheels only, but for `promise`, which is pure Python and has none. Nothing is installed or run.
"""

import functools
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keras_lgmsnet.tables import markdown_table

CHECKOUT = Path(__file__).parents[1]
PLATFORMS = ("windows", "macos", "aarch64-manylinux_2_28")
PYTHON_VERSIONS = ("3.11", "3.12", "3.13", "3.14")
BACKENDS = ("tensorflow", "jax", "torch")
EXTRAS = ("predict", "train")
COMPILE = (sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml")
COMPILE += ("--quiet", "--no-header", "--no-annotate", "--prerelease", "disallow")
COMPILE += ("--only-binary", ":all:", "--no-binary", "promise")


def resolve(platform: str, extra: str, backend: str, python_version: str) -> int | None:
    """Return how many packages two extras take on a system; `None` if they do not resolve."""
    asked = (f"--extra={extra}", f"--extra={backend}")
    where = ("--python-platform", platform, "--python-version", python_version)
    child = subprocess.run(
        [*COMPILE, *asked, *where],
        cwd=CHECKOUT,
        env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"},  # the oldest that PyTorch is for
        capture_output=True,
        encoding="utf-8",
    )
    if "unsatisfiable" in child.stderr:
        return None
    child.check_returncode()
    return len(child.stdout.splitlines())


def main() -> int:
    """Print how many packages the extras take; return 1 if some resolve nowhere on a system."""
    failed, cells = False, []
    with ThreadPoolExecutor() as pool:  # since it waits for the registry most of the time
        for asked in itertools.product(PLATFORMS, EXTRAS, BACKENDS):
            counts = list(pool.map(functools.partial(resolve, *asked), PYTHON_VERSIONS))
            failed |= not any(counts)
            cells.append([*asked, *("-" if count is None else str(count) for count in counts)])
    print(markdown_table(["packages on", "for", "and", *PYTHON_VERSIONS], cells))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
