"""The child process of `keras_lgmsnet.export`: writes the files and tries them, on TensorFlow.

    KERAS_BACKEND=tensorflow python -m keras_lgmsnet._export_on_tensorflow ARGUMENTS

ARGUMENTS are those of `write_exports`, as a JSON object. What goes wrong is told in one sentence
on standard output; everything else goes to standard error.
"""

import contextlib
import json
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_lgmsnet
from keras_lgmsnet import _export_formats, _model_card
from keras_lgmsnet._agreement import compare, summarize
from keras_lgmsnet._litert import inspect_tflite
from keras_lgmsnet.data.images import Examples, ImageBatches
from keras_lgmsnet.deployment import deploy
from keras_lgmsnet.run_directory import read_json, write_csv, write_json, write_text
from keras_lgmsnet.scoring import Run, read_images, sigmoid

MAX_IMAGES = 256
NUM_CALIBRATION_IMAGES = 100
BATCH_SIZE = 8
SEED = 0
PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "onnx", "onnxruntime", "tf2onnx")


def write_exports(
    run_directory: Path,
    output_directory: Path,
    files: Sequence[tuple[str, str]],
    activation: str,
    manual_dir: str | None,
    data_dir: str | None,
) -> None:
    """Write the files, compare each with the Keras network, and write what is known of them.

    Args:
        run_directory: What `lgms-train` wrote.
        output_directory: Where to write; absent.
        files: Format and precision of each.
        activation: `"none"` or `"sigmoid"`.
        manual_dir: As for `keras_lgmsnet.export.export`.
        data_dir: As for `keras_lgmsnet.export.export`.
    """
    run = Run.read(run_directory)
    _require_images(run)
    try:
        examples, held_out = read_images([run], None, manual_dir, data_dir)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            "Its own held-out images are needed to check the files on: say where they are by "
            f"--manual-dir (manual_dir=) or --data-dir (data_dir=). {error}"
        ) from error
    compared_on = examples.subset(_sample(held_out, MAX_IMAGES))
    calibrated_on = examples.subset(_sample(run.train_ids, NUM_CALIBRATION_IMAGES))

    network = _export_formats.with_preprocessing(
        deploy(run.network), run.recipe.data.preprocessing, activation
    )
    described = _describe(run, network, activation)
    written = {}
    for format_, precision in files:
        name = _export_formats.write(
            network,
            output_directory,
            format_,
            precision,
            described,
            np.asarray(calibrated_on.images) if precision == "int8" else None,
        )
        written[name] = {"format": format_, "precision": precision}

    output = described["output"]["name"]
    rows = _compare(run, output_directory, written, output, compared_on)
    for name, file in written.items():
        path = output_directory / name
        file["bytes"] = _size(path)
        file["agreement"] = summarize(rows[name])
        if file["format"] == "tflite":
            file["litert"] = inspect_tflite(path.read_bytes()).to_dict()
    exported = {
        **described,
        "files": written,
        "compared_on": {
            "subset": run.subset,
            "images": len(compared_on.ids),
            "of": len(held_out),
        },
        "calibrated_on": (
            len(calibrated_on.ids) if any(precision == "int8" for _, precision in files) else None
        ),
    }
    write_csv(
        output_directory / "agreement.csv",
        [{"file": name, **row} for name, table in rows.items() for row in table],
    )
    write_text(output_directory / "model_card.md", _model_card.render_card(exported))
    write_json(output_directory / "export.json", exported)


def _require_images(run: Run) -> None:
    """Raise `ValueError` unless the network is one for the images of the run's recipe."""
    expected = (*run.recipe.data.image_size, 3)
    if run.network.input_shape[1:] != expected:
        raise ValueError(
            f"{run.directory / 'model.keras'} must be a network for images of shape {expected}, "
            f"as the recipe says. Received: input_shape={run.network.input_shape[1:]}"
        )


def _sample(ids: Sequence[str], count: int) -> list[str]:
    """Return so many of the ids, or all if there are no more, in their order."""
    if len(ids) <= count:
        return list(ids)
    chosen = np.random.default_rng(SEED).choice(len(ids), count, replace=False)
    return [ids[position] for position in sorted(chosen)]


def _describe(run: Run, network: keras.Model, activation: str) -> dict[str, Any]:
    """Return what every file carries of the network."""
    environment = read_json(run.directory, "recipe.json", "backend", "versions")
    training_data = _model_card.describe_training_data(run.recipe.data.source)
    return {
        "notice": _model_card.NOTICE,
        "classes": training_data.pop("classes"),
        "input": _model_card.describe_input(run.recipe.data),
        "output": _model_card.describe_output(network.output_shape, activation),
        "training_data": training_data,
        "metrics": (
            read_json(run.directory, "metrics.json", "means", "images", "convention", "caution")
            if (run.directory / "metrics.json").is_file()
            else None
        ),
        "provenance": {
            "run": run.directory.name,
            "dataset": run.dataset,
            "trained_on": {
                "backend": environment["backend"],
                "versions": environment["versions"],
            },
            "exported_with": {
                "keras-lgmsnet": keras_lgmsnet.__version__,
                **{package: metadata.version(package) for package in PACKAGES},
            },
            "recipe": run.recipe.to_dict(),
        },
    }


def _compare(
    run: Run,
    directory: Path,
    files: dict[str, dict[str, Any]],
    output: str,
    examples: Examples,
) -> dict[str, list[dict[str, Any]]]:
    """Load every file and return the rows of `compare` for each."""
    predict = {
        name: _export_formats.open_(directory / name, file["format"], output)
        for name, file in files.items()
    }
    rows = {name: [] for name in files}
    batches = ImageBatches(examples, BATCH_SIZE, preprocessing=run.recipe.data.preprocessing)
    for index in range(len(batches)):
        part = slice(index * BATCH_SIZE, (index + 1) * BATCH_SIZE)
        preprocessed, segmentation_masks = batches[index]
        expected = sigmoid(run.network.predict_on_batch(preprocessed).astype("float64"))
        for name in files:
            outputs = predict[name](np.asarray(examples.images[part]))
            probabilities = sigmoid(outputs.astype("float64")) if output == "logits" else outputs
            rows[name] += compare(examples.ids[part], segmentation_masks, expected, probabilities)
    return rows


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _sentence(error: Exception) -> str:
    """Return what went wrong in one sentence, of a stranger's error with its type."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, OSError | ValueError):
        return " ".join(str(error).split())
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    try:
        with contextlib.redirect_stdout(sys.stderr):
            write_exports(
                Path(arguments.pop("run_directory")),
                Path(arguments.pop("output_directory")),
                **arguments,
            )
    except Exception as error:
        print(_sentence(error))
        raise
