"""Writes the pages of the reference that the code itself tells: `python docs/generated.py`.

A build of the documentation writes them, too. They are kept beside the other pages, so that they
can be read without a build, and a test compares them with the code.
"""

import ast
import dataclasses
import importlib
import inspect
import os
import re
import textwrap
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from keras_lgmsnet import demo
from keras_lgmsnet.cli.networks import networks
from keras_lgmsnet.kinds import KINDS
from keras_lgmsnet.layers import forms
from keras_lgmsnet.layers.forms import table
from keras_lgmsnet.models.registry import NETWORKS
from keras_lgmsnet.recipe.checking import Interval, Section, annotations, describe, interval_of
from keras_lgmsnet.recipe.model import Model
from keras_lgmsnet.recipe.schema import sections
from keras_lgmsnet.tables import markdown_table

REFERENCE = Path(__file__).parent / "reference"
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
REMARK = "<!-- Written by docs/generated.py from the code: edit that, not this. -->"

# The modules that are for users of the package, by what they are about.
SUBJECTS = {
    "Networks": ("", "models", "models.complexity", "checkpoints"),
    "Parts of networks": ("layers", "losses", "metrics", "optimizers"),
    "Runs": ("recipe", "training", "evaluation", "comparison", "inference", "export", "figures"),
    "Scores and timings": ("scoring", "benchmark"),
    "Files": ("files", "geometry", "demo"),
}


def write() -> None:
    """Write every page that is not up to date."""
    for name, text in pages().items():
        path = REFERENCE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the text of every page, by its name."""
    return {
        "recipe.md": "\n\n".join([REMARK, *recipe_page()]) + "\n",
        "commands.md": "\n\n".join([REMARK, *commands_page()]) + "\n",
        "networks.md": "\n\n".join([REMARK, *networks_page()]) + "\n",
        "forms.md": "\n\n".join([REMARK, *forms_page()]) + "\n",
        "api.md": "\n\n".join([REMARK, *api_page()]) + "\n",
    }


def recipe_page() -> Iterator[str]:
    """Yield the parts of the page of the recipe's fields."""
    yield "# Recipe fields"
    yield (
        "A recipe is a Python file that defines `recipe = Recipe(...)`, and decides everything of "
        "a run. `lgms-train --set FIELD=VALUE` overrides any of the fields below. Values stand "
        "here as in Python; on the command line quotes and brackets are left out: "
        "`--set data.preprocessing=published`, `--set data.image_size=128,128`, "
        "`--set data.num_folds=none`. A value of another type, or out of range, is refused."
    )
    for kind in KINDS:
        for section, cls in sections(kind).items():
            if cls is not Model:
                yield from _section(f"{section}, {kind.name}", cls)
    yield from _section("model", Model)
    yield (
        "Any other name, such as `model.dims`, is an argument of the network: "
        "[Networks](networks.md) lists those of each."
    )


def _section(title: str, cls: type[Section]) -> Iterator[str]:
    """Yield the heading, the purpose and the fields of a recipe's section."""
    yield f"## {title}"
    yield f"`{cls.__name__}(…)`: {_paragraphs(cls)[0]}"
    meanings = _described_arguments(cls)
    types = {name: type_ for name, type_ in annotations(cls).items() if name != "arguments"}
    rows = []
    for field in dataclasses.fields(cls):
        if field.name in types:
            kind, interval = describe(types[field.name]), interval_of(types[field.name])
            required = field.default is dataclasses.MISSING
            rows.append(
                [
                    f"`{cls.KEY}.{field.name}`",
                    f"{kind}; {interval}" if interval else kind,
                    "required" if required else f"`{field.default!r}`",
                    meanings[field.name],
                ]
            )
    yield markdown_table(["field", "type and range", "default", "meaning"], rows)


def commands_page() -> Iterator[str]:
    """Yield the parts of the page of the commands."""
    yield "# Commands"
    yield (
        "`--help` prints the same. A command that fails says why in one sentence, and exits with "
        "another code than 0."
    )
    for name, where in PROJECT["scripts"].items():
        module, _, function = where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        context = click.Context(command, info_name=name)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        yield f"## {name}"
        yield f"```text\n{usage}\n```"
        yield inspect.cleandoc(command.help or "")
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        if options:
            yield markdown_table(
                ["option", "value", "default", "meaning"],
                [_option_row(option, context) for option in options],
            )
    yield "## python -m keras_lgmsnet.demo"
    yield "```text\npython -m keras_lgmsnet.demo DIR [PORT]\n```"
    yield (
        f"Serve DIR, which `lgms-export --demo` wrote, at <http://127.0.0.1:{demo.PORT}>, or at "
        "PORT, to this machine only. Ctrl+C ends it."
    )


def _option_row(option: click.Option, context: click.Context) -> list[str]:
    name = ", ".join(f"`{text}`" for text in option.opts)
    if option.is_flag:
        return [name, "", "off", option.help or ""]
    value, kind = option.make_metavar(context), option.type
    if isinstance(kind, click.Choice) or value.startswith("["):
        value = " ".join(f"`{choice}`" for choice in value.strip("[]").split("|"))
    elif isinstance(kind, click.IntRange | click.FloatRange):
        bounds = {
            "gt" if kind.min_open else "ge": kind.min,
            "lt" if kind.max_open else "le": kind.max,
        }
        given = {key: bound for key, bound in bounds.items() if bound is not None}
        word = "integer" if isinstance(kind, click.IntRange) else "number"
        value = f"{word} {Interval(**given)}"
    elif kind.name in ("integer", "float"):
        value = {"integer": "integer", "float": "number"}[kind.name]
    else:
        value = f"`{value}`"
    default = "–"
    if option.required:
        default = "required"
    elif option.show_default:
        given = option.get_default(context)
        given = given if isinstance(given, list | tuple) else [given]
        default = " ".join(f"`{item}`" for item in given)
    return [name, value, default, option.help or ""]


