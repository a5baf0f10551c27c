"""What the contract on imports does not see: modules named in texts, and modules it leaves out."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import keras_lgmsnet as kl

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "keras_lgmsnet"
FILES = sorted((PACKAGE / "files").glob("[!_]*.py"))
CONTRACTS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = [
    [name.strip() for name in layer.split("|")] for layer in CONTRACTS["contracts"][0]["layers"]
]
DEPTH = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}

pytestmark = pytest.mark.no_backend


def layer_of(module: str) -> str | None:
    """Return the name in the contract that a module belongs to."""
    return next((name for name in DEPTH if f"{module}.".startswith(f"{name}.")), None)


def modules_in_texts(path: Path) -> Iterator[str]:
    """Yield the project's modules that a file's texts name, so far as they are literal."""
    tree = ast.parse(path.read_text())
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            pattern = r"(?:keras_lgmsnet|tfds_builders)\.[\w.]*" + (
                "" if id(node) in parts else "$"
            )
            if id(node) not in docstrings and (named := re.match(pattern, node.value)):
                yield named[0].rstrip(".")


def test_modules_named_in_texts_are_further_down() -> None:
    named = []
    for package in (PACKAGE, CHECKOUT / "tfds_builders"):
        for path in sorted(package.rglob("*.py")):
            module = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
            importer = layer_of(module)  # none of the face itself, which names everything
            for target in modules_in_texts(path):
                named.append(target)
                layer = layer_of(target)
                assert layer is not None, f"{module} names {target}, which there is not"
                if importer not in (None, layer):
                    assert DEPTH[importer] < DEPTH[layer], f"{module} names {target}"
    assert "keras_lgmsnet.export.child" in named  # so the texts were found


def test_the_contract_knows_every_module() -> None:
    modules = [
        f"keras_lgmsnet.{path.stem}"
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    ]
    assert {layer_of(module) for module in modules} == set(DEPTH) - {"tfds_builders"}
    assert None not in map(layer_of, modules)


def test_what_reads_files_and_recipes_imports_no_keras() -> None:
    modules = ["recipe", "run_directory", "files", *(f"files.{path.stem}" for path in FILES)]
    names = ", ".join([f"keras_lgmsnet.{name}" for name in modules] + ["tfds_builders._building"])
    code = f"import sys, {names}; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_folder_has_too_many_modules_and_no_module_too_many_lines() -> None:
    for folder in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        if folder.name not in ("models", "peers"):  # one module a network
            assert len(list(folder.glob("[!_]*.py"))) <= 16, folder
    for path in (*PACKAGE.rglob("*.py"), *(CHECKOUT / "tfds_builders").glob("_*.py")):
        if path.name != "_testing.py":
            assert len(path.read_text().splitlines()) <= 450, path


def test_everything_that_is_offered_is_there() -> None:
    for stub in PACKAGE.rglob("__init__.pyi"):
        offered = re.findall(r"(\w+) as \1\b", stub.read_text())
        parts = stub.parent.relative_to(PACKAGE).parts
        folder = kl
        for part in parts:
            folder = getattr(folder, part)
        assert sorted(offered) == sorted(folder.__all__)
        for name in offered:
            assert hasattr(folder, name), f"{stub}: {name}"


def test_an_unknown_name_is_refused() -> None:
    name = "no_such_name"
    with pytest.raises(AttributeError, match=name):
        getattr(kl, name)
