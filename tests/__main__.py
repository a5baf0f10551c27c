"""Runs the suite on the three backends, each in a process of its own: `python -m tests`.

Arguments are passed on to pytest: `python -m tests -k lms`.
"""

import os
import subprocess
import sys

BACKENDS = ("tensorflow", "jax", "torch")


def main(arguments: list[str]) -> int:
    """Return the first failing pytest's exit status, or 0."""
    status = 0
    for number, backend in enumerate(BACKENDS):
        print(f"=== Keras backend: {backend}", flush=True)
        environment = os.environ | {"KERAS_BACKEND": backend}
        if number:
            environment["LGMSNET_TEST_BACKENDS_DONE"] = "1"
        command = [sys.executable, "-m", "pytest", *arguments]
        status = subprocess.run(command, env=environment).returncode or status
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
