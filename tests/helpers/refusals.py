"""What is common to the tests of bad input."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refused(message: str) -> Iterator[None]:
    """Check that the commands show what is raised in one sentence: see `keras_lgmsnet.cli`."""
    with pytest.raises((ValueError, OSError), match=message) as raised:
        yield
    if not isinstance(raised.value, OSError):
        module = raised.traceback[-1].frame.f_globals["__name__"]
        assert module.partition(".")[0] in ("keras_lgmsnet", "tfds_builders")
    assert str(raised.value).count("\n") == 0


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]
