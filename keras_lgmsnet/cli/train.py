"""`lgms-train`: trains by a recipe, on one split or several, or all recipes of a study."""

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
from keras_lgmsnet.files.parts import Part
from keras_lgmsnet.recipe.loading import load, override
from keras_lgmsnet.recipe.schema import AnyRecipe
from keras_lgmsnet.recipe.study import Study, study_of_networks
from keras_lgmsnet.study_directory import StudyRun
from keras_lgmsnet.tables import fact_lines, spread


@click.command()
@click.argument("recipe")
@click.option(
    "-o",
    "--output",
    "run_directory",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Run directory to write, absent or empty; by default runs/ and the recipe's name, such as "
    "runs/busi. Of a study a folder of run directories, by default studies/ and its name.",
)
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set a field of the recipe, such as training.epochs=5, of a study of each recipe; may be "
    "repeated.",
)
@click.option(
    "--networks",
    metavar="NAMES",
    help="Train several networks by the recipe, as a study: their names, such as "
    "lgmsnet,unet,cmunext. One that does not take the recipe's sides gets the nearest it takes. "
    "By default the recipe's own alone.",
)
@click.option(
    "--part",
    metavar="K/N",
    help="Train the K-th of N equal parts of a study's runs, such as 2/3, in a process that sees "
    "the same RUN as the others; or slurm, the part of a Slurm array's task. What is there is "
    "continued. By default all of them.",
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
    help="Continue the run in RUN after its last finished epoch, or the study; all else must be "
    "given as before.",
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
    networks: str | None,
    part: str | None,
    resume: bool,
    dry_run: bool,
) -> None:
    """Train by RECIPE, the path of a recipe file or the name of a bundled recipe.

    A recipe file is a Python program and is executed: run only files you trust. One that defines a
    study, several recipes, trains them one after the other.
    """
    loaded = load(recipe)
    if isinstance(loaded, dict):
        if networks is not None:
            raise click.ClickException(
                f"--networks makes a study of one recipe, and {recipe} is a study already."
            )
        study = {label: override(each, assignments) for label, each in loaded.items()}
    else:
        resolved = override(loaded, assignments)
        study = study_of_networks(resolved, networks.split(",")) if networks else {}
        _tell_other_sides(study, resolved)
    if study and dry_run:
        raise click.ClickException("--dry-run tells of one run: name one recipe, and no networks.")
    if part and not study:
        raise click.ClickException(
            "--part shares the runs of a study: name a study, or several --networks."
        )
    shared = Part.parse(part) if part else None
    default = Path("studies" if study else "runs") / Path(recipe).stem
    run_directory = run_directory or default
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
    if study:
        seeds = split_seeds or ()
        _tell_study(training.train_study(study, run_directory, seeds, part=shared, **options))
        return
    if split_seeds:
        training.train_splits(resolved, run_directory, split_seeds, **options)
        summary = read_json(run_directory, "summary.json")
        scores = (
            f"{label} {spread(summary['runs'][name])}"
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


def _tell_other_sides(study: Study, recipe: AnyRecipe) -> None:
    """Say which networks of a study see images or volumes of other sides than the recipe has."""
    size_field = recipe.kind.size_field
    for label, each in study.items():
        sides = getattr(each.data, size_field)
        if sides != getattr(recipe.data, size_field):
            click.echo(f"{label} gets data.{size_field}={','.join(map(str, sides))}.")


def _tell_study(runs: list[StudyRun]) -> None:
    """Print the scores of a study's networks, and which runs are missing."""
    from keras_lgmsnet.run_directory import read_json, read_recipe

    cautions: dict[str, None] = {}
    for label in dict.fromkeys(run.label for run in runs):
        finished = [run for run in runs if run.label == label and run.is_finished]
        if not finished:
            continue
        headlines = read_recipe(finished[0].directory).kind.headlines
        metrics = [read_json(run.directory, "metrics.json", "means", "caution") for run in finished]
        scores = {name: [each["means"][name] for each in metrics] for name in headlines}
        told = ", ".join(f"{headlines[name]} {spread(scores[name])}" for name in headlines)
        splits = "1 split" if len(finished) == 1 else f"{len(finished)} splits"
        click.echo(f"{label}: {metrics[0]['subset']} {told} over {splits}.")
        cautions |= dict.fromkeys(each["caution"] for each in metrics if each["caution"])
    for caution in cautions:
        click.echo(caution)
    if missing := [str(run.directory) for run in runs if not run.is_finished]:
        click.echo(f"Not finished, {len(missing)} of {len(runs)} runs: {', '.join(missing)}.")
