"""Keeps from the commands' users what TensorFlow says of itself as it starts.

While it is imported, and first looks for devices, TensorFlow writes lines to standard error that
none of its settings hides; it calls the absence of a GPU an error. They are held back at the level
of the file descriptor, since C++ writes them, for that time only. Nobody's own program is touched:
only processes of this package call `quieten`.
"""

import contextlib
import importlib.abc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import wrapt

# Set to show everything, in the processes that this one starts, too: what --verbose does.
VERBOSE = "LGMS_VERBOSE"

# The program of a process that keeps what it reads until it is told by a zero that all went well.
# If it is not, it writes everything: also when the process that it reads from has died.
_KEEPER = r"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
kept = b""
while not kept.endswith(b"\0") and (read := os.read(0, 65536)):
    kept += read
if not kept.endswith(b"\0"):
    sys.stderr.buffer.write(kept)
"""


def is_verbose() -> bool:
    """Return whether the user wants to see everything."""
    return bool(os.environ.get(VERBOSE))


def quieten() -> None:
    """Hold back what TensorFlow says as it starts, and what TensorFlow Datasets says of itself.

    It is for processes of this package's own, before they import either; errors are shown. Where
    `VERBOSE` is set it does nothing.
    """
    if is_verbose() or any(isinstance(finder, _TensorFlowFinder) for finder in sys.meta_path):
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only, from then on
    sys.meta_path.insert(0, _TensorFlowFinder())
    wrapt.register_post_import_hook(_filter_log, "absl.logging")


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold back what is written to standard error in a block, by C++ too, unless the block fails.

    It is written, only later, when the block raises or the process dies in it.

    Example:
    ```python
    with held_back():
        import tensorflow
    ```
    """
    sys.stderr.flush()
    shown = os.dup(2)
    command = [sys.executable, "-ISc", _KEEPER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as keeper:
        assert keeper.stdin is not None
        os.dup2(keeper.stdin.fileno(), 2)
        keeper.stdin.close()
        try:
            yield
            sys.stderr.flush()
            os.write(2, b"\0")
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)  # and so the keeper has read everything
            os.close(shown)


class _TensorFlowFinder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as it is found without, to be imported without its lines."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import TensorFlow, and `None` of anything else."""
        if fullname != "tensorflow":
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)):
                if spec.loader is not None:
                    spec.loader = _QuietLoader(spec.loader)
                return spec
        return None


class _QuietLoader(importlib.abc.Loader):
    """Has TensorFlow loaded, and look for its devices, while its lines are held back."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module that the loader itself creates."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module as the loader itself does."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        with held_back():
            self.loader.exec_module(module)
            module.config.list_physical_devices()


def _filter_log(absl_logging: ModuleType) -> None:
    logging.getLogger("absl").addFilter(_is_of_interest)


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Return whether a message is an error, or of another package than TensorFlow Datasets."""
    return (
        record.levelno >= logging.ERROR or "tensorflow_datasets" not in Path(record.pathname).parts
    )
