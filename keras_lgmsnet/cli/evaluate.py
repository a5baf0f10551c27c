"""`lgms-evaluate`: scores a run's network case by case."""

from pathlib import Path

import click

from keras_lgmsnet.cli.common import (
    allow_incomplete_option,
    backend_option,
    choose_backend,
    data_dir_option,
    manual_dir_option,
    mask_threshold_option,
    mistakes_in_one_sentence,
    run_argument,
    verbose_option,
)
from keras_lgmsnet.tables import TABLE_STYLES


@click.command()
@run_argument
@click.option(
    "-o",
    "--output",
    "output_directory",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Folder to write: absent, empty, or an earlier evaluation of RUN on the same data, which "
    "is replaced. By default RUN/evaluation-test, or -validation where no test images are set "
    "aside, and with --dataset RUN/evaluation-NAME.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    help="Dataset of which to score every case, such as bus, or image_folder or msd_folder for "
    "your own. By default the cases that RUN held out of its own: those for the test or, where "
    "there are none, for validation.",
)
@click.option(
    "--against",
    metavar="OTHER",
    type=click.Path(path_type=Path),
    help="Run directory to compare RUN with, on the same images or volumes.",
)
@backend_option
@manual_dir_option
@data_dir_option
@click.option(
    "--tolerance",
    default=2.0,
    show_default=True,
    help="Distance, at least 0, within which boundaries agree: of images in pixels, for the "
    "boundary F-score; of volumes in mm, for the NSD.",
)
@allow_incomplete_option
@mask_threshold_option
@click.option(
    "--table",
    "style",
    type=click.Choice(TABLE_STYLES),
    default="markdown",
    show_default=True,
    help="Form of the table that is printed; both are written.",
)
@verbose_option
@mistakes_in_one_sentence
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
    mask_threshold: int | None,
    style: str,
) -> None:
    """Score the best network of RUN case by case, also on a dataset it never saw."""
    choose_backend(backend)
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
        mask_threshold=mask_threshold,
    )
    click.echo(evaluation.format_table(evaluated, style))
