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
)
from keras_lgmsnet.recipe.loading import load_recipe, override


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
@backend_option
@manual_dir_option
@data_dir_option
@click.option(
    "--split-seeds",
    metavar="SEEDS",
    type=Integers(),
    help="Train on each of these splits, such as 41,64,1337, and summarise.",
)
@click.option("--resume", is_flag=True, help="Continue the run in the run directory.")
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
) -> None:
    """Train by RECIPE, the path of a recipe file or the name of a bundled recipe.

    A recipe file is a Python program and is executed: run only files you trust.
    """
    resolved = override(load_recipe(recipe), assignments)
    run_directory = run_directory or Path("runs") / Path(recipe).stem
    choose_backend(backend)
    from keras_lgmsnet import training
    from keras_lgmsnet.run_directory import read_json

    options: dict[str, Any] = {"manual_dir": manual_dir, "data_dir": data_dir, "resume": resume}
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
