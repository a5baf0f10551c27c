"""`lgms-predict`: segments images and scans."""

from pathlib import Path
from typing import Any

import click

from keras_lgmsnet.cli.common import (
    backend_option,
    choose_backend,
    mistakes_in_one_sentence,
    run_argument,
    verbose_option,
    warn_of_unfinished,
)
from keras_lgmsnet.kinds import IMAGES, VOLUMES, Kind
from keras_lgmsnet.run_directory import read_recipe


@click.command()
@run_argument
@click.argument(
    "images", metavar="IMAGES...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write, absent or empty. Of one image or scan also a new file, such as seg.png "
    "or seg.nii.gz; all else is then written beside it.",
)
@click.option(
    "--tiles",
    is_flag=True,
    help="Predict each image as it is, in overlapping tiles of the size trained on; by default it "
    "is resized to that size.",
)
@click.option(
    "--overlap",
    metavar="SHARE",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of its side that a tile of an image, or a window of a scan, has in common with the "
    "next, at least 0 and below 1; by default 0.5 of images, of scans the recipe's data.overlap.",
)
@click.option(
    "--probabilities",
    is_flag=True,
    help="Write the probability of each pixel of images, too: 16-bit PNG, 65535 for 1.",
)
@click.option(
    "--confidence",
    is_flag=True,
    help="Write the probability of each voxel's label of scans, too: float32, from 0 to 1.",
)
@click.option(
    "--mirror",
    is_flag=True,
    help="Average the predictions of scans over mirror images, which takes 8 times as long.",
)
@backend_option
@verbose_option
@mistakes_in_one_sentence
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
    kind = read_recipe(run_directory).kind
    given: dict[Kind, dict[str, Any]] = {
        IMAGES: {"tiles": tiles, "probabilities": probabilities},
        VOLUMES: {"confidence": confidence, "mirror": mirror},
    }
    options = given.pop(kind)
    for other, misplaced in given.items():
        for name in (name for name, is_given in misplaced.items() if is_given):
            raise click.ClickException(
                f"--{name} is for {other.name}, and {run_directory} is a run on {kind.name}."
            )
    if overlap is not None:
        options["overlap"] = overlap
    choose_backend(backend)
    from keras_lgmsnet import inference

    # Imported by its name, so that the other, and what it needs, is not.
    predict_all = getattr(
        inference, kind.choose(images="predict_images", volumes="predict_volumes")
    )
    rows = predict_all(run_directory, images, output, **options)
    warn_of_unfinished(run_directory)
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
        flags = "; ".join(row.flags or ())
        click.echo(f"Unlike the training {kind.name}: {row.path}: {flags}", err=True)
    where = f": {output}" if len(failed) < len(rows) else ""
    click.echo(
        f"{len(rows) - len(failed)} of {len(rows)} {kind.noun(len(rows))} predicted, "
        f"{len(flagged)} flagged{where}"
    )
    if failed:
        raise SystemExit(1)
