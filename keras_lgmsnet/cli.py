"""The commands: each parses its arguments, calls the verb of its name and prints the outcome.

Keras fixes its backend when it is imported, so the verbs are imported only once it is chosen.
"""

import functools
import importlib.util
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_lgmsnet.recipe import load_recipe, override

try:
    import click
except ModuleNotFoundError:
    raise SystemExit(
        "The lgms-* commands need packages that are not installed: "
        "pip install 'keras-lgmsnet[train]'."
    ) from None

BACKENDS = ("tensorflow", "jax", "torch")


def _mistakes_in_one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Show a user's mistake as one sentence, and leave any other exception its traceback.

    A mistake is an `OSError`, which is about the user's files and folders; a `ValueError` that a
    `raise` in this project's own code made, since that is what its checks of arguments, recipes
    and data do; and a missing optional package. A `ValueError` from deeper, out of Keras or a
    standard module, means that a check is missing here: that is ours, and needs its traceback.
    """

    @functools.wraps(command)
    def guarded(**arguments: Any) -> None:
        try:
            command(**arguments)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith(("keras_lgmsnet", "tfds_builders")):
                raise
            raise click.ClickException(
                f"The package {error.name} is not installed: pip install 'keras-lgmsnet[train]', "
                "or [export] to export."
            ) from error
        except OSError as error:
            sentence = f"{error.strerror}: {error.filename}" if error.filename else str(error)
            raise click.ClickException(" ".join(sentence.split())) from error
        except ValueError as error:
            *_, (raising_frame, _) = traceback.walk_tb(error.__traceback__)
            module = raising_frame.f_globals["__name__"]
            if module.partition(".")[0] not in ("keras_lgmsnet", "tfds_builders"):
                raise
            raise click.ClickException(" ".join(str(error).split())) from error

    return guarded


def _choose_backend(backend: str | None) -> None:
    """Choose what `--backend` says, else `KERAS_BACKEND`, else the first that is installed."""
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    backend = backend or os.environ.get("KERAS_BACKEND") or next(iter(installed), None)
    if backend not in installed:
        raise click.ClickException(
            f"The backend {backend} is not installed; installed: {', '.join(installed) or 'none'}. "
            f"pip install 'keras-lgmsnet[{backend}]' installs it."
            if backend in BACKENDS
            else f"The backend must be one of {', '.join(BACKENDS)}, and installed. "
            f"Received: {backend}"
        )
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes are no messages of ours
    click.echo(f"Keras backend: {backend}")

    import keras

    # Keras cuts its own frames out of tracebacks, which would make its errors look like ours.
    keras.config.disable_traceback_filtering()


_backend_option = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="Keras backend; by default KERAS_BACKEND, else the first installed.",
)


@click.command()
@click.argument("recipe")
@click.option(
    "-o",
    "--output",
    "run_directory",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Run directory to write; by default runs/ and the recipe's name.",
)
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a field of the recipe, such as training.epochs=5; may be repeated.",
)
@_backend_option
@click.option(
    "--manual-dir",
    type=click.Path(path_type=Path),
    help="Folder with the dataset's archives, as downloaded from its publisher.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder of prepared datasets; by default ~/tensorflow_datasets.",
)
@click.option("--resume", is_flag=True, help="Continue the run in the run directory.")
@_mistakes_in_one_sentence
def train(
    recipe: str,
    run_directory: Path | None,
    assignments: tuple[str, ...],
    backend: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    resume: bool,
) -> None:
    """Train by RECIPE, the path of a recipe file or the name of a bundled recipe.

    A recipe file is a Python program and is executed: run only files you trust.
    """
    resolved = override(load_recipe(recipe), assignments)
    run_directory = run_directory or Path("runs") / Path(recipe).stem
    _choose_backend(backend)
    from keras_lgmsnet import training
    from keras_lgmsnet.run_directory import read_json

    training.train(resolved, run_directory, manual_dir=manual_dir, data_dir=data_dir, resume=resume)
    metrics = read_json(run_directory, "metrics.json")
    click.echo(
        f"Validation IoU {metrics['means']['iou']:.4f}, F1 {metrics['means']['f1']:.4f} "
        f"after epoch {metrics['best_epoch']}. Report: {run_directory / 'report.html'}"
    )


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "output_directory",
    metavar="OUT",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write; absent or empty.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    default=("saved_model", "tflite"),
    show_default=True,
    help="What to write; may be repeated.",
)
@_mistakes_in_one_sentence
def export(run_directory: Path, output_directory: Path, formats: tuple[str, ...]) -> None:
    """Export the best network of RUN, checked against it; TensorFlow must be installed."""
    from keras_lgmsnet.export import export as export_run

    exported = export_run(run_directory, output_directory, formats)
    for name, result in exported["formats"].items():
        click.echo(
            f"{output_directory}: {name}, probabilities within "
            f"{result['max_probability_difference']:.1e} of the Keras network"
        )
