"""`lgms-benchmark`: times the networks and their exports."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from keras_lgmsnet.cli.common import (
    BACKENDS,
    Integers,
    installed_backends,
    mistakes_in_one_sentence,
    verbose_option,
)
from keras_lgmsnet.recipe.checking import parse_argument, split_assignment


@click.command()
@click.option(
    "--backend",
    "backends",
    type=click.Choice(BACKENDS),
    multiple=True,
    help="Keras backend to time; may be repeated. By default all that are installed.",
)
@click.option(
    "--case",
    "names",
    multiple=True,
    metavar="CASE",
    help="What to time: forward-2d, training-2d, forward-3d, training-3d, or depthwise-3d, a layer "
    "of LGMSNet; may be repeated. By default all but training-3d, which takes minutes.",
)
@click.option(
    "--network",
    metavar="NAME",
    help="Network to time, one of those that lgms-networks lists, as it was published; by default "
    "LGMSNet and a layer of it.",
)
@click.option(
    "--networks",
    metavar="NAMES",
    help="Count and time several networks as they were published, each in processes of its own, as "
    "a table for a paper: their names, such as unet,cmunext, or all, which takes the better part "
    "of an hour. Those for images, unless --input-shape is a volume's.",
)
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="Argument of the network's constructor, such as filters=16,32,64; may be repeated. By "
    "default as it was published.",
)
@click.option(
    "--input-shape",
    type=Integers(),
    metavar="SHAPE",
    help="Sides in pixels or voxels, and channels, such as 512,512,3; by default as the network "
    "was published.",
)
@click.option(
    "--num-classes",
    type=int,
    help="Classes of the output, at least 1; by default as the network was published.",
)
@click.option(
    "--batch-size",
    type=int,
    help="Images or volumes in a step, at least 1; by default 1, and 8 where a network trains on "
    "images.",
)
@click.option(
    "--repeats",
    default=5,
    show_default=True,
    help="Timed steps of each contestant, at least 1; with --exports, turns of ten calls each.",
)
@click.option(
    "--threads",
    type=int,
    help="Processor cores to use, at least 1 and on Linux only; by default all, and with --exports "
    "one and then two.",
)
@click.option(
    "--exports",
    is_flag=True,
    help="Time the exported network in LiteRT, ONNX Runtime and so on, beside Keras and PyTorch, "
    "on one image at a time.",
)
@click.option(
    "--forms",
    is_flag=True,
    help="Time every exact form of the layers' operations at the shapes that LGMSNet has, on the "
    "device at hand.",
)
@click.option(
    "--gpu-report",
    is_flag=True,
    help="Measure on a GPU whether the networks train rightly and how fast they are, beside plain "
    "PyTorch.",
)
@click.option(
    "--minutes",
    default=8.0,
    show_default=True,
    help="The longest that --forms or --gpu-report may take; what matters least is left out.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Take tiny networks for --forms or --gpu-report, for --networks the smallest images, to "
    "see that everything runs.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON file to write, of --forms and --gpu-report, which have no default for it. Of "
    "--networks a folder for the table in Markdown, LaTeX and CSV, or a file whose name ends in "
    ".md, .tex or .csv.",
)
@verbose_option
@mistakes_in_one_sentence
def benchmark(
    backends: tuple[str, ...],
    names: tuple[str, ...],
    network: str | None,
    networks: str | None,
    assignments: tuple[str, ...],
    input_shape: tuple[int, ...] | None,
    num_classes: int | None,
    batch_size: int | None,
    repeats: int,
    threads: int | None,
    exports: bool,
    forms: bool,
    gpu_report: bool,
    minutes: float,
    quick: bool,
    output: Path | None,
) -> None:
    """Time the networks on each backend beside plain PyTorch, and count their arithmetic."""
    from keras_lgmsnet import benchmark as timing

    given = {
        "network": network,
        "arguments": _parse_arguments(assignments) if assignments else None,
        "input_shape": input_shape,
        "num_classes": num_classes,
    }
    chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if networks is not None:
        is_changed = batch_size is not None or chosen.keys() - {"input_shape"}
        if names or exports or forms or gpu_report or is_changed:
            raise click.ClickException(
                "--networks times each network as it was published: beside it, only --backend, "
                "--input-shape, --repeats, --threads, --quick and -o have a meaning."
            )
        timing.benchmark_costs(
            networks.split(","),
            backends or installed_backends(),
            output,
            input_shape=input_shape,
            repeats=repeats,
            threads=threads,
            quick=quick,
            tell=_tell,
        )
        return
    if forms or gpu_report:
        others = (chosen, names, exports, batch_size is not None, threads is not None)
        if any(others) or (forms and gpu_report):
            raise click.ClickException(
                "--forms and --gpu-report stand alone: beside one of them, only --backend, "
                "--minutes, --quick and -o have a meaning."
            )
        _measure_device(forms, backends, minutes, quick, output)
        return
    if quick or output is not None:
        raise click.ClickException(
            "--quick and -o belong to --forms and --gpu-report, and to --networks: add one of them."
        )
    if exports:
        if backends or names or batch_size is not None:
            raise click.ClickException(
                "--exports times every runtime on one image at a time, forward: leave out "
                "--backend, --case and --batch-size."
            )
        _benchmark_exports(chosen, repeats, threads)
        return
    if batch_size is not None:
        chosen["batch_size"] = batch_size
    cases = timing.network_cases(**chosen) if chosen else timing.CASES
    if unknown := set(names) - set(cases):
        raise click.ClickException(
            f"The cases are {', '.join(cases)}. Received: {', '.join(sorted(unknown))}"
        )
    names = names or tuple(name for name in cases if name in timing.DEFAULT_CASES)
    cases = {name: cases[name] for name in names}
    rows = timing.benchmark(backends or installed_backends(), cases, repeats, threads)
    click.echo(timing.describe_machine(threads))
    click.echo(timing.format_table(rows))
    if pipeline_rows := timing.benchmark_pipeline(rows, cases, repeats, threads):
        click.echo(f"\n{timing.format_pipeline_table(pipeline_rows)}")


def _measure_device(
    forms: bool, backends: tuple[str, ...], minutes: float, quick: bool, output: Path | None
) -> None:
    """Time the forms, or report on the GPU."""
    from keras_lgmsnet import benchmark as timing

    if output is None or output.is_dir():
        raise click.ClickException("Name the JSON file to write: -o report.json")
    measure = timing.benchmark_forms if forms else timing.gpu_report
    # TensorFlow last, whose PyPI package knows no GPU.
    installed = sorted(installed_backends(), key=("jax", "torch", "tensorflow").index)
    measure(backends or installed, output, minutes=minutes, quick=quick, tell=_tell)


def _benchmark_exports(chosen: dict[str, Any], repeats: int, threads: int | None) -> None:
    """Time the exported network in its runtimes."""
    from keras_lgmsnet import benchmark as timing

    rows = timing.benchmark_exports(
        **chosen, repeats=repeats, threads=(1, 2) if threads is None else (threads,)
    )
    click.echo(timing.describe_machine(threads, timing.EXPORT_PACKAGES))
    click.echo(timing.format_export_table(rows))
    of_case = {key: chosen[key] for key in ("network", "input_shape") if key in chosen}
    for name, needed in timing.left_out(**of_case).items():
        click.echo(f"Left out: {name}, which needs {needed}.")


def _tell(text: str) -> None:
    """Print at once, also where the output is no terminal."""
    print(text, flush=True)


def _parse_arguments(assignments: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of a constructor that `--set` gives."""
    pairs = (split_assignment(text, "--set", "filters=16,32,64") for text in assignments)
    return {name: parse_argument(text) for name, text in pairs}


if __name__ == "__main__":  # from a checkout, without installing it
    benchmark()
