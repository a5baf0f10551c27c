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

from keras_lgmsnet.export import ACTIVATIONS, FORMATS, PRECISIONS
from keras_lgmsnet.recipe import load_recipe, override
from keras_lgmsnet.run_directory import read_recipe, require_unused
from keras_lgmsnet.tables import TABLE_STYLES

try:
    import click
except ModuleNotFoundError:
    raise SystemExit(
        "The lgms-* commands need packages that are not installed: "
        "pip install 'keras-lgmsnet[train]'."
    ) from None

BACKENDS = ("tensorflow", "jax", "torch")
PROJECT = ("keras_lgmsnet", "tfds_builders")
# The scores that a training ends with, by the rank of what was segmented.
HEADLINES = {2: {"iou": "IoU", "f1": "F1"}, 3: {"dice": "Dice"}}


def _mistakes_in_one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Show a user's mistake as one sentence, and leave any other exception its traceback.

    A mistake is an `OSError`, which is about the user's files and folders; a `ValueError` or
    `ImportError` that was raised in this project's own code, since that is what its checks of
    arguments, recipes, data and installation do; and a missing optional package. A `ValueError`
    from deeper, out of Keras or a standard module, means that a check is missing here: that is
    ours to mend, and needs its traceback.
    """

    @functools.wraps(command)
    def guarded(**arguments: Any) -> None:
        try:
            command(**arguments)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in PROJECT:
                raise
            raise click.ClickException(
                f"The package {error.name} is not installed: pip install 'keras-lgmsnet[train]', "
                "or [export] to export."
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


def _choose_backend(asked: str | None) -> None:
    """Choose what `--backend` says, else `KERAS_BACKEND`, else the first that is installed."""
    installed = _installed_backends()
    backend = asked or os.environ.get("KERAS_BACKEND") or next(iter(installed), None)
    if backend not in installed:
        raise click.ClickException(
            f"Keras needs an installed backend, {', '.join(BACKENDS)}: "
            f"pip install 'keras-lgmsnet[{backend if backend in BACKENDS else BACKENDS[0]}]'. "
            f"Asked for: {backend}; installed: {', '.join(installed) or 'none'}."
        )
    os.environ["KERAS_BACKEND"] = backend
    # TensorFlow's notes are not for our users; it calls the absence of a GPU an error.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    if keras.backend.backend() != backend:
        raise click.ClickException(
            f"Keras was imported on {keras.backend.backend()} before the backend was chosen: a "
            f"recipe must not import Keras. Asked for: {backend}."
        )
    click.echo(f"Keras backend: {backend}")
    # Keras cuts its own frames out of tracebacks, which would make its errors look like ours.
    keras.config.disable_traceback_filtering()


def _installed_backends() -> list[str]:
    return [backend for backend in BACKENDS if importlib.util.find_spec(backend)]


class _Integers(click.ParamType):
    """Integers separated by commas."""

    name = "integers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Return the integers as a tuple."""
        try:
            return tuple(map(int, str(value).split(",")))
        except ValueError:
            self.fail(f"must be integers such as 256,256,3. Received: {value!r}", param, ctx)


