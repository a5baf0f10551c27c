"""What the commands share: options, the choice of the backend, mistakes in one sentence."""

import functools
import importlib.util
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from keras_lgmsnet.files.paths import let_any_text_print
from keras_lgmsnet.process.memory import keep_freed_memory
from keras_lgmsnet.process.quiet import VERBOSE, quieten
from keras_lgmsnet.run_directory import describe_unfinished

BACKENDS = ("tensorflow", "jax", "torch")
PROJECT = ("keras_lgmsnet", "tfds_builders")


def mistakes_in_one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Show a user's mistake as one sentence, and leave any other exception its traceback.

    A mistake is an `OSError`, which is about the user's files and folders; a `ValueError` or
    `ImportError` that was raised in this project's own code, since that is what its checks of
    arguments, recipes, data and installation do; and a missing optional package. A `ValueError`
    from deeper, out of Keras or a standard module, means that a check is missing here: that is
    ours to mend, and needs its traceback. What is printed never ends a command.
    """

    @functools.wraps(command)
    def guarded(**arguments: Any) -> None:
        let_any_text_print()
        quieten()
        try:
            command(**arguments)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in PROJECT:
                raise
            extra = error.name if error.name in BACKENDS else "train"
            raise click.ClickException(
                f"The package {error.name} is not installed: pip install 'keras-lgmsnet[{extra}]', "
                "or [predict] to predict only, [export] to export."
            ) from error
        except OSError as error:
            sentence = f"{error.strerror}: {error.filename}" if error.filename else str(error)
            raise click.ClickException(" ".join(sentence.split())) from error
        except (ValueError, ImportError) as error:
            *_, (raising_frame, _) = traceback.walk_tb(error.__traceback__)
            if raising_frame.f_globals["__name__"].partition(".")[0] not in PROJECT:
                raise
            raise click.ClickException(" ".join(str(error).split())) from error

    return guarded


def choose_backend(asked: str | None, *, announce: bool = True) -> None:
    """Choose a backend, import Keras on it, and say which it is.

    Args:
        asked: What `--backend` says; by default `KERAS_BACKEND`, else the first installed.
        announce: Whether to print it.
    """
    installed = installed_backends()
    backend = asked or os.environ.get("KERAS_BACKEND") or next(iter(installed), None)
    if backend not in installed:
        raise click.ClickException(
            f"Keras needs an installed backend, {', '.join(BACKENDS)}: "
            f"pip install 'keras-lgmsnet[{backend if backend in BACKENDS else BACKENDS[0]}]'. "
            f"Asked for: {backend}; installed: {', '.join(installed) or 'none'}."
        )
    os.environ["KERAS_BACKEND"] = backend
    if backend == "torch":
        keep_freed_memory()
    import keras

    from keras_lgmsnet.keras_settings import ignore_keras_json

    if keras.backend.backend() != backend:
        raise click.ClickException(
            f"Keras was imported on {keras.backend.backend()} before the backend was chosen: a "
            f"recipe must not import Keras. Asked for: {backend}."
        )
    if announce:
        click.echo(f"Keras backend: {backend}")
    ignore_keras_json()
    # Keras cuts its own frames out of tracebacks, which would make its errors look like ours.
    keras.config.disable_traceback_filtering()


def installed_backends() -> list[str]:
    """Return which of `BACKENDS` are installed, in that order."""
    return [backend for backend in BACKENDS if importlib.util.find_spec(backend)]


def warn_of_unfinished(run_directory: Path) -> None:
    """Say of a run that has not been scored yet that its network may become another one."""
    if unfinished := describe_unfinished(run_directory):
        click.echo(unfinished, err=True)


class Integers(click.ParamType):
    """Integers separated by commas."""

    name = "integers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Return the integers as a tuple."""
        try:
            return tuple(map(int, str(value).split(",")))
        except ValueError:
            self.fail(f"must be integers such as 256,256,3. Received: {value!r}", param, ctx)


def _show_everything(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        os.environ[VERBOSE] = "1"  # which the processes that the command starts see, too


verbose_option = click.option(
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_show_everything,
    help="Show also what TensorFlow and TensorFlow Datasets say of themselves, and of an export "
    "all that the converters print.",
)
run_argument = click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
backend_option = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="Keras backend to compute on; by default the one that the variable KERAS_BACKEND names, "
    "else the first of these that is installed.",
)
manual_dir_option = click.option(
    "--manual-dir",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder with the dataset's archives, as downloaded from its publisher, by default "
    "downloads/manual in the folder of --data-dir; of image_folder and msd_folder your own folder, "
    "which must be given.",
)
allow_incomplete_option = click.option(
    "--allow-incomplete",
    is_flag=True,
    help="Take the complete cases of an archive that has fewer files than its publisher counts, "
    "which is refused otherwise.",
)
mask_threshold_option = click.option(
    "--mask-threshold",
    metavar="VALUE",
    type=click.IntRange(0, 254),
    help="Value, from 0 to 254 of 255, above which a pixel of a mask is foreground, for masks of "
    "image_folder that have more than two values. By default the run's own dataset is read as its "
    "recipe says; of other datasets, such masks are refused.",
)
output_option = click.option(
    "-o",
    "--output",
    "output_directory",
    metavar="OUT",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write, absent or empty.",
)
data_dir_option = click.option(
    "--data-dir",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder of prepared datasets; by default ~/tensorflow_datasets.",
)
