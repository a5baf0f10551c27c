"""Memory that is kept for new tensors."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
if sys.argv[1] == "kept":
    from keras_lgmsnet.process.memory import keep_freed_memory
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

np.ones(2**23)
before = faults()
for _ in range(8):
    np.ones(2**23)  # 64 MB
print(faults() - before)
"""


@pytest.mark.no_backend
@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep memory as they like")
def test_freed_memory_is_used_again() -> None:
    kept, given_back = (
        int(subprocess.check_output([sys.executable, "-c", PROGRAM, name], text=True))
        for name in ("kept", "given back")
    )
    assert kept < given_back / 4