_backend_option = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="Keras backend; by default KERAS_BACKEND, else the first installed.",
)
_manual_dir_option = click.option(
    "--manual-dir",
    type=click.Path(path_type=Path),
    help="Folder with the dataset's archives, as downloaded from its publisher.",
)
_allow_incomplete_option = click.option(
    "--allow-incomplete",
    is_flag=True,
    help="Score the complete cases of an archive that is short of its published count.",
)
_output_option = click.option(
    "-o",
    "--output",
    "output_directory",
    metavar="OUT",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write; absent or empty.",
)
_data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder of prepared datasets; by default ~/tensorflow_datasets.",
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
@_manual_dir_option
@_data_dir_option
@click.option(
    "--split-seeds",
    metavar="SEEDS",
    type=_Integers(),
    help="Train on each of these splits, such as 41,64,1337, and summarise.",
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
    split_seeds: tuple[int, ...] | None,
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

    options = {"manual_dir": manual_dir, "data_dir": data_dir, "resume": resume}
    if split_seeds:
        training.train_splits(resolved, run_directory, split_seeds, **options)
        summary = read_json(run_directory, "summary.json")
        scores = (
            f"{label} {summary['mean'][name]:.4f} ± {summary['standard_deviation'][name]:.4f}"
            for name, label in HEADLINES[resolved.rank].items()
        )
        subset = summary["subset"].capitalize()
        click.echo(f"{subset} {', '.join(scores)} over {len(split_seeds)} splits.")
        if summary["caution"]:
            click.echo(summary["caution"])
        return
    training.train(resolved, run_directory, **options)
    metrics = read_json(run_directory, "metrics.json")
    scores = (
        f"{label} {metrics['means'][name]:.4f}" for name, label in HEADLINES[resolved.rank].items()
    )
    click.echo(
        f"{metrics['subset'].capitalize()} {', '.join(scores)} after epoch "
        f"{metrics['best_epoch']}. Report: {run_directory / 'report.html'}"
    )


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "output_directory",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Folder to write; absent, empty, or an earlier evaluation of RUN on the same data, which "
    "is replaced; by default evaluation- and the dataset's name, in RUN.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    help="Dataset to score all of; by default the run's own test or validation part.",
)
@click.option(
    "--against",
    metavar="OTHER",
    type=click.Path(path_type=Path),
    help="Run directory to compare with, on the same images or volumes.",
)
@_backend_option
@_manual_dir_option
@_data_dir_option
@click.option(
    "--tolerance",
    default=2.0,
    show_default=True,
    help="Pixels, of volumes mm, within which boundaries agree, for boundary F-score and NSD.",
)
@_allow_incomplete_option
@click.option(
    "--table",
    "style",
    type=click.Choice(TABLE_STYLES),
    default="markdown",
    show_default=True,
    help="Table to print; both are written.",
)
@_mistakes_in_one_sentence
def evaluate(
    run_directory: Path,
    output_directory: Path | None,
    dataset: str | None,
    against: Path | None,
    backend: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    tolerance: float,
    allow_incomplete: bool,
    style: str,
) -> None:
    """Score the best network of RUN case by case, also on a dataset it never saw."""
    _choose_backend(backend)
    from keras_lgmsnet import evaluation

    evaluated = evaluation.evaluate(
        run_directory,
        output_directory,
        dataset=dataset,
        against=against,
        manual_dir=manual_dir,
        data_dir=data_dir,
        tolerance=tolerance,
        allow_incomplete=allow_incomplete,
    )
    click.echo(evaluation.format_table(evaluated, style))


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@_output_option
@click.option(
    "--against",
    metavar="OTHER",
    type=click.Path(path_type=Path),
    help="Run directory to draw beside, on the same images.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    help="Dataset to draw; by default the run's own test or validation images.",
)
@click.option(
    "--foreground-of",
    metavar="NAME",
    multiple=True,
    help="Dataset to draw the foreground ratio of, too; may be repeated.",
)
@click.option(
    "--image",
    "images",
    metavar="ID",
    multiple=True,
    help="Image to show; may be repeated; by default those of best, median and worst IoU.",
)
@click.option(
    "--stage",
    "stages",
    metavar="LAYER",
    multiple=True,
    help="Layer to look at; may be repeated; by default encoder1 to decoder2.",
)
@_backend_option
@_manual_dir_option
@_data_dir_option
@_allow_incomplete_option
@_mistakes_in_one_sentence
def figures(
    run_directory: Path,
    output_directory: Path,
    against: Path | None,
    dataset: str | None,
    foreground_of: tuple[str, ...],
    images: tuple[str, ...],
    stages: tuple[str, ...],
    backend: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    allow_incomplete: bool,
) -> None:
    """Draw the paper's figures of RUN: lesion sizes, redundancy, activations and predictions."""
    _choose_backend(backend)
    from keras_lgmsnet.figures import STAGES, draw_figures

    drawn = draw_figures(
        run_directory,
        output_directory,
        against=against,
        dataset=dataset,
        foreground_of=foreground_of,
        images=images,
        stages=stages or STAGES,
        manual_dir=manual_dir,
        data_dir=data_dir,
        allow_incomplete=allow_incomplete,
    )
    for name, caption in drawn["captions"].items():
        click.echo(f"{output_directory / name}.png, .pdf: {caption}")
    if drawn["caution"]:
        click.echo(drawn["caution"])


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@_output_option
@click.option(
    "--format",
    "formats",
    metavar=f"[{'|'.join(FORMATS)}]",
    multiple=True,
    default=list(FORMATS),
    show_default=True,
    help="What to write; may be repeated.",
)
@click.option(
    "--precision",
    "precisions",
    metavar=f"[{'|'.join(PRECISIONS)}]",
    multiple=True,
    default=["float32"],
    show_default=True,
    help="May be repeated; each format is written in those it has: tflite in all, the others in "
    "float32.",
)
@click.option(
    "--activation",
    metavar=f"[{'|'.join(ACTIVATIONS)}]",
    default="none",
    show_default=True,
    help="What follows the logits: none, or for probabilities sigmoid (of images) or softmax (of "
    "volumes).",
)
@click.option(
    "--demo",
    "demo_directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write a page there, too, that runs the TFLite models in the browser.",
)
@click.option(
    "--litertjs",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="npm's folder node_modules/@litertjs for the page; by default fetched from npm.",
)
@_manual_dir_option
@_data_dir_option
@_mistakes_in_one_sentence
def export(
    run_directory: Path,
    output_directory: Path,
    formats: tuple[str, ...],
    precisions: tuple[str, ...],
    activation: str,
    demo_directory: Path | None,
    litertjs: Path | None,
    manual_dir: Path | None,
    data_dir: Path | None,
) -> None:
    """Export the best network of RUN, proven on its own held-out images to segment as well.

    TensorFlow must be installed, whatever backend trained RUN.
    """
    from keras_lgmsnet import _model_card, demo
    from keras_lgmsnet.export import export as export_run

    if litertjs and not demo_directory:
        raise click.ClickException("--litertjs is for the page that --demo writes: give both.")
    if demo_directory:  # first, since an export takes minutes
        if "tflite" not in formats:
            raise click.ClickException("--demo runs TFLite models: add --format tflite.")
        if demo_directory.resolve() in (output := output_directory.resolve(), *output.parents):
            raise click.ClickException(
                f"--demo needs a directory of its own, which does not hold -o {output_directory}. "
                f"Received: {demo_directory}"
            )
        demo.require_showable(read_recipe(run_directory))
        require_unused(output_directory)
        require_unused(demo_directory)
        litertjs_files = demo.read_litertjs(litertjs)
    exported = export_run(
        run_directory,
        output_directory,
        formats,
        precisions=precisions,
        activation=activation,
        manual_dir=manual_dir,
        data_dir=data_dir,
    )
    click.echo(_model_card.agreement_table(exported))
    click.echo(
        f"On {exported['compared_on']['examples']} {exported['compared_on']['subset']} "
        f"{'images' if exported['rank'] == 2 else 'volumes'}. "
        f"Model card: {output_directory / 'model_card.md'}"
    )
    if demo_directory:
        demo.write_demo(output_directory, demo_directory, litertjs=litertjs_files)
        click.echo(f"Demo: python -m keras_lgmsnet.demo {demo_directory}")


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument(
    "images", metavar="IMAGES...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write, absent or empty; of one scan, also a new file such as seg.nii.gz.",
)
@click.option(
    "--tiles",
    is_flag=True,
    help="Go over each image as it is, in overlapping tiles; by default it is resized as trained.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of a tile's side that the next tile covers, too; by default half, of a scan what "
    "the recipe says.",
)
@click.option("--probabilities", is_flag=True, help="Write 16-bit probability maps of images, too.")
@click.option("--confidence", is_flag=True, help="Write the labels' probabilities of scans, too.")
@click.option(
    "--mirror", is_flag=True, help="Average scans over mirror images, which takes 8 times as long."
)
@_backend_option
@_mistakes_in_one_sentence
def predict(
    run_directory: Path,
    images: tuple[Path, ...],
    output: Path,
    tiles: bool,
    overlap: float | None,
    probabilities: bool,
    confidence: bool,
    mirror: bool,
    backend: str | None,
) -> None:
    """Segment IMAGES, files and folders, with the best network of RUN.

    Of a run on images, files may be PNG, JPEG, BMP, TIFF, GIF, WebP and, with pydicom, DICOM; of a
    run on volumes, NIfTI, whose label maps are written in the scan's own space. A file that cannot
    be read is named and does not stop the others; the exit code is then 1.
    """
    given = {
        "images": {"tiles": tiles, "probabilities": probabilities},
        "volumes": {"confidence": confidence, "mirror": mirror},
    }
    kind = "volumes" if read_recipe(run_directory).rank == 3 else "images"
    options = given.pop(kind)
    for other_kind, misplaced in given.items():
        for name in (name for name, is_given in misplaced.items() if is_given):
            raise click.ClickException(
                f"--{name} is for {other_kind}, and {run_directory} is a run on {kind}."
            )
    if overlap is not None:
        options["overlap"] = overlap
    _choose_backend(backend)
    if kind == "volumes":
        from keras_lgmsnet.volume_prediction import predict_volumes as predict_all
    else:
        from keras_lgmsnet.prediction import predict as predict_all

    rows = predict_all(run_directory, images, output, **options)
    for row in (row for row in rows if not row.error):
        click.echo(f"{row.path}: {row.found}")
    failed = [row for row in rows if row.error]
    for row in failed:
        click.echo(f"Not predicted: {row.error}", err=True)
    if any(row.flags is None for row in rows if not row.error):
        click.echo(
            f"{run_directory} has no fingerprint.json: whether the images are like those it was "
            "trained on was not checked.",
            err=True,
        )
    flagged = [row for row in rows if row.flags]
    for row in flagged:
        click.echo(f"Unlike the training {kind}: {row.path}: {'; '.join(row.flags)}", err=True)
    where = f": {output}" if len(failed) < len(rows) else ""
    click.echo(
        f"{len(rows) - len(failed)} of {len(rows)} {kind} predicted, {len(flagged)} of them "
        f"flagged{where}"
    )
    if failed:
        raise SystemExit(1)


