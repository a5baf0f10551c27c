"""`lgms-figures`: draws the paper's figures of a run."""

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
    output_option,
    run_argument,
    verbose_option,
)


@click.command()
@run_argument
@output_option
@click.option(
    "--against",
    metavar="OTHER",
    type=click.Path(path_type=Path),
    help="Run directory to draw beside RUN, on the same images.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    help="Dataset whose images to draw. By default those that RUN held out of its own: those for "
    "the test or, where there are none, for validation.",
)
@click.option(
    "--foreground-of",
    metavar="NAME",
    multiple=True,
    help="Dataset, prepared before, whose lesion sizes to draw beside; may be repeated.",
)
@click.option(
    "--image",
    "images",
    metavar="ID",
    multiple=True,
    help="Id of an image to show; may be repeated. By default the images of best, median and worst "
    "IoU.",
)
@click.option(
    "--stage",
    "stages",
    metavar="LAYER",
    multiple=True,
    help="Layer whose output to draw; may be repeated. By default the network's stages, which "
    "lgms-networks NAME lists.",
)
@backend_option
@manual_dir_option
@data_dir_option
@allow_incomplete_option
@mask_threshold_option
@verbose_option
@mistakes_in_one_sentence
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
    mask_threshold: int | None,
) -> None:
    """Draw the paper's figures of RUN: lesion sizes, redundancy, activations and predictions."""
    choose_backend(backend)
    from keras_lgmsnet import figures as paper

    drawn = paper.draw_figures(
        run_directory,
        output_directory,
        against=against,
        dataset=dataset,
        foreground_of=foreground_of,
        images=images,
        stages=stages,
        manual_dir=manual_dir,
        data_dir=data_dir,
        allow_incomplete=allow_incomplete,
        mask_threshold=mask_threshold,
    )
    for name, caption in drawn["captions"].items():
        click.echo(f"{output_directory / name}.png, .pdf: {caption}")
    if drawn["caution"]:
        click.echo(drawn["caution"])
