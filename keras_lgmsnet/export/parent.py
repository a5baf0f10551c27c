"""Export: from a run directory to files for deployment, each proven equal on the run's images."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from keras_lgmsnet.export.promises import ACTIVATIONS, FORMATS, PRECISIONS, terms_for
from keras_lgmsnet.files.writing import atomic_directory, require_unused
from keras_lgmsnet.kinds import Kind, kind_of_rank
from keras_lgmsnet.process.progress import say
from keras_lgmsnet.process.quiet import is_verbose
from keras_lgmsnet.run_directory import read_json, read_recipe, require_network

# What the child's line begins with that tells why it fails; its other lines tell its progress.
FAILURE = "Failure: "


def export(
    run_directory: str | Path,
    output_directory: str | Path,
    formats: Sequence[str] = tuple(FORMATS),
    *,
    precisions: Sequence[str] = ("float32",),
    activation: str = "none",
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Write the best network of a run for deployment, and prove that it still segments as well.

    Every file holds the deploy form (see `deploy`). That of a run on images has the preprocessing
    before it, so it takes 8-bit RGB; that of a run on volumes takes normalised patches. Any backend
    may have trained the network: it is loaded, written and checked in a child process on
    TensorFlow, on the CPU. Each file is loaded in its users' runtime (`tf.saved_model.load`,
    LiteRT's interpreter with XNNPACK, ONNX Runtime) and run beside the Keras network on the run's
    own held-out images, all of them or 256 drawn from a fixed seed, or on one patch each of at most
    32 of its volumes, from the middle of what is labelled in it. A file that agrees less than
    `IMAGE_PROMISES` or `VOLUME_PROMISES` says for its precision fails the export.

    The output directory appears whole or not at all. It holds

    - `saved_model/`, `model_float32.tflite`, `model_int8.tflite`, `model_float32.onnx` and so on:
      from `image`, uint8 of shape `(batch, height, width, 3)` or, of volumes, float32 of shape
      `(batch, *patch_size, channels)`, to `logits` or `probabilities`, float32 of shape `(batch,
      *sides, num_classes)`, the signature `serving_default`. A TFLite model is of builtin operators
      only and takes one image or patch at a time, the others any number. What is known of the
      network is inside each, as `metadata.json`;
    - `model_card.md`: intended use, how to feed an image or a scan, agreement, who computes the
      operators of a TFLite model, metrics, data, provenance;
    - `agreement.csv`: one row for each file and image or patch;
    - `export.json`: all of this for programs.

    Args:
        run_directory: What `lgms-train` wrote; `recipe.json`, `splits.json`, `model.keras`, of
            volumes `fingerprint.json` and, if it is there, `metrics.json` are read.
        output_directory: Where to write; absent or empty.
        formats: One or more of `FORMATS`.
        precisions: One or more of `"float32"`; `"float16"` (weights of half the size); `"dynamic"`
            (8-bit weights); `"int8"` (8-bit weights and, but for attention, norms and GELU,
            arithmetic, calibrated on 100 images that the run was trained on, from a fixed seed; of
            images only).
            Each format is written in those of them that it has: TFLite has all, the others
            float32.
        activation: `"none"` for logits; for the probability of each class `"sigmoid"` of images,
            whose classes may overlap, and `"softmax"` of volumes, whose classes may not.
        manual_dir: Folder with the dataset's archives, as downloaded from its publisher.
        data_dir: Folder of prepared datasets; by default TensorFlow Datasets' own.

    Returns:
        The contents of `export.json`.

    Raises:
        ValueError: If an argument is none of those allowed, the run's recipe is damaged, or a
            file agrees less with the Keras network than is promised.
        OSError: If `run_directory` is no trained run, `output_directory` is in use or cannot be
            written to, or the child process fails (if only because the run's images are neither
            prepared nor downloaded, or its network is damaged); its log is then the exception's
            note.
        ModuleNotFoundError: If a package of the `export` extra is not installed.

    Example:
    ```python
    exported = export("runs/isic", "exported", ["tflite"], precisions=["float32", "int8"])
    exported["files"]["model_int8.tflite"]["agreement"]["iou_loss"]  # at most 0.01
    ```
    """
    run_directory = Path(run_directory).absolute()
    output_directory = Path(output_directory).absolute()
    files = _choose_files(formats, precisions)
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"The activation must be one of {', '.join(ACTIVATIONS)}. Received: {activation=}"
        )
    require_installed()
    _require_offered(read_recipe(run_directory).kind, files, activation)
    require_network(run_directory)
    require_unused(output_directory)

    with atomic_directory(output_directory) as unfinished:
        _write_in_child(
            run_directory=str(run_directory),
            output_directory=str(unfinished),
            files=files,
            activation=activation,
            manual_dir=_absolute(manual_dir),
            data_dir=_absolute(data_dir),
        )
        exported = read_json(unfinished, "export.json")
        _require_agreement(exported)
    return exported