@click.command()
@click.option(
    "--backend",
    "backends",
    type=click.Choice(BACKENDS),
    multiple=True,
    help="Keras backend to time; may be repeated; by default every one installed.",
)
@click.option(
    "--case",
    "names",
    multiple=True,
    help="What to time; may be repeated; by default all but training-3d, which takes minutes.",
)
@click.option(
    "--input-shape",
    type=_Integers(),
    help="Time a network of your own instead: sides and channels, such as 512,512,3.",
)
@click.option("--num-classes", default=1, show_default=True, help="Classes of that network.")
@click.option(
    "--dims",
    type=_Integers(),
    default="16,32,64,128,128",
    show_default=True,
    help="Widths of that network's stages.",
)
@click.option("--batch-size", default=1, show_default=True, help="Images in a step of it.")
@click.option("--training", is_flag=True, help="Time its training step, not its forward pass.")
@click.option("--repeats", default=5, show_default=True, help="Timed steps of each contestant.")
@click.option(
    "--threads",
    type=int,
    help="Processor cores to use; by default all, or one and then two with --exports.",
)
@click.option(
    "--exports",
    is_flag=True,
    help="Time the exported network in LiteRT, ONNX Runtime and so on, beside Keras and PyTorch.",
)
@_mistakes_in_one_sentence
def benchmark(
    backends: tuple[str, ...],
    names: tuple[str, ...],
    input_shape: tuple[int, ...] | None,
    num_classes: int,
    dims: tuple[int, ...],
    batch_size: int,
    training: bool,
    repeats: int,
    threads: int | None,
    exports: bool,
) -> None:
    """Time the networks on each backend beside plain PyTorch, and count their arithmetic."""
    from keras_lgmsnet import benchmark as timing

    if exports:
        if backends or names or training or batch_size != 1:
            raise click.ClickException(
                "--exports times every runtime on one image at a time, forward: leave out "
                "--backend, --case, --training and --batch-size."
            )
        _benchmark_exports(input_shape or (256, 256, 3), num_classes, dims, repeats, threads)
        return
    if unknown := set(names) - set(timing.CASES):
        raise click.ClickException(
            f"The cases are {', '.join(timing.CASES)}. Received: {', '.join(sorted(unknown))}"
        )
    cases = {name: timing.CASES[name] for name in names} or timing.DEFAULT_CASES
    if input_shape:
        cases = {
            "yours": timing.Case(
                input_shape,
                batch_size=batch_size,
                training=training,
                num_classes=num_classes,
                dims=dims,
            )
        }
    rows = timing.benchmark(backends or _installed_backends(), cases, repeats, threads)
    click.echo(timing.describe_machine(threads))
    click.echo(timing.format_table(rows))
    if pipeline_rows := timing.benchmark_pipeline(rows, cases, repeats, threads):
        click.echo(f"\n{timing.format_pipeline_table(pipeline_rows)}")


def _benchmark_exports(
    input_shape: tuple[int, ...],
    num_classes: int,
    dims: tuple[int, ...],
    repeats: int,
    threads: int | None,
) -> None:
    from keras_lgmsnet import benchmark as timing
    from keras_lgmsnet import export_benchmark

    rows = export_benchmark.benchmark_exports(
        input_shape,
        num_classes,
        dims,
        repeats=repeats,
        threads=(1, 2) if threads is None else (threads,),
    )
    click.echo(timing.describe_machine(threads, export_benchmark.PACKAGES))
    click.echo(export_benchmark.format_export_table(rows))
    for name, needed in export_benchmark.left_out(input_shape).items():
        click.echo(f"Left out: {name}, which needs {needed}.")
