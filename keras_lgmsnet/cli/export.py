"""`lgms-export`: writes a run's network for phones, servers and browsers."""

from pathlib import Path

import click

from keras_lgmsnet.cli.common import (
    data_dir_option,
    manual_dir_option,
    mistakes_in_one_sentence,
    output_option,
    run_argument,
    verbose_option,
    warn_of_unfinished,
)
from keras_lgmsnet.export.promises import ACTIVATIONS, FORMATS, PRECISIONS
from keras_lgmsnet.files.writing import require_unused
from keras_lgmsnet.kinds import kind_of_rank
from keras_lgmsnet.run_directory import read_recipe


@click.command()
@run_argument
@output_option
@click.option(
    "--format",
    "formats",
    metavar=f"[{'|'.join(FORMATS)}]",
    multiple=True,
    default=list(FORMATS),
    show_default=True,
    help="Format to write; may be repeated.",
)
@click.option(
    "--precision",
    "precisions",
    metavar=f"[{'|'.join(PRECISIONS)}]",
    multiple=True,
    default=["float32"],
    show_default=True,
    help="Precision to write, may be repeated: float32; float16, half the size; dynamic, with "
    "8-bit weights; int8, 8-bit but for attention, norms and GELU, of images only. TFLite has all, "
    "the other formats float32. For dynamic and int8 the network must have an IoU of at least 0.1.",
)
@click.option(
    "--activation",
    metavar=f"[{'|'.join(ACTIVATIONS)}]",
    default="none",
    show_default=True,
    help="What follows the logits: none, or for probabilities sigmoid, of images, or softmax, of "
    "volumes.",
)
@click.option(
    "--demo",
    "demo_directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder, absent or empty, for a web page that runs the TFLite models in the browser; by "
    "default none is written.",
)
@click.option(
    "--litertjs",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder node_modules/@litertjs that npm has installed, for the page of --demo; by default "
    "12 MB are fetched from npm.",
)
@manual_dir_option
@data_dir_option
@verbose_option
@mistakes_in_one_sentence
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
    from keras_lgmsnet import demo, export as exporting
    from keras_lgmsnet.export.model_card import agreement_table

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
    exported = exporting.export(
        run_directory,
        output_directory,
        formats,
        precisions=precisions,
        activation=activation,
        manual_dir=manual_dir,
        data_dir=data_dir,
    )
    warn_of_unfinished(run_directory)
    click.echo(agreement_table(exported))
    compared_on = exported["compared_on"]
    click.echo(
        f"On {compared_on['examples']} {compared_on['subset']} "
        f"{kind_of_rank(exported['rank']).noun(compared_on['examples'])}. "
        f"Model card: {output_directory / 'model_card.md'}"
    )
    if demo_directory:
        demo.write_demo(output_directory, demo_directory, litertjs=litertjs_files)
        click.echo(f"Demo: python -m keras_lgmsnet.demo {demo_directory}")
