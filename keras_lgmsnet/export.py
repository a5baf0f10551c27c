"""Export: from a run directory to a SavedModel and a TFLite model that were checked against it."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_lgmsnet.run_directory import read_json, read_recipe, require_network, require_unused

if TYPE_CHECKING:
    from keras_lgmsnet.deployment import deploy

__all__ = ["FORMATS", "deploy", "export"]

FORMATS = ("saved_model", "tflite")


def export(
    run_directory: str | Path,
    output_directory: str | Path,
    formats: Sequence[str] = FORMATS,
    *,
    tolerance: float = 1e-4,
) -> dict[str, Any]:
    """Write the best network of a run in formats for deployment, each checked before it counts.

    Any backend may have trained the network: it is loaded, written and checked in a child process
    on TensorFlow, on the CPU. Each format is opened as its user would open it
    (`tf.saved_model.load`, the LiteRT interpreter) and run on generated images beside the Keras
    network on TensorFlow: the probabilities of every pixel must agree.

    The output directory appears whole or not at all. It holds

    - `saved_model/`: signature `serving_default`, from `image`, float32 of shape `(batch, height,
      width, 3)`, to `logits`, float32 of shape `(batch, height, width, num_classes)`;
    - `model.tflite`: the same signature for one image at a time, of builtin operators only;
    - `export.json`: how to prepare an image, what the logits mean, how well the formats agree.

    Args:
        run_directory: What `lgms-train` wrote; only `recipe.json` and `model.keras` are read.
        output_directory: Where to write; absent or empty.
        formats: Which of `"saved_model"` and `"tflite"` to write.
        tolerance: Largest difference allowed between a probability of the Keras network and of
            the export.

    Returns:
        The contents of `export.json`.

    Raises:
        ValueError: If a format is unknown, a file of the run is damaged, or an export disagrees
            with the Keras network by more than `tolerance`.
        OSError: If `run_directory` is no finished run, `output_directory` is in use or cannot be
            written to, or the child process fails; its log is then the exception's note.
        ModuleNotFoundError: If TensorFlow or LiteRT is not installed.

    Example:
    ```python
    exported = export("runs/quickstart", "exported")
    exported["formats"]["tflite"]["max_probability_difference"]  # below 1e-4
    ```
    """
    run_directory = Path(run_directory).absolute()
    output_directory = Path(output_directory).absolute()
    _require_known(formats)
    _require_installed()
    read_recipe(run_directory)
    require_network(run_directory)
    require_unused(output_directory)

    output_directory.parent.mkdir(parents=True, exist_ok=True)
    # On the same file system, so that one rename publishes everything.
    with tempfile.TemporaryDirectory(dir=output_directory.parent, prefix=".unfinished-") as folder:
        unfinished = Path(folder) / "export"
        _write_formats(run_directory, unfinished, formats)
        exported = read_json(unfinished, "export.json")
        for name, result in exported["formats"].items():
            difference = result["max_probability_difference"]
            if not difference <= tolerance:  # so written, it also catches a difference of NaN
                raise ValueError(
                    f"The probabilities of the {name} export differ from the Keras network's by "
                    f"up to {difference:.2g}, so nothing was written. Received: {tolerance=}"
                )
        if output_directory.exists():
            output_directory.rmdir()
        unfinished.rename(output_directory)
    return exported


def __getattr__(name: str) -> Any:
    """Import `deploy` on first use: with it comes Keras, whose backend is then chosen."""
    if name == "deploy":
        from keras_lgmsnet.deployment import deploy

        return deploy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _require_known(formats: Sequence[str]) -> None:
    if isinstance(formats, str) or not formats or not set(formats) <= set(FORMATS):
        raise ValueError(
            f"The formats must be one or more of {', '.join(FORMATS)}. Received: {formats!r}"
        )


def _require_installed() -> None:
    for package in ("tensorflow", "ai_edge_litert"):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(
                f"Export needs the package {package}: pip install 'keras-lgmsnet[export]'.",
                name=package,
            )


def _write_formats(run_directory: Path, output_directory: Path, formats: Sequence[str]) -> None:
    """Do the work in a process of its own, since Keras's backend cannot change within one."""
    module = "keras_lgmsnet._export_on_tensorflow"
    child = subprocess.run(
        [sys.executable, "-m", module, str(run_directory), str(output_directory), *formats],
        # Python looks for modules here first: not in a folder of the user's, whatever it holds.
        cwd=Path(__file__).parents[1],
        # Without a GPU, whose products may be of reduced precision.
        env=os.environ | {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    if child.returncode:
        reason = child.stdout.strip() or f"the process ended with status {child.returncode}"
        error = ChildProcessError(f"{run_directory} could not be exported: {reason}")
        error.add_note(child.stderr)
        raise error
