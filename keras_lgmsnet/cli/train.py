"""`lgms-train`: trains by a recipe, on one split or several."""

from pathlib import Path
from typing import Any

import click

from keras_lgmsnet.cli.common import (
    Integers,
    backend_option,
    choose_backend,
    data_dir_option,
    manual_dir_option,
    mistakes_in_one_sentence,
    verbose_option,
)
from keras_lgmsnet.recipe.loading import load_recipe, override
from keras_lgmsnet.tables import fact_lines


@click.command()
@click.argument("recipe")
@click.option(
    "-o",
    "--output",
    "run_directory",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Run directory to write, absent or empty; by default runs/ and the recipe's name, such as "
    "runs/busi.",
)
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set a field of the recipe, such as training.epochs=5; may be repeated.",
)
@backend_option
@manual_dir_option
@data_dir_option
@click.option(
    "--split-seeds",
    metavar="SEEDS",
    type=Integers(),
    help="Train on the random splits of these seeds, two or more integers from 0 to 4294967295 "
    "such as 41,64,1337, into RUN/split-41 and so on, and write mean and standard deviation to "
    "RUN/summary.json. By default one split, by the recipe's data.split_seed.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the run in RUN after its last finished epoch; all else must be given as before.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Read the data, train for three steps, and print what would be done, with the time and "
    "the memory that it would take; RUN stays as it is. Datasets are prepared as for training.",
)
@verbose_option
@mistakes_in_one_sentence
def train(
    recipe: str,
    run_directory: Path | None,
    assignments: tuple[str, ...],
    backend: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    split_seeds: tuple[int, ...] | None,
    resume: bool,
    dry_run: bool,
) -> None:
    """Train by RECIPE, the path of a recipe file or the name of a bundled recipe.

    A recipe file is a Python program and is executed: run only files you trust.
    """
    resolved = override(load_recipe(recipe), assignments)
    run_directory = run_directory or Path("runs") / Path(recipe).stem
    choose_backend(backend)
    from keras_lgmsnet import training
    from keras_lgmsnet.run_directory import read_json

    options: dict[str, Any] = {"manual_dir": manual_dir, "data_dir": data_dir}
    if dry_run:
        if resume or split_seeds:
            raise click.ClickException(
                "--dry-run tells of one new run: leave out --resume, and --split-seeds, of which "
                "each split takes as long."
            )
        click.echo("\n".join(fact_lines(training.rehearse(resolved, run_directory, **options))))
        click.echo(f"Without --dry-run, this would be trained, into {run_directory}.")
        return
    options["resume"] = resume
    if split_seeds:
        training.train_splits(resolved, run_directory, split_seeds, **options)
        summary = read_json(run_directory, "summary.json")
        scores = (
            f"{label} {summary['mean'][name]:.4f} ± {summary['standard_deviation'][name]:.4f}"
            for name, label in resolved.kind.headlines.items()
        )
        subset = summary["subset"].capitalize()
        click.echo(f"{subset} {', '.join(scores)} over {len(split_seeds)} splits.")
        if summary["caution"]:
            click.echo(summary["caution"])
        return
    training.train(resolved, run_directory, **options)
    metrics = read_json(run_directory, "metrics.json")
    scores = (
        f"{label} {metrics['means'][name]:.4f}" for name, label in resolved.kind.headlines.items()
    )
    click.echo(
        f"{metrics['subset'].capitalize()} {', '.join(scores)} after epoch "
        f"{metrics['best_epoch']}. Report: {run_directory / 'report.html'}"
    )