def require_installed() -> None:
    """Raise `ModuleNotFoundError` unless the packages of the `export` extra are installed."""
    for package in (
        "tensorflow",
        "ai_edge_litert",
        "flatbuffers",
        "onnx",
        "onnxruntime",
        "tf2onnx",
    ):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(
                f"Export needs the package {package}: pip install 'keras-lgmsnet[export]'.",
                name=package,
            )


def _choose_files(formats: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of format and precision to write."""
    for name, values, known in (
        ("formats", formats, FORMATS),
        ("precisions", precisions, PRECISIONS),
    ):
        if isinstance(values, str) or not values or not set(values) <= set(known):
            raise ValueError(
                f"The {name} must be one or more of {', '.join(known)}. Received: {values!r}"
            )
    files = []
    for format_ in dict.fromkeys(formats):
        own = [precision for precision in FORMATS[format_] if precision in precisions]
        if not own:
            raise ValueError(
                f"{format_} is written in {' or '.join(FORMATS[format_])} only: choose another "
                f"format or precision. Received: formats={list(formats)}, "
                f"precisions={list(precisions)}"
            )
        files += [(format_, precision) for precision in own]
    return files


def _require_offered(kind: Kind, files: Sequence[tuple[str, str]], activation: str) -> None:
    """Raise `ValueError` unless runs on a kind of data are exported in what is asked for."""
    terms = terms_for(kind)
    if activation not in terms.activations:
        raise ValueError(
            f"The activation of a run on {kind.name}, whose classes may "
            f"{'not overlap' if kind.classes_exclude_each_other else 'overlap'}, must be "
            f"{' or '.join(terms.activations)}. Received: {activation=}"
        )
    for _, precision in files:
        if precision not in terms.promises:
            raise ValueError(
                f"A run on {kind.name} is exported in {', '.join(terms.promises)} only, since "
                f"8-bit arithmetic was not shown to segment {kind.name} as well. "
                f"Received: {precision=}"
            )


def _absolute(folder: str | Path | None) -> str | None:
    """Return a folder in a way that holds in the child process, which is elsewhere."""
    return None if folder is None else str(Path(folder).expanduser().absolute())


def _write_in_child(**arguments: Any) -> None:
    """Do the work in a process of its own, since Keras's backend cannot change within one.

    What it tells of its progress is passed on, and all else that it prints with `is_verbose` only.
    """
    failure = ""
    with (
        subprocess.Popen(
            [sys.executable, "-m", "keras_lgmsnet.export.child", json.dumps(arguments)],
            # Python looks for modules here first: not in a folder of the user's, whatever it holds.
            cwd=Path(__file__).parents[2],
            # Without a GPU, whose products may be of reduced precision.
            env=os.environ
            | {
                "KERAS_BACKEND": "tensorflow",
                "CUDA_VISIBLE_DEVICES": "-1",
                "PYTHONIOENCODING": "utf-8:backslashreplace",  # whatever the terminal's is
            },
            stdout=subprocess.PIPE,
            stderr=None if is_verbose() else subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as child,
        ThreadPoolExecutor(1) as pool,
    ):
        assert child.stdout is not None
        log = pool.submit(child.stderr.read if child.stderr else str)
        try:
            for line in child.stdout:
                if line.startswith(FAILURE):
                    failure = line.removeprefix(FAILURE).strip()
                else:
                    say(line.rstrip("\n"))
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        reason = failure or f"the process ended with status {child.returncode}"
        error = ChildProcessError(f"{arguments['run_directory']} could not be exported: {reason}")
        error.add_note(log.result())
        raise error


def _require_agreement(exported: dict[str, Any]) -> None:
    """Raise `ValueError` unless every file keeps what is promised for its precision."""
    promises = terms_for(kind_of_rank(exported["rank"])).promises
    for path, file in exported["files"].items():
        promise = promises[file["precision"]]
        agreement = file["agreement"]
        if agreement["network_iou"] < promise.least_iou:
            raise ValueError(
                f"{file['precision']} is promised to lose little IoU, of which the Keras network "
                f"itself must have {promise.least_iou} at least: train it further, or choose "
                f"float32 or float16. Received: IoU {agreement['network_iou']:.3g} over "
                f"{agreement['examples']} examples"
            )
        if not promise.is_kept(agreement):
            raise ValueError(
                f"{path} does not agree with the Keras network as promised, {promise.words}, so "
                f"nothing was written. Received: {promise.measure} "
                f"{agreement[promise.measure]:.3g} over {agreement['examples']} examples"
            )
