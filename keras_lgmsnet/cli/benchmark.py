"""`lgms-benchmark`: times the networks and their exports."""

import click

from keras_lgmsnet.cli.common import (
    BACKENDS,
    Integers,
    installed_backends,
    mistakes_in_one_sentence,
)


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
    type=Integers(),
    help="Time a network of your own instead: sides and channels, such as 512,512,3.",
)
@click.option("--num-classes", default=1, show_default=True, help="Classes of that network.")
@click.option(
    "--dims",
    type=Integers(),
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
@mistakes_in_one_sentence
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
    if input_shape is not None:
        cases = {
            "yours": timing.Case(
                input_shape,
                batch_size=batch_size,
                training=training,
                num_classes=num_classes,
                dims=dims,
            )
        }
    rows = timing.benchmark(backends or installed_backends(), cases, repeats, threads)
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
    """Time the exported network in its runtimes."""
    from keras_lgmsnet import benchmark as timing

    rows = timing.benchmark_exports(
        input_shape,
        num_classes,
        dims,
        repeats=repeats,
        threads=(1, 2) if threads is None else (threads,),
    )
    click.echo(timing.describe_machine(threads, timing.EXPORT_PACKAGES))
    click.echo(timing.format_export_table(rows))
    for name, needed in timing.left_out(input_shape).items():
        click.echo(f"Left out: {name}, which needs {needed}.")
