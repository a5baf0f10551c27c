"""The child process of `keras_lgmsnet.export.parent`: it writes and tries files, on TensorFlow.

    KERAS_BACKEND=tensorflow python -m keras_lgmsnet.export.child ARGUMENTS

ARGUMENTS are those of `write_exports`, as a JSON object. Standard output tells the progress, and
behind `FAILURE` in one sentence what goes wrong; everything else goes to standard error.
"""

import contextlib
import functools
import json
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import scipy.special

from keras_lgmsnet.about import NOTICE, __version__
from keras_lgmsnet.export import model_card, writers
from keras_lgmsnet.export.agreement import compare, summarize
from keras_lgmsnet.export.deployment import deploy
from keras_lgmsnet.export.examples import ExportExamples, read_export_examples
from keras_lgmsnet.export.litert import inspect_tflite
from keras_lgmsnet.export.parent import FAILURE
from keras_lgmsnet.export.promises import terms_for
from keras_lgmsnet.files.paths import size_on_disk
from keras_lgmsnet.files.writing import named_in_errors, write_csv, write_json, write_text
from keras_lgmsnet.inference.windows import sigmoid
from keras_lgmsnet.keras_settings import ignore_keras_json
from keras_lgmsnet.layers.forms import forced_device
from keras_lgmsnet.models import registry
from keras_lgmsnet.process.progress import report_to, say, track
from keras_lgmsnet.run import ImageRun, Run
from keras_lgmsnet.run_directory import describe_unfinished, read_json

PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "onnx", "onnxruntime", "tf2onnx")


@forced_device("cpu")  # what a file computes must not depend on the machine that writes it
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
        activation: `"none"`, `"sigmoid"` or `"softmax"`.
        manual_dir: As for `keras_lgmsnet.export.export`.
        data_dir: As for `keras_lgmsnet.export.export`.
    """
    run = Run.read(run_directory)
    calibrate = any(precision == "int8" for _, precision in files)
    examples = read_export_examples(run, manual_dir, data_dir, calibrate=calibrate)
    representative = examples.representative

    network = deploy(run.network)
    if isinstance(run, ImageRun):
        network = writers.with_preprocessing(network, run.recipe.data.preprocessing)
    network = writers.with_activation(network, activation)
    described = _describe(run, examples, network, activation)
    written: dict[str, dict[str, Any]] = {}
    for number, (format_, precision) in enumerate(files, start=1):
        say(f"Writing {format_} in {precision}, {number} of {len(files)}.")
        with named_in_errors(output_directory):
            name = writers.write(
                network,
                output_directory,
                format_,
                precision,
                described,
                representative if precision == "int8" else None,
            )
        written[name] = {"format": format_, "precision": precision}

    output = described["output"]["name"]
    rows = _compare(run, output_directory, written, output, examples)
    for name, file in written.items():
        path = output_directory / name
        file["bytes"] = size_on_disk(path)
        file["agreement"] = summarize(rows[name])
        if file["format"] == "tflite":
            file["litert"] = inspect_tflite(path.read_bytes()).to_dict()
    exported = {
        **described,
        "files": written,
        "compared_on": {
            "subset": run.subset,
            "examples": len(examples.ids),
            "of": examples.num_held_out,
        },
        "calibrated_on": None if representative is None else len(representative),
    }
    write_csv(
        output_directory / "agreement.csv",
        [{"file": name, **row} for name, table in rows.items() for row in table],
    )
    write_text(output_directory / "model_card.md", model_card.render_card(exported))
    write_json(output_directory / "export.json", exported)


def _describe(
    run: Run, examples: ExportExamples, network: keras.Model, activation: str
) -> dict[str, Any]:
    """Return what every file carries of the network."""
    environment = read_json(run.directory, "recipe.json", "backend", "versions")
    return {
        "notice": NOTICE,
        "network": registry.find(run.recipe.model.network, run.kind.rank).title,
        "rank": run.kind.rank,
        "classes": examples.classes,
        "input": examples.input,
        "output": model_card.describe_output(run.kind, network.output_shape, activation),
        "training_data": model_card.describe_training_data(run.recipe.data.source),
        "metrics": _read_metrics(run),
        "provenance": {
            "run": run.directory.name,
            "dataset": run.dataset,
            "trained_on": {
                "backend": environment["backend"],
                "versions": environment["versions"],
            },
            "exported_with": {
                "keras-lgmsnet": __version__,
                **{package: metadata.version(package) for package in PACKAGES},
            },
            "recipe": run.recipe.to_dict(),
        },
    }


def _read_metrics(run: Run) -> dict[str, Any] | None:
    """Return what a run was scored, `None` if it is not finished."""
    if describe_unfinished(run.directory):
        return None
    told = ("means", "convention", "caution")
    metrics = read_json(run.directory, "metrics.json", run.kind.name, *told)
    return {"count": metrics[run.kind.name], **{name: metrics[name] for name in told}}


def _compare(
    run: Run,
    directory: Path,
    files: dict[str, dict[str, Any]],
    output: str,
    examples: ExportExamples,
) -> dict[str, list[dict[str, Any]]]:
    """Load every file and return the rows of `compare` for each."""
    predict = {
        name: writers.open_(directory / name, file["format"], output)
        for name, file in files.items()
    }
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in files}
    to_probabilities = run.kind.choose(
        images=sigmoid, volumes=functools.partial(scipy.special.softmax, axis=-1)
    )
    batch_size = terms_for(run.kind).batch_size
    starts = range(0, len(examples.ids), batch_size)
    count = len(examples.ids)
    say(f"Comparing with the Keras network on {count} {run.kind.noun(count)}.")
    for start in track(starts, label="Comparing", unit="step"):
        part = slice(start, start + batch_size)
        inputs = np.asarray(examples.inputs[part])
        logits = run.network.predict_on_batch(examples.prepare(inputs))
        expected = to_probabilities(logits.astype("float64"))
        for name in files:
            outputs = predict[name](inputs)
            if output == "logits":
                outputs = to_probabilities(outputs.astype("float64"))
            rows[name] += compare(
                examples.ids[part],
                examples.segmentation_masks[part],
                expected,
                outputs,
                exclusive=run.kind.classes_exclude_each_other,
            )
    return rows


def _sentence(error: Exception) -> str:
    """Return what went wrong in one sentence, of a stranger's error with its type."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, OSError | ValueError):
        return " ".join(str(error).split())
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    ignore_keras_json()
    report_to(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            write_exports(
                Path(arguments.pop("run_directory")),
                Path(arguments.pop("output_directory")),
                **arguments,
            )
    except Exception as error:
        print(f"{FAILURE}{_sentence(error)}")
        raise