def networks_page() -> Iterator[str]:
    """Yield the parts of the page of the networks: what `lgms-networks` prints."""
    yield "# Networks"
    yield (
        "Each is chosen by its name: `lgms-train RECIPE --set model.network=NAME`, or in Python "
        "`kl.models.create(NAME, input_shape=…, num_classes=…)`. What follows is printed by "
        "`lgms-networks` and `lgms-networks NAME`."
    )
    yield f"```text\n{_printed([])}\n```"
    for name in dict.fromkeys(network.name for network in NETWORKS):
        yield f"## {name}"
        yield f"```text\n{_printed([name])}\n```"


def _printed(arguments: list[str]) -> str:
    return CliRunner().invoke(networks, arguments, catch_exceptions=False).output.strip()


def forms_page() -> Iterator[str]:
    """Yield the parts of the page of the forms that the layers' operations take."""
    yield "# Forms"
    yield (
        "Which form of an operation is computed, by device and backend; the first line that holds. "
        "A GPU is every device that is no CPU. [Layers](../explanation/layers.md) tells what the "
        "forms are, `lgms-benchmark --forms` measures all of them on the device at hand."
    )
    for operation in forms.OPERATIONS:
        yield f"## {operation[0].upper()}{operation[1:]}"
        yield markdown_table(
            ["device", "backend", "of", "form", "measured"],
            [_rule_row(rule) for rule in table.TABLE if rule.operation == operation],
        )


def _rule_row(rule: table.Rule) -> list[str]:
    conditions = [{2: "images", 3: "volumes"}[rank] for rank in rule.rank or ()]
    for numbers, unit in (
        (rule.kernel_size, "wide"),
        (rule.channels, "channels"),
        (rule.filters, "filters"),
    ):
        if numbers is not None:
            start = f"from {numbers[0]}" if len(numbers) > 1 else str(numbers[0])
            conditions.append(f"{start} {unit}")
    conditions += rule.dtype or ()
    return [
        rule.device,
        ", ".join(rule.backends or ["any"]),
        ", ".join(conditions) or "any",
        rule.form,
        rule.measured or "not measured",
    ]


def api_page() -> Iterator[str]:
    """Yield the parts of the page of the Python API."""
    yield "# Python"
    yield (
        "`import keras_lgmsnet as kl` is quick: names are imported on first use, so that "
        "`KERAS_BACKEND` can be set before. What this page lists is meant for users of the "
        "package; other names may change."
    )
    documented: set[int] = set()
    for subject, modules in SUBJECTS.items():
        yield f"## {subject}"
        for path in modules:
            module = importlib.import_module(".".join(filter(None, ["keras_lgmsnet", path])))
            yield f"### {'.'.join(filter(None, ['kl', path]))}"
            yield "\n\n".join(_paragraphs(module)[:1])
            names = list(public_names(module))
            yield markdown_table(
                ["name", "what it is"], [_name_row(module, name) for name in names]
            )
            directives = [
                f".. auto{'class' if inspect.isclass(value) else 'function'}:: {name}"
                for name in names
                if callable(value := getattr(module, name)) and id(value) not in documented
            ]
            documented |= {id(getattr(module, name)) for name in names}
            if directives:
                current = f".. currentmodule:: {module.__name__}"
                yield "\n".join(["```{eval-rst}", current, *directives, "```"])


def public_names(module: types.ModuleType) -> Iterator[str]:
    """Yield what a module offers users: classes, functions and, of a folder, constants."""
    for name in getattr(module, "__all__", None) or sorted(vars(module)):
        value = getattr(module, name)
        here = getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
        if not inspect.ismodule(value) and (here or hasattr(module, "__all__")):
            yield name


def _name_row(module: types.ModuleType, name: str) -> list[str]:
    value = getattr(module, name)
    told = _paragraphs(value)[0] if callable(value) else _comment(module, name)
    return [f"`{name}`", told]


def _comment(module: types.ModuleType, name: str) -> str:
    """Return the comment above a constant, in the file that a folder's stub takes it from."""
    folder = Path(inspect.getfile(module)).parent
    stub = ast.parse((folder / "__init__.pyi").read_text())
    (home,) = (
        node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        and node.module
        and name in (alias.name for alias in node.names)
    )
    source = (folder / f"{home}.py").read_text()
    comment = re.search(rf"((?:^#.*\n)+){name}\b", source, flags=re.MULTILINE)
    return " ".join(line.lstrip("# ") for line in comment[1].splitlines()) if comment else ""


def _paragraphs(described: Any) -> list[str]:
    """Return the paragraphs of a docstring, a line each."""
    text = inspect.getdoc(described) or ""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _described_arguments(cls: type) -> dict[str, str]:
    """Return what a class's docstring says of each argument."""
    _, _, text = (inspect.getdoc(cls) or "").partition("\nArgs:\n")
    block = textwrap.dedent(re.split(r"\n(?=\S)", text)[0])
    items = re.split(r"^(?=\S)", block, flags=re.MULTILINE)[1:]
    pairs = (item.partition(":")[::2] for item in items)
    return {name: " ".join(meaning.split()) for name, meaning in pairs}


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    write()
