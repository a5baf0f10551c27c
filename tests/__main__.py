"""Runs the suite on the three backends, each in processes of its own: `python -m tests`.

Arguments are passed on to pytest: `python -m tests -k lms`. Two processes share the tests of a
backend; `-n 0` runs them in one. `--networks`, `--full-size-exports` and `--docs` run the files of
these names instead, the last on PyTorch only.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# PyTorch is first, with the tests that run once: it compiles nothing.
BACKENDS = ("torch", "tensorflow", "jax")
# A worker holds up to 4 GB of compiled networks. The groups are given by `conftest`; in the order
# of the files, of which the last take a moment, no worker waits long for the other.
PARALLEL = (
    *("-n", "logical", "--maxprocesses", "2"),
    *("--dist", "loadgroup", "--no-loadscope-reorder"),
)


FILES = {
    "--networks": Path(__file__).with_name("networks.py"),
    "--full-size-exports": Path(__file__).with_name("full_size_exports.py"),
    "--docs": Path(__file__).with_name("docs.py"),
}


def main(arguments: list[str]) -> int:
    """Return the first failing pytest's exit status, or 0."""
    status = 0
    # Of the documentation one backend is enough, the one that compiles nothing.
    backends = ("torch",) if "--docs" in arguments else BACKENDS
    arguments = [str(FILES.get(argument, argument)) for argument in arguments]
    for number, backend in enumerate(backends):
        print(f"=== Keras backend: {backend}", flush=True)
        # PyTorch's threads wait for one another in loops: more of them than cores take several
        # times as long.
        environment = os.environ | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
        if number:
            environment["LGMSNET_TEST_BACKENDS_DONE"] = "1"
        with tempfile.TemporaryDirectory() as cache:
            # JAX would spend most of the time on compiling the same small networks again.
            environment["JAX_COMPILATION_CACHE_DIR"] = cache
            environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
            command = [sys.executable, "-m", "pytest", *PARALLEL, *arguments]
            returncode = subprocess.run(command, env=environment).returncode
        if number and returncode == pytest.ExitCode.NO_TESTS_COLLECTED:
            returncode = 0  # all that was asked for runs once only
        status = status or returncode
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
