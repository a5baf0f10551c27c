"""Finds, runs and overrides recipes."""

import runpy
import traceback
from collections.abc import Iterable
from pathlib import Path

from keras_lgmsnet.recipe.checking import (
    annotations,
    conform,
    parse,
    parse_argument,
    split_assignment,
    unknown_key,
)
from keras_lgmsnet.recipe.schema import AnyRecipe, Recipe, sections
from keras_lgmsnet.recipe.study import Study, check_study


def load_recipe(path_or_name: str | Path) -> AnyRecipe:
    """Return the `recipe` that a Python file defines.

    The file is executed, and no other: name only files you trust.

    Args:
        path_or_name: A path that ends in `.py`; where no such file exists, the name of a bundled
            recipe, with or without `recipes/` before and `.py` behind it.

    Raises:
        FileNotFoundError: If there is neither such a file nor such a bundled recipe.
        ValueError: If the file fails, or defines no `recipe`.
    """
    recipe = load(path_or_name)
    if not isinstance(recipe, Recipe):
        raise ValueError(
            f"{path_or_name} is a study of {len(recipe)} recipes, of which one is wanted here: "
            "name a recipe file."
        )
    return recipe


def load(path_or_name: str | Path) -> AnyRecipe | Study:
    """Return the `recipe` or the `study` that a Python file defines, as `load_recipe` does.

    Raises:
        FileNotFoundError: If there is neither such a file nor such a bundled recipe.
        ValueError: If the file fails, or defines neither, or both.
    """
    path = Path(path_or_name)
    if not (path.suffix == ".py" and path.is_file()):
        path = _bundled_recipe(path)
    try:
        defined = runpy.run_path(str(path))
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        where = f"{path}, line {lines[-1]}" if lines else path
        raise ValueError(f"Recipe {where}: {type(error).__name__}: {error}") from error
    recipe = defined.get("recipe")
    if "study" in defined:
        if recipe is not None:
            raise ValueError(f"A file defines `recipe` or `study`, not both. Received: {path}")
        return check_study(defined["study"], str(path))
    if not isinstance(recipe, Recipe):
        raise ValueError(
            f"A recipe file must define `recipe = Recipe(...)`. Received: {path}, "
            f"where `recipe` is {recipe!r}"
        )
    return recipe


def override(recipe: AnyRecipe, assignments: Iterable[str]) -> AnyRecipe:
    """Return the recipe with fields replaced, as `--set` does.

    Args:
        recipe: The recipe to start from.
        assignments: Texts `"section.field=value"`, such as `"training.epochs=5"`,
            `"data.image_size=128,128"` or `"data.augmentation=none"`. What `model` has no field
            for is an argument of the network: `"model.kernel_sizes=3,5"`. Those of the network
            before do not outlast `"model.network=unet"`.

    Raises:
        ValueError: If a text has another form, names no field or gives a value of another type.
    """
    values = recipe.to_dict()
    known = {
        f"{section}.{name}": annotation
        for section, section_type in sections(recipe.kind).items()
        for name, annotation in annotations(section_type).items()
    }
    of_network = set(recipe.model.arguments)
    for assignment in assignments:
        key, text = split_assignment(assignment, "An override", "training.epochs=5")
        section, _, name = key.partition(".")
        if section in values and sections(recipe.kind)[section].IS_OPEN and name.isidentifier():
            values[section][name] = parse_argument(text)
            of_network.discard(name)
        elif key in known:
            values[section][name] = conform(parse(text, known[key]), known[key], key)
        else:
            raise unknown_key(key, list(known))
    if values["model"]["network"] != recipe.model.network:
        for name in of_network:
            del values["model"][name]
    return Recipe.from_dict(values)


def _bundled_recipe(name: Path) -> Path:
    package = Path(__file__).parents[1]
    # The wheel maps recipes/ into the package; in a checkout it lies beside the package.
    folder = next(
        folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()
    )
    bundled = {path.stem: path for path in sorted(folder.glob("*.py"))}
    stem = name.as_posix().removeprefix("recipes/").removesuffix(".py")
    if stem in bundled:
        return bundled[stem]
    raise FileNotFoundError(
        f"There is no recipe file {name}; bundled recipes are: {', '.join(bundled)}."
    )
