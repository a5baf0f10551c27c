"""`lgms-compare`: puts the networks of finished runs beside one another."""

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
    verbose_option,
)


@click.command()
@click.argument("paths", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "output_directory",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Folder to write the page and the charts to, and the tables in Markdown, LaTeX and CSV, "
    "absent or empty; by default the tables are only printed.",
)
@click.option(
    "--reference",
    metavar="LABEL",
    help="Label of the network that the others are compared with, image by image, by the Wilcoxon "
    "signed-rank test; by default none is.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    help="Dataset that no run was trained on, such as bus, on which to score all of them, "
    "each into its own evaluation-NAME. By default the scores are those of what the runs held out.",
)
@click.option(
    "--benchmark",
    "speeds",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="CSV file of lgms-benchmark --networks, whose images a second to tell; by default there "
    "is no such column.",
)
@click.option(
    "--pictures",
    is_flag=True,
    help="Also draw images, or slices of volumes, as all networks segment them and, of images, how "
    "redundant their channels are. It loads every network, and is left out by default.",
)
@click.option(
    "--image",
    "images",
    metavar="ID",
    multiple=True,
    help="Id of an image or volume to draw, as by --pictures; may be repeated. By default those of "
    "best, median and worst score.",
)
@backend_option
@manual_dir_option
@data_dir_option
@allow_incomplete_option
@mask_threshold_option
@verbose_option
@mistakes_in_one_sentence
def compare(
    paths: tuple[Path, ...],
    output_directory: Path | None,
    reference: str | None,
    dataset: str | None,
    speeds: Path | None,
    pictures: bool,
    images: tuple[str, ...],
    backend: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    allow_incomplete: bool,
    mask_threshold: int | None,
) -> None:
    """Compare the networks of finished runs; each RUN may be a folder of several, or a study."""
    choose_backend(backend)
    from keras_lgmsnet.comparison import compare_runs

    comparison = compare_runs(
        paths,
        output_directory,
        reference=reference,
        speeds=speeds,
        dataset=dataset,
        pictures=pictures,
        images=images,
        manual_dir=manual_dir,
        data_dir=data_dir,
        allow_incomplete=allow_incomplete,
        mask_threshold=mask_threshold,
    )
    click.echo(comparison.text())
    if output_directory is not None:
        click.echo(f"\nPage: {output_directory / 'comparison.html'}")
