"""Programs that stand for those of `.venv/bin` while the documentation's code runs.

`lgms-train` and `lgms-benchmark` are given less to do. `pip`, `python -m tests` and what takes
`lgms-benchmark` minutes, which other tests run, only look at their arguments. All else is the
program itself.
"""

import importlib
import os
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


def install(folder: Path) -> None:
    """Write the programs of an environment into a folder, `.venv/bin`."""
    folder.mkdir(parents=True)
    for name in ("python", "python3", "pip", *PROJECT["scripts"]):
        program = folder / name
        command = f'"{sys.executable}" -m {__name__} {name} "$@"'
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{CHECKOUT}" exec {command}\n')
        program.chmod(0o755)


def main(name: str, arguments: list[str]) -> None:
    """Run a program in the place of this one."""
    if name.startswith("python"):
        _python(arguments)
    elif name == "pip":
        _pip(arguments)
    else:
        module, _, function = PROJECT["scripts"][name].partition(":")
        command = getattr(importlib.import_module(module), function)
        if name == "lgms-train":
            arguments = [*arguments, *_less_training(arguments)]
        elif name == "lgms-benchmark":
            if {"--exports", "--forms", "--gpu-report", "--networks"}.intersection(arguments):
                command.make_context(name, arguments)
                return
            arguments = [*arguments, *_less_timing(arguments)]
        command(arguments, prog_name=name)


def _python(arguments: list[str]) -> None:
    match arguments:
        case ["-m", "venv", ".venv"]:
            pass
        case ["-m", "pip", *others]:
            _pip(others)
        case ["-m", "tests", *options]:
            from tests.__main__ import FILES

            if unknown := set(options) - set(FILES):
                raise SystemExit(f"python -m tests has no {', '.join(unknown)}")
        case _:
            os.execv(sys.executable, [sys.executable, *arguments])


def _pip(arguments: list[str]) -> None:
    """Refuse extras of this package that there are not."""
    command, *others = arguments
    if command != "install":
        raise SystemExit(f"pip {command} is unknown here")
    for argument in others:
        if argument.startswith("."):
            argument = PROJECT["name"] + argument[1:]
        if argument.startswith(PROJECT["name"]):
            extras = Requirement(argument).extras
            if unknown := extras - set(PROJECT["optional-dependencies"]):
                raise SystemExit(f"There is no extra {', '.join(unknown)}")


def _less_training(arguments: list[str]) -> list[str]:
    """Return what makes a training by these arguments take seconds."""
    from keras_lgmsnet.cli.train import train
    from keras_lgmsnet.recipe import load_recipe, override

    given = train.make_context("lgms-train", list(arguments)).params
    recipe = override(load_recipe(given["recipe"]), given["assignments"])
    fields = {
        "data.num_images": 24 if recipe.data.source == "synthetic" else None,
        "data.image_size": recipe.kind.choose(images="32,32", volumes=None),
        "data.patch_size": recipe.kind.choose(images=None, volumes="32,32,32"),
        "data.patches_per_volume": recipe.kind.choose(images=None, volumes="1"),
        "model.dims": "4,4,4,4,4" if recipe.model.network == "lgmsnet" else None,
        "model.filters": "4,4,4,4,4" if recipe.model.network == "unet" else None,
        "training.batch_size": 4,
        "training.epochs": 2,
        "training.warmup_epochs": recipe.kind.choose(images=None, volumes=1),
        "training.validate_every": recipe.kind.choose(images=None, volumes=1),
    }
    return [f"--set={key}={value}" for key, value in fields.items() if value is not None]


def _less_timing(arguments: list[str]) -> list[str]:
    """Return what makes a benchmark by these arguments take seconds."""
    smaller = ["--input-shape=32,32,3", "--repeats=1", "--threads=1"]
    smaller += ["--backend=torch", "--batch-size=1", "--case=forward-2d"]
    if "--network" not in arguments:
        smaller += ["--set=dims=4,4,4,4,4", "--set=kernel_sizes=3,5"]
    return smaller


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
